"""Teachers: networks that run on the batch that the student sees, and where their weights come from."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd_bench.config.schema import MemberConfig, NetworkConfig, RunConfig, TeacherConfig
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.methods.base import Method, Progress
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.weights import load_strictly, read_weights, weights_sha256
from kd_bench.results.records.directory import WEIGHTS_FILE, finished
from kd_bench.results.records.record import Record

TEACHER_TOLERANCE = 0.01  # of top-1, for differences between machines


class Teacher(nn.Module):
    """A network that the student learns from; the base class of all of them.

    Attributes:
        changes: in the course of training, so that it is a part of the module, its checkpoints included.
    """

    changes: ClassVar[bool] = False

    def __init__(self, tap: FeatureTap) -> None:
        super().__init__()
        self.tap = tap

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Outputs:
        """Run the network on ``images``, or on the tokens ``kept`` (B, N) of each alone: see ``FeatureTap.forward``."""
        outputs: Outputs = self.tap(images) if kept is None else self.tap(images, kept=kept)
        return outputs

    def after_step(self, student: FeatureTap, method: Method, progress: Progress) -> None:
        """Follow the student after a training step; most teachers do not."""


class FrozenTeacher(Teacher):
    """A network that never changes: always in eval mode, without gradients, batch-norm statistics included.

    Args:
        batch_statistics: batch norms use those of the batch, as in train mode; their running ones stay as they are.
    """

    def __init__(self, tap: FeatureTap, batch_statistics: bool = False) -> None:
        super().__init__(tap.requires_grad_(False))
        self.batch_statistics = batch_statistics
        self.train()

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in eval mode, whoever asks."""
        super().train(False)
        for module in self.modules() if self.batch_statistics else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training, module.track_running_stats = True, False
        return self

    @torch.no_grad()
    def forward(self, images: Tensor, kept: Tensor | None = None) -> Outputs:
        return super().forward(images, kept)


