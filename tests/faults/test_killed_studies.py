"""A study may be killed whenever it pleases: the same command goes on, and nothing shows in what it leaves."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE
from kd_bench.results.records.states import read_state
from kd_bench.runs.studies.grid import Study

KILLS = 10
AT_THE_START = 2  # of the kills: while the study is planned
STUDY = "digits_families"
MEASURED = ("times", "cost")  # of records: what the clock and the machine said


def under_way(runs: Path, pid: int) -> bool:
    """Whether the study has said that it started a run."""
    try:
        status = json.loads(Study(STUDY, runs, list).status_file.read_text())
    except FileNotFoundError:
        return False
    return status["pid"] == pid and any(task["state"] == "running" for task in status["tasks"])


def left_by(runs: Path) -> dict[str, dict]:
    """Every record apart from times and memory, with the hashes of the files beside it."""
    found = {}
    for path in sorted(runs.glob(f"*/{RECORD_FILE}")):
        record = json.loads(path.read_text())
        del record["times"], record["cost"]
        files = sorted(each.name for each in path.parent.iterdir())
        hashes = {
            name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
            for name in (WEIGHTS_FILE, PREDICTIONS_FILE)
        }
        found[path.parent.name] = {"record": record, "files": files, "hashes": hashes}
    return found


@pytest.mark.slow
def test_a_study_killed_ten_times_ends_with_the_records_of_an_undisturbed_one(tmp_path, marked, figure):
    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "kd_bench", "study", STUDY, "--jobs", "2", f"paths.runs={tmp_path / name}"]
        with (tmp_path / f"{name}.txt").open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=marked.environment, cwd=tmp_path)

    undisturbed = start("undisturbed")
    assert undisturbed.wait() == 0, (tmp_path / "undisturbed.txt").read_text()
    chance = random.Random(0)
    unfinished = []
    for number in range(KILLS):
        study = start("killed")
        while number >= AT_THE_START and not under_way(tmp_path / "killed", study.pid):
            assert study.poll() is None, (tmp_path / "killed.txt").read_text()
            time.sleep(0.1)
        time.sleep(chance.uniform(1, 20))
        study.send_signal(signal.SIGKILL)
        assert study.wait() == -signal.SIGKILL
        unfinished.append(len(list((tmp_path / "killed").glob("*/checkpoint-*"))))
    last = start("killed")
    assert last.wait() == 0, (tmp_path / "killed.txt").read_text()

    expected, found = left_by(tmp_path / "undisturbed"), left_by(tmp_path / "killed")
    different = [run_id for run_id in expected if found.get(run_id) != expected[run_id]]
    resumed = [
        json.loads((tmp_path / "killed" / run_id / RECORD_FILE).read_text())["times"]["resumed"] for run_id in found
    ]
    figure(
        "R2",
        {
            "SIGKILLs of a running study": KILLS,
            "of them with checkpoints of unfinished runs": sum(map(bool, unfinished)),
            "runs": len(found),
            "runs that were resumed": sum(map(bool, resumed)),
            "runs with another record, other weights or predictions": len(different),
        },
    )
    assert found.keys() == expected.keys()
    assert not different
    assert any(resumed)
    assert {read_state(tmp_path / "killed" / run_id).state for run_id in found} == {"completed"}
    limit = time.monotonic() + 30
    while marked.alive() and time.monotonic() < limit:
        time.sleep(0.2)
    assert marked.alive() == []
