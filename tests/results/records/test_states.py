"""The state of a run, as a list of unfinished runs would show it."""

import os
import socket
import subprocess
import sys
from datetime import datetime, timezone

import pytest

from kd_bench.config.check import check
from kd_bench.errors import IntegrityError
from kd_bench.results.records.states import STATE_FILE, RunState, new_state, process_start, read_state, write_state


@pytest.fixture
def state() -> RunState:
    return RunState(
        run_id="0123456789abcdef",
        state="running",
        role="student",
        study=None,
        dataset="digits",
        teacher="resnet20_cifar",
        student="resnet8_cifar",
        method="kd",
        recipe="digits",
        seed=3,
        epochs=60,
        host=socket.gethostname(),
        pid=os.getpid(),
        updated_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    )


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_state_is_read_back_as_it_was_written(state, tmp_path):
    for each in (state, state.moved("failed", 'no luck: \u2603 "quoted"', epoch=7), state.moved("oom")):
        write_state(each, tmp_path)
        assert read_state(tmp_path) == each
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_running_state_whose_process_is_gone_is_stale(state, tmp_path, gone):
    write_state(state.model_copy(update={"pid": gone, "epoch": 12}), tmp_path)
    read = read_state(tmp_path)
    assert (read.state, read.cause, read.epoch) == ("stale", f"process {gone} is gone", 12)


def test_a_running_state_of_a_living_process_is_running(state, tmp_path):
    for pid in (os.getpid(), 1):  # process 1 may belong to another user
        write_state(state.model_copy(update={"pid": pid, "pid_since": process_start(pid)}), tmp_path)
        assert read_state(tmp_path).state == "running"


def test_another_process_that_got_the_number_is_not_the_run(state, tmp_path):
    since = process_start(os.getpid())
    if since is None:
        pytest.skip("this system does not say when a process started")
    write_state(state.model_copy(update={"pid_since": since - 1}), tmp_path)
    assert read_state(tmp_path).state == "stale"
    write_state(state.model_copy(update={"pid_since": None}), tmp_path)  # of an earlier version
    assert read_state(tmp_path).state == "running"


def test_another_hosts_processes_cannot_be_judged(state, tmp_path, gone):
    write_state(state.model_copy(update={"pid": gone, "host": "elsewhere"}), tmp_path)
    assert read_state(tmp_path).state == "running"


@pytest.mark.parametrize("final", ["completed", "failed", "diverged", "interrupted", "preempted", "oom"])
def test_only_running_states_become_stale(state, tmp_path, gone, final):
    write_state(state.model_copy(update={"pid": gone, "state": final}), tmp_path)
    assert read_state(tmp_path).state == final


def test_a_moved_state_belongs_to_this_process_now(state):
    foreign = state.model_copy(update={"pid": 1, "host": "elsewhere", "epoch": 12})
    moved = foreign.moved("interrupted", "stopped by the user")
    assert (moved.state, moved.cause, moved.epoch) == ("interrupted", "stopped by the user", 12)
    assert (moved.host, moved.pid) == (socket.gethostname(), os.getpid())
    assert moved.updated_at > state.updated_at
    assert moved.updated_at.tzinfo is not None
    unchanged = {"run_id", "role", "study", "dataset", "teacher", "student", "method", "recipe", "seed", "epochs"}
    assert all(getattr(moved, name) == getattr(state, name) for name in unchanged)
    assert foreign.moved("running", epoch=13).cause == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "running"}', "\x00" * 40])
def test_a_damaged_file_is_one_line(state, tmp_path, content):
    write_state(state, tmp_path)
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(IntegrityError, match="is not a valid run state") as caught:
        read_state(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_state_or_field_is_refused(state, tmp_path):
    text = state.model_dump_json()
    for content in (text.replace('"running"', '"sleeping"'), text.replace('"seed":3', '"seed":3,"seeds":4')):
        (tmp_path / STATE_FILE).write_text(content)
        with pytest.raises(IntegrityError):
            read_state(tmp_path)


def test_a_missing_file_is_an_integrity_error(tmp_path):
    with pytest.raises(IntegrityError, match=STATE_FILE):
        read_state(tmp_path)


def test_a_new_state_says_what_is_about_to_run(compose):
    config = check(compose("method=at", "seed=5", "study=widths", "teacher=wrn_16_2_cifar"))
    state = new_state(config, "f" * 16, "student", epochs=80)
    assert (state.dataset, state.teacher, state.student) == ("digits", "wrn_16_2_cifar", "resnet8_cifar")
    assert (state.method, state.recipe, state.seed, state.study) == ("at", "digits", 5, "widths")
    assert (state.state, state.epoch, state.epochs, state.cause) == ("running", 0, 80, "")
    assert (state.host, state.pid) == (socket.gethostname(), os.getpid())
