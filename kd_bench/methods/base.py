"""The contract of a method.

A method turns outputs into weighted loss terms. It never trains: the module sums the terms, logs them and steps. A
method that asks for a teacher is always given one (``given_teacher``).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple, TypeVar, cast

from torch import Tensor, nn

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.data.samplers import SamplerKind
from kd_bench.errors import ConfigError
from kd_bench.models.features import Ability, FeatureTap, Outputs

TeacherKind = Literal["none", "frozen", "own", "assistant", "assistants", "trained", "moving_average"]
Reads = tuple[Literal["logits", "embedding", "stages"], ...] | None  # fields of Outputs
TeacherT = TypeVar("TeacherT")  # FeatureTap or Outputs


@dataclass(frozen=True)
class Requirements:
    """The needs of a method, checked before any training.

    Attributes:
        teacher: ``none``; ``frozen``: the teacher of the pair; ``own``: a network of the student's kind that an earlier
            run trained without distillation; ``assistant``: the last of ``Method.assistants``, trained by earlier runs,
            or the pair's teacher if there are none; ``assistants``: the pair's teacher and all of them, each in
            ``Outputs.members``; ``trained``: a fresh network of the teacher's kind that is trained along,
            by the method's terms and the same optimizer; ``moving_average``: of the student's weights, see
            ``teacher_decay``. All but ``trained`` are in eval mode and receive no gradient.
        batch_statistics: the teacher's batch norms normalise with the statistics of the batch, as in a network that was
            left in train mode; their running statistics stay as they are.
        views: augmented views of each image in a batch. Outputs then have V * B rows, one view after the other.
        strong_views: those of the views, counted from 0, that get the recipe's ``strong_steps``.
        rotations: each image is rotated by 0, 90, 180 and 270 degrees, in place of views: outputs have 4 * B rows.
        sampler: ``plain``; ``class_pairs``: a batch is B samples, then B others of the same classes in the same order;
            ``repeated_halves``: the first half of a batch is the second half of the batch before, augmented anew.
        pre_activations: stage maps before the last ReLU are needed, which only some networks give.
        student_has, teacher_has: abilities that not every network has: see ``kd_bench.models.features.ABILITIES``.
        min_classes: the least number of classes for which the loss is defined.
        soft_targets: the terms read labels as ``Batch.labels`` or not at all, so that images may be mixed.
        memory: while it trains, the method writes into buffers that have a row for each training sample or class.
            Processes that train one run together would each write their own.
    """

    teacher: TeacherKind = "frozen"
    batch_statistics: bool = False
    views: int = 1
    strong_views: tuple[int, ...] = ()
    rotations: bool = False
    sampler: SamplerKind = "plain"
    pre_activations: bool = False
    min_classes: int = 2
    memory: bool = False
    soft_targets: bool = False
    student_has: tuple[Ability, ...] = ()
    teacher_has: tuple[Ability, ...] = ()


@dataclass(frozen=True)
class TrainingSet:
    """The N training samples, as far as ``Method.prepare`` may know them.

    Attributes:
        targets: (N,) classes, in the order of ``Batch.index``.
        teacher_outputs: makes a pass of the method's teacher over all of them, not augmented, in order.
        augmented_outputs: the same, augmented as in the first epoch; None where nothing is trained.
    """

    targets: Tensor
    num_classes: int
    teacher_outputs: Callable[[], Iterator[tuple[Batch, Outputs]]]
    augmented_outputs: Callable[[], Iterator[tuple[Batch, Outputs]]] | None = None


class Progress(NamedTuple):
    """The position in a stage of the training: ``epoch`` in [0, epochs), ``step`` in [0, steps) of the whole stage."""

    epoch: int
    epochs: int
    step: int
    steps: int


class Method(nn.Module):
    """Base class of all methods. A subclass sets ``paper`` and ``family`` and gives ``forward``.

    Adapters are ordinary submodules, made in ``build_adapters``: the optimizer, the checkpoint and the parameter count
    find them. Hyperparameters are the arguments of ``__init__``; their annotations (``kd_bench.config.ranges``) are
    the ranges that the configuration is checked against.

    Where ``requires.teacher`` is ``none``, the argument ``teacher`` of all that follows means nothing and must not be
    read.
    """

    paper: str  # authors, year, arXiv id
    family: str  # logits, features, relations, self-distillation, ..., baseline
    # Fields of the teacher's `Outputs` that the terms read, which a cache can keep; None: anything, which none keeps.
    reads: Reads = None
    requires: Requirements = Requirements()
    assistants: Sequence[str] = ()  # networks between teacher and student, each trained from those before it
    tuned_on_32x32: Mapping[str, float] = {}  # arguments and their published values, too large for smaller images
    pretrain_epochs: int = 0  # length of a first stage with terms of its own, before the recipe's epochs

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        """Make the modules that depend on the shapes of the pair.

        Raises:
            ConfigError: the pair does not have what the method needs, with the stages and shapes there are.
        """

    def prepare(self, training_set: TrainingSet) -> None:
        """Make what depends on the training samples, such as memories: buffers with a row per sample (``Batch.index``).

        Called once, before the first stage; torch's generator is set from the run's seed. A resumed run reads the
        buffers' values from its checkpoint afterwards.

        Raises:
            ConfigError: a memory would not fit, with its size (``check_memory``).
        """

    def teacher_decay(self, progress: Progress) -> float:
        """Return the share of a ``moving_average`` teacher's weights that stays after a step, in [0, 1)."""
        raise NotImplementedError

    def observe(
        self, student: FeatureTap, teacher: Callable[..., Outputs] | None, images: Tensor
    ) -> tuple[Outputs, Outputs | None]:
        """Run both networks on the images of a training step and return what they give, the teacher's in float32.

        A method overrides it where the input of one network depends on what the other gives.

        Args:
            teacher: takes what ``FeatureTap.forward`` takes; None where the method learns from no network.
            images: (V * B, 3, H, W), one view or rotation after the other.
        """
        taught = None if teacher is None else teacher(images)
        return student(images), taught

    @property
    def chooses_images(self) -> bool:
        """Whether the method makes the images that a network sees, in ``observe``."""
        return type(self).observe is not Method.observe

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return weighted named scalar terms, whose sum is the loss."""
        raise NotImplementedError

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the terms of the first stage, as ``forward`` does, if the method declares ``pretrain_epochs``."""
        raise NotImplementedError

    def pretrain_parameters(self, student: FeatureTap) -> Iterator[nn.Parameter]:
        """Return what the first stage trains: all of the student and the adapters, unless the method narrows it.

        Layers that the terms do not reach have no gradient and stay as they are.
        """
        return chain(student.parameters(), self.parameters())

    def predict(self, student: Outputs) -> Tensor:
        """Return the logits (B, K) at test time: the student's unless the method changes the head."""
        return student.logits

    def test_time_modules(self) -> list[nn.Module]:
        """Return the adapters that ``predict`` uses; they count as the student's parameters and cost."""
        return []


