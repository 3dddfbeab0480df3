"""The status of a study: a small file beside its runs, written by its process, read by ``kd-bench status``."""

import hashlib
import json
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
from kd_bench.results.records.reading import read_text
from kd_bench.results.records.states import now, process_is_gone, process_start, read_state
from kd_bench.results.text.escape import visible
from kd_bench.results.text.formats import percent, seconds
from kd_bench.runs.studies.grid import Study
from kd_bench.runs.studies.tasks import Outcome, Role, Task, TaskState, first_outcome
from kd_bench.runs.studies.unchanged import hash_of_runs

SECONDS_BETWEEN_WRITES = 1.0


class TaskStatus(BaseModel):
    """The status of one run; see ``Task`` and ``Outcome`` for the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    label: str
    role: Role
    run_id: str | None
    state: TaskState
    cause: str
    top1: float | None
    seconds: float
    epoch: int
    epochs: int


class StudyStatus(BaseModel):
    """The status of all runs of a study, and the process that wrote it.

    Attributes:
        study: its name or path, as the command was given it.
        folder: of its ``study.yaml``; files of earlier versions do not say it.
        finished_as: a hash of a finished study, of all that its plan rests on and of what its runs have left.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    folder: str | None = None
    host: str
    pid: int
    pid_since: int | None = None  # see `process_start`
    started_at: datetime
    updated_at: datetime
    tasks: list[TaskStatus]
    finished_as: str | None = None

    def abandoned(self) -> bool:
        """Return whether the process that ran the study is gone from this host."""
        return self.host == socket.gethostname() and process_is_gone(self.pid, self.pid_since)

    def ended(self) -> bool:
        """Return whether nothing more will happen."""
        return self.abandoned() or not {"running", "waiting"} & {task.state for task in self.tasks}


class ProgressFile:
    """Keeps the file of a study up to date, at most once a second.

    Args:
        hash_of_points: as ``unchanged.hash_of_points`` gave it before the study was planned.
    """

    def __init__(self, study: Study, tasks: list[Task], hash_of_points: str | None = None) -> None:
        self.study, self.started_at, self._hash_of_points = study, now(), hash_of_points
        self.tasks = {task.key: _status(task, first_outcome(task)) for task in tasks}
        self._last = 0.0

    def update(self, task: Task, outcome: Outcome) -> None:
        """Take in how a run stands."""
        self.tasks[task.key] = _status(task, outcome)
        if time.monotonic() - self._last > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self, ended: bool = False) -> None:
        """Write the file now; a disk that takes no more, or nothing at all, costs a warning.

        Args:
            ended: whether no run is under way; only then the study may be noted as finished.
        """
        self._last = time.monotonic()
        tasks = list(self.tasks.values())
        status = StudyStatus(
            study=self.study.name,
            folder=None if self.study.folder is None else str(self.study.folder),
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_since=process_start(os.getpid()),
            started_at=self.started_at,
            updated_at=now(),
            tasks=tasks,
            finished_as=_finished_as(self._hash_of_points, tasks, self.study.runs) if ended else None,
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


def finished_tasks(study: Study, hash_of_points: str | None) -> list[Task]:
    """Return the tasks of a study that is finished, if nothing has changed since; none where that is not certain.

    Args:
        hash_of_points: as ``unchanged.hash_of_points`` gives it now.
    """
    try:
        status = _read(study.status_file) if study.status_file.is_file() else None
    except IntegrityError:
        return []
    if status is None or status.finished_as is None or not _is_of(status, study):
        return []
    if status.finished_as != _finished_as(hash_of_points, status.tasks, study.runs):
        return []
    return [
        Task(task.key, task.label, None, task.role, run_id=task.run_id, done=True, top1=task.top1)
        for task in status.tasks
    ]


def _finished_as(hash_of_points: str | None, tasks: list[TaskStatus], runs: Path) -> str | None:
    """Return the hash of a finished study, of which the status of its runs is a part; None if it is not finished."""
    if hash_of_points is None or not tasks or any(task.state != "completed" or task.top1 is None for task in tasks):
        return None
    hash_of_left = hash_of_runs(runs, [task.run_id for task in tasks])
    shown = [(task.key, task.label, task.role, task.run_id, task.top1) for task in tasks]
    return hash_of_left and hashlib.sha256(json.dumps([hash_of_points, hash_of_left, shown]).encode()).hexdigest()


def read_status(study: Study) -> StudyStatus:
    """Return how a study stands. What its own process can no longer say is looked up in the directories of the runs.

    Raises:
        ConfigError: it was never started.
        IntegrityError: the file is damaged.
    """
    path, name = study.status_file, study.name
    earlier = study.folder and path.with_name(f"{study.folder.name}.json")  # shared by all folders of that name
    if not path.is_file() and earlier and earlier.is_file():
        path = earlier
    if not path.is_file() or not _is_of(status := _read(path), study):
        missing = study.status_file
        raise ConfigError(
            f"study {name!r}: not started yet, there is no {missing}; start it with: kd-bench study {name}"
        )
    if not status.abandoned():
        return status
    return status.model_copy(update={"tasks": [_looked_up(task, study.runs) for task in status.tasks]})


def _read(path: Path) -> StudyStatus:
    try:
        return StudyStatus.model_validate_json(read_text(path))
    except ValidationError as error:
        raise IntegrityError(f"{path} is not the status of a study: {str(error).splitlines()[0]}") from None


def _is_of(status: StudyStatus, study: Study) -> bool:
    """Tell whether a status is that of the study and not of another folder of the same name."""
    if status.folder is not None:
        return study.folder is not None and status.folder == str(study.folder)
    return status.study == study.name or Path(status.study).resolve() == study.folder


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
        parts.append(f"{seconds(task.seconds)} s")
    if task.cause:
        parts.append(visible(task.cause))
    return "  ".join(parts).rstrip()