class MovingAverage(FrozenTeacher):
    """A moving average of the student's weights; what is no floating number, such as counters, is taken over."""

    changes = True

    def __init__(self, student: FeatureTap) -> None:
        super().__init__(copy.deepcopy(student))

    def after_step(self, student: FeatureTap, method: Method, progress: Progress) -> None:
        self.follow(student, method.teacher_decay(progress))

    @torch.no_grad()
    def follow(self, student: FeatureTap, decay: float) -> None:
        """Go ``1 - decay`` of the way to the student. Running statistics of batch norms are averaged alike."""
        for average, value in zip(self.tap.state_dict().values(), student.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


class TrainedAlong(Teacher):
    """A network that learns beside the student, by the terms that the method gives it."""

    changes = True


@dataclass(frozen=True)
class TeacherWeights:
    """Weights of a trained network and what is known of them.

    Attributes:
        sha256: of names and values of the weights.
        source: run id, file or pretrained tag, for the record.
        record: of the run that trained it, if one did.
        expected_top1: on the test split, by the configuration.
    """

    path: Path
    sha256: str
    source: str
    record: Record | None
    expected_top1: float | None = None

    def load(self, tap: FeatureTap) -> list[str]:
        """Load into ``tap``.

        Returns:
            What was done beyond copying, as ``load_strictly`` says it.

        Raises:
            IntegrityError: the file changed since its record was written, or does not fit the network.
        """
        state = read_weights(self.path)
        if weights_sha256(state) != self.sha256:
            raise IntegrityError(f"{self.path} is not the file of its record: its content has changed")
        return load_strictly(tap.network, state, str(self.path))

    def expected(self) -> tuple[str, float] | None:
        """Return split and top-1 that these weights must reach, by their record or by the configuration."""
        if self.record is not None:
            return "validation", self.record.headline().validation.top1
        return None if self.expected_top1 is None else ("test", self.expected_top1)


def from_record(record: Record, runs: Path) -> TeacherWeights:
    """Return the weights that a finished run left."""
    path = runs / record.run_id / WEIGHTS_FILE
    return TeacherWeights(path, record.student.weights_sha256, record.run_id, record)


def from_checkpoint(teacher: MemberConfig, runs: Path) -> TeacherWeights:
    """Return the weights that ``teacher.checkpoint`` names: a run id or a file.

    Raises:
        IntegrityError: there is neither such a finished run nor such a file.
    """
    checkpoint = teacher.checkpoint
    if (record := finished(runs / checkpoint)) is not None:
        return from_record(record, runs)
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise IntegrityError(
            f"teacher.checkpoint={checkpoint!r}: neither a finished run in {runs} nor a file; "
            "`auto` trains the teacher first"
        )
    return TeacherWeights(path, weights_sha256(read_weights(path)), path.name, None, teacher.expected_top1)


def as_trained(config: RunConfig) -> TeacherConfig:
    """Return the teacher with what the records of its ``checkpoint``s say of its networks.

    Raises:
        ConfigError: the configuration says something else of a network.
    """
    teacher = config.teacher
    if not teacher.members:
        return teacher.model_copy(update=_as_recorded("teacher", teacher, config))
    members = {
        key: member.model_copy(update=_as_recorded(f"teacher.members.{key}", member, config))
        for key, member in teacher.members.items()
    }
    return teacher.model_copy(update={"members": members})


def _as_recorded(key: str, network: MemberConfig | TeacherConfig, config: RunConfig) -> dict[str, Any]:
    """Return arguments, size and normalization by the record of a network; empty if it is no finished run."""
    checkpoint, unset = network.checkpoint, NetworkConfig()
    record = None if checkpoint == "auto" or network.name is None else finished(config.runs / checkpoint)
    if record is None:
        return {}
    recorded = _network_of(record, config)
    given = {name: getattr(network, name) for name in NetworkConfig.model_fields}
    given = {name: value for name, value in given.items() if value != getattr(unset, name)}
    for name, value in {"name": network.name, **given}.items():
        if recorded.get(name) not in (None, value):
            raise ConfigError(
                f"{key}.{name}={value}: run {checkpoint} was trained with {recorded[name]}; "
                + (f"{key}.name={recorded[name]}" if name == "name" else "leave it out to take that of the run")
            )
    return {name: value for name, value in recorded.items() if name not in {"name", *given}}


def _network_of(record: Record, config: RunConfig) -> dict[str, Any]:
    """Return name and arguments of a recorded student as they have to be with the data set of ``config``."""
    node, data, here = record.config.get("student", {}), record.config.get("dataset", {}), config.dataset
    network = NetworkConfig.model_validate({name: node[name] for name in NetworkConfig.model_fields if name in node})
    recorded = {"name": record.student.name, **network.model_dump()}
    # Those of the data set, where it has others by now.
    for name in () if network.starts_elsewhere else ("mean", "std"):
        if recorded[name] is None and data.get(name) != getattr(here, name):
            recorded[name] = data.get(name)
    if recorded["input_size"] is None and record.dataset.image_size != here.image_size:
        recorded["input_size"] = record.student.input_size
    return recorded


def check_teacher(
    name: str, measured: dict[str, float], expected: tuple[str, float] | None, classes: int, normalization: str = ""
) -> None:
    """Refuse a teacher that is not what it claims to be.

    Args:
        measured: top-1 on the ``validation`` and ``test`` splits.
        expected: split and top-1 that it should reach, which have to be more than a point above chance; without them
            it must be above chance by a twentieth of the way to 100 %.
        normalization: the words of ``describe_normalization``.

    Raises:
        IntegrityError: its top-1 is at chance, or more than one point below what is expected.
    """
    chance = 1 / classes
    split, value = expected or ("validation", 0.0)
    floor = chance + (TEACHER_TOLERANCE if expected else 0.05 * (1 - chance))
    if measured[split] < max(value - TEACHER_TOLERANCE, floor):
        claim = f"{100 * value:.2f} % expected" if value > floor else f"chance is {100 * chance:.2f} %"
        raise IntegrityError(
            f"teacher {name}: top-1 on the {split} split is {100 * measured[split]:.2f} %, {claim}: wrong weights, "
            f"class order or input normalization?{normalization}"
        )


def describe_normalization(tap: FeatureTap, spec: DataSpec) -> str:
    """Return the channel statistics that a network expects, beside those of the data; empty where they are the same."""
    expected = [[round(float(value), 4) for value in values.flatten()] for values in (tap.mean, tap.std)]
    data = [[round(value, 4) for value in values] for values in (spec.mean, spec.std)]
    if expected == data:
        return ""
    return f" It expects mean {expected[0]} and std {expected[1]}; those of the data are {data[0]} and {data[1]}."
