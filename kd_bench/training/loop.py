"""The training loop: Lightning's trainer, stage by stage, resumed where it was left."""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from kd_bench.config.schema import RecipeConfig, TrainerConfig
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.errors import Diverged, IntegrityError
from kd_bench.training.checkpoints import AtomicCheckpointIO, check_space, checkpoint_stem, latest_checkpoint
from kd_bench.training.module import DistillationModule
from kd_bench.training.processes import ALONE, Place, strategy
from kd_bench.training.stopping import TimeLimit, profiler, requested, with_trackers
from kd_bench.training.trackers import Guarded

HEARTBEAT_SECONDS = 2.0
PRETRAINING, TRAINING = 0, 1
UNHELPFUL_WARNINGS = (
    ".*LeafSpec.*",  # Lightning's own use of torch
    ".*srun.*",  # a SLURM client on the machine is no reason to use it
    ".*does not have many workers.*",  # batches are cut from memory
    ".*number of training batches.*",  # the meter is read out at the end of each epoch too
    ".*in eval mode at the start of training.*",  # a moving average is, on purpose
    ".*tensorboardX.*",
    ".*sync_dist=True.*",  # of processes that train together one alone evaluates
)


class EpochCheckpoint(Checkpoint):
    """A callback that saves at epoch ends, once the module has written its history, and gives a sign of life."""

    def __init__(self, directory: Path, stage: int, every: int, alive: Callable[[int], None]) -> None:
        self._directory, self._stage, self._every, self._alive = directory, stage, every, alive
        self._last = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        done = trainer.current_epoch + 1
        last = done == trainer.max_epochs or trainer.should_stop
        if done % self._every == 0 or last:
            trainer.save_checkpoint(checkpoint_stem(self._directory, self._stage, done))
        if time.monotonic() - self._last > HEARTBEAT_SECONDS or last:
            self._last = time.monotonic()
            self._alive(pl_module.earlier_epochs + done)


class KeepSignals(Callback):
    """A callback that takes SIGTERM back from Lightning.

    Lightning's handler tells the other processes of a run first, in a collective that they never join while they wait
    for this one's gradients.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


def fit(
    module: DistillationModule,
    data: ImageDataModule,
    recipe: RecipeConfig,
    config: TrainerConfig,
    directory: Path,
    trackers: list[Guarded],
    callbacks: Iterable[Callable[[], list[Callback]]],
    alive: Callable[[int], None],
    place: Place = ALONE,
) -> None:
    """Run the pretraining stage (if the method declares one) and the training stage.

    Args:
        directory: of the run; its newest checkpoint says where to go on.
        callbacks: makers, since each stage has a trainer of its own.
        alive: is told the number of epochs done, now and then.
        place: of this process among those that train together, all of which call this with the same arguments but for
            trackers and callbacks.
    """
    data.rank, data.world = place.rank, place.world
    found = latest_checkpoint(directory)
    checkpoints = AtomicCheckpointIO(config.checkpoint_seconds)
    limit = [TimeLimit(config.max_time)] if config.max_time and not place.rank else []
    if found is None:
        check_space(directory, module.state_dict().values())
    for stage in (PRETRAINING, TRAINING):
        stage_epochs = recipe.epochs if stage == TRAINING else module.method.pretrain_epochs
        if not stage_epochs or (found and stage < found.stage):
            continue
        module.pretraining = stage == PRETRAINING
        module.earlier_epochs = data.epoch_offset = 0 if module.pretraining else module.method.pretrain_epochs
        every = EpochCheckpoint(directory, stage, config.checkpoint_every_n_epochs, alive)
        asked = [] if place.rank else with_trackers(requested(config, module.pretraining), trackers)
        own = [*limit, *(c for make in callbacks for c in make()), *asked, every]
        trainer = _trainer(config, recipe, stage_epochs, directory, trackers, own, checkpoints, place)
        resumed = found if found and stage == found.stage else None
        data.first_epoch = resumed.epochs if resumed else 0
        try:
            with quiet_lightning():
                trainer.fit(module, datamodule=data, ckpt_path=resumed.path if resumed else None)
        except BaseException as error:
            checkpoints.write_held()
            if isinstance(error, Diverged):
                raise _with_step(error, module, directory) from error
            raise
        module.earlier_steps += trainer.global_step
    module.finish()


def _with_step(error: Diverged, module: DistillationModule, directory: Path) -> Diverged:
    """Keep the step at which a run has diverged, and say where it is or why there is none."""
    try:
        return Diverged(f"{error}; batch, weights and seeds: {module.keep_step(directory)}")
    except IntegrityError as full:
        return Diverged(f"{error}; {full}")


def _trainer(
    config: TrainerConfig,
    recipe: RecipeConfig,
    epochs: int,
    directory: Path,
    trackers: list[Guarded],
    callbacks: list[Callback],
    checkpoints: AtomicCheckpointIO,
    place: Place,
) -> pl.Trainer:
    with quiet_lightning():
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=place.world,
            strategy=strategy(place, config.accelerator),
            precision=config.precision,
            max_epochs=epochs,
            accumulate_grad_batches=recipe.accumulate or 1,
            gradient_clip_val=recipe.clip_norm or recipe.clip_value,
            gradient_clip_algorithm="value" if recipe.clip_value else "norm",
            profiler=profiler(config, directory) if not place.rank else None,
            logger=trackers or False,
            callbacks=[KeepSignals(), *callbacks],
            plugins=[checkpoints],
            default_root_dir=directory,
            log_every_n_steps=config.log_every_n_steps,
            enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            deterministic="warn" if config.accelerator == "gpu" else None,
        )


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads; the next job of the process finds what it had before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advertisements, and its advice that does not hold here."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in UNHELPFUL_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
