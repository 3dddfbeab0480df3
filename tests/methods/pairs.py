"""Pairs of networks, built as a run builds them, and the training step without a trainer."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from kd_bench.building import Pair, build, make_module
from kd_bench.config import RunConfig, check
from kd_bench.data.batch import Batch
from kd_bench.distillation import DistillationModule
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress
from kd_bench.models.features import Outputs
from kd_bench.paths import CONF
from kd_bench.teachers import FrozenTeacher

CHOICES = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
PAIRS: dict[str, dict[str, Any]] = {
    "cifar": {},  # resnet20_cifar -> resnet8_cifar on 8x8 digits
    "timm": {"teacher.name": "resnet18", "student.name": "mobilenetv3_small_050"},
    "vit": {"student.name": "vit_tiny_patch16_224", "student.kwargs": {"img_size": 8, "patch_size": 2}},
}
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
    def teacher(self) -> FrozenTeacher | None:
        return self.module.teacher

    def batch(self, size: int = 6, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(size, 3, *self.pair.spec.image_size, generator=generator)
        targets = torch.randint(self.pair.spec.num_classes, (size,), generator=generator)
        return Batch(images, targets, torch.arange(size))

    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs | None]:
        return self.student(batch.images), None if self.teacher is None else self.teacher(batch.images)

    def stages(self) -> list[bool]:
        """Whether each stage of training is the pretraining."""
        return [True, False] if self.method.pretrain_epochs else [False]

    def terms(self, pretraining: bool, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        terms = self.method.pretrain_terms if pretraining else self.method
        return terms(student, teacher, batch, MIDDLE)


def built(compose: Any, choice: str, pair: str = "cifar", classes: int = 10) -> Built:
    """Build a method on a pair. One that refuses a pair of foreign networks must say why, and is skipped."""
    cfg = compose(f"method={choice}")
    for key, value in {**PAIRS[pair], "dataset.num_classes": classes}.items():
        OmegaConf.update(cfg, key, value, merge=False)
    config = check(cfg)
    try:
        objects = build(config)
    except ConfigError as error:
        reasons = (config.student.name, str(config.teacher.name), "stage")
        if pair == "cifar" or not any(reason in str(error) for reason in reasons):
            raise
        pytest.skip(f"refused: {error}")
    source = None if objects.source is None else FrozenTeacher(objects.source)
    module = make_module(config, objects, source)
    module.trainer = Standing()  # type: ignore[assignment]
    return Built(config, objects, module.train())


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
