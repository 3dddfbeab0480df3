"""Trackers, which mirror a run while it trains. The record is the truth: one that fails is dropped with a warning.

``open_trackers`` is the ``_target_`` of every file in ``conf/logger``, so that Hydra can merge several of them.
"""

import io
import os
import shlex
import warnings
from argparse import Namespace
from collections.abc import Callable
from csv import DictReader, DictWriter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from pytorch_lightning.loggers.logger import Logger

from kd_bench.config.files import write_atomically

ANSWER_TIMEOUT_SECONDS = 2
INIT_TIMEOUT_SECONDS = 5  # W&B waits 90 s by default for a server that does not answer
Mode = Literal["offline", "online", "disabled"]  # of W&B
TrackerName = Literal["csv", "tensorboard", "wandb"]


@dataclass(frozen=True)
class TrackedRun:
    """A run under the names that trackers give it."""

    directory: Path
    run_id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]


class Guarded(Logger):
    """A logger whose failures cost one warning and nothing else: it is then left out for the rest of the run.

    Args:
        stores: the weights of the run as well.
    """

    def __init__(self, name: str, open_logger: Callable[[], Logger], stores: bool = False) -> None:
        super().__init__()
        self._name, self._stores = name, stores
        self._logger: Logger | None = None
        self._left = ""
        self._try(lambda: self._open(open_logger))

    def _open(self, open_logger: Callable[[], Logger]) -> None:
        self._logger = open_logger()
        self._left = _upload(self._logger)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # whatever a service or its client may raise
            self._logger = None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{self._name} is dropped, the run goes on without it: {reason}{self._left}", stacklevel=2)

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def version(self) -> int | str | None:
        return self._logger.version if self._logger else None

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if logger := self._logger:
            self._try(lambda: logger.log_metrics(metrics, step))

    def recall(self, metrics: dict[str, float], step: int) -> None:
        """Log again what an earlier process of the run has logged, if this tracker has started from nothing."""
        if getattr(getattr(self._logger, "experiment", None), "offline", False):
            self.log_metrics(metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        if logger := self._logger:
            self._try(lambda: logger.log_hyperparams(params, *args, **kwargs))

    def summarise(self, metrics: dict[str, float]) -> None:
        """Put final metrics where the tracker shows a run's result."""
        if logger := self._logger:
            self._try(lambda: _summarise(logger, metrics))

    def store(self, files: list[Path]) -> None:
        """Keep the weights with the tracked run, if its configuration asks for that."""
        if (logger := self._logger) and self._stores:
            self._try(lambda: _store(logger, files))

    def save(self) -> None:
        if logger := self._logger:
            self._try(logger.save)

    def close(self, status: str) -> None:
        """End the tracked run, so that the next one of the same process starts its own."""
        if logger := self._logger:
            self._try(lambda: logger.finalize(status))
            self._try(lambda: _finish(logger, status))


def _summarise(logger: Logger, metrics: dict[str, float]) -> None:
    experiment = getattr(logger, "experiment", None)
    if (summary := getattr(experiment, "summary", None)) is not None:
        summary.update(metrics)
    else:
        logger.log_metrics(metrics)


def _store(logger: Logger, files: list[Path]) -> None:
    """Upload files as a W&B artifact named after the run: the same weights, uploaded again, are the same version."""
    import wandb as client

    run = logger.experiment  # type: ignore[attr-defined]  # stores is W&B's alone
    artifact = client.Artifact(f"weights-{run.id}", "model")
    for path in files:
        artifact.add_file(str(path))
    run.log_artifact(artifact)


def _upload(logger: Logger) -> str:
    """Say how to upload what a W&B run has written, whatever becomes of it."""
    folder = getattr(getattr(getattr(logger, "experiment", None), "settings", None), "sync_dir", None)
    return f"; what it has written is uploaded by: wandb sync {shlex.quote(str(folder))}" if folder else ""


def _finish(logger: Logger, status: str) -> None:
    if finish := getattr(getattr(logger, "experiment", None), "finish", None):
        finish(exit_code=0 if status == "success" else 1)


def csv(run: TrackedRun) -> list[Guarded]:
    """Keep ``metrics.csv`` in the run directory: one row per epoch."""
    return [Guarded("CSV", lambda: EpochTable(run.directory / "metrics.csv"))]


class EpochTable(Logger):
    """One row per epoch, kept over resumes: an epoch that is trained again replaces its row.

    Lightning's own CSV logger deletes what an interrupted run had written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._rows: dict[float, dict[str, Any]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = {float(row["epoch"]): dict(row) for row in DictReader(file)}

    @property
    def name(self) -> str | None:
        return "csv"

    @property
    def version(self) -> int | str | None:
        return None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The record has them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "epoch" not in metrics:
            return
        self._rows[metrics["epoch"]] = dict(metrics)
        columns = dict.fromkeys(name for row in self._rows.values() for name in row)
        text = io.StringIO()
        writer = DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for _, row in sorted(self._rows.items()))
        write_atomically(self._path, text.getvalue())


def tensorboard(run: TrackedRun) -> list[Guarded]:
    """Write event files to the run directory."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return [Guarded("TensorBoard", lambda: TensorBoardLogger(run.directory, name="", version="tensorboard"))]


def _await_answer(url: str) -> None:
    """Raise an error unless the server answers in time, with whatever status.

    W&B's client waits longer for a silent server than it is told, and once more when the process ends.
    """
    import requests  # W&B's own dependency

    requests.get(url, timeout=ANSWER_TIMEOUT_SECONDS)


def _set_aside(folder: Path) -> None:
    """Rename what earlier processes of a run have left offline: the next one holds all of it.

    An upload of several parts of one run replaces each by the next, or counts its steps twice.
    """
    for part in folder.glob("offline-run-*/*.wandb"):
        if not part.with_name(f"{part.name}.synced").exists():
            part.rename(part.with_name(f"{part.name}.earlier"))


def wandb(
    run: TrackedRun,
    project: str | None,
    entity: str | None,
    mode: Mode | None,
    tags: list[str],
    weights: bool = False,
) -> list[Guarded]:
    """Keep one W&B run per job, its id the fingerprint, so that a resumed job continues it.

    Offline the newest folder holds all epochs of a run, whatever interrupted it. A run that the server does not take is
    kept offline, and a warning says how to upload it. ``WANDB_NAME`` names what was asked for, not the teachers that
    are trained for it; ``WANDB_RUN_GROUP`` holds for both.

    Args:
        project: None takes ``WANDB_PROJECT``, else ``kd_bench``.
        mode: ``offline`` (``wandb sync`` uploads later), ``online`` or ``disabled``; None takes ``WANDB_MODE``, else
            ``offline``.
        weights: keep those of the student as an artifact of the W&B run.
    """
    name = run.name if run.job_type == "teacher" else os.environ.get("WANDB_NAME") or run.name
    named = replace(run, name=name, group=os.environ.get("WANDB_RUN_GROUP") or run.group)
    chosen = mode or cast(Mode, os.environ.get("WANDB_MODE") or "offline")
    start = partial(_start, named, project or os.environ.get("WANDB_PROJECT") or "kd_bench", entity, tags)
    return [Guarded("W&B", lambda: _start_online(start) if chosen == "online" else start(chosen), stores=weights)]


def open_trackers(
    run: TrackedRun,
    trackers: dict[TrackerName, bool],
    project: str | None = None,
    entity: str | None = None,
    mode: Mode | None = None,
    tags: list[str] | None = None,
    weights: bool = False,
) -> list[Guarded]:
    """Open the trackers that are switched on; the other arguments are those of ``wandb``."""
    makers: dict[TrackerName, Callable[[], list[Guarded]]] = {
        "csv": lambda: csv(run),
        "tensorboard": lambda: tensorboard(run),
        "wandb": lambda: wandb(run, project, entity, mode, tags or [], weights),
    }
    return [opened for name, make in makers.items() if trackers.get(name) for opened in make()]


def _start_online(start: Callable[[Mode], Logger]) -> Logger:
    """Start a W&B run online, or offline and with a warning where the server does not take it."""
    import wandb as client

    try:
        _await_answer(client.setup().settings.base_url)
        return start("online")
    except Exception as error:  # whatever the service or its client may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    logger = start("offline")
    warnings.warn(f"W&B does not take the run, it is kept offline: {reason}{_upload(logger)}", stacklevel=2)
    return logger


def _start(run: TrackedRun, project: str, entity: str | None, tags: list[str], mode: Mode) -> Logger:
    """Start or continue the W&B run of a job."""
    import wandb as client
    from pytorch_lightning.loggers import WandbLogger

    if mode != "online":  # its telemetry would hold up the end of the process where no server answers
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        _set_aside(run.directory / "wandb")
    experiment = client.init(
        project=project,
        entity=entity,
        id=run.run_id,
        name=run.name,
        group=run.group,
        job_type=run.job_type,
        tags=[*run.tags, *tags],
        config=run.config,
        dir=run.directory,
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        settings=client.Settings(
            init_timeout=INIT_TIMEOUT_SECONDS, finish_timeout=INIT_TIMEOUT_SECONDS, silent=True, console="off"
        ),
    )
    return WandbLogger(experiment=experiment)
