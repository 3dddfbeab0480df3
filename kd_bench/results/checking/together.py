"""Facts that records of one data set, or of one teacher, must share. Needs no torch.

The majority is no proof: where sides contradict each other all of them are named, unless one decides, which is the
record of the teacher's own run.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kd_bench.results.records.directory import HEAD_FILE
from kd_bench.results.records.fingerprint import SWITCHES
from kd_bench.results.records.packed import packed
from kd_bench.results.records.record import NetworkInfo, Record

Place = TypeVar("Place")

SAMPLES_APART = 0.001  # of a split, or one sample: a teacher may answer otherwise on another machine
# Facts that the weights of a network decide; the last two together with the size of its images.
FACTS = ("name", "parameters", "file_bytes", "classes", "input_size", "macs")


@dataclass
class _Side(Generic[Place]):
    value: Any
    places: list[Place] = field(default_factory=list)


def _equal(first: Any, second: Any) -> bool:
    return bool(first == second)


class Agreement(Generic[Place]):
    """One fact, and the sides that records take on it: for each key one value after another and who has it."""

    def __init__(self, text: Callable[[Any], str], same: Callable[[Any, Any], bool] = _equal) -> None:
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
    """Find records that contradict others of the same data set or network, each with the reasons."""
    found = list(records)
    problems: dict[Place, list[str]] = {}
    for agreement in (*_of_data(found), *_of_teachers(found), *_of_students(found)):
        for place, problem in agreement.problems():
            problems.setdefault(place, []).append(problem)
    return problems


def _of_data(records: list[tuple[Place, Record]]) -> Iterator[Agreement[Place]]:
    words = "dataset.num_classes={}, test_samples={}, duplicates={}"
    sizes: Agreement[Place] = Agreement(lambda value: words.format(*value))
    splits: Agreement[Place] = Agreement(lambda value: "dataset.train_samples={}, validation_samples={}".format(*value))
    counts: Agreement[Place] = Agreement(lambda value: f"classes.samples={_abridged(value)}")
    for place, record in records:
        dataset, classes, config = record.dataset, record.headline().classes, record.config.get("dataset")
        sizes.add(dataset.content_sha256, (dataset.num_classes, dataset.test_samples, dataset.duplicates), place)
        if isinstance(config, dict):
            asked = str(config.get("validation_fraction")), str(config.get("train_samples"))
            sizes_of_parts = dataset.train_samples, dataset.validation_samples
            splits.add((dataset.content_sha256, *asked), sizes_of_parts, place)
        if classes is not None:
            counts.add(dataset.content_sha256, classes.samples, place)
    yield from (sizes, splits, counts)


def _of_teachers(records: list[tuple[Place, Record]]) -> Iterator[Agreement[Place]]:
    """Compare what records say of one teacher, known by its weights. What its own run says of it decides."""
    right: Agreement[Place] = Agreement(lambda value: "teacher.test_top1={}/{}".format(*value), about_equal)
    facts: list[Agreement[Place]] = [Agreement(_named(f"teacher.{name}")) for name in FACTS]
    teachers = {record.teacher.weights_sha256 for _, record in records if record.teacher is not None}
    for place, record in records:
        student, samples = record.student, record.dataset.test_samples
        if (teacher := record.teacher) is not None:
            right.add(teacher_key(record), (round(teacher.test_top1 * samples), samples), place)
            _add_facts(facts, teacher, record, "teacher", place)
        if student.weights_sha256 in teachers and HEAD_FILE not in record.artifacts:
            top1 = record.headline().test.top1
            right.add(own_key(record), (round(top1 * samples), samples), place, decides=True)
            _add_facts(facts, student, record, "student", place, decides=True)
    yield from (right, *facts)


def _add_facts(
    facts: list[Agreement[Place]], network: NetworkInfo, record: Record, part: str, place: Place, decides: bool = False
) -> None:
    name = network.name.partition(".")[0]  # timm's tags of pretrained weights are no part of the network
    values = name, network.parameters, network.file_bytes, record.dataset.num_classes, network.input_size, network.macs
    weights = network.weights_sha256
    for position, (agreement, value) in enumerate(zip(facts, values, strict=True)):
        if value is not None:
            key = weights if position < 4 else (weights, _built(record, part))
            agreement.add(key, value, place, decides)


def _of_students(records: list[tuple[Place, Record]]) -> Iterator[Agreement[Place]]:
    """Compare what records say of one trained student, which several pairs may share but no two seeds.

    Its sizes are compared within a configuration, where they do not depend on the seed. Commits may change them.
    """
    seeds: Agreement[Place] = Agreement(lambda value: f"student.weights_sha256: of seed {value}")
    right: Agreement[Place] = Agreement(lambda value: "test.top1={}/{} of these weights".format(*value), about_equal)
    sizes: Agreement[Place] = Agreement(
        lambda value: "student.parameters={}, macs={}, file_bytes={}, input_size={}".format(*value), _equal_where_known
    )
    for place, record in records:
        student, samples, code = record.student, record.dataset.test_samples, record.code
        if record.imported_from is None:
            seeds.add(student.weights_sha256, record.seed, place)
            top1 = record.headline().test.top1
            right.add((*own_key(record), record.method.name), (round(top1 * samples), samples), place)
        teacher = record.teacher and (record.teacher.name, _built(record, "teacher"))
        by = code.version, code.commit, packed(code.plugins), record.variant_of is not None
        method = packed(record.config.get("method"))
        key = student.name, _built(record, "student"), method, teacher, record.dataset.num_classes, by
        sizes.add(key, (student.parameters, student.macs, student.file_bytes, student.input_size), place)
    yield from (seeds, right, sizes)


def _built(record: Record, part: str) -> bytes:
    """Return what a network was built with: arguments, or members of an ensemble, and the size of its images."""
    config = record.config.get(part)
    node = config if isinstance(config, dict) else {}
    arguments = [node.get(name) or None for name in ("kwargs", "members", "input_size", "pretrained")]
    return packed((record.dataset.image_size, arguments))


def _equal_where_known(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return all(None in pair or pair[0] == pair[1] for pair in zip(first, second, strict=True))


def teacher_key(record: Record) -> tuple[str, str, bytes]:
    """Return what decides the outputs of a record's teacher: data, weights, and how these are run."""
    assert record.teacher is not None
    return _key(record, record.teacher, record.config.get("teacher"))


