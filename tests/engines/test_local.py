"""Sweeps in several processes of this machine: joblib and submitit_local, with failed, killed and stopped jobs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engines.commands import FAST, Command, lines_of, needs, records, under_way, wait_for
from kd_bench.results.records.states import process_is_gone, read_state

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
needs_joblib = needs("joblib", "hydra-joblib-launcher")
needs_submitit = needs("submitit", "hydra-submitit-launcher")
JOBLIB = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
LAUNCHERS = [
    pytest.param(JOBLIB, id="joblib", marks=needs_joblib),
    pytest.param(["-m", "hydra/launcher=submitit_local"], id="submitit_local", marks=needs_submitit),
]
LONG = [*FAST, "recipe.epochs=40"]


def running(folder: Path) -> list[int]:
    """Processes of the runs under way."""
    return [read_state(path.parent).pid for path in folder.glob("runs/*/state.json")]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_failed_job_is_told_and_the_others_finish(tmp_path, launcher):
    """Those of later batches too."""
    lists = ["recipe.optimizer.lr=1e6,0.05", "seed=0,1", "hydra.sweeper.max_batch_size=2"]
    arguments = [*launcher, *FAST, "recipe.epochs=1", *lists]
    code, output = Command(tmp_path, arguments, ENVIRONMENT).end()
    assert code == 5, output
    assert [record.seed for record in records(tmp_path)] == [0, 1]
    (line,) = lines_of(output)
    assert line.startswith("kd-bench: 2 of 4 jobs failed: loss term ce is not finite")
    assert line.endswith("(recipe.optimizer.lr=1000000.0 seed=0; recipe.optimizer.lr=1000000.0 seed=1)")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_job_is_told_and_the_same_command_goes_on(tmp_path, launcher):
    arguments = [*launcher, *LONG, "seed=0,1"]
    first = Command(tmp_path, arguments, ENVIRONMENT)
    wait_for(lambda: under_way(tmp_path))
    os.kill(running(tmp_path)[0], signal.SIGKILL)
    code, output = first.end()
    assert code == 5, output
    (line,) = lines_of(output)
    if "joblib" in launcher[1]:
        assert line.startswith("kd-bench: 2 of 2 jobs have no result: TerminatedWorkerError: A worker process ")
    else:  # the launcher leaves as soon as it comes to the dead job; the other one may still be running
        assert " of 2 jobs have no result: UncompletedJobError: " in line
    code, output = Command(tmp_path, arguments, ENVIRONMENT).end()
    assert (code, lines_of(output)) == (0, []), output
    assert 1 in [record.times.resumed for record in records(tmp_path)]
    assert len(records(tmp_path)) == 2


@needs_joblib
def test_a_study_runs_on_a_launcher(tmp_path):
    command = [
        sys.executable,
        "-m",
        "kd_bench",
        "study",
        "all_methods_smoke",
        *JOBLIB[1:],
        *FAST[1:3],
        "method=scratch",
    ]
    more = ["student=resnet8_cifar", "logger=none", "trainer.progress=none", "paths.runs=runs"]
    ran = subprocess.run([*command, *more], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert [(record.seed, record.config["study"]) for record in records(tmp_path)] == [
        (0, "all_methods_smoke"),
        (1, "all_methods_smoke"),
    ]


STUDY = """
defaults:
  - train
  - override teacher: resnet8_cifar
  - override student: resnet8_cifar
  - override method: kd
  - override logger: none
  - _self_
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
study: mine
dataset: {train_samples: 150}
recipe: {epochs: 2}
teacher: {overrides: {dataset.train_samples: null, recipe.epochs: 10}}
trainer: {progress: none, threads: 1}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      method: scratch,kd
      seed: 0,1
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_jobs_of_a_study_train_their_teacher_once(tmp_path, launcher):
    """Those that need it wait for the one that came first."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text(STUDY)
    code, output = Command(tmp_path, ["mine", *launcher[1:]], ENVIRONMENT, "study").end()
    assert (code, lines_of(output)) == (0, []), output
    found = [(each.role, each.method.name, each.seed, each.study) for each in records(tmp_path)]
    students = [("student", method, seed, "mine") for method in ("kd", "scratch") for seed in (0, 1)]
    assert sorted(found) == sorted([*students, ("teacher", "scratch", 1000, "mine")])


@needs_joblib
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_command_takes_its_jobs_along(tmp_path, number, expected):
    command = Command(tmp_path, [*JOBLIB, *LONG, "recipe.epochs=1000", "seed=0,1"], ENVIRONMENT)
    wait_for(lambda: under_way(tmp_path))
    jobs = running(tmp_path)
    command.process.send_signal(number)
    code, output = command.end()
    assert code == expected, output
    assert "the same command resumes" in lines_of(output)[-1]
    wait_for(lambda: all(map(process_is_gone, jobs)), 30)
    assert records(tmp_path) == []


@needs_joblib
def test_a_killed_command_takes_its_jobs_along(tmp_path):
    """At once: a job that nobody waits for would train on."""
    command = Command(tmp_path, [*JOBLIB, *LONG, "recipe.epochs=1000", "seed=0,1"], ENVIRONMENT)
    wait_for(lambda: under_way(tmp_path))
    jobs = running(tmp_path)
    command.process.kill()
    wait_for(lambda: all(map(process_is_gone, jobs)), 5)
    assert records(tmp_path) == []
