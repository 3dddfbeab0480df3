"""The Lightning module, with the only training step."""

import math
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.data.randomness import derive_seed
from kd_bench.errors import Diverged
from kd_bench.methods.base import Method, Progress, given_teacher
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.training.cache import TeacherCache
from kd_bench.training.divergence import keep_step
from kd_bench.training.meter import Meter
from kd_bench.training.optimization import MakeOptimizer, Schedule, WeightAverage, advance
from kd_bench.training.teachers import FrozenTeacher, Teacher

# Uses of a run's seed; a number, once used, keeps its meaning.
INITIALISATION, ADAPTERS, TRAINING, COMPANION, MEMORIES = 101, 102, 103, 104, 105
WATCHED = ("val", "test")  # splits evaluated after each epoch; the second under `selection: best_on_test` alone


class DistillationModule(pl.LightningModule):
    """Student, method and teacher. A frozen teacher is outside of parameters and checkpoints.

    Args:
        teacher: what the method learns from, with its weights.
        make_optimizer: makes one for parameters.
        schedule: None keeps the learning rate. Pretraining keeps it always.
        seed: of the run; torch's generator is set from it at the start of each epoch, so that whatever a network or a
            method draws is a function of (seed, epoch) and needs no saving.
        log_every_n_steps: how often loss terms are read out, which costs time; at the end of an epoch they always are.
        average: follows the weights that ``predict`` uses through the stage of the recipe.
        label_smoothing: share of the labels that all classes get alike.
    """

    def __init__(
        self,
        student: FeatureTap,
        method: Method,
        teacher: Teacher | None,
        make_optimizer: MakeOptimizer,
        schedule: Schedule | None,
        seed: int,
        log_every_n_steps: int,
        average: WeightAverage | None = None,
        label_smoothing: float | None = None,
    ) -> None:
        super().__init__()
        self.log_every_n_steps = log_every_n_steps
        self.student, self.method = student, method
        self._student = (student,)  # as training steps run it: evaluation does not run what is compiled
        self._teacher = (teacher,)  # a tuple hides it: not in parameters, checkpoints or the reach of train()
        if teacher is not None and teacher.changes:
            self.companion = teacher  # one that changes is not hidden
        self.make_optimizer, self.schedule, self.seed = make_optimizer, schedule, seed
        self.average, self.label_smoothing = average, label_smoothing
        self._looks_at_each_step = False
        self._step_before = 0
        self.stopped = False  # by a callback, before the last epoch of the recipe
        self.pretraining = False
        self.earlier_epochs = self.earlier_steps = 0  # of the stage before
        self.history: list[dict[str, float]] = []
        self.best: dict[str, dict[str, Any]] = {}  # by selection rule: epoch and weights
        self.train_seconds = 0.0
        self.teacher_seconds = 0.0  # of these, in forward passes of the teacher; means nothing on a GPU
        self.cached_teacher_seconds = 0.0  # not spent here: what the outputs took that were read
        self.cache: TeacherCache | None = None
        self.resumed = 0
        self.logged: list[dict[str, float]] = []  # all rows that trackers were given
        self._recalls = False  # trackers have still to be told what was logged before the run was taken up
        self._meter = Meter(self._averaged)

    @property
    def teacher(self) -> Teacher | None:
        """The network that the method learns from, with its weights; None where it needs none."""
        return self._teacher[0]

    def compile_student(self) -> None:
        """Let torch compile the student's training steps, at the first of them, which takes a minute."""
        self._student = (torch.compile(self.student),)  # type: ignore[assignment]  # behaves as the tap does

    def configure_optimizers(self) -> Any:
        if self.pretraining:
            return self.make_optimizer(self.method.pretrain_parameters(self.student))
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if self.schedule is None:
            return optimizer
        scheduler = self.schedule.start(optimizer, self._steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule.by}}

    def _steps_per_epoch(self) -> int:
        return int(self.trainer.estimated_stepping_batches) // (self.trainer.max_epochs or 1)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        advance(scheduler, self.current_epoch + 1, self.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._batch = batch_idx
        self._last = batch, torch.get_rng_state()
        losses = self.losses(batch, self._progress(batch_idx))
        self._meter.add(losses)
        loss = torch.stack(list(losses.values())).sum()
        if self._looks_at_each_step and not math.isfinite(float(loss.detach())):
            self._meter.flush(self.step)
        return loss

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the weighted terms of an augmented batch in the stage of the training."""
        images, self._taught = flat(batch.images), batch.teacher_images
        seen, teacher = self.method.observe(self._student[0], None if self.teacher is None else self._timed, images)
        student = in_float32(seen)
        terms = self.method.pretrain_terms if self.pretraining else self.method
        if self.label_smoothing:
            batch = smoothed(batch, self.label_smoothing, student.logits.shape[1])
        return terms(student, given_teacher(self.method, teacher), batch, progress)

    def keep_step(self, directory: Path) -> Path:
        """Write the last step to the directory of a run that has diverged: see ``divergence``."""
        batch, generator = self._last
        facts: Mapping[str, Any] = {
            "seed": self.seed,
            "epoch": self.earlier_epochs + self.current_epoch,
            "pretraining": self.pretraining,
            "progress": self._progress(self._batch),
        }
        return keep_step(directory, batch, generator, self.state_dict(), facts)

    def _timed(self, images: Tensor, kept: Tensor | None = None) -> Outputs:
        """Run the teacher, on images of its own if the recipe has any, and count the seconds."""
        assert self.teacher is not None  # who has none is not called
        images = images if self._taught is None else flat(self._taught)
        teacher, started = self.teacher, time.perf_counter()

        def compute(images: Tensor) -> Outputs:
            return in_float32(teacher(images, kept))

        cached = self.cache is not None and kept is None
        outputs = self.cache.outputs(self._batch, images, compute) if cached and self.cache else compute(images)
        self.teacher_seconds += time.perf_counter() - started
        return declared(outputs, self.method) if isinstance(teacher, FrozenTeacher) else outputs

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
        self.trainer.should_stop = self.stopped
        # On a GPU, and with several processes, it would be a wait in each step.
        self._looks_at_each_step = self.device.type == "cpu" and self.trainer.world_size == 1
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.average is not None:
            self.average.tensors = {name: value.to(self.device) for name, value in self.average.tensors.items()}

    def on_train_epoch_start(self) -> None:
        place = [self.global_rank] if self.global_rank else []  # processes do not draw alike
        seed = derive_seed(self.seed, TRAINING, self.earlier_epochs + self.current_epoch, *place)
        torch.manual_seed(seed)
        np.random.seed(seed)  # kd_bench does not draw from these two, but methods from elsewhere may
        random.seed(seed)
        if self.cache is not None:
            self.cache.begin(self.earlier_epochs + self.current_epoch, int(self.trainer.num_training_batches))
        self._started = time.perf_counter()
        self._learning_rate = max(float(group["lr"]) for group in self.trainer.optimizers[0].param_groups)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        stepped = self.step != self._step_before  # not where gradients are accumulated
        if self.teacher is not None and stepped:
            self.teacher.after_step(self.student, self.method, self._progress(batch_idx))
        if self.average is not None and stepped and not self.pretraining:
            self.average.follow(self._predicting())
        if (batch_idx + 1) % self.log_every_n_steps == 0:
            self._meter.flush(self.step)
        if stepped and self.step % self.log_every_n_steps == 0:
            self._log({f"train_step/{name}": value for name, value in self._meter.recent(self.step).items()})

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._step_before = self.step

    def _predicting(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what ``predict`` uses of the module's state: the student, and the method's modules at test time."""
        used = [("student.", self.student), *self._heads()]
        for prefix, module in used:
            yield from module.state_dict(prefix=prefix).items()

    def _heads(self) -> list[tuple[str, nn.Module]]:
        names = {id(module): name for name, module in self.method.named_modules()}
        heads = self.method.test_time_modules()
        return [(f"method.{names[id(head)]}.", head) for head in heads if id(head) in names]

    def finish(self) -> None:
        """Put the average of the weights beside the other selections, once all stages are done."""
        if self.average is not None:
            weights = {**cloned(self), **{name: value.cpu() for name, value in self.average.tensors.items()}}
            self.best["ema"] = {"epoch": len(self.history), "weights": weights}

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
        self.log("val/nll", self._validated["val/nll"], logger=False)

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
        if self.cache is not None:
            self.cached_teacher_seconds += self.cache.taken()

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
            "cached_teacher_seconds": self.cached_teacher_seconds,
            "resumed": self.resumed,
            "earlier_epochs": self.earlier_epochs,
            "earlier_steps": self.earlier_steps,
            "stopped": self.trainer.should_stop,
        }
        if self.average is not None:
            checkpoint["kd_bench_average"] = self.average.tensors

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, value in checkpoint["kd_bench"].items():
            setattr(self, name, value)
        if self.average is not None:
            self.average.tensors = checkpoint["kd_bench_average"]
        self.resumed += 1
        self._recalls = True


