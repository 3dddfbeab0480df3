"""Several processes on the devices of this machine that train one run together.

The process that was asked for the run is number 0: it alone evaluates, writes and logs. It starts the others, which
make the same objects of the same configuration and take their shares of every batch. Lightning's own launchers do not
serve here: one starts the command line again, which may be a whole sweep, the other has to pickle the module.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch.distributed
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy

from kd_bench.errors import Interrupted, KDBenchError, Preempted
from kd_bench.training.signals import STOPPING, end_with_parent

SECONDS_TO_TELL = 5.0  # that the end of another process may take to be noticed
SECONDS_TO_STOP = 5.0  # after a signal, before the other processes are killed
SECONDS_TO_LEAVE = 20.0  # after that, before this one leaves without a word


class Place(NamedTuple):
    """The position of this process among ``world``, and the port of this machine where they meet."""

    rank: int
    world: int
    port: int


ALONE = Place(0, 1, 0)
Work = Callable[..., Callable[[], None]]


def strategy(place: Place, accelerator: str) -> Strategy | str:
    """Return Lightning's strategy: gradients are averaged over all processes, buffers are those of process 0."""
    if place.world == 1:
        return "auto"
    return DDPStrategy(
        cluster_environment=_Meeting(place),
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        find_unused_parameters=True,  # a stage of a method may train a part of the network
    )


class _Meeting(ClusterEnvironment):
    """An environment that tells Lightning where the processes are, all of which exist already."""

    creates_processes_externally = True
    main_address = "127.0.0.1"

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def main_port(self) -> int:
        return self._place.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._place.world

    def set_world_size(self, size: int) -> None:
        """Known."""

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        """Known."""

    def local_rank(self) -> int:
        return self._place.rank

    def node_rank(self) -> int:
        return 0


class _Member(NamedTuple):
    rank: int
    process: BaseProcess
    connection: Connection


@contextmanager
def together(world: int, work: Work, *arguments: Any) -> Iterator[Place]:
    """Let ``world - 1`` other processes take part in the block; yields the place of this one.

    Args:
        work: ``work(place, *arguments)`` prepares a process and returns what it does in the block. Must be picklable.

    Raises:
        KDBenchError: another process has failed or was killed.
    """
    if world == 1:
        yield ALONE
        return
    port = _free_port()
    members = [_start(Place(rank, world, port), work, arguments) for rank in range(1, world)]
    with _stops_without(members):
        yield from _shared(members, Place(0, world, port))


def _shared(members: list[_Member], place: Place) -> Iterator[Place]:
    try:
        for member in members:
            if (failure := _hear(member)) is not None:
                raise failure
        yield place
    except Exception as error:
        raise _cause(members, error) from error
    finally:
        for member in members:
            member.process.kill()  # whatever it had to do is done: it writes nothing
            member.process.join()
            member.connection.close()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@contextmanager
def _stops_without(members: list[_Member]) -> Iterator[None]:
    """See to it that a signal ends the block even if another process does not answer, because it is stopped or hangs.

    What waits for it in a collective operation runs no handler of Python's. Its end ends the operation, and then the
    handler runs; if not, this process leaves, and the run can be resumed as after a kill.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers, written = socket.socketpair()
    written.setblocking(False)
    ended = threading.Event()
    before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(numbers, ended, members), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        written.close()


def _watch(numbers: socket.socket, ended: threading.Event, members: list[_Member]) -> None:
    """Wait for a signal that stops, by its number, and then for the end of what it stops."""
    with numbers:
        while (number := numbers.recv(1)) and number[0] not in STOPPING:
            pass
    if not number or ended.wait(SECONDS_TO_STOP):
        return
    for member in members:
        member.process.kill()
    if not ended.wait(SECONDS_TO_LEAVE):
        os._exit((Interrupted if number[0] == signal.SIGINT else Preempted).exit_code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(place: Place, work: Work, arguments: tuple[Any, ...]) -> _Member:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_take_part, args=(theirs, place, work, arguments), daemon=True)
    process.start()
    theirs.close()
    return _Member(place.rank, process, ours)


def _take_part(connection: Connection, place: Place, work: Work, arguments: tuple[Any, ...]) -> None:
    """Take part from another process: say that it is ready, or why it is not, and then work."""
    end_with_parent()
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # process 0 decides when to stop
    threading.Thread(target=_leave_with, args=(connection,), daemon=True).start()
    try:
        go = work(place, *arguments)
        connection.send(None)
        go()
    except Exception as error:
        words = f"process {place.rank} of {place.world}: {type(error).__name__}: {error}"
        connection.send(error if isinstance(error, KDBenchError) else KDBenchError(words))


def _leave_with(connection: Connection) -> None:
    """End at once when process 0 is gone, which never sends anything."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _hear(member: _Member) -> KDBenchError | None:
    """Wait for what a process says; None means that all is well."""
    try:
        failure: KDBenchError | None = member.connection.recv()
    except (EOFError, OSError):
        member.process.join()
        return _death(member)
    return failure


def _death(member: _Member) -> KDBenchError:
    code = member.process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return KDBenchError(f"process {member.rank} of this run {how}; the same command resumes")


def _cause(members: list[_Member], error: Exception) -> Exception:
    """Find what ended the block: the end of one process shows in all the others as a broken connection."""
    if isinstance(error, KDBenchError):
        return error
    until = time.monotonic() + SECONDS_TO_TELL
    while time.monotonic() < until and all(member.process.is_alive() for member in members):
        time.sleep(0.05)
    killed = [_death(member) for member in members if (member.process.exitcode or 0) < 0]
    told = [failure for member in members if member.connection.poll() and (failure := _hear(member)) is not None]
    return next(iter([*killed, *told]), error)