def given_teacher(method: Method, teacher: TeacherT | None) -> TeacherT:
    """Return the teacher that ``method`` is called with: None, typed as one, for a method that reads none.

    Raises:
        ConfigError: the method asks for a teacher and there is none.
    """
    if teacher is None and method.requires.teacher != "none":
        raise ConfigError(
            f"{type(method).__name__} asks for a teacher (requires.teacher={method.requires.teacher!r}) and gets none"
        )
    return cast(TeacherT, teacher)


def teacher_outputs(teacher: Outputs | None) -> Outputs:
    """Return ``teacher``; for plugins written before the contract promised a teacher to a method that asks for one."""
    assert teacher is not None  # given_teacher guarantees it
    return teacher


MEMORY_LIMIT = 4 << 30  # bytes of one memory over the training set


def check_memory(method: str, *shape: int) -> None:
    """Raise ConfigError, with the size, unless a float32 buffer of ``shape`` is of a size that a machine can hold."""
    size = 4 * math.prod(shape)
    if size > MEMORY_LIMIT:
        raise ConfigError(
            f"method={method}: its memory of {' x '.join(map(str, shape))} numbers takes {size / 2**30:.1f} GiB; "
            f"allowed: {MEMORY_LIMIT / 2**30:.0f} GiB; dataset.train_samples makes it smaller"
        )
