"""The scheduler of a study: each run has a process of its own, so that none takes another along when it dies."""

import multiprocessing
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from kd_bench.config.plugins import look_in, looked_in
from kd_bench.errors import ConfigError, IntegrityError, Interrupted, KDBenchError, Preempted
from kd_bench.results.records.states import State
from kd_bench.runs.studies.grid import Study
from kd_bench.runs.studies.progress import finished_tasks
from kd_bench.runs.studies.tasks import FAILED, UNFINISHED, Done, Epoch, Failed, Outcome, Planned, Task, first_outcome
from kd_bench.training.signals import end_with_parent

GRACE_SECONDS = 30.0  # for a process that was told to stop, or has sent its last message
TICK_SECONDS = 0.5
PRELOADED = ["kd_bench.runs.studies.forkserver", "kd_bench.runs.studies.worker", "sklearn.datasets", "torchmetrics"]
WRONG = ConfigError.exit_code  # no second attempt puts a configuration right


@dataclass(frozen=True)
class Options:
    """Options of the scheduler.

    Attributes:
        jobs: runs at a time.
        retries: further attempts for a run that failed.
        max_failures: stop after so many failed runs; None goes on to the end.
        minutes: limit of one attempt; None for no limit.
    """

    jobs: int = 1
    retries: int = 0
    max_failures: int | None = None
    minutes: float | None = None


Listen = Callable[[Task, Outcome], None]


