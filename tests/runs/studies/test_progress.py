"""What `kd-bench status` says, while a study runs and after whatever became of it."""

import json
import os
import subprocess
import sys

import pytest
from support.records import make_record, save, state_content

from kd_bench.cli.main import main
from kd_bench.config.paths import EXPERIMENTS
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.runs.studies.grid import Study, open_study
from kd_bench.runs.studies.progress import ProgressFile, read_status, summary_lines
from kd_bench.runs.studies.tasks import Outcome, Task

RUN_ID = "0123456789abcdef"


def mine(runs) -> Study:
    """A study without points, whose runs are in ``runs``."""
    return Study("mine", runs, list)


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def told(tmp_path, monkeypatch):
    """``told(Outcome("running"), pid=...)``: a study of one run, as its process told of it last."""

    def write(outcome: Outcome, pid: int | None = None) -> None:
        task = Task("key", "method kd, seed 0", None, "student")
        file = ProgressFile(mine(tmp_path), [task])
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid or os.getppid())
            file.update(task, outcome)
            file.write()

    return write


def state_of(runs) -> tuple[str, str, float | None]:
    (task,) = read_status(mine(runs)).tasks
    return task.state, task.cause, task.top1


OUTCOMES = {
    "waiting": Outcome("waiting"),
    "running": Outcome("running", run_id=RUN_ID, epoch=3, epochs=60, attempts=1),
    "completed": Outcome("completed", run_id=RUN_ID, top1=0.5, seconds=12.34),
    "failed": Outcome("failed", "no luck", seconds=1.0),
    "refused": Outcome("refused", "method=kd needs a teacher"),
    "blocked": Outcome("blocked", "not started: teacher failed"),
}


@pytest.mark.parametrize("state", OUTCOMES)
def test_while_the_study_runs_its_own_process_knows(told, tmp_path, state):
    outcome = OUTCOMES[state]
    told(outcome)
    status = read_status(mine(tmp_path))
    assert state_of(tmp_path) == (outcome.state, outcome.cause, outcome.top1)
    assert status.ended() == (state not in ("waiting", "running"))


@pytest.mark.parametrize("state", OUTCOMES)
def test_when_its_process_is_gone_it_has_ended(told, tmp_path, gone, state):
    """And what was running is no longer; a run that had not named itself yet has left no directory."""
    outcome = OUTCOMES[state]
    told(outcome, gone)
    expected = ("stale", "ended with the process of the study", None)
    assert read_status(mine(tmp_path)).ended()
    assert state_of(tmp_path) == (expected if state == "running" else (outcome.state, outcome.cause, outcome.top1))
    told(Outcome("running"), gone)
    assert state_of(tmp_path) == expected


@pytest.mark.parametrize("state", ["preempted", "interrupted", "failed", "diverged"])
def test_afterwards_the_runs_own_directory_is_asked(told, tmp_path, gone, state):
    told(OUTCOMES["running"], gone)
    save(state_content(state=state, run_id=RUN_ID), tmp_path / RUN_ID / "state.json")
    assert state_of(tmp_path) == (state, "out of luck", None)


def test_a_record_is_the_truth(told, tmp_path, gone):
    told(OUTCOMES["running"], gone)
    save(make_record("kd", top1=0.75).model_dump_json(), tmp_path / RUN_ID / "record.json")
    assert state_of(tmp_path) == ("completed", "", 0.75)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"study": "mine"}', "\x00" * 40])