def own_key(record: Record) -> tuple[str, str, bytes]:
    """Return what decides the outputs of a record's student, as ``teacher_key`` does where it is a teacher."""
    return _key(record, record.student, record.config.get("student"))


def _key(record: Record, network: NetworkInfo, config: Any) -> tuple[str, str, bytes]:
    node = config if isinstance(config, dict) else {}
    how = [node.get(name) for name in ("mean", "std", "input_size", "kwargs")]
    ensemble = (node["members"], node.get("average")) if node.get("members") else None
    data, trainer = record.config.get("dataset"), record.config.get("trainer")
    statistics = [data.get(name) for name in ("mean", "std")] if isinstance(data, dict) else []
    switches = [trainer.get(name) for name in SWITCHES] if isinstance(trainer, dict) else []
    run = (how, ensemble, statistics, switches, network.input_size)
    return record.dataset.content_sha256, network.weights_sha256, packed(run)


def _named(name: str) -> Callable[[Any], str]:
    return lambda value: f"{name}={value}"


def about_equal(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Tell whether two numbers of right answers are nearly the same share of as many samples."""
    (right, samples), (other, size) = first, second
    return samples == size and abs(right - other) <= max(1, SAMPLES_APART * samples)


def _abridged(counts: list[int]) -> str:
    return str(counts) if len(counts) <= 12 else f"[{', '.join(map(str, counts[:12]))}, ...]"
