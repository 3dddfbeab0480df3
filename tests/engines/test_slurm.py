"""Sweeps through a real SLURM on this machine: failed, killed, queued again, pre-empted and out of time."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines.commands import FAST, Command, lines_of, needs, records, under_way, wait_for
from kd_bench.results.records.states import read_state

HERE = Path(__file__).parent
DAEMONS = ("slurmctld", "slurmd", "munged")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(name) for name in DAEMONS),
        reason="needs SLURM: apt-get install slurmctld slurmd slurm-client munge",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to start SLURM"),
    needs("submitit", "hydra-submitit-launcher"),
]
LONG = [*FAST, "recipe.epochs=60"]
LAUNCHER = [
    "-m",
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.partition=low",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
]
AN_HOUR = "hydra.launcher.timeout_min=60"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A SLURM with the partitions ``low`` and ``high``, of which the second preempts the first; its environment."""
    folder = tmp_path_factory.mktemp("slurm")
    try:
        started = subprocess.run([HERE / "slurm_up.sh", folder], capture_output=True, text=True, timeout=120)
        assert started.returncode == 0, started.stdout + started.stderr
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path, "OMP_NUM_THREADS": "1"}
    finally:
        subprocess.run([HERE / "slurm_down.sh", folder], check=True)


@pytest.fixture
def sweep(slurm, tmp_path) -> Iterator[Callable[..., Command]]:
    """``sweep("seed=0,1")``: starts it in the test's own folder."""
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(tmp_path, [*LAUNCHER, *arguments], slurm))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
    subprocess.run(["scancel", "--user=root"], env=slurm, check=True)


def job(slurm: dict[str, str]) -> str:
    """The one job that is running."""
    shown = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%A"], env=slurm, capture_output=True, text=True)
    (number,) = shown.stdout.split()
    return number


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> str:
    """Hash of the weights of the run that the tests interrupt."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, output = Command(folder, [*LONG, "seed=0"], {**os.environ, "OMP_NUM_THREADS": "1"}).end()
    assert code == 0, output
    (record,) = records(folder)
    return record.student.weights_sha256


def test_a_failed_job_is_told_and_the_others_finish(sweep, tmp_path):
    code, output = sweep(*FAST, "recipe.epochs=1", "recipe.optimizer.lr=1e6,0.05", "seed=0,1", AN_HOUR).end()
    assert code == 5, output
    assert [record.seed for record in records(tmp_path)] == [0, 1]
    (line,) = lines_of(output)
    assert line.startswith("kd-bench: 2 of 4 jobs failed: loss term ce is not finite")
    assert line.endswith("(recipe.optimizer.lr=1000000.0 seed=0; recipe.optimizer.lr=1000000.0 seed=1)")


def test_a_killed_job_is_told_and_the_same_command_goes_on(sweep, tmp_path, uninterrupted):
    arguments = [*LONG, "seed=0", AN_HOUR]
    first = sweep(*arguments)
    wait_for(lambda: under_way(tmp_path))
    (folder,) = [path.parent for path in tmp_path.glob("runs/*/state.json")]
    os.kill(read_state(folder).pid, 9)
    code, output = first.end()
    assert code == 5
    (line,) = lines_of(output)
    assert line.startswith("kd-bench: 1 of 1 jobs have no result: ")
    assert sweep(*arguments).end()[0] == 0
    (record,) = records(tmp_path)
    assert (record.times.resumed, record.student.weights_sha256) == (1, uninterrupted)


def queued_again(slurm: dict[str, str]) -> None:
    subprocess.run(["scontrol", "requeue", job(slurm)], env=slurm, check=True)


def signalled(slurm: dict[str, str]) -> None:
    """As SLURM does when a job's time is nearly over, and some clusters before they preempt."""
    subprocess.run(["scancel", "--signal=USR2", job(slurm)], env=slurm, check=True)


def preempted(slurm: dict[str, str]) -> None:
    whole_node = ["sbatch", "--partition=high", f"--cpus-per-task={os.cpu_count()}", "--output=/dev/null"]
    subprocess.run([*whole_node, "--wrap=sleep 2"], env=slurm, check=True, capture_output=True)


@pytest.mark.parametrize("interrupt", [queued_again, signalled, preempted])
def test_an_interrupted_job_comes_back_and_resumes(slurm, sweep, tmp_path, uninterrupted, interrupt):
    """Within one sweep, whose command waits for it."""
    command = sweep(*LONG, "seed=0", AN_HOUR)
    wait_for(lambda: under_way(tmp_path))
    interrupt(slurm)
    code, output = command.end()
    assert (code, lines_of(output)) == (0, []), output
    (record,) = records(tmp_path)
    assert (record.times.resumed, record.student.weights_sha256) == (1, uninterrupted)


def test_a_job_that_is_out_of_time_is_told_and_the_same_command_goes_on(slurm, sweep, tmp_path, uninterrupted):
    """submitit takes the signal for the end of the time in every job that has less than about ten minutes."""
    arguments = [*LONG, "seed=0", "hydra.launcher.timeout_min=5"]
    first = sweep(*arguments)
    wait_for(lambda: under_way(tmp_path))
    signalled(slurm)
    code, output = first.end()
    assert code == 5
    words = "Job not requeued because: timed-out too many times."
    (line,) = lines_of(output)
    assert line.startswith(f"kd-bench: 1 of 1 jobs failed: {words} (")
    (folder,) = [path.parent for path in tmp_path.glob("runs/*/state.json")]
    assert read_state(folder).state == "preempted"
    assert sweep(*arguments).end()[0] == 0
    (record,) = records(tmp_path)
    assert (record.times.resumed, record.student.weights_sha256) == (1, uninterrupted)
