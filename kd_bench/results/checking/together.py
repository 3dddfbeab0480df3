"""Facts that records of one data set, or of one teacher, must share. Needs no torch.

The majority is no proof: where sides contradict each other all of them are named, unless one decides, which is the
record of the teacher's own run.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kd_bench.config.interpolations import leaves
from kd_bench.results.records.fingerprint import SWITCHES
from kd_bench.results.records.record import Record

Place = TypeVar("Place")

SAMPLES_APART = 0.001  # of a split, or one sample: a teacher may answer otherwise on another machine
_OF_TEACHER = ("mean", "std", "weight", "average", "input_size")  # of the configuration; they change its outputs


@dataclass
class _Side(Generic[Place]):
    value: Any
    places: list[Place] = field(default_factory=list)


class Agreement(Generic[Place]):
    """One fact, and the sides that records take on it: for each key one value after another and who has it."""

    def __init__(self, text: Callable[[Any], str], same: Callable[[Any, Any], bool]) -> None:
        """Prepare an agreement.

        Args:
            text: describes a value.
            same: tells whether two values agree.
        """
        self._text, self._same = text, same
        self._sides: dict[Hashable, list[_Side[Place]]] = {}
        self._deciding: dict[Hashable, list[_Side[Place]]] = {}

    def add(self, key: Hashable, value: Any, place: Place, decides: bool = False) -> None:
        """Take in the value that a record says, or that decides what is true."""
        sides = (self._deciding if decides else self._sides).setdefault(key, [])
        for side in sides:
            if self._same(side.value, value):
                side.places.append(place)
                return
        sides.append(_Side(value, [place]))

    def problems(self) -> Iterator[tuple[Place, str]]:
        """Yield each record that is contradicted, and by whom."""
        for key, sides in self._sides.items():
            deciding = self._deciding.get(key, [])
            authority = deciding[0] if len(deciding) == 1 else None
            for side in sides:
                others = [each for each in sides if each is not side] if authority is None else [authority]
                if others and not self._same(side.value, others[0].value):
                    says = "the run of the teacher itself" if authority else "another record"
                    text = f"{self._text(side.value)}: {says}, {others[0].places[0]}, has {self._text(others[0].value)}"
                    yield from ((place, text) for place in side.places)


def contradictions(records: Iterable[tuple[Place, Record]]) -> dict[Place, list[str]]:
    """Find records that contradict others of the same data set or teacher, each with the reasons."""
    found = list(records)
    agreements = [*_of_data(found), *_of_teachers(found)]
    problems: dict[Place, list[str]] = {}
    for agreement in agreements:
        for place, problem in agreement.problems():
            problems.setdefault(place, []).append(problem)
    return problems


def _of_data(records: list[tuple[Place, Record]]) -> Iterator[Agreement[Place]]:
    sizes: Agreement[Place] = Agreement(lambda value: "dataset.num_classes={}, test_samples={}".format(*value), _equal)
    counts: Agreement[Place] = Agreement(lambda value: f"classes.samples={_abridged(value)}", _equal)
    for place, record in records:
        dataset, classes = record.dataset, record.headline().classes
        sizes.add(dataset.content_sha256, (dataset.num_classes, dataset.test_samples), place)
        if classes is not None:
            counts.add(dataset.content_sha256, classes.samples, place)
    yield from (sizes, counts)


def _of_teachers(records: list[tuple[Place, Record]]) -> Iterator[Agreement[Place]]:
    right: Agreement[Place] = Agreement(lambda value: f"teacher.test_top1={value[0]}/{value[1]}", about_equal)
    size: Agreement[Place] = Agreement(lambda value: f"teacher.parameters={value}", _equal)
    own: dict[tuple[str, str], list[tuple[Place, Record]]] = {}
    for place, record in records:
        own.setdefault((record.dataset.content_sha256, record.student.weights_sha256), []).append((place, record))
    for place, record in records:
        if (teacher := record.teacher) is None:
            continue
        samples, key = record.dataset.test_samples, teacher_key(record)
        right.add(key, (round(teacher.test_top1 * samples), samples), place)
        size.add(teacher.weights_sha256, teacher.parameters, place)
        for other, run in own.pop((key[0], key[1]), ()):
            own_samples = run.dataset.test_samples
            own_right = round(run.headline().test.top1 * own_samples), own_samples
            right.add(key, own_right, other, decides=True)
            size.add(teacher.weights_sha256, run.student.parameters, other, decides=True)
    yield from (right, size)


def teacher_key(record: Record) -> tuple[str, str, str]:
    """Return what decides the outputs of a record's teacher: data, weights, and how these are run."""
    assert record.teacher is not None
    config, trainer = record.config.get("teacher"), record.config.get("trainer")
    how = [(key, str(value)) for key, value in leaves(config) if any(f".{name}" in f".{key}" for name in _OF_TEACHER)]
    switches = [trainer.get(name) for name in SWITCHES] if isinstance(trainer, dict) else []
    run = (how, switches, record.teacher.input_size)
    return record.dataset.content_sha256, record.teacher.weights_sha256, str(run)


def _equal(first: Any, second: Any) -> bool:
    return bool(first == second)


def about_equal(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Tell whether two numbers of right answers are nearly the same share of as many samples."""
    (right, samples), (other, size) = first, second
    return samples == size and abs(right - other) <= max(1, SAMPLES_APART * samples)


def _abridged(counts: list[int]) -> str:
    return str(counts) if len(counts) <= 12 else f"[{', '.join(map(str, counts[:12]))}, ...]"
