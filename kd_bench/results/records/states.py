"""The state of a run: one small file in its directory, so that unfinished and failed runs can be listed by name."""

import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kd_bench.config.files import write_atomically
from kd_bench.errors import IntegrityError
from kd_bench.results.records.reading import read_text

if TYPE_CHECKING:
    from kd_bench.config.schema import RunConfig

STATE_FILE = "state.json"
State = Literal["running", "completed", "failed", "diverged", "interrupted", "preempted", "stale", "oom"]


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(timezone.utc)


class RunState(BaseModel):
    """The names of a run and how it stands. ``cause`` is one line, empty unless something went wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    state: State
    cause: str = ""
    role: Literal["student", "teacher"]
    study: str | None
    dataset: str
    teacher: str | None
    student: str
    method: str
    recipe: str
    seed: int
    epoch: int = 0
    epochs: int
    host: str
    pid: int
    pid_since: int | None = None  # see `process_start`
    updated_at: datetime

    def moved(self, state: State, cause: str = "", epoch: int | None = None) -> "RunState":
        """Return the same run in another state, held by this process."""
        update = {
            "state": state,
            "cause": cause,
            "epoch": self.epoch if epoch is None else epoch,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_since": process_start(os.getpid()),
            "updated_at": now(),
        }
        return self.model_copy(update=update)


def write_state(state: RunState, directory: Path) -> None:
    """Write the state of a run to its directory.

    Raises:
        IntegrityError: the file cannot be written.
    """
    write_atomically(directory / STATE_FILE, state.model_dump_json(indent=1) + "\n")


def read_state(directory: Path) -> RunState:
    """Read a run's state; a ``running`` one whose process is gone from this host is reported as ``stale``.

    Raises:
        IntegrityError: the state file is missing or damaged.
    """
    path = directory / STATE_FILE
    try:
        state = RunState.model_validate_json(read_text(path))
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a valid run state: {str(error).splitlines()[0]}") from None
    if state.state == "running" and state.host == socket.gethostname() and process_is_gone(state.pid, state.pid_since):
        return state.model_copy(update={"state": "stale", "cause": f"process {state.pid} is gone"})
    return state


def process_start(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def process_is_gone(pid: int, since: int | None = None) -> bool:
    """Tell whether no process of this machine has that number any more, or another one that started later.

    Args:
        since: its ``process_start``; without one the number alone decides.
    """
    if since is not None and process_start(pid) not in (None, since):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def new_state(config: "RunConfig", run_id: str, role: Literal["student", "teacher"], epochs: int) -> RunState:
    """Make the state of a run that is about to start in this process."""
    return RunState(
        run_id=run_id,
        state="running",
        role=role,
        study=config.study,
        dataset=config.names.dataset,
        teacher=config.teacher.name,
        student=config.student.name,
        method=config.names.method,
        recipe=config.names.recipe,
        seed=config.seed,
        epochs=epochs,
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_since=process_start(os.getpid()),
        updated_at=now(),
    )
