"""The status of a study: a small file beside its runs, written by its process, read by ``kd-bench status``."""

import os
import socket
import time
import warnings
from collections import Counter
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.records.directory import finished
from kd_bench.results.records.states import now, process_is_gone, process_start, read_state
from kd_bench.results.text.escape import visible
from kd_bench.results.text.formats import percent
from kd_bench.runs.studies.grid import Study
from kd_bench.runs.studies.tasks import Outcome, Task, TaskState, first_outcome

SECONDS_BETWEEN_WRITES = 1.0


class TaskStatus(BaseModel):
    """The status of one run; see ``Task`` and ``Outcome`` for the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    label: str
    role: str
    run_id: str | None
    state: TaskState
    cause: str
    top1: float | None
    seconds: float
    epoch: int
    epochs: int


class StudyStatus(BaseModel):
    """The status of all runs of a study, and the process that wrote it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    host: str
    pid: int
    pid_since: int | None = None  # see `process_start`
    started_at: datetime
    updated_at: datetime
    tasks: list[TaskStatus]

    def abandoned(self) -> bool:
        """Return whether the process that ran the study is gone from this host."""
        return self.host == socket.gethostname() and process_is_gone(self.pid, self.pid_since)

    def ended(self) -> bool:
        """Return whether nothing more will happen."""
        return self.abandoned() or not {"running", "waiting"} & {task.state for task in self.tasks}


class ProgressFile:
    """Keeps the file of a study up to date, at most once a second."""

    def __init__(self, study: Study, tasks: list[Task]) -> None:
        self.study, self.started_at = study, now()
        self.tasks = {task.key: _status(task, first_outcome(task)) for task in tasks}
        self._last = 0.0

    def update(self, task: Task, outcome: Outcome) -> None:
        """Take in how a run stands."""
        self.tasks[task.key] = _status(task, outcome)
        if time.monotonic() - self._last > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write the file now; a disk that takes no more, or nothing at all, costs a warning."""
        self._last = time.monotonic()
        status = StudyStatus(
            study=self.study.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_since=process_start(os.getpid()),
            started_at=self.started_at,
            updated_at=now(),
            tasks=list(self.tasks.values()),
        )
        path = self.study.status_file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, status.model_dump_json(indent=1) + "\n")
        except (IntegrityError, OSError) as error:  # the runs say for themselves what a full disk does to them
            text = str(error) if isinstance(error, IntegrityError) else f"{path} cannot be written: {error.strerror}"
            warnings.warn(f"{text}; kd-bench status is out of date", stacklevel=2)


def _status(task: Task, outcome: Outcome) -> TaskStatus:
    shown = ("run_id", "state", "cause", "top1", "seconds", "epoch", "epochs")
    standing = {name: getattr(outcome, name) for name in shown}
    return TaskStatus(key=task.key, label=task.label, role=task.role, **standing)


def read_status(study: Study) -> StudyStatus:
    """Return how a study stands. What its own process can no longer say is looked up in the directories of the runs.

    Raises:
        ConfigError: it was never started.
        IntegrityError: the file is damaged.
    """
    path, name = study.status_file, study.name
    if not path.is_file():
        raise ConfigError(f"study {name!r}: not started yet, there is no {path}; start it with: kd-bench study {name}")
    try:
        status = StudyStatus.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is not the status of a study: {str(error).splitlines()[0]}") from None
    if not status.abandoned():
        return status
    return status.model_copy(update={"tasks": [_looked_up(task, study.runs) for task in status.tasks]})


def _looked_up(task: TaskStatus, runs: Path) -> TaskStatus:
    """Look up the state in the run's own directory, after the end of the study's process."""
    if task.state in ("completed", "blocked", "refused"):
        return task
    directory = runs / task.run_id if task.run_id else None
    if directory and (record := finished(directory)) is not None:
        update = {"state": "completed", "cause": "", "top1": record.headline().test.top1}
        return task.model_copy(update=update)
    if task.state != "running":
        return task
    try:
        state = read_state(directory) if directory else None
    except IntegrityError:
        state = None
    if state is None or state.state == "completed":
        return task.model_copy(update={"state": "stale", "cause": "ended with the process of the study"})
    return task.model_copy(update={"state": state.state, "cause": state.cause})


def summary_lines(tasks: list[TaskStatus]) -> list[str]:
    """Return one line for each run, then how many are in which state."""
    width = min(60, max([len(visible(task.label)) for task in tasks], default=0))
    lines = [_line(task, width) for task in tasks]
    counts = Counter(task.state for task in tasks)
    return [*lines, f"{len(tasks)} runs: {', '.join(f'{count} {state}' for state, count in sorted(counts.items()))}"]


def _line(task: TaskStatus, width: int) -> str:
    parts = [visible(task.label)[:60].ljust(width), task.state.ljust(11)]
    if task.top1 is not None:
        parts.append(f"test top-1 {percent(task.top1)} %")
    elif task.epochs:
        parts.append(f"epoch {task.epoch}/{task.epochs}")
    if task.seconds:
        parts.append(f"{task.seconds:.1f} s")
    if task.cause:
        parts.append(visible(task.cause))
    return "  ".join(parts).rstrip()
