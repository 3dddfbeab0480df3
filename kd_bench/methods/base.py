"""The contract of a method.

A method turns outputs into weighted loss terms. It never trains: the module sums the terms, logs them and steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.models.features import FeatureTap, Outputs

TeacherKind = Literal["none", "frozen", "own"]


@dataclass(frozen=True)
class Requirements:
    """What a method needs; checked before any training.

    Attributes:
        teacher: ``none``; ``frozen``: the teacher of the pair; ``own``: a network of the student's kind that an earlier
            run trained without distillation. Either is in eval mode and receives no gradient.
        views: augmented views of each image in a batch.
        pre_activations: stage maps before the last ReLU, which only some networks give.
        min_classes: the least number of classes for which the loss is defined.
    """

    teacher: TeacherKind = "frozen"
    views: int = 1
    pre_activations: bool = False
    min_classes: int = 2


class Progress(NamedTuple):
    """Where the training stands: ``epoch`` in [0, epochs), ``step`` in [0, steps) counted over the whole stage."""

    epoch: int
    epochs: int
    step: int
    steps: int


class Method(nn.Module):
    """Base class of all methods. A subclass sets ``paper`` and ``family`` and gives ``forward``.

    Adapters are ordinary submodules, made in ``build_adapters``: the optimizer, the checkpoint and the parameter count
    find them. Hyperparameters are the arguments of ``__init__``; their annotations (``kd_bench.types``) are the ranges
    that the configuration is checked against.
    """

    paper: str  # authors, year, arXiv id
    family: str  # logits, features, relations, self-distillation, ..., baseline
    requires: Requirements = Requirements()
    pretrain_epochs: int = 0  # of a first stage with terms of its own, before the recipe's epochs

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap | None, data: DataSpec) -> None:
        """Make the modules that depend on the shapes of the pair.

        Raises:
            ConfigError: the pair does not have what the method needs, with the stages and shapes there are.
        """

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Weighted named scalar terms; their sum is the loss."""
        raise NotImplementedError

    def pretrain_terms(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress
    ) -> dict[str, Tensor]:
        """As ``forward``, for the first stage of a method that declares ``pretrain_epochs``."""
        raise NotImplementedError

    def pretrain_parameters(self, student: FeatureTap) -> Iterator[nn.Parameter]:
        """What the first stage trains."""
        raise NotImplementedError

    def predict(self, student: Outputs) -> Tensor:
        """Logits (B, K) at test time: the student's own unless the method changes the head."""
        return student.logits

    def test_time_modules(self) -> list[nn.Module]:
        """Adapters that ``predict`` uses; they count as the student's parameters and cost."""
        return []


def teacher_outputs(teacher: Outputs | None) -> Outputs:
    """The teacher's outputs, for methods that declare one. Requirements are checked long before."""
    assert teacher is not None  # the configuration check guarantees it
    return teacher
