"""A sweep's whole grid is checked before anything starts, and what became of its jobs is read from their files."""

import inspect
import json
import os
import signal
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.plugins.sweeper import Sweeper as HydraSweeper

from kd_bench.cli.main import main
from kd_bench.errors import KDBenchError, Preempted
from kd_bench.runs.studies.sweep import Sweep, failure_lines, hand_back

FAST = [
    "recipe.epochs=1",
    "student=resnet8_cifar",
    "dataset.train_samples=50",
    "logger=none",
    "trainer.progress=none",
    "trainer.threads=1",
    "teacher=none",
    "teacher.name=null",
]


@pytest.fixture
def folder(working_directory) -> Path:
    return working_directory


# --- The grid ---

WRONG = {
    "method=scratch,kd,at": "2 of 3 points are wrong, none was started: method=kd: method=kd needs a teacher, ",
    "method=scratch,kdd seed=0,1": (
        "2 of 4 points are wrong, none was started: method=kdd seed=0: method='kdd': no such choice; did you mean 'kd'"
    ),
    "method=scratch recipe.epochs=1,0": "recipe.epochs=0: recipe.epochs=0: should be greater than or equal to 1",
    "method=scratch recipe.optimizer.lr=0,0.1": "recipe.optimizer.lr=0: should be greater than 0",
    "method=scratch seed=interval(0,3)": "BasicSweeper does not support sweep type : INTERVAL_SWEEP",
    "method=kd": "1 of 1 points are wrong, none was started: ",
    "method=scratch seed=0,1 hydra/launcher=slurmm": "hydra/launcher='slurmm': no such choice",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_point_stops_the_sweep_before_it_starts(folder, capsys, line):
    assert main(["train", "-m", *FAST, *line.split()]) == 2
    printed = capsys.readouterr()
    (reason,) = printed.err.splitlines()
    assert reason.startswith("kd-bench: ")
    assert WRONG[line] in reason
    assert printed.out == ""
    assert list(folder.iterdir()) == []


STUDY = """
defaults:
  - train
  - override teacher: none
  - override student: resnet8_cifar
  - override method: scratch
  - override logger: none
  - _self_
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
dataset: {{train_samples: 50}}
recipe: {{epochs: 1}}
trainer: {{progress: none, threads: 1}}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      method: {methods}
      seed: 0,1
"""


@pytest.mark.parametrize(("methods", "more"), [("scratch,kd", []), ("glob(k*,exclude=kd_*)", ["seed=3"])])
def test_the_grid_of_a_study_is_checked_too(folder, capsys, methods, more):
    """With what the command line changes of it."""
    (folder / "mine").mkdir()
    (folder / "mine" / "study.yaml").write_text(STUDY.format(methods=methods))
    assert main(["train", "--config-dir", "mine", "--config-name", "study", *more]) == 2
    (reason,) = capsys.readouterr().err.splitlines()
    seeds = ["method=kd:"] if more else ["method=kd seed=0:", "method=kd seed=1:"]
    assert [name in reason for name in seeds] == [True] * len(seeds)
    assert "method=scratch" not in reason
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_grid_for_other_machines_may_ask_for_devices_that_this_one_lacks(folder, monkeypatch, capsys):
    """Only a cluster's nodes have the GPU; here the sweep stops at the launcher."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra `submitit`")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("PATH", str(folder))
    sweep = ["train", "-m", *FAST, "method=scratch", "seed=0,1", "trainer=gpu"]
    assert main(sweep) == 2
    assert "torch finds no GPU here" in capsys.readouterr().err
    assert main([*sweep, "hydra/launcher=submitit_slurm"]) == 5
    (reason,) = capsys.readouterr().err.splitlines()
    assert reason.startswith("kd-bench: 2 of 2 jobs have no result: ")


# --- Outcomes ---


def outcomes(folder: Path, failures: dict[int, str | None]) -> Path:
    for number, failure in failures.items():
        outcome = {"point": f"seed={number}", "failure": failure}
        (folder / f"job-{number}.json").write_text(json.dumps(outcome))
    return folder


def test_a_sweep_whose_jobs_all_have_records_has_not_failed(tmp_path):
    assert failure_lines(Sweep(outcomes(tmp_path, {0: None, 1: None}), ["seed=0", "seed=1"]), None) == []


def test_causes_are_counted_with_the_jobs_in_order(tmp_path):
    folder = outcomes(tmp_path, {10: "no space", 2: "no space", 0: None, 1: "killed"})
    points = [f"seed={number}" for number in range(11)]
    death = RuntimeError("\n\nA worker died.\nCall stack")
    assert failure_lines(Sweep(folder, points), death) == [
        "1 of 11 jobs failed: killed (seed=1)",
        "2 of 11 jobs failed: no space (seed=2; seed=10)",
        "7 of 11 jobs have no result: RuntimeError: A worker died. "
        "(seed=3; seed=4; seed=5; seed=6; seed=7; and 2 more)",
    ]


def test_without_a_grid_the_jobs_say_what_they_were(tmp_path):
    folder = outcomes(tmp_path, {0: None, 1: "diverged"})
    failed = "1 of 2 jobs failed: diverged (seed=1)"
    assert failure_lines(Sweep(folder, None), KDBenchError("diverged")) == [failed]
    ended = "the sweep ended early: ValueError: no trial"
    assert failure_lines(Sweep(folder, None), ValueError("no trial")) == [failed, ended]


# --- SLURM ---


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A job of an array, and a ``scontrol`` that writes down what it is asked; returns where."""
    tool = tmp_path / "scontrol"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setattr("kd_bench.runs.studies.sweep.SECONDS_TO_BE_ENDED", 0.0)
    return tmp_path / "asked"


def test_a_preempted_job_is_queued_again(slurm):
    hand_back(Preempted("stopped"))
    assert slurm.read_text() == "requeue 17_3\n"


def test_when_its_time_is_over_submitit_decides(slurm):
    called = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        hand_back(Preempted("stopped", signal.SIGUSR2))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert called == [signal.SIGUSR2]


def test_outside_of_slurm_nothing_is_queued(slurm, monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    hand_back(Preempted("stopped"))
    assert not slurm.exists()


def test_hydra_still_checks_a_grid_with_the_method_that_is_switched_off():
    """``sweep.py`` replaces it; under another name every point would be composed a second time."""
    source = inspect.getsource(BasicSweeper.sweep)
    assert "self.validate_batch_is_legal(batch)" in source
    assert "validate_batch_is_legal" in vars(HydraSweeper)
    assert "validate_batch_is_legal" not in vars(BasicSweeper)
