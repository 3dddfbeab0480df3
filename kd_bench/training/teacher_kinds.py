"""Kinds of teacher: one row for each, with how it is built, what must be given, and how a listing describes it.

How a teacher behaves while the student trains is its wrapper's, see ``kd_bench.training.teachers``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kd_bench.config.schema import TeacherConfig
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Requirements
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.features import FeatureTap
from kd_bench.training.teachers import FrozenTeacher, MovingAverage, Teacher, TrainedAlong


@dataclass(frozen=True)
class Networks:
    """The networks that a teacher may be made of.

    Attributes:
        teacher: the one that the student is compared with.
        previous: networks of earlier runs: the generation before, or assistants.
        fresh: makes an untrained network of the teacher's kind.
    """

    student: FeatureTap
    teacher: FeatureTap | None
    previous: list[FeatureTap]
    fresh: Callable[[], FeatureTap]

    def trained_last(self) -> FeatureTap | None:
        """Return the network of the last of the earlier runs, or the teacher where there was none."""
        return self.previous[-1] if self.previous else self.teacher

    def all_trained(self) -> FeatureTap:
        """Return teacher and earlier networks as an ensemble, whose members a method tells apart."""
        assert self.teacher is not None  # the kind needs one, which is checked before
        members = [self.teacher, *self.previous]
        return Ensemble(self.teacher.name, members, [1.0] * len(members), "logits")


def _frozen(tap: FeatureTap, requires: Requirements) -> Teacher:
    """Freeze a trained network."""
    return FrozenTeacher(tap, requires.batch_statistics)


@dataclass(frozen=True)
class TeacherKind:
    """A kind of teacher.

    Attributes:
        words: for listings.
        source: the network that the method learns from; None where it needs none.
        wrapped: what the module runs, made of the source.
        needs_teacher: the configuration has to name a teacher, unless an earlier generation takes its place.
        takes_ensemble: that teacher may be an ensemble.
        chained: the generations of a chain may learn from each other.
        first_generation: the position in a chain of a run that does not say which it is; 1 learns from a run before.
    """

    words: str
    source: Callable[[Networks], FeatureTap | None] = Networks.trained_last
    wrapped: Callable[[FeatureTap, Requirements], Teacher] = _frozen
    needs_teacher: bool = True
    takes_ensemble: bool = True
    chained: bool = False
    first_generation: int = 0

    def check(self, method: str, teacher: TeacherConfig, generation: int) -> None:
        """Raise ConfigError unless a run has what the kind needs, and no more than it can use.

        Args:
            method: its name, for the message.
            generation: position of the run in a chain, from 0.
        """
        if self.needs_teacher and teacher.name is None and not generation:
            raise ConfigError(
                f"method={method} needs a teacher, but teacher.name is null; choose one: teacher=resnet20_cifar"
            )
        if generation and not self.chained:
            raise ConfigError(
                f"method={method} learns from no earlier run, so chain.generations={generation} has no meaning"
            )
        if teacher.members and not self.takes_ensemble:
            raise ConfigError(f"method={method} trains one network along; teacher={teacher.name} is an ensemble")


TEACHER_KINDS: dict[str, TeacherKind] = {
    "none": TeacherKind("no teacher", lambda networks: None, needs_teacher=False),
    "frozen": TeacherKind("teacher", chained=True),
    "own": TeacherKind(
        "network of the student's kind, trained before", needs_teacher=False, chained=True, first_generation=1
    ),
    "assistant": TeacherKind("teacher or assistant"),
    "assistants": TeacherKind("teacher and assistants", Networks.all_trained),
    "trained": TeacherKind(
        "teacher's network, trained along",
        lambda networks: networks.fresh(),
        lambda tap, requires: TrainedAlong(tap),
        takes_ensemble=False,
    ),
    "moving_average": TeacherKind(
        "moving average of the student",
        lambda networks: networks.student,
        lambda tap, requires: MovingAverage(tap),
        needs_teacher=False,
    ),
}
