"""One process holds a run; whatever becomes of that process, the run is free again."""

import subprocess
import sys
import threading
import time

import pytest

from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.records.directory import claim, finished
from kd_bench.results.records.record import RECORD_FILE

RUN_ID = "0123456789abcdef"

# Holds the run until a line arrives on its standard input.
HOLDER = """
import os, socket, sys
from datetime import datetime, timezone
from pathlib import Path
from kd_bench.results.records.directory import claim
from kd_bench.results.records.states import RunState, write_state

runs, run_id, says = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "says"
with claim(runs, run_id, wait=False) as directory:
    if says:
        write_state(RunState(
            run_id=run_id, state="running", role="student", study=None, dataset="digits", teacher=None, student="net",
            method="kd", recipe="short", seed=0, epochs=3, host=socket.gethostname(), pid=os.getpid(),
            updated_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        ), directory)
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def hold(tmp_path):
    """Starts a process that holds the run."""
    processes = []

    def start(says: bool = True) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), RUN_ID, "says" if says else "silent"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_claim_makes_the_directory(tmp_path):
    with claim(tmp_path / "deep" / "runs", RUN_ID, wait=False) as directory:
        assert directory == tmp_path / "deep" / "runs" / RUN_ID
        assert directory.is_dir()


def test_a_second_process_is_refused_with_the_holders_name(tmp_path, hold):
    holder = hold()
    with pytest.raises(ConfigError) as caught, claim(tmp_path, RUN_ID, wait=False):
        pytest.fail("two processes hold one run")
    line = str(caught.value)
    assert line.startswith(f"run {RUN_ID} is already running (host ")
    assert f"pid {holder.pid}, last sign of life 2025-01-02T03:04:05+00:00)" in line
    assert caught.value.exit_code == 2


def test_a_holder_that_has_not_said_anything_yet_is_a_holder_too(tmp_path, hold):
    hold(says=False)
    with (
        pytest.raises(ConfigError, match=f"run {RUN_ID} is already held by another process"),
        claim(tmp_path, RUN_ID, wait=False),
    ):
        pytest.fail("two processes hold one run")


def test_other_runs_are_free(tmp_path, hold):
    hold()
    with claim(tmp_path, "f" * 16, wait=False) as directory:
        assert directory.name == "f" * 16


def test_a_killed_holder_frees_the_run(tmp_path, hold):
    holder = hold()
    holder.kill()
    holder.wait()
    with claim(tmp_path, RUN_ID, wait=False) as directory:
        assert directory.is_dir()


def test_waiting_ends_when_the_holder_is_done(tmp_path, hold, capsys):
    holder = hold()
    let_go = threading.Timer(0.3, lambda: print(file=holder.stdin, flush=True))
    started = time.monotonic()
    let_go.start()
    with claim(tmp_path, RUN_ID, wait=True):
        assert time.monotonic() - started > 0.25
        assert holder.stdout.readline() == "released\n"
    let_go.join()
    assert f"pid {holder.pid}" in (said := capsys.readouterr().out)
    assert said.endswith("; waiting for it\n")


def test_the_same_process_cannot_hold_a_run_twice_but_one_time_after_the_other(tmp_path):
    with claim(tmp_path, RUN_ID, wait=False), pytest.raises(ConfigError), claim(tmp_path, RUN_ID, wait=False):
        pytest.fail("held twice")
    with claim(tmp_path, RUN_ID, wait=False):
        pass


def test_a_failure_inside_frees_the_run(tmp_path):
    with pytest.raises(ZeroDivisionError), claim(tmp_path, RUN_ID, wait=False):
        _ = 1 / 0
    with claim(tmp_path, RUN_ID, wait=False):
        pass


def test_a_place_that_cannot_be_written_is_an_integrity_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IntegrityError, match="cannot be written") as caught, claim(tmp_path / "file", RUN_ID, False):
        pytest.fail("claimed a run below a file")
    assert caught.value.exit_code == 4


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path):
    """Only a holder writes there, and the new holder is another process."""
    directory = tmp_path / RUN_ID
    directory.mkdir()
    (directory / ".checkpoint-1-00003-0123456789abcdef.ckpt.4711.tmp").write_bytes(b"half")
    (directory / "student.safetensors").write_bytes(b"whole")
    with claim(tmp_path, RUN_ID, wait=False):
        assert sorted(path.name for path in directory.iterdir()) == [".lock", "student.safetensors"]


def test_finished_means_that_there_is_a_valid_record(tmp_path):
    assert finished(tmp_path) is None
    assert finished(tmp_path / "nothing") is None
    (tmp_path / RECORD_FILE).write_text("{}")
    with pytest.raises(IntegrityError, match="is not a valid record"):
        finished(tmp_path)
