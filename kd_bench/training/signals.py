"""Signals: SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 end a run at once and in order.

Every file is written atomically, so any moment is a safe one. SIGUSR1 and SIGUSR2 are what schedulers send when the
time is nearly over. A process that was killed stops nobody: the kernel ends those that it has started.
"""

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kd_bench.errors import Interrupted, Preempted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first SIGINT into :class:`Interrupted`, any other into :class:`Preempted`; a second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if number == signal.SIGINT:
            raise Interrupted("stopped by the user; the same command resumes")
        raise Preempted(f"stopped by {signal.Signals(number).name}; the same command resumes", number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Let the kernel kill this process, stopped or not, when the thread that started it ends. Only Linux does that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
