"""Whole studies with runs that fail in every way: what is finished counts, the rest is named, the next call goes on."""

import os
import tempfile
from pathlib import Path

import pytest

from kd_bench.cli.main import main
from kd_bench.results.records.record import RECORD_FILE, read_record
from kd_bench.results.records.states import read_state
from kd_bench.runs.studies.grid import open_study
from kd_bench.runs.studies.progress import read_status

# A method that ends its process in the way that its hyperparameter says, in its second step.
PLUGIN = '''
import os, signal, sys
from pathlib import Path

from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.base import Method, Requirements

WAYS = {
    "raises": lambda: 1 / 0,
    "leaves": lambda: sys.exit(0),
    "vanishes": lambda: os._exit(0),
    "is_killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crashes": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "needs_memory": lambda: bytearray(1 << 60),
}


class Fails(Method):
    """Cross-entropy, and an end."""

    paper, family, requires = "none", "baseline", Requirements(teacher="none")

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, student, teacher, batch, progress):
        if progress.step == 1 and self.how in WAYS and not Path(HEALED).exists():
            WAYS[self.how]()
        return {"ce": cross_entropy(student.logits, batch.targets) * (float("nan") if self.how == "diverges" else 1)}
'''

STUDY = """
defaults:
  - train
  - override teacher: none
  - override student: resnet8_cifar
  - override method: fails
  - override logger: none
  - _self_

study: failing
plugins: [PLUGIN]
dataset: {train_samples: 100}
recipe: {epochs: 1, batch_size: 50}
trainer: {threads: 1, progress: none}
paths: {runs: runs}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      method.how: works,raises,leaves,vanishes,is_killed,crashes,needs_memory,diverges
"""
CAUSES = {
    "raises": ("failed", "ZeroDivisionError: division by zero (see "),
    "leaves": ("failed", "SystemExit: 0 (see "),
    "vanishes": ("failed", "ended with exit code 0 and left no record"),
    "is_killed": ("failed", "was killed by SIGKILL and left no record"),
    "crashes": ("failed", "was killed by SIGSEGV and left no record"),
    "needs_memory": ("oom", "MemoryError: (see "),
    "diverges": ("diverged", "loss term ce is not finite within the "),
}


@pytest.fixture
def failing(tmp_path, monkeypatch) -> Path:
    """The folder of a study whose runs fail until there is a file ``healed``."""
    folder = tmp_path / "failing"
    (folder / "method").mkdir(parents=True)
    name = f"fails_{os.getpid()}_{tmp_path.name}".replace("-", "_")
    healed = f"HEALED = {str(folder / 'healed')!r}\n"
    (folder / f"{name}.py").write_text(healed + PLUGIN)
    (folder / "method" / "fails.yaml").write_text(f"_target_: {name}.Fails\nhow: works\n")
    (folder / "study.yaml").write_text(STUDY.replace("PLUGIN", name).replace("runs: runs", f"runs: {tmp_path}/runs"))
    monkeypatch.syspath_prepend(folder)
    return folder


def way(label: str) -> str:
    return label.removeprefix("method.how ")


def test_failed_runs_are_named_and_the_next_call_does_what_is_left(failing, tmp_path, capsys, figure):
    runs = tmp_path / "runs"
    code = main(["study", str(failing), "--jobs", "2"])
    assert code == 5
    printed = capsys.readouterr()
    assert printed.err.startswith("kd-bench: 7 of 8 runs are not finished: method.how raises: ZeroDivisionError: ")
    assert len(printed.err.splitlines()) == 1
    tasks = {way(task.label): task for task in read_status(open_study(str(failing), [])).tasks}
    for name, (state, cause) in CAUSES.items():
        assert (tasks[name].state, tasks[name].cause[: len(cause)]) == (state, cause)
        assert any(line.startswith(f"method.how {name}") and state in line for line in printed.out.splitlines())
    assert "8 runs: 1 completed, 1 diverged, 5 failed, 1 oom" in printed.out.splitlines()
    (record,) = runs.glob(f"*/{RECORD_FILE}")
    assert tasks["works"].run_id == record.parent.name
    assert {read_state(path.parent).state for path in runs.glob("*/state.json")} == {
        *("completed", "failed", "stale", "oom", "diverged"),
    }
    written = record.stat().st_mtime_ns
    states = [task.state for task in tasks.values()]
    figure(
        "R3",
        {
            "runs of a study": len(states),
            "made to fail, each in another way": len(CAUSES),
            "completed": states.count("completed"),
            "listed with their cause": sum(bool(task.cause) for task in tasks.values()),
            "exit code": code,
        },
    )

    (failing / "healed").write_text("")
    assert main(["study", str(failing), "method.how=works,raises", "--jobs", "2"]) == 0
    assert "2 runs, 1 of them finished; 2 at a time" in capsys.readouterr().out.splitlines()
    assert main(["study", str(failing), "--jobs", "2"]) == 5  # one still diverges
    assert len(list(runs.glob(f"*/{RECORD_FILE}"))) == 7
    assert record.stat().st_mtime_ns == written
    tops = {read_record(path).metrics.last.test.top1 for path in runs.glob(f"*/{RECORD_FILE}")}
    assert len(tops) == 1  # all ways train alike
    capsys.readouterr()
    assert main(["status", str(failing)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 runs: 7 completed, 1 diverged"


def test_a_wrong_point_keeps_the_whole_study_from_starting(failing, tmp_path, capsys):
    text = (
        (failing / "study.yaml")
        .read_text()
        .replace("method.how: works,raises", "recipe.epochs: 1,0,-1\n      method.how: works,raises")
    )
    (failing / "study.yaml").write_text(text)
    assert main(["study", str(failing)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kd-bench: 16 of 24 runs are wrong, none was started: recipe.epochs=0: should be greater ")
    assert "(recipe.epochs 0, method.how works; " in line
    assert len(line) < 1000
    assert not list((tmp_path / "runs").glob("*/state.json"))


def test_a_study_whose_plan_cannot_be_made_says_where_the_reason_is(failing, tmp_path, capsys):
    (plugin,) = failing.glob("*.py")
    plugin.write_text("import os\nos._exit(7)\n")
    assert main(["study", str(failing)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"kd-bench: planning the study ended with exit code 7; see {open_study(str(failing), []).logs}/planning.log"
    )


def test_a_study_that_is_finished_answers_where_nothing_can_be_written(failing, tmp_path, capsys, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    works = ["study", str(failing), "method.how=works"]
    assert main(works) == 0
    studies = tmp_path / "runs" / "studies"
    studies.rename(tmp_path / "kept")
    studies.write_text("no folder can be made here, not even by root")
    capsys.readouterr()
    assert main([*works, "--dry-run"]) == 0
    assert "1 runs, 0 to do" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"failing-\w{8}\.json cannot be written: .*; kd-bench status is out of date"):
        assert main(works) == 0
    assert "1 runs, 1 of them finished; 1 at a time" in capsys.readouterr().out
    assert main(["study", str(failing), "method.how=works,raises"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kd-bench: {open_study(str(failing), []).logs} cannot be written: ")
    assert len(list((tmp_path / "runs").glob("*/state.json"))) == 1
    assert not list(temporary.glob("*/planning.log"))
