"""A study may be killed whenever it pleases: the same command goes on, and nothing shows in what it leaves."""

import hashlib
import json
import os
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


def ended(marked, seconds: float) -> bool:
    """Whether every process that carries the mark is gone before that time is over."""
    limit = time.monotonic() + seconds
    while marked.alive() and time.monotonic() < limit:
        time.sleep(0.05)
    return not marked.alive()


@pytest.mark.slow
def test_a_study_killed_ten_times_ends_with_the_records_of_an_undisturbed_one(tmp_path, marked, figure):
    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "kd_bench", "study", STUDY, "--jobs", "2", f"paths.runs={tmp_path / name}"]
        command.append("trainer.checkpoint_seconds=0")
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
    assert ended(marked, 30), marked.alive()


# The fork server of a study without its imports; the process that it forks is stopped and watches nobody.
SERVER = """
import os, signal
from kd_bench.runs.studies import scheduling
from kd_bench.training.signals import end_with_parent

scheduling.PRELOADED = scheduling.PRELOADED[:1]

def stops():
    end_with_parent()
    os.kill(os.getpid(), signal.SIGSTOP)

if __name__ == "__main__":
    process = scheduling._context().Process(target=stops)
    process.start()
    print(process.pid, flush=True)
    process.join()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux' kernel ends processes with their parent")


@linux
def test_no_fork_server_outlives_a_killed_study(tmp_path, marked):
    (tmp_path / "server.py").write_text(SERVER)
    command = [sys.executable, tmp_path / "server.py"]
    with subprocess.Popen(command, env=marked.environment, stdout=subprocess.PIPE, text=True) as study:
        child = int(study.stdout.readline())
        while "(stopped)" not in Path(f"/proc/{child}/status").read_text():
            time.sleep(0.01)
        assert len(marked.alive()) == 4  # with the tracker of multiprocessing
        study.kill()
    assert ended(marked, 10), marked.alive()


@linux
@pytest.mark.slow
def test_a_run_that_is_stopped_ends_with_its_killed_study(tmp_path, marked):
    command = [sys.executable, "-m", "kd_bench", "study", STUDY, "--jobs", "2", "paths.runs=killed"]
    with (tmp_path / "output").open("wb") as output:
        study = subprocess.Popen(command, stdout=output, stderr=output, env=marked.environment, cwd=tmp_path)
    while not (states := list(tmp_path.glob("killed/*/state.json"))):
        assert study.poll() is None, (tmp_path / "output").read_text()
        time.sleep(0.1)
    for path in states:
        os.kill(read_state(path.parent).pid, signal.SIGSTOP)
    study.kill()
    assert study.wait() == -signal.SIGKILL
    assert ended(marked, 10), marked.alive()