class _Unread(list[Tensor]):
    """Stage maps of a teacher that a method does not say it reads. A cache would not have them."""

    def _refuse(self, *arguments: object) -> NoReturn:
        raise TypeError("the method reads the teacher's stages and does not say so: name them in `reads`")

    __iter__ = __getitem__ = __len__ = _refuse


def smoothed(batch: Batch, share: float, classes: int) -> Batch:
    """Return a batch with smoothed labels: each class has at least ``share / classes`` of each.

    Szegedy et al. 2016 (arXiv:1512.00567); labels of mixed images are smoothed alike.
    """
    labels = batch.labels if batch.labels.dim() == 2 else F.one_hot(batch.labels, classes).float()
    return batch._replace(soft_targets=(1 - share) * labels + share / classes)


def declared(outputs: Outputs, method: Method) -> Outputs:
    """Return as much of a frozen teacher's outputs as the method says that it reads, computed or cached."""
    if method.reads is None:
        return outputs
    stages = outputs.stages if "stages" in method.reads else _Unread()
    return Outputs(outputs.logits, stages, outputs.embedding, members=outputs.members)


def flat(images: Tensor) -> Tensor:
    """Return images of several views, (V, B, 3, H, W), one view after the other."""
    return images.flatten(0, 1) if images.dim() == 5 else images


def in_float32(outputs: Outputs) -> Outputs:
    """Return outputs in float32, in which losses are computed whatever the networks ran in."""
    members = outputs.members and [in_float32(member) for member in outputs.members]
    heads = outputs.heads and [head.float() for head in outputs.heads]
    logits, embedding = outputs.logits.float(), outputs.embedding.float()
    return outputs._replace(logits=logits, embedding=embedding, members=members, heads=heads)


def cloned(module: nn.Module) -> dict[str, Tensor]:
    """Copy the state of a module to the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