def test_a_damaged_file_is_one_line(told, tmp_path, content):
    told(OUTCOMES["running"])
    mine(tmp_path).status_file.write_text(content)
    with pytest.raises(IntegrityError, match="is not the status of a study") as caught:
        read_status(mine(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_study_that_was_never_started_says_how_to_start_it(tmp_path):
    with pytest.raises(ConfigError, match=r"study 'mine': not started yet, .* start it with: kd-bench study mine"):
        read_status(mine(tmp_path))


@pytest.fixture
def placed(tmp_path):
    """``placed("a/x")``: a study in that folder, whose runs are where those of all the others are."""

    def open_in(path: str) -> Study:
        folder = tmp_path / path
        folder.mkdir(parents=True)
        return Study(path, tmp_path / "runs", list, folder=folder)

    return open_in


def tell(study: Study, label: str) -> None:
    ProgressFile(study, [Task("key", label, None, "student")]).write()


def test_studies_of_one_name_in_different_places_have_their_own_status(placed):
    first, second = placed("a/x"), placed("b/x")
    tell(first, "of a")
    with pytest.raises(ConfigError, match="study 'b/x': not started yet"):
        read_status(second)
    tell(second, "of b")
    assert [read_status(study).tasks[0].label for study in (first, second)] == ["of a", "of b"]
    assert first.logs != second.logs
    assert {first.logs.with_suffix(".json"), second.logs.with_suffix(".json")} == {
        first.status_file, second.status_file,
    }  # fmt: skip


def test_a_study_of_the_project_keeps_its_plain_name_by_whichever_path_it_is_opened(tmp_path):
    plain = open_study("demo", [f"paths.runs={tmp_path}"])
    assert plain.status_file == tmp_path / "studies" / "demo.json"
    by_path = open_study(str(EXPERIMENTS / "demo"), [f"paths.runs={tmp_path}"])
    assert (by_path.status_file, by_path.logs) == (plain.status_file, plain.logs)
    tell(by_path, "one")
    assert read_status(plain).tasks[0].label == "one"


@pytest.mark.parametrize(("written", "is_read"), [("a/x", True), ("c/x", False)])
def test_a_status_of_an_earlier_version_is_read_by_its_study_alone(placed, written, is_read):
    """Those files were called after the last part of the path and did not say where the study is."""
    study = placed("a/x")
    tell(study, "old")
    content = json.loads(study.status_file.read_text())
    del content["folder"]
    study.status_file.unlink()
    save(content | {"study": written}, study.status_file.with_name("x.json"))
    if is_read:
        assert read_status(study).tasks[0].label == "old"
    else:
        with pytest.raises(ConfigError, match="study 'a/x': not started yet"):
            read_status(study)


def test_a_status_that_cannot_be_written_costs_a_warning(told, tmp_path):
    (tmp_path / "studies").mkdir()
    mine(tmp_path).status_file.mkdir()  # nothing can be renamed to it
    with pytest.warns(UserWarning, match=r"mine\.json cannot be written: .*; kd-bench status is out of date"):
        told(OUTCOMES["running"])


def test_a_line_says_how_a_run_stands(told, tmp_path):
    told(OUTCOMES["running"])
    assert summary_lines(read_status(mine(tmp_path)).tasks) == [
        "method kd, seed 0  running      epoch 3/60",
        "1 runs: 1 running",
    ]
    told(OUTCOMES["completed"])
    line, _ = summary_lines(read_status(mine(tmp_path)).tasks)
    assert line == "method kd, seed 0  completed    test top-1 50.00 %  12.3 s"
    told(OUTCOMES["failed"])
    assert summary_lines(read_status(mine(tmp_path)).tasks)[0] == "method kd, seed 0  failed       1.0 s  no luck"


def test_the_command(told, tmp_path, gone, capsys):
    told(OUTCOMES["running"], gone)
    text = mine(tmp_path).status_file.read_text().replace('"study": "mine"', '"study": "demo"')
    open_study("demo", [f"paths.runs={tmp_path}"]).status_file.write_text(text)
    assert main(["status", "demo", f"paths.runs={tmp_path}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 runs: 1 stale"
    assert main(["status", "demo", "--json", f"paths.runs={tmp_path}"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (task["state"], task["epoch"], task["epochs"]) == ("stale", 3, 60)
    assert main(["status", "demo", "--watch", f"paths.runs={tmp_path}"]) == 0  # has ended, so it does not wait
    assert main(["status", "demo", f"paths.runs={tmp_path}/other"]) == 2
    assert "not started yet" in capsys.readouterr().err
