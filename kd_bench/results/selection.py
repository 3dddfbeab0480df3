"""The runs that are published together: those of a study, of a sweep of ``train -m``, of a list, or all of a folder.

Runs that others of the selection learned from, such as a teacher, belong to it as well.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.checking.load import Rejected
from kd_bench.results.records.compact import are_copies
from kd_bench.results.records.reading import read_text
from kd_bench.results.records.record import RECORD_FILE, Record, read_record

T = TypeVar("T")
JOB_FILES = "job-*.json"  # left in the folder of a sweep by its jobs
_RUN_ID = re.compile(r"[0-9a-f]{16}")


def select(wanted: Sequence[str], runs: Path, rejected: list[Rejected]) -> dict[Path, Record]:
    """Read the wanted records, each run once.

    Args:
        wanted: names of studies, paths of folders with a ``study.yaml``, folders of sweeps, ids of runs. Empty for all
            runs.
        rejected: gets the files that cannot be read.

    Raises:
        ConfigError: something has no finished run, or two files are different records of one run.
    """
    found = list(_records(runs, rejected))
    known = {record.run_id for _, record in found}
    chosen = known if not wanted else set[str]()
    for name in wanted:
        chosen |= _named(name, runs, found, rejected)
    if not chosen:
        bad = f"; {len(rejected)} files were rejected, the first: {rejected[0].path}" if rejected else ""
        raise ConfigError(f"no finished run below {runs}{bad}")
    chosen = _with_sources(chosen, [record for _, record in found])
    once: dict[str, tuple[Path, Record]] = {}
    for path, record in found:
        if record.run_id not in chosen:
            continue
        first = once.setdefault(record.run_id, (path, record))
        if not are_copies([first[1], record]):
            raise ConfigError(f"{first[0]} and {path} are different records of run {record.run_id}; keep one of them")
        if record.study in wanted and first[1].study not in wanted:
            once[record.run_id] = path, record
    return dict(once.values())


def _records(runs: Path, rejected: list[Rejected]) -> Iterator[tuple[Path, Record]]:
    for path in sorted(runs.rglob(RECORD_FILE)):
        if (record := _tried(read_record, path, rejected)) is not None:
            yield path, record


def _tried(read: Callable[[Path], T], path: Path, rejected: list[Rejected]) -> T | None:
    try:
        return read(path)
    except IntegrityError as error:
        rejected.append(Rejected(str(path), str(error).removeprefix(f"{path} ")))
        return None


def _jobs(folder: Path) -> list[Path]:
    """List the files of a sweep's jobs; none where a name cannot be that of a folder."""
    try:
        return sorted(folder.glob(JOB_FILES))
    except OSError:
        return []


def _named(name: str, runs: Path, found: Sequence[tuple[Path, Record]], rejected: list[Rejected]) -> set[str]:
    """Return the ids of the finished runs that a name stands for.

    Raises:
        ConfigError: there is none, or a run of a sweep or list has no record.
    """
    finished = {record.run_id for _, record in found}
    if _RUN_ID.fullmatch(name):
        listed: set[str] = {name}
    elif jobs := _jobs(Path(name)):
        listed = {run_id for path in jobs for run_id in _tried(_run_of_job, path, rejected) or ()}
    else:
        listed = finished & _of_study(name, runs, found, rejected)
        if not listed:
            bad = f"; {len(rejected)} files were rejected, the first: {rejected[0].path}" if rejected else ""
            raise ConfigError(f"study {name!r}: no finished run of it below {runs}{bad}")
    if not listed:
        raise ConfigError(f"sweep {name}: none of its jobs has finished")
    if lacking := sorted(listed - finished):
        raise ConfigError(f"{name}: no record of run {lacking[0]} below {runs}; name the folder of its runs by --runs")
    return listed


def _run_of_job(path: Path) -> list[str]:
    """Return the run of a sweep's job; empty if it failed.

    Raises:
        IntegrityError: the file is none that a job leaves.
    """
    try:
        run_id = json.loads(read_text(path)).get("run_id")
    except (ValueError, RecursionError, AttributeError):
        raise IntegrityError(f"{path} is not the outcome of a job") from None
    return [run_id] if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id) else []


def _of_study(name: str, runs: Path, found: Sequence[tuple[Path, Record]], rejected: list[Rejected]) -> set[str]:
    """Return the ids of runs that carry the name of a study or that its status file lists.

    Runs that a study shares with an earlier one carry the name of that one.

    Raises:
        ConfigError: several folders of that name have been run as studies.
    """
    read = (_tried(lambda path: _status(path, name), path, rejected) for path in sorted(runs.rglob("studies/*.json")))
    statuses = [status for status in read if status is not None]
    places = sorted({str(place) for place, _ in statuses if place})
    if len(places) > 1:
        raise ConfigError(f"study {name!r}: several have that name, publish one by its path: {', '.join(places)}")
    carried = {record.run_id for _, record in found if record.study == name}
    return carried.union(*(listed for _, listed in statuses))


def _status(path: Path, name: str) -> tuple[Path | None, set[str]] | None:
    """Return the folder of a study, if its status file says it, and its runs; None if it is another study.

    Args:
        name: of the study that is asked for, or the path of its folder.

    Raises:
        IntegrityError: the file is called like that of the study and is no status.
    """
    by_path = Path(name).name != name
    last = Path(name).resolve().name if by_path else name
    if not re.fullmatch(rf"{re.escape(last)}(-[0-9a-f]{{8}})?", path.stem):
        return None
    try:
        content = json.loads(read_text(path))
        written = Path(content.get("folder") or content["study"])
        listed = {task["run_id"] for task in content["tasks"] if isinstance(task["run_id"], str)}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"{path} is not the status of a study") from None
    if written.resolve() != Path(name).resolve() if by_path else written.name != name:
        return None
    return (written.resolve() if len(written.parts) > 1 else None), listed


def _with_sources(chosen: Collection[str], records: Sequence[Record]) -> set[str]:
    """Add the runs that the chosen ones learned from, and those that these learned from."""
    sources: dict[str, set[str]] = {}
    for record in records:
        teacher = record.teacher.run_id if record.teacher else None
        sources.setdefault(record.run_id, set()).update(record.method.trained_from, [teacher] if teacher else [])
    closed, left = set[str](), set(chosen)
    while left:
        closed |= left
        left = set[str]().union(*(sources.get(run_id, set()) for run_id in left)) - closed
    return closed
