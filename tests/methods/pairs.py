"""Pairs of networks, built as a run builds them, and the training step without a trainer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from kd_bench.config.check import check
from kd_bench.config.paths import CONF
from kd_bench.config.schema import RunConfig
from kd_bench.data.batch import Batch
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress, TrainingSet
from kd_bench.models.features import Outputs
from kd_bench.training.module import DistillationModule
from kd_bench.training.pair import Pair, build, make_module
from kd_bench.training.teachers import FrozenTeacher

CHOICES = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
PAIRS: dict[str, dict[str, Any]] = {
    "cifar": {},  # resnet20_cifar -> resnet8_cifar on 8x8 digits
    "timm": {"teacher.name": "resnet18", "student.name": "mobilenetv3_small_050"},
    "vit": {"student.name": "vit_tiny_patch16_224", "student.kwargs": {"img_size": 8, "patch_size": 2}},
}
TINY = {"img_size": 8, "patch_size": 2, "depth": 3}
VITS: dict[str, Any] = {
    "teacher.name": "deit_tiny_patch16_224",
    "teacher.kwargs": TINY,
    "student.name": "deit_tiny_distilled_patch16_224",
    "student.kwargs": TINY,
}
SAMPLES = 40  # of the training set that a method's memories are made for
MIDDLE = Progress(epoch=1, epochs=3, step=5, steps=12)


@dataclass
class Built:
    """A pair with its module, as a run has them before its first step."""

    config: RunConfig
    pair: Pair
    module: DistillationModule

    @property
    def method(self) -> Any:
        return self.pair.method

    @property
    def student(self) -> Any:
        return self.pair.student

    @property
    def teacher(self) -> Any:
        return self.module.teacher

    def batch(self, size: int = 6, seed: int = 0) -> Batch:
        """A batch of ``size`` samples, as the method's sampler, views and rotations make it."""
        requires, generator = self.method.requires, torch.Generator().manual_seed(seed)
        index = torch.randperm(SAMPLES, generator=generator)[:size]
        targets = index % self.pair.spec.num_classes
        if requires.sampler == "class_pairs":
            index, targets = torch.cat([index, index]), torch.cat([targets, targets])
        views = 4 if requires.rotations else requires.views
        images = torch.rand(views, len(index), 3, *self.pair.spec.image_size, generator=generator)
        return Batch(images[0] if views == 1 else images, targets, index)

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs | None]:
        images = batch.images.flatten(0, 1) if batch.images.dim() == 5 else batch.images
        outputs: tuple[Outputs, Outputs | None] = self.method.observe(self.student, self.teacher, images)
        return outputs

    def stages(self) -> list[bool]:
        """Whether each stage of training is the pretraining."""
        return [True, False] if self.method.pretrain_epochs else [False]

    def terms(self, pretraining: bool, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        terms = self.method.pretrain_terms if pretraining else self.method
        return terms(student, teacher, batch, MIDDLE)


def built(compose: Any, choice: str, pair: str = "cifar", classes: int = 10) -> Built:
    """Build a method on a pair. One that refuses a pair of foreign networks must say why, and is skipped."""
    cfg = at_home(compose, choice) if pair == "cifar" else compose(f"method={choice}")
    for key, value in {**PAIRS[pair], "dataset.num_classes": classes}.items():
        OmegaConf.update(cfg, key, value, merge=False)
    config = check(cfg)
    try:
        objects = build(config)
    except ConfigError as error:
        if "dataset.num_classes" in str(error):
            pytest.skip(f"refused: {error}")
        reasons = (config.student.name, str(config.teacher.name), "stage")
        if pair == "cifar" or not any(reason in str(error) for reason in reasons):
            raise
        pytest.skip(f"refused: {error}")
    module = make_module(config, objects)
    objects.method.prepare(training_set(module, config.dataset.num_classes, objects.spec.image_size))
    module.trainer = Standing()  # type: ignore[assignment]
    return Built(config, objects, module.train())


def at_home(compose: Any, choice: str) -> Any:
    """The configuration of a method on networks that it accepts: CIFAR's, or ViTs if they alone have what it needs."""
    cfg = compose(f"method={choice}")
    requires = instantiate(cfg.method).requires
    if {*requires.student_has, *requires.teacher_has} - {"entry"}:
        for key, value in VITS.items():
            OmegaConf.update(cfg, key, value, merge=False)
    return cfg


def training_set(module: DistillationModule, classes: int, image_size: tuple[int, int]) -> TrainingSet:
    """``SAMPLES`` samples whose classes go round."""

    def outputs() -> Iterator[tuple[Batch, Outputs]]:
        assert isinstance(module.teacher, FrozenTeacher)
        for index in torch.arange(SAMPLES).split(16):
            images = torch.rand(len(index), 3, *image_size, generator=torch.Generator().manual_seed(int(index[0])))
            yield Batch(images, index % classes, index), module.teacher(images)

    return TrainingSet(torch.arange(SAMPLES) % classes, classes, outputs)


class Standing:
    """What a training step asks its trainer: where the training stands."""

    max_epochs, num_training_batches, current_epoch, global_step = 3, 4, 1, 5
    loggers: tuple[Any, ...] = ()


def optimizer_of(module: DistillationModule) -> torch.optim.Optimizer:
    made = module.configure_optimizers()
    return made["optimizer"] if isinstance(made, dict) else made


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