@dataclass
class _Job:
    """A process at work on a task.

    Attributes:
        message: its last message, once it has come.
        stopped: the state of a task that was told to stop, and the reason.
    """

    task: Task
    process: BaseProcess
    connection: Connection
    started: float
    outcome: Outcome
    message: Done | Failed | None = None
    stopped: tuple[State, str] | None = None

    def stop(self, state: State, cause: str) -> None:
        """Tell the process to stop, once: a second signal would kill it on the spot."""
        if self.stopped is None:
            self.stopped = state, cause
            self.process.terminate()


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _start(target: str, *arguments: Any) -> tuple[BaseProcess, Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = _context().Process(target=_enter, args=(target, looked_in(), theirs, *arguments))
    process.start()
    theirs.close()
    return process, ours


def _enter(target: str, folders: list[str], connection: Connection, *arguments: Any) -> None:
    """Call a function of the worker. Only the new process imports it, since it needs torch.

    Args:
        folders: where this process looks for plugins.
    """
    end_with_parent()  # the fork server, which ends with the study
    for folder in folders:
        look_in(folder)
    from kd_bench.runs.studies import worker

    getattr(worker, target)(connection, *arguments)


def make_plan(study: Study, estimate: bool, skip_refused: bool, known: str | None = None) -> list[Task]:
    """Return the tasks of a study, planned by a process that can afford torch unless it is finished and unchanged.

    Args:
        known: hash of its points; None plans whatever is finished.

    Raises:
        ConfigError, IntegrityError: as ``planning.plan``.
        KDBenchError: the process ended without a plan.
    """
    if known is not None and (tasks := finished_tasks(study, known)):
        return tasks
    points = study.points
    try:
        log = writable(study.logs) / "planning.log"
    except IntegrityError:  # a plan, and a study that is finished, need no place there
        log = Path(tempfile.mkdtemp(prefix="kd-bench-")) / "planning.log"
    process, connection = _start("plan_job", points, estimate, skip_refused, log)
    try:
        message: Planned | Failed = connection.recv()
    except EOFError:
        process.join()
        raise KDBenchError(f"planning the study {_ending(process.exitcode)}; see {log}") from None
    finally:
        connection.close()
    process.join()
    if isinstance(message, Failed):
        kinds: dict[int, type[KDBenchError]] = {kind.exit_code: kind for kind in (ConfigError, IntegrityError)}
        raise kinds.get(message.exit_code, KDBenchError)(message.cause)
    if log.parent != study.logs:
        shutil.rmtree(log.parent)
    return message.tasks


def writable(folder: Path) -> Path:
    """Make a folder if need be, and return it.

    Raises:
        IntegrityError: no file can be made in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise IntegrityError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


class Scheduler:
    """Starts tasks whose predecessors are finished, and keeps the outcome of each.

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
        """Run everything; return the outcomes by the keys of the tasks.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the runs under way have been told to stop and can be resumed.
        """
        for key, outcome in self.outcomes.items():
            if outcome.state == "completed":
                self.listen(self.tasks[key], outcome)
        try:
            with _noted_signals() as signals:
                while not signals and (self._start_ready() or self.jobs):
                    self._wait()
                self._stop_all()
        finally:
            for job in self.jobs:
                job.process.kill()
        if signals:
            raise signals[0]
        return self.outcomes

    @property
    def _failures(self) -> int:
        return sum(outcome.state in FAILED and outcome.state != "blocked" for outcome in self.outcomes.values())

    def _start_ready(self) -> bool:
        """Start what can be started; return whether anything is left that may start later."""
        limit = self.options.max_failures
        if limit is not None and self._failures >= limit:
            self._stop_all()
            return False
        for task in self._waiting():
            missing = [key for key in task.after if self.outcomes[key].state != "completed"]
            if ended := [key for key in missing if self.outcomes[key].state in UNFINISHED]:
                first = ended[0]
                cause = f"not started: {self.tasks[first].label} {self.outcomes[first].state}"
                self._set(task, replace(self.outcomes[task.key], state="blocked", cause=cause))
            elif not missing and len(self.jobs) < self.options.jobs:
                self._launch(task)
        return bool(self._waiting())

    def _waiting(self) -> list[Task]:
        return [task for key, task in self.tasks.items() if self.outcomes[key].state == "waiting"]

    def _launch(self, task: Task) -> None:
        process, connection = _start("run_job", task.written, task.role, self.logs / f"{task.key}.log")
        before = self.outcomes[task.key]
        outcome = replace(before, state="running", cause="", attempts=before.attempts + 1, epoch=0)
        self.jobs.append(_Job(task, process, connection, time.monotonic(), outcome))
        self._set(task, outcome)

    def _set(self, task: Task, outcome: Outcome) -> None:
        self.outcomes[task.key] = outcome
        self.listen(task, outcome)

    def _wait(self) -> None:
        # The end of a process shows in its sentinel even where a process of its own keeps the connection open.
        wait([end for job in self.jobs for end in (job.connection, job.process.sentinel)], timeout=TICK_SECONDS)
        for job in list(self.jobs):
            minutes = (time.monotonic() - job.started) / 60
            if not self._hear(job) or job.message or not job.process.is_alive():
                self._end(job)
            elif self.options.minutes is not None and minutes > self.options.minutes:
                job.stop("failed", f"took longer than {self.options.minutes:g} minutes; the next attempt resumes it")
                self._end(job)

    def _hear(self, job: _Job) -> bool:
        """Take in the messages of a process; return whether more may come."""
        try:
            while job.connection.poll():
                message: Epoch | Done | Failed = job.connection.recv()
                if not isinstance(message, Epoch):
                    job.message = message
                    continue
                job.outcome = replace(job.outcome, run_id=message.run_id, epoch=message.done, epochs=message.epochs)
                self._set(job.task, job.outcome)
        except (EOFError, OSError):
            return False
        return True

    def _end(self, job: _Job) -> None:
        """Wait for a process to end, and note the outcome of its task."""
        job.process.join(GRACE_SECONDS)
        if job.process.is_alive():
            job.process.kill()
            job.process.join()
        self._hear(job)
        job.connection.close()
        self.jobs.remove(job)
        outcome, exit_code = _outcome(job)
        outcome = replace(outcome, seconds=job.outcome.seconds + time.monotonic() - job.started)
        again = outcome.state in FAILED and exit_code != WRONG and outcome.attempts <= self.options.retries
        self._set(job.task, replace(outcome, state="waiting") if again else outcome)

    def _stop_all(self) -> None:
        """Tell every process to stop; what is finished by then is finished."""
        for job in self.jobs:
            job.stop("preempted", "stopped with the study; the same command resumes")
        for job in list(self.jobs):
            self._end(job)


def _outcome(job: _Job) -> tuple[Outcome, int]:
    """Return the outcome of a process that has ended, and the exit code of its error."""
    message = job.message
    if isinstance(message, Done):
        return replace(job.outcome, state="completed", cause="", run_id=message.run_id, top1=message.top1), 0
    if message is not None and (job.stopped is None or message.state in FAILED):
        return replace(job.outcome, state=message.state, cause=message.cause), message.exit_code
    state, cause = job.stopped or ("failed", f"{_ending(job.process.exitcode)} and left no record")
    return replace(job.outcome, state=state, cause=cause), KDBenchError.exit_code


def _ending(exit_code: int | None) -> str:
    """Describe the end of a process that left no message."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    names = {int(number): number.name for number in signal.Signals}
    return f"was killed by {names.get(-exit_code, f'signal {-exit_code}')}"


@contextmanager
def _noted_signals() -> Iterator[list[Interrupted]]:
    """Note the first SIGINT or SIGTERM; a second one kills, and the runs end with their parent."""
    came: list[Interrupted] = []

    def note(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        kind = Preempted if number == signal.SIGTERM else Interrupted
        came.append(kind("stopped; the same command goes on where it was left"))

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_options(options: Options) -> None:
    """Raise ConfigError for a number that is out of range."""
    for name, value, least in (
        ("--jobs", options.jobs, 1),
        ("--retry", options.retries, 0),
        ("--max-failures", options.max_failures, 1),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{name} {value}: should be at least {least}")
    if options.minutes is not None and not options.minutes > 0:
        raise ConfigError(f"--timeout {options.minutes}: should be more than 0 minutes")
