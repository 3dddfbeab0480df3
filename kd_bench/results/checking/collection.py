"""From files to checked records and their verification tiers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kd_bench.config.files import file_sha256
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.checking.consistency import is_plain_name
from kd_bench.results.checking.known import Known, measured_problems
from kd_bench.results.checking.predicted import prediction_contradictions
from kd_bench.results.records.command import differing
from kd_bench.results.records.curves import Curves, table_of
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.reading import uninterrupted
from kd_bench.results.records.record import PUBLISHED_FILES, RECORD_FILE, Record, parsed_record
from kd_bench.results.records.supplement import supplement_path, with_supplement

# The worth of a record as evidence, from the best to the worst. Set here, from what is at hand, each time anew: what a
# record says of itself does not count.
#   reproduced  trained again with the same result; `kd-bench verify --retrain` alone says so
#   checked     the metrics follow from the predictions at hand, which are unchanged and contradict no others
#   local       valid and without contradictions; there is nothing else to hold it against
#   damaged     something about it cannot be
Tier = Literal["reproduced", "checked", "local", "damaged"]
Recompute = Callable[[Record, Path], list[str]]
TIERS: tuple[Tier, ...] = ("reproduced", "checked", "local", "damaged")


@dataclass(frozen=True)
class Checked:
    """A file and what was found. ``note`` says why the tier is no higher, or what it does not rest on."""

    path: Path
    record: Record | None
    problems: tuple[str, ...]
    tier: Tier
    note: str = ""


def find_records(paths: Iterable[Path]) -> list[Path]:
    """Find records among files and below folders, each once; in folders those that boards read.

    Raises:
        ConfigError: a path that does not exist, or no record at all.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(sorted(_below(path)))
        elif path.exists():
            found[path] = None
        else:
            raise ConfigError(f"record {str(path)!r}: no such file or folder")
    if not found:
        raise ConfigError(f"no record ({RECORD_FILE} or {PUBLISHED_FILES}) in {', '.join(map(str, paths))}")
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for pattern in (RECORD_FILE, PUBLISHED_FILES):
        for path in folder.rglob(pattern):
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                yield path


@uninterrupted()
def read_all(paths: Iterable[Path]) -> list[Checked]:
    """Read records, with the problems of their format if they have any."""
    return [_read(path) for path in paths]


def _read(path: Path) -> Checked:
    try:
        found = parsed_record(path)
    except IntegrityError as error:
        return Checked(path, None, (str(error).removeprefix(f"{path} "),), "damaged")
    if isinstance(found, list):
        return Checked(path, None, tuple(found), "damaged")
    return Checked(path, found, (), "local")


def known_records(read: Iterable[Checked]) -> Known:
    """Let the valid ones of these records know each other."""
    return Known((each.path, each.record) for each in read if each.record is not None)


def check_records(read: list[Checked], recompute: Recompute, predictions: Path | None = None) -> Iterator[Checked]:
    """Hold each record against itself, the others and its files.

    Args:
        recompute: lists the metrics of a record that do not follow from a file of predictions.
        predictions: folder with ``<run id>/predictions.safetensors`` for records that have none beside them.
    """
    known, curves = known_records(read), Curves()
    together = prediction_contradictions(_with_predictions(read, predictions))
    for each in read:
        if each.record is None:
            yield each
            continue
        one = _checked(each, each.record, known, curves, recompute, predictions)
        more = tuple(together.get(each.path, ()))
        yield replace(one, problems=(*one.problems, *more), tier="damaged") if more else one


def _with_predictions(read: list[Checked], predictions: Path | None) -> Iterator[tuple[Path, Record, Path]]:
    for each in read:
        if each.record is not None and PREDICTIONS_FILE in each.record.artifacts:
            file = _folder(each.path, each.record, predictions) / PREDICTIONS_FILE
            if file.is_file():
                yield each.path, each.record, file


def _folder(path: Path, record: Record, predictions: Path | None) -> Path:
    """Return where the files of a run are: beside its record or, if they are not, in the other folder."""
    if predictions is None or (path.parent / PREDICTIONS_FILE).is_file():
        return path.parent
    return predictions / record.run_id


def _checked(
    one: Checked, record: Record, known: Known, curves: Curves, recompute: Recompute, predictions: Path | None
) -> Checked:
    folder = _folder(one.path, record, predictions)
    damaged, missing = artifact_problems(record, folder)
    record, of_curves, notes = _with_curves(one.path, record, curves)
    problems = [*known.problems(one.path, record), *damaged, *of_curves]
    record, added = _supplemented(one.path, record)
    if problems := [*problems, *added]:
        return replace(one, problems=tuple(problems), tier="damaged")
    notes += [f"to compose to its configuration, its overrides lack {each}" for each in differing(record)[:1]]
    if PREDICTIONS_FILE not in record.artifacts or PREDICTIONS_FILE in missing:
        return replace(one, note="; ".join([*notes, f"{PREDICTIONS_FILE} is not at hand"]))
    if problems := recompute(record, folder / PREDICTIONS_FILE):
        return replace(one, problems=tuple(problems), tier="damaged")
    notes += [f"without {', '.join(missing)}"] if missing else []
    return replace(one, tier="checked", note="; ".join(notes))


def _with_curves(path: Path, record: Record, curves: Curves) -> tuple[Record, list[str], list[str]]:
    """Return the record with its learning curves, what is wrong with these, and notes: that they are missing."""
    if record.history_sha256 is None:
        return record, [], []
    if not (table := table_of(path, record)).exists():
        return record, [], [f"{table.name} is not at hand"]
    try:
        return curves.attached(path, record), [], []
    except IntegrityError as error:
        return record, [f"history: {error}"], []


def _supplemented(path: Path, record: Record) -> tuple[Record, list[str]]:
    """Return the record with what was measured later, and what is wrong about that."""
    try:
        whole = with_supplement(path, record)
    except IntegrityError as error:
        return record, [str(error)]
    if whole is record:
        return record, []
    own = measured_problems(record)
    found = [problem for problem in measured_problems(whole) if problem not in own]
    return whole, [f"{supplement_path(path).name}: {problem}" for problem in found]


def artifact_problems(record: Record, folder: Path) -> tuple[list[str], list[str]]:
    """List files in ``folder`` that are not those of the record, and names of files that are not there."""
    damaged, missing = [], []
    for name, sha256 in record.artifacts.items():
        path = folder / name
        if not is_plain_name(name) or not path.is_file():
            missing.append(name)
        elif (found := file_sha256(path)) != sha256:
            damaged.append(f"artifacts.{name}={sha256}: the file {path} has {found}")
    return damaged, missing


def counts(checked: Iterable[Checked]) -> Mapping[Tier, int]:
    """Count the records of each tier, from the best to the worst."""
    tiers = [each.tier for each in checked]
    return {tier: tiers.count(tier) for tier in TIERS if tier in tiers}
