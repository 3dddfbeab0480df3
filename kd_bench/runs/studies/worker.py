"""The work of a process of its own: planning, or one run. Its messages go to the parent through a connection.

Processes are forked from a server that has imported everything and started no thread, so that a run starts within a
tenth of a second and takes nothing along when it dies.
"""

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from pytorch_lightning.callbacks import Callback

from kd_bench.errors import Interrupted, KDBenchError
from kd_bench.runs.lineage import Role
from kd_bench.runs.run import run, state_after
from kd_bench.runs.studies.grid import StudyRun
from kd_bench.runs.studies.planning import plan
from kd_bench.runs.studies.tasks import Done, Epoch, Failed, Planned
from kd_bench.runs.studies.written import Written
from kd_bench.training.display import Listener

ORPHANED = 75  # exit code of a process whose parent is gone


def plan_job(connection: Connection, points: list[StudyRun], estimate: bool, skip_refused: bool, log: Path) -> None:
    """Send the tasks of a study."""
    with _reporting(connection, log):
        connection.send(Planned(plan(points, estimate, skip_refused)))


def run_job(connection: Connection, written: Written, role: Role, log: Path) -> None:
    """Train one run; send its epochs and its result."""

    def listen() -> list[Callback]:
        return [Listener(lambda run_id, done, epochs: connection.send(Epoch(run_id, done, epochs)))]

    with _reporting(connection, log):
        record = run(written.cfg, role=role, wait=True, callbacks=(listen,))
        connection.send(Done(record.run_id, record.headline().test.top1))


@contextmanager
def _reporting(connection: Connection, log: Path) -> Iterator[None]:
    """Send every expected error; write the traceback of any other to the log, where all output goes."""
    threading.Thread(target=_leave_with_parent, args=(connection,), daemon=True).start()
    try:
        _print_to(log)
        yield
    except (Exception, Interrupted, KeyboardInterrupt, SystemExit) as error:
        expected = isinstance(error, KDBenchError | Interrupted)
        cause = str(error) if expected else f"{type(error).__name__}: {error} (see {log})"
        code = error.exit_code if isinstance(error, KDBenchError | Interrupted) else 1
        connection.send(Failed(state_after(error), " ".join(cause.split()), code))
        if not expected:
            traceback.print_exc()  # after the message: the log may be on a full disk


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(file, number)
    os.close(file)


def _leave_with_parent(connection: Connection) -> None:
    """End at once when the parent is gone: its successor will resume the run. The parent never sends anything."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(ORPHANED)
