"""From a cell of a leaderboard to the runs behind it, and from each run to all that made it. Needs no torch."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_bench.config.interpolations import leaves
from kd_bench.errors import ConfigError, IntegrityError, nearest
from kd_bench.results.checking.collection import find_records, known_records, read_all
from kd_bench.results.records.command import command
from kd_bench.results.records.directory import published_path
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.intervals import estimate
from kd_bench.results.text.escape import visible

_RUN_ID = re.compile(r"[0-9a-f]{16}")
_SEED = re.compile(r"seed\d+")
# Files that decide a run beside the configuration's own choices.
CHOICES = ("dataset", "teacher", "student", "method", "recipe")

Facts = dict[str, Any]


@dataclass(frozen=True)
class Traced:
    """A record, its file, and the command that makes it again."""

    path: Path
    record: Record
    command: str


def trace(cell: str, folders: list[Path]) -> list[Traced]:
    """Find the runs of a cell, by seed.

    Args:
        cell: a run id, or ``DATASET/TEACHER--STUDENT/METHOD`` as the folders in ``results/records`` are named, with
            ``/seedK`` behind it for one run.
        folders: where records lie; the first that has any of the cell counts.

    Raises:
        ConfigError: there is no such cell, with the nearest ones.
        IntegrityError: a record of the cell is damaged.
    """
    known: set[str] = set()
    for folder in folders:
        read = read_all(find_records([folder]))
        records = {each.record.run_id: (each.path, each.record) for each in reversed(read) if each.record}
        if found := [each for each in records.values() if _belongs(each[1], cell)]:
            problems = known_records(read).problems
            ordered = sorted(found, key=lambda each: (each[1].seed, each[1].run_id))
            return [_traced(path, record, problems(path, record)) for path, record in ordered]
        known |= {published_path(record).parent.as_posix() for _, record in records.values()}
    searched = ", ".join(map(str, folders))
    hint = nearest(cell, known) or f"; there are: {', '.join(sorted(known)[:10])}"
    raise ConfigError(f"cell {cell!r}: no such run in {searched}{hint if known else '; there is no valid record'}")


def _belongs(record: Record, cell: str) -> bool:
    if _RUN_ID.fullmatch(cell):
        return record.run_id == cell
    folder, _, last = cell.strip("/").rpartition("/")
    seed = last if _SEED.fullmatch(last) else None
    cells = {published_path(record, apart).parent.as_posix() for apart in (False, True)}
    return (folder if seed else cell.strip("/")) in cells and seed in (None, f"seed{record.seed}")


def _traced(path: Path, record: Record, problems: list[str]) -> Traced:
    if problems:
        raise IntegrityError(f"{path} is damaged ({visible(problems[0])}); kd-bench check {path} says all of it")
    return Traced(path, record, command(record))


def facts(traced: Traced) -> Facts:
    """Collect all that a run came from, with its command, for people and programs."""
    record, names = traced.record, ("content_sha256", "train_samples", "validation_samples", "test_samples")
    selected, teacher = record.headline(), record.teacher
    beside = {name: (traced.path.parent / name).is_file() for name in record.artifacts}
    return {
        "run_id": record.run_id,
        "record": str(traced.path),
        "seed": record.seed,
        "role": record.role,
        "study": record.study,
        "selection": {"rule": record.selection, "epoch": selected.epoch, "test_top1": selected.test.top1},
        "choices": _choices(record),
        "code": record.code.model_dump(),
        "data": {name: getattr(record.dataset, name) for name in names},
        "teacher": teacher and {name: getattr(teacher, name) for name in ("run_id", "source", "weights_sha256")},
        "learned_from": record.method.trained_from,
        "student": {"weights_sha256": record.student.weights_sha256, "imported_from": record.imported_from},
        "artifacts": {
            name: {"sha256": sha256, "beside_the_record": beside[name]} for name, sha256 in record.artifacts.items()
        },
        "environment": record.environment.model_dump(),
        "hardware": record.hardware.model_dump(exclude_none=True),  # published records name no host
        "finished_at": record.times.finished_at.isoformat(),
        "command": traced.command,
    }


def _choices(record: Record) -> Mapping[str, str]:
    names = record.config["names"]
    networks = {name: record.config[name]["name"] for name in ("teacher", "student")}
    return {group: names.get(group) or networks.get(group) or "none" for group in CHOICES}


def as_text(cell: str, runs: list[Traced]) -> str:
    """Write the facts of runs; those that differ in nothing but their seed stand together and share what is equal."""
    groups: dict[str, list[Traced]] = {}
    for run in runs:
        groups.setdefault(_identity(run.record), []).append(run)
    return "\n\n".join("\n".join(_group(cell, group)) for group in groups.values())


def _identity(record: Record) -> str:
    config = {name: value for name, value in record.config.items() if name not in ("seed", "study")}
    teacher = record.teacher and record.teacher.weights_sha256
    return json.dumps([config, record.dataset.content_sha256, teacher], sort_keys=True)


def _group(cell: str, runs: list[Traced]) -> Iterable[str]:
    rows = [_rows(facts(run)) for run in runs]
    shared = {key for key in rows[0] if len(runs) > 1 and all(row.get(key) == rows[0][key] for row in rows)}
    yield visible(f"{cell}: {_summary(runs)}")
    yield from _lines({key: text for key, text in rows[0].items() if key in shared})
    for run, row in zip(runs, rows, strict=True):
        yield visible(f"run {run.record.run_id}, seed {run.record.seed}")
        yield from _lines(
            {key: text for key, text in row.items() if key not in shared and key not in ("run_id", "seed")}
        )


def _summary(runs: list[Traced]) -> str:
    found = estimate([run.record.headline().test.top1 for run in runs])
    spread = "" if found.half_width is None else f" ± {100 * found.half_width:.2f}"
    return f"{len(runs)} run{'s' * (len(runs) > 1)}, test top-1 {100 * found.mean:.2f}{spread} %"


def _rows(content: Facts) -> dict[str, str]:
    return {key: "none" if value is None else str(value) for key, value in leaves(content)}


def _lines(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [visible(f"  {key:<{width}}  {text}") for key, text in rows.items()]
