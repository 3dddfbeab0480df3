"""Signals to stop become exceptions that say how to go on; a second one kills."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kd_bench.errors import Interrupted, Preempted
from kd_bench.results.records.states import process_is_gone
from kd_bench.training.signals import stop_signals

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def receive(number: int) -> None:
    """Send this process a signal and wait for what it does."""
    os.kill(os.getpid(), number)
    threading.Event().wait(5)


def swallowing_exceptions(number: int) -> None:
    try:
        receive(number)
    except Exception:  # as launchers do
        pytest.fail("swallowed")


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGINT, Interrupted, 130), *((number, Preempted, 143) for number in HANDLED[1:])],
)
def test_a_signal_ends_the_block_with_its_exit_code(number, error, code):
    before = [signal.getsignal(each) for each in HANDLED]
    with pytest.raises(Interrupted, match="the same command resumes") as caught, stop_signals():
        receive(number)
    assert type(caught.value) is error
    assert caught.value.exit_code == code
    assert getattr(caught.value, "number", signal.SIGINT) == number
    assert [signal.getsignal(each) for each in HANDLED] == before


def test_handlers_are_restored_whatever_happens():
    before = [signal.getsignal(each) for each in HANDLED]
    with stop_signals():
        assert all(signal.getsignal(each) not in before for each in HANDLED)
    assert [signal.getsignal(each) for each in HANDLED] == before
    with pytest.raises(ZeroDivisionError), stop_signals():
        _ = 1 / 0
    assert [signal.getsignal(each) for each in HANDLED] == before


def test_an_ordinary_except_clause_does_not_swallow_it():
    """A sweep's launcher catches ``Exception`` to go on with the next job; an interrupted sweep must stop."""
    with pytest.raises(Interrupted), stop_signals():
        swallowing_exceptions(signal.SIGINT)


def test_outside_of_the_main_thread_nothing_is_touched():
    before = [signal.getsignal(each) for each in HANDLED]
    seen = []

    def work() -> None:
        with stop_signals():
            seen.extend(signal.getsignal(each) for each in HANDLED)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before


STUBBORN = """
import time
from kd_bench.errors import Interrupted
from kd_bench.training.signals import stop_signals

with stop_signals():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except Interrupted as error:
        print(type(error).__name__, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("first", HANDLED)
@pytest.mark.parametrize("second", HANDLED)
def test_a_second_signal_kills_at_once(first, second):
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == ("Interrupted\n" if first == signal.SIGINT else "Preempted\n")
        process.send_signal(second)
        assert process.wait(timeout=10) == -second


STOPPED = """
import os, signal
from kd_bench.training.signals import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux' kernel does that")
def test_a_process_ends_with_its_parent_even_if_it_is_stopped():
    with subprocess.Popen([sys.executable, "-c", PARENT, STOPPED], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        while "(stopped)" not in Path(f"/proc/{child}/status").read_text():
            time.sleep(0.01)
        parent.kill()
    limit = time.monotonic() + 10
    while not process_is_gone(child) and time.monotonic() < limit:
        time.sleep(0.01)
    assert process_is_gone(child)
