"""The Lightning module, with the only training step."""

import math
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_bench.data.batch import Batch
from kd_bench.data.randomness import derive_seed
from kd_bench.errors import Diverged
from kd_bench.methods.base import Method, Progress, given_teacher
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.training.teachers import Teacher

# Uses of a run's seed; a number, once used, keeps its meaning.
INITIALISATION, ADAPTERS, TRAINING, COMPANION, MEMORIES = 101, 102, 103, 104, 105
WATCHED = ("val", "test")  # splits evaluated after each epoch; the second under `selection: best_on_test` alone


class DistillationModule(pl.LightningModule):
    """Student, method and teacher. A frozen teacher is outside of parameters and checkpoints.

    Args:
        teacher: what the method learns from, with its weights.
        make_optimizer: makes one for parameters.
        make_scheduler: makes one for an optimizer; None keeps the learning rate. Pretraining keeps it always.
        seed: of the run; torch's generator is set from it at the start of each epoch, so that whatever a network or a
            method draws is a function of (seed, epoch) and needs no saving.
        log_every_n_steps: how often loss terms are read out, which costs time; at the end of an epoch they always are.
    """

    def __init__(
        self,
        student: FeatureTap,
        method: Method,
        teacher: Teacher | None,
        make_optimizer: Callable[[Any], Optimizer],
        make_scheduler: Callable[[Optimizer], LRScheduler] | None,
        seed: int,
        log_every_n_steps: int,
    ) -> None:
        super().__init__()
        self.log_every_n_steps = log_every_n_steps
        self.student, self.method = student, method
        self._teacher = (teacher,)  # a tuple hides it: not in parameters, checkpoints or the reach of train()
        if teacher is not None and teacher.changes:
            self.companion = teacher  # one that changes is not hidden
        self.make_optimizer, self.make_scheduler, self.seed = make_optimizer, make_scheduler, seed
        self.pretraining = False
        self.earlier_epochs = self.earlier_steps = 0  # of the stage before
        self.history: list[dict[str, float]] = []
        self.best: dict[str, dict[str, Any]] = {}  # by selection rule: epoch and weights
        self.train_seconds = 0.0
        self.teacher_seconds = 0.0  # of these, in forward passes of the teacher; means nothing on a GPU
        self.resumed = 0
        self.logged: list[dict[str, float]] = []  # all rows that trackers were given
        self._recalls = False  # trackers have still to be told what was logged before the run was taken up
        self._meter = Meter(self._averaged)

    @property
    def teacher(self) -> Teacher | None:
        """The network that the method learns from, with its weights; None where it needs none."""
        return self._teacher[0]

    def configure_optimizers(self) -> Any:
        if self.pretraining:
            return self.make_optimizer(self.method.pretrain_parameters(self.student))
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make_scheduler(optimizer)}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images = batch.images.flatten(0, 1) if batch.images.dim() == 5 else batch.images
        teacher = None if self.teacher is None else self._timed(self.teacher, images)
        student = in_float32(self.student(images))
        terms = self.method.pretrain_terms if self.pretraining else self.method
        losses = terms(student, given_teacher(self.method, teacher), batch, self._progress(batch_idx))
        self._meter.add(losses)
        return torch.stack(list(losses.values())).sum()

    def _timed(self, teacher: Teacher, images: Tensor) -> Outputs:
        started = time.perf_counter()
        outputs = in_float32(teacher(images))
        self.teacher_seconds += time.perf_counter() - started
        return outputs

    def _averaged(self, values: Tensor) -> Tensor:
        """Average values over all processes that train together."""
        mean = self.trainer.strategy.reduce(values, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def _progress(self, batch_idx: int) -> Progress:
        epochs, batches = self.trainer.max_epochs or 1, int(self.trainer.num_training_batches)
        epoch = self.current_epoch
        return Progress(epoch, epochs, epoch * batches + batch_idx, epochs * batches)

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        place = [self.global_rank] if self.global_rank else []  # processes do not draw alike
        seed = derive_seed(self.seed, TRAINING, self.earlier_epochs + self.current_epoch, *place)
        torch.manual_seed(seed)
        np.random.seed(seed)  # kd_bench does not draw from these two, but methods from elsewhere may
        random.seed(seed)
        self._started = time.perf_counter()
        self._learning_rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.teacher is not None:
            self.teacher.after_step(self.student, self.method, self._progress(batch_idx))
        if (batch_idx + 1) % self.log_every_n_steps == 0:
            self._meter.flush(self.step)
        if self.step % self.log_every_n_steps == 0:
            self._log({f"train_step/{name}": value for name, value in self._meter.recent(self.step).items()})

    @property
    def step(self) -> int:
        """The number of training steps done in all stages."""
        return self.earlier_steps + self.global_step

    def _log(self, metrics: dict[str, float]) -> None:
        self.logged.append({**metrics, "trainer/global_step": self.step})
        for logger in self.trainer.loggers:
            logger.log_metrics(self.logged[-1], step=self.step)

    def on_train_start(self) -> None:
        if not self._recalls:
            return
        self._recalls = False
        for row in self.logged:
            for logger in self.trainer.loggers:
                logger.recall(row, int(row["trainer/global_step"]))  # type: ignore[attr-defined]  # are Guarded

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        logits = self.method.predict(in_float32(self.student(batch.images)))
        measured = logits.argmax(1) == batch.targets, cross_entropy(logits, batch.targets)
        self._validation.setdefault(WATCHED[dataloader_idx], []).append(measured)

    def on_validation_epoch_start(self) -> None:
        self._validation: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def on_validation_epoch_end(self) -> None:
        """Compute means over all samples, not over batches."""
        self._validated: dict[str, float] = {}
        for split, batches in self._validation.items():
            correct = torch.cat([hits for hits, _ in batches]).double()
            nll = sum(float(loss) * len(hits) for hits, loss in batches) / len(correct)
            self._validated |= {f"{split}/top1": float(correct.mean()), f"{split}/nll": nll}
        self.log("val/top1", self._validated["val/top1"], prog_bar=True, logger=False)

    def on_train_epoch_end(self) -> None:
        self._meter.flush(self.step)
        epoch = self.earlier_epochs + self.current_epoch + 1
        losses = {f"train/{name}": value for name, value in self._meter.epoch().items()}
        if self.global_rank:
            return  # the first process alone evaluates
        row = {"epoch": float(epoch), **losses, **self._validated, "lr": self._learning_rate}
        if not math.isfinite(row["val/nll"]):
            raise Diverged(f"validation loss is not finite after epoch {epoch}")
        self.history.append(row)
        self._log(row)
        if not self.pretraining:
            self._keep_best(epoch, row)
        self.train_seconds += time.perf_counter() - self._started

    def _keep_best(self, epoch: int, row: dict[str, float]) -> None:
        """Keep the best weights by top-1 on each watched split; of equals the lower loss, then the earlier epoch."""
        for split, rule in zip(WATCHED, ("best_on_validation", "best_on_test"), strict=True):
            if f"{split}/top1" not in row:
                continue
            quality = row[f"{split}/top1"], -row[f"{split}/nll"]
            if rule not in self.best or quality > self.best[rule]["quality"]:
                self.best[rule] = {"epoch": epoch, "quality": quality, "weights": cloned(self)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kd_bench"] = {
            "history": self.history,
            "logged": self.logged,
            "best": self.best,
            "train_seconds": self.train_seconds,
            "teacher_seconds": self.teacher_seconds,
            "resumed": self.resumed,
            "earlier_epochs": self.earlier_epochs,
            "earlier_steps": self.earlier_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, value in checkpoint["kd_bench"].items():
            setattr(self, name, value)
        self.resumed += 1
        self._recalls = True


class Meter:
    """Sums of detached loss terms, read out by interval, since reading a number out costs time.

    Args:
        average: averages values that are read out over all processes that train together.
    """

    def __init__(self, average: Callable[[Tensor], Tensor]) -> None:
        self._average = average
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._epoch: dict[str, float] = {}
        self._epoch_steps = 0
        self._shown: dict[str, float] = {}  # sums and steps of the epoch up to the last call of `recent`
        self._shown_steps = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the loss terms of a step."""
        for name, value in losses.items():
            detached = value.detach()
            self._sums[name] = self._sums[name] + detached if name in self._sums else detached
        self._steps += 1

    def flush(self, step: int) -> None:
        """Move the sums since the last flush to those of the epoch.

        Raises:
            Diverged: one of them is not finite; NaN in a sum stays NaN, so no bad step can hide.
        """
        self._epoch, self._epoch_steps = self._totals(step)
        self._sums, self._steps = {}, 0

    def recent(self, step: int) -> dict[str, float]:
        """Return means over the steps of this epoch since the last call; at least one has been added.

        Raises:
            Diverged: as ``flush``.
        """
        sums, steps = self._totals(step)
        means = {
            name: (value - self._shown.get(name, 0.0)) / (steps - self._shown_steps) for name, value in sums.items()
        }
        self._shown, self._shown_steps = sums, steps
        return _with_loss(means)

    def _totals(self, step: int) -> tuple[dict[str, float], int]:
        """Return the sums and the number of all steps of the epoch."""
        if not self._steps:
            return self._epoch, self._epoch_steps
        values = self._average(torch.stack([value.double() for value in self._sums.values()]))
        sums = dict(zip(self._sums, values.tolist(), strict=True))
        bad = sorted(name for name, value in sums.items() if not math.isfinite(value))
        if bad:
            raise Diverged(
                f"loss term {', '.join(bad)} is not finite within the {self._steps} steps before step {step}"
            )
        return {
            name: self._epoch.get(name, 0.0) + value for name, value in sums.items()
        }, self._epoch_steps + self._steps

    def epoch(self) -> dict[str, float]:
        """Return means over the epoch, which starts anew."""
        means = {name: value / self._epoch_steps for name, value in self._epoch.items()}
        self._epoch, self._epoch_steps = {}, 0
        self._shown, self._shown_steps = {}, 0
        return _with_loss(means)


def _with_loss(means: dict[str, float]) -> dict[str, float]:
    return {"loss": sum(means.values()), **means}


def in_float32(outputs: Outputs) -> Outputs:
    """Return outputs in float32, in which losses are computed whatever the networks ran in."""
    members = outputs.members and [in_float32(member) for member in outputs.members]
    return outputs._replace(logits=outputs.logits.float(), embedding=outputs.embedding.float(), members=members)


def cloned(module: nn.Module) -> dict[str, Tensor]:
    """Copy the state of a module to the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
