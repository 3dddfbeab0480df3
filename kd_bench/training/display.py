"""Display of a run while it trains: Lightning's bar on a terminal, few quiet lines elsewhere."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar

from kd_bench.training.module import DistillationModule

SECONDS_BETWEEN_LINES = 10.0
EpochListener = Callable[[str, int, int], None]  # run id, epochs done and epochs of all its stages


class EpochLines(Callback):
    """A line for the first and last epoch and every ten seconds between."""

    def __init__(self) -> None:
        self._last = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs
        if epoch != epochs and time.monotonic() - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = time.monotonic()
        stage = "pretraining epoch" if pl_module.pretraining else "epoch"
        top1 = 100 * float(trainer.callback_metrics["val/top1"])
        print(f"  {stage} {epoch}/{epochs}: validation top-1 {top1:.2f} %", flush=True)


class Listener(Callback):
    """A callback that tells someone else's display, such as a study's, about each epoch."""

    def __init__(self, tell: EpochListener) -> None:
        self._tell = tell

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        done = pl_module.earlier_epochs + trainer.current_epoch + 1
        epochs = max(pl_module.earlier_epochs, pl_module.method.pretrain_epochs) + (trainer.max_epochs or 0)
        self._tell(Path(trainer.default_root_dir).name, done, epochs)


def display(kind: str) -> list[Callback]:
    """Return the callbacks for ``trainer.progress``."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() and sys.stdout.isatty() else "lines"
    shown: dict[str, Callable[[], Any]] = {"bar": RichProgressBar, "lines": EpochLines}
    return [shown[kind]()] if kind in shown else []
