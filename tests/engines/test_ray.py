"""Sweeps through Ray on this machine: a cluster of the command's own, one that stands already, and killed workers."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.commands import FAST, Command, lines_of, needs, records, under_way, wait_for
from kd_bench.results.records.states import process_is_gone, read_state

pytestmark = [pytest.mark.slow, needs("ray", "hydra-ray-launcher")]
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
LOCAL = ["-m", "hydra/launcher=ray", "hydra.launcher.ray.init.address=local", "+hydra.launcher.ray.init.num_cpus=2"]
LONG = [*FAST, "recipe.epochs=40"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[str]:
    """The address of a cluster that was started elsewhere: in a working directory of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("cluster")
    start = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*start, "--include-dashboard=false"], cwd=folder, env=ENVIRONMENT, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: "Ray runtime started" in (folder / "output").read_text())
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def at(cluster: str) -> list[str]:
    """The launcher gives every cluster a size of memory, which a standing one does not take."""
    address = f"hydra.launcher.ray.init.address={cluster}"
    return ["-m", "hydra/launcher=ray", address, "+hydra.launcher.ray.init.object_store_memory=null"]


def kill_one_under_way(folder: Path) -> None:
    """Kill the first worker whose run has saved a few epochs."""
    wait_for(lambda: under_way(folder))
    run = next(folder.glob("runs/*/checkpoint-1-0000[5-9]-*")).parent
    os.kill(read_state(run).pid, 9)


def test_a_failed_job_is_told_and_the_others_finish(tmp_path):
    arguments = [*LOCAL, *FAST, "recipe.epochs=1", "recipe.optimizer.lr=1e6,0.05", "seed=0,1"]
    code, output = Command(tmp_path, arguments, ENVIRONMENT).end()
    assert code == 5, output
    assert [record.seed for record in records(tmp_path)] == [0, 1]
    (line,) = lines_of(output)
    assert line.startswith("kd-bench: 2 of 4 jobs failed: loss term ce is not finite")


def test_a_killed_worker_is_replaced_and_resumes(tmp_path):
    """Ray starts a job again whose worker died, three times unless told otherwise."""
    command = Command(tmp_path, [*LOCAL, *LONG, "seed=0,1"], ENVIRONMENT)
    kill_one_under_way(tmp_path)
    code, output = command.end()
    assert (code, lines_of(output)) == (0, []), output
    assert sorted(record.times.resumed for record in records(tmp_path)) == [0, 1]


def test_a_standing_cluster_leaves_the_runs_where_the_command_was_given(tmp_path, cluster):
    code, output = Command(tmp_path, [*at(cluster), *FAST, "recipe.epochs=1", "seed=0,1"], ENVIRONMENT).end()
    assert code == 0, output
    assert [record.seed for record in records(tmp_path)] == [0, 1]


def test_a_worker_killed_for_good_ends_the_sweep_and_the_same_command_goes_on(tmp_path, cluster):
    """The launcher leaves with the first job that is dead for good, and Ray ends what it leaves behind."""
    arguments = [*at(cluster), *LONG, "seed=0,1,2", "+hydra.launcher.ray.remote.max_retries=0"]
    command = Command(tmp_path, arguments, ENVIRONMENT)
    kill_one_under_way(tmp_path)
    code, output = command.end()
    assert code == 5, output
    (line,) = lines_of(output)
    assert " of 3 jobs have no result: WorkerCrashedError: The worker died" in line
    code, output = Command(tmp_path, arguments, ENVIRONMENT).end()
    assert (code, lines_of(output)) == (0, []), output
    resumed = [record.times.resumed for record in records(tmp_path)]
    assert len(resumed) == 3
    assert 1 in resumed


def test_a_stopped_command_takes_its_cluster_along(tmp_path):
    arguments = [*LOCAL, *LONG, "recipe.epochs=1000", "seed=0,1"]
    command = Command(tmp_path, arguments, ENVIRONMENT)
    wait_for(lambda: under_way(tmp_path))
    jobs = [read_state(path.parent).pid for path in tmp_path.glob("runs/*/state.json")]
    command.process.send_signal(signal.SIGINT)
    code, output = command.end()
    assert code == 130, output
    assert lines_of(output) == ["kd-bench: stopped by the user; the same command resumes"]
    wait_for(lambda: all(map(process_is_gone, jobs)), 60)
    assert records(tmp_path) == []
