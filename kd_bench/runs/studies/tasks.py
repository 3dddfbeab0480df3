"""The runs of a study, their outcomes, and the messages of their processes. Needs no torch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kd_bench.results.records.states import State
from kd_bench.runs.studies.written import Written

Role = Literal["student", "teacher"]
TaskState = State | Literal["waiting", "blocked", "refused"]
FAILED: tuple[str, ...] = ("failed", "diverged", "oom", "stale", "blocked")
UNFINISHED = (*FAILED, "preempted", "interrupted", "refused")  # ended without a record to learn from


@dataclass(frozen=True)
class Task:
    """One run of a study.

    Attributes:
        key: of its configuration.
        written: its configuration; None if it is finished and was not planned again.
        after: keys of the runs that it learns from.
        run_id: None as long as one of those is not finished.
        done: whether its record exists.
        top1: on the test split, of a finished run that has left nothing to put in order.
        seconds: estimated duration of its training.
        refused: why its configuration is refused, if it is; it will not run then.
    """

    key: str
    label: str
    written: Written | None
    role: Role
    after: tuple[str, ...] = ()
    run_id: str | None = None
    done: bool = False
    top1: float | None = None
    seconds: float | None = None
    refused: str = ""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task so far: ``cause`` in one line, test ``top1`` in [0, 1], ``seconds`` of all attempts."""

    state: TaskState
    cause: str = ""
    run_id: str | None = None
    top1: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    epoch: int = 0
    epochs: int = 0


def first_outcome(task: Task) -> Outcome:
    """Return the outcome of a task before anything has run."""
    if task.top1 is not None:
        return Outcome("completed", run_id=task.run_id, top1=task.top1)
    return Outcome("refused" if task.refused else "waiting", task.refused, task.run_id)


class Epoch(NamedTuple):
    """A run has finished an epoch."""

    run_id: str
    done: int
    epochs: int


class Done(NamedTuple):
    """A run is finished."""

    run_id: str
    top1: float


class Planned(NamedTuple):
    """A plan is made."""

    tasks: list[Task]


class Failed(NamedTuple):
    """A run or a plan has failed, with the state of the run and the exit code of the error."""

    state: State
    cause: str
    exit_code: int
