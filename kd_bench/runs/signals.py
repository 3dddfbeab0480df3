"""SIGINT and SIGTERM end a run at once and in order: every file is written atomically, so any moment is a safe one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kd_bench.errors import Interrupted, Preempted


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first SIGINT into :class:`Interrupted` and SIGTERM into :class:`Preempted`; a second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if number == signal.SIGTERM:
            raise Preempted("stopped by SIGTERM; the same command resumes")
        raise Interrupted("stopped by the user; the same command resumes")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
