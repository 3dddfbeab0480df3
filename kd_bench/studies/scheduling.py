"""Runs in processes of their own: as many at a time as asked for, none able to take another along."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from kd_bench.errors import ConfigError, Interrupted, KDBenchError, Preempted
from kd_bench.studies.grid import StudyRun
from kd_bench.studies.tasks import FAILED, Outcome, Task, first_outcome

GRACE_SECONDS = 30.0  # for a run that is told to stop
TICK_SECONDS = 0.5
PRELOADED = ["kd_bench.studies.worker", "sklearn.datasets", "torchmetrics"]
WRONG = 2  # exit code of a wrong configuration, which no second attempt puts right


@dataclass(frozen=True)
class Options:
    """How a study is run.

    Attributes:
        jobs: runs at a time.
        retries: further attempts for a run that failed.
        max_failures: stop after so many failed runs; None goes on to the end.
        minutes: that one attempt may take; None for no limit.
    """

    jobs: int = 1
    retries: int = 0
    max_failures: int | None = None
    minutes: float | None = None


Listen = Callable[[Task, Outcome], None]


@dataclass
class _Job:
    """A process at work on a task."""

    task: Task
    process: BaseProcess
    connection: Connection
    started: float
    outcome: Outcome
    message: Any = None
    exit_code: int = field(default=0)


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _start(target: str, *arguments: Any) -> tuple[BaseProcess, Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = _context().Process(target=_enter, args=(target, theirs, *arguments))
    process.start()
    theirs.close()
    return process, ours


def _enter(target: str, connection: Connection, *arguments: Any) -> None:
    """Runs in the new process: only there is the worker, which needs torch, imported."""
    from kd_bench.studies import worker

    getattr(worker, target)(connection, *arguments)


def make_plan(points: list[StudyRun], estimate: bool, skip_refused: bool, log: Path) -> list[Task]:
    """The tasks of a study, from a process that can afford torch.

    Raises:
        KDBenchError: as ``planning.plan``.
    """
    process, connection = _start("plan_job", points, estimate, skip_refused, log)
    try:
        message = connection.recv()
    except EOFError:
        process.join()
        raise KDBenchError(f"planning the study ended with exit code {process.exitcode}; see {log}") from None
    finally:
        connection.close()
    process.join()
    if hasattr(message, "cause"):
        raise _error(message.exit_code)(message.cause)
    tasks: list[Task] = message.result
    return tasks


def _error(exit_code: int) -> type[KDBenchError]:
    kinds: list[type[KDBenchError]] = [*KDBenchError.__subclasses__(), KDBenchError]
    return next((kind for kind in kinds if kind.exit_code == exit_code), KDBenchError)


class Scheduler:
    """Starts tasks whose predecessors are finished, and keeps what became of each.

    Args:
        logs: folder for the output of the runs.
        listen: is told of every change.
    """

    def __init__(self, tasks: list[Task], options: Options, logs: Path, listen: Listen) -> None:
        self.options, self.logs, self.listen = options, logs, listen
        self.tasks = {task.key: task for task in tasks}
        self.outcomes = {task.key: first_outcome(task) for task in tasks}
        self.jobs: list[_Job] = []

    def run(self) -> dict[str, Outcome]:
        """Run everything.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the runs under way have been told to stop and can be resumed.
        """
        try:
            with _signals():
                while self._start_ready() or self.jobs:
                    self._wait()
        finally:
            self._stop_all()
        return self.outcomes

    @property
    def _failures(self) -> int:
        return sum(outcome.state in FAILED and outcome.state != "blocked" for outcome in self.outcomes.values())

    def _start_ready(self) -> bool:
        """Start what can be started; whether anything is left that may start later."""
        limit = self.options.max_failures
        if limit is not None and self._failures >= limit:
            self._stop_all()
            return False
        for task in self._waiting():
            states = [self.outcomes[key].state for key in task.after]
            if failed := [key for key in task.after if self.outcomes[key].state in FAILED]:
                cause = f"not started: {self.tasks[failed[0]].label} failed"
                self._set(task, replace(self.outcomes[task.key], state="blocked", cause=cause))
            elif all(state == "completed" for state in states) and len(self.jobs) < self.options.jobs:
                self._launch(task)
        return bool(self._waiting())

    def _waiting(self) -> list[Task]:
        return [task for key, task in self.tasks.items() if self.outcomes[key].state == "waiting"]

    def _launch(self, task: Task) -> None:
        process, connection = _start("run_job", task.cfg, task.role, self.logs / f"{task.key}.log")
        before = self.outcomes[task.key]
        outcome = replace(before, state="running", cause="", attempts=before.attempts + 1, epoch=0)
        self.jobs.append(_Job(task, process, connection, time.monotonic(), outcome))
        self._set(task, outcome)

    def _set(self, task: Task, outcome: Outcome) -> None:
        self.outcomes[task.key] = outcome
        self.listen(task, outcome)

    def _wait(self) -> None:
        for ready in wait([job.connection for job in self.jobs], timeout=TICK_SECONDS):
            self._hear(next(job for job in self.jobs if job.connection is ready))
        for job in list(self.jobs):
            if self.options.minutes is not None and time.monotonic() - job.started > 60 * self.options.minutes:
                self._end(job, f"took longer than {self.options.minutes:g} minutes; the next attempt resumes it")

    def _hear(self, job: _Job) -> None:
        try:
            message = job.connection.recv()
        except (EOFError, OSError):
            self._end(job)
            return
        if hasattr(message, "done"):
            job.outcome = replace(
                job.outcome, run_id=message.run_id, epoch=message.done, epochs=message.epochs, cause=""
            )
            self._set(job.task, job.outcome)
        else:
            job.message = message

    def _end(self, job: _Job, out_of_time: str = "") -> None:
        """Take a process off the list, whatever it left."""
        if out_of_time:
            _stop(job.process)
        job.process.join()
        job.connection.close()
        self.jobs.remove(job)
        seconds = job.outcome.seconds + time.monotonic() - job.started
        outcome, exit_code = _outcome(job, out_of_time)
        outcome = replace(outcome, seconds=seconds)
        again = outcome.state in FAILED and exit_code != WRONG and outcome.attempts <= self.options.retries
        self._set(job.task, replace(outcome, state="waiting") if again else outcome)

    def _stop_all(self) -> None:
        """Tell every process to stop; what is finished by then is finished."""
        for job in self.jobs:
            job.process.terminate()
        for job in list(self.jobs):
            _stop(job.process)
            while job.connection.poll():
                try:
                    job.message = job.connection.recv()
                except (EOFError, OSError):
                    break
            self._end(job)


def _stop(process: BaseProcess) -> None:
    process.terminate()
    process.join(GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _outcome(job: _Job, out_of_time: str) -> tuple[Outcome, int]:
    """What became of a process that has ended, and the exit code of its error."""
    message, code = job.message, job.process.exitcode
    if hasattr(message, "top1"):
        done = replace(job.outcome, state="completed", cause="", run_id=message.run_id, top1=message.top1)
        return done, 0
    if out_of_time:
        return replace(job.outcome, state="failed", cause=out_of_time), 1
    if hasattr(message, "cause"):
        return replace(job.outcome, state=message.state, cause=message.cause), message.exit_code
    if code is not None and code < 0:
        cause = f"killed by {signal.Signals(-code).name}; the next attempt resumes it"
    else:
        cause = f"ended with exit code {code} and without a record"
    return replace(job.outcome, state="failed", cause=cause), 1


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM ends a study as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        kind = Preempted if number == signal.SIGTERM else Interrupted
        raise kind("stopped; the same command goes on where it was left")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_options(options: Options) -> None:
    """Raise ConfigError for a number that makes no sense."""
    for name, value, least in (
        ("--jobs", options.jobs, 1),
        ("--retry", options.retries, 0),
        ("--max-failures", options.max_failures, 1),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{name} {value}: should be at least {least}")
    if options.minutes is not None and not options.minutes > 0:
        raise ConfigError(f"--timeout {options.minutes}: should be more than 0 minutes")
