"""How a study stands: a small file beside its runs, kept by the process that runs it, read by ``kd-bench status``."""

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
from kd_bench.results.records.states import now, process_is_gone, read_state
from kd_bench.results.text.escape import visible
from kd_bench.results.text.formats import percent
from kd_bench.runs.studies.tasks import Outcome, Task, TaskState, first_outcome

SECONDS_BETWEEN_WRITES = 1.0
FOLDER = "studies"


class TaskStatus(BaseModel):
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
    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    host: str
    pid: int
    started_at: datetime
    updated_at: datetime
    tasks: list[TaskStatus]

    def abandoned(self) -> bool:
        """Whether the process that runs the study is gone from this host."""
        return self.host == socket.gethostname() and process_is_gone(self.pid)

    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.abandoned() or not {"running", "waiting"} & {task.state for task in self.tasks}


def study_file(runs: Path, study: str) -> Path:
    return runs / FOLDER / f"{Path(study).name}.json"


def study_logs(runs: Path, study: str) -> Path:
    """The folder for what the runs of a study print."""
    return runs / FOLDER / Path(study).name


class ProgressFile:
    """Keeps the file of a study up to date, at most once a second."""

    def __init__(self, path: Path, study: str, tasks: list[Task]) -> None:
        self.path, self.study, self.started_at = path, study, now()
        self.tasks = {task.key: _status(task, first_outcome(task)) for task in tasks}
        self._last = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)

    def update(self, task: Task, outcome: Outcome) -> None:
        self.tasks[task.key] = _status(task, outcome)
        if time.monotonic() - self._last > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        self._last = time.monotonic()
        status = StudyStatus(
            study=self.study,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self.started_at,
            updated_at=now(),
            tasks=list(self.tasks.values()),
        )
        try:
            write_atomically(self.path, status.model_dump_json(indent=1) + "\n")
        except IntegrityError as error:  # the runs say for themselves what a full disk does to them
            warnings.warn(f"{error}; kd-bench status is out of date", stacklevel=2)


def _status(task: Task, outcome: Outcome) -> TaskStatus:
    return TaskStatus(
        key=task.key,
        label=task.label,
        role=task.role,
        run_id=outcome.run_id,
        state=outcome.state,
        cause=outcome.cause,
        top1=outcome.top1,
        seconds=outcome.seconds,
        epoch=outcome.epoch,
        epochs=outcome.epochs,
    )


def read_status(runs: Path, study: str) -> StudyStatus:
    """How a study stands. What its own process can no longer say is looked up in the directories of the runs.

    Raises:
        ConfigError: it was never started.
        IntegrityError: the file is damaged.
    """
    path = study_file(runs, study)
    if not path.is_file():
        raise ConfigError(
            f"study {study!r}: not started yet, there is no {path}; start it with: kd-bench study {study}"
        )
    try:
        status = StudyStatus.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is not the status of a study: {str(error).splitlines()[0]}") from None
    if not status.abandoned():
        return status
    return status.model_copy(update={"tasks": [_looked_up(task, runs) for task in status.tasks]})


def _looked_up(task: TaskStatus, runs: Path) -> TaskStatus:
    """The state that the run's own directory tells, after the end of the study's process."""
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
    """One line for each run, then how many are in which state."""
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
