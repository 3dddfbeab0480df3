"""Lightning callbacks that a configuration asks for, and the time after which a run stops."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, DeviceStatsMonitor, EarlyStopping, LearningRateMonitor, Timer
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler

from kd_bench.config.schema import TrainerConfig
from kd_bench.errors import ConfigError, Preempted
from kd_bench.training.optimization import target_of

WATCHED = {"val/top1": "max", "val/nll": "min"}  # what EarlyStopping may watch, and when it is better


def requested(config: TrainerConfig, pretraining: bool = False) -> list[Callback]:
    """Make the callbacks of ``trainer.callbacks``. None stops the first stage of two.

    Raises:
        ConfigError: one refuses its values, or cannot do its work in this run.
    """
    made = []
    for name, node in (config.callbacks or {}).items():
        target, arguments = target_of(node)
        key = f"trainer.callbacks.{name}"
        try:
            callback = target(**arguments)
        except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
            raise ConfigError(f"{key}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
        if problem := _unfit(callback, arguments, config):
            raise ConfigError(f"{key}{problem}")
        if not (pretraining and isinstance(callback, EarlyStopping)):
            made.append(callback)
    return made


def _unfit(callback: Callback, arguments: dict[str, Any], config: TrainerConfig) -> str:
    """Return why a callback cannot do its work, as what follows its key; empty if it can."""
    if isinstance(callback, EarlyStopping):
        if config.devices > 1:
            return f": the first process alone evaluates; trainer.devices={config.devices} has to be 1"
        if callback.monitor not in WATCHED:
            return f".monitor={callback.monitor!r}: should be {' or '.join(WATCHED)}"
        if callback.mode != WATCHED[callback.monitor]:
            return f".mode={callback.mode!r}: should be {WATCHED[callback.monitor]!r} for {callback.monitor}"
    if isinstance(callback, Timer) and arguments.get("duration") is not None:
        return ".duration: should be null; trainer.max_time stops a run so that it can be resumed"
    return ""


def with_trackers(callbacks: list[Callback], trackers: Sequence[object]) -> list[Callback]:
    """Leave out, with a warning, what writes to trackers where there are none."""
    if trackers:
        return callbacks
    writers = [each for each in callbacks if isinstance(each, LearningRateMonitor | DeviceStatsMonitor)]
    for each in writers:
        warnings.warn(f"{type(each).__name__} is left out: it writes to a tracker, and logger=none", stacklevel=2)
    return [each for each in callbacks if each not in writers]


def profiler(config: TrainerConfig, directory: Path) -> Profiler | None:
    """Return what writes the times of a run's parts to its directory, as ``fit-profile.txt``."""
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    return kinds[config.profiler](dirpath=directory, filename="profile") if config.profiler else None


class TimeLimit(Callback):
    """A callback that stops a run in order when its time is over, or would be before the end of another epoch.

    Args:
        limit: days, hours, minutes and seconds from now, as ``DD:HH:MM:SS``.
    """

    def __init__(self, limit: str) -> None:
        days, hours, minutes, seconds = map(int, limit.split(":"))
        self._limit, self._seconds = limit, ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        self._started = time.monotonic()
        self._epoch_started: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.monotonic()
        epoch = 0.0 if self._epoch_started is None else now - self._epoch_started
        self._epoch_started = now
        self._stop_unless(now + epoch)  # between two epochs, so that no step is lost

    def on_train_batch_end(self, *arguments: Any, **keywords: Any) -> None:
        self._stop_unless(time.monotonic())

    def _stop_unless(self, until: float) -> None:
        if until - self._started > self._seconds:
            raise Preempted(f"stopped by trainer.max_time={self._limit}; the same command resumes")
