"""Records that are looked at together, and what they know of each other. Needs no torch."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kd_bench.results.checking.configuration import config_problems, expected_run_id
from kd_bench.results.checking.consistency import consistency_problems
from kd_bench.results.checking.full_evaluation import full_problems
from kd_bench.results.checking.measurements import measurement_problems
from kd_bench.results.checking.together import contradictions
from kd_bench.results.records.command import unfounded
from kd_bench.results.records.compact import are_copies
from kd_bench.results.records.directory import published_path
from kd_bench.results.records.record import PUBLISHED_FILES, RECORD_FILE, Record


class Known:
    """Records by run id, and what contradicts others."""

    def __init__(self, records: Iterable[tuple[Path, Record]]) -> None:
        self._by_id: dict[str, list[tuple[Path, Record]]] = {}
        found = list(records)
        self._contradictions = contradictions(found)
        for path, record in found:
            self._by_id.setdefault(record.run_id, []).append((path, record))

    def problems(self, path: Path, record: Record) -> list[str]:
        """List everything in one of them that cannot be; the files beside it are not looked at."""
        of_config = config_problems(record)
        return [
            *consistency_problems(record),
            *of_config,
            *unfounded(record),
            *measured_problems(record),
            *([] if of_config else self._run_id_problems(record)),
            *_place_problems(path, record),
            *self._conflicts(path, record),
            *self._teacher_problems(record),
            *self._contradictions.get(path, ()),
        ]

    def _weights_of(self, run_id: str) -> str | None:
        return None if (record := self._first(run_id)) is None else record.student.weights_sha256

    def _first(self, run_id: str | None) -> Record | None:
        return self._by_id[run_id][0][1] if run_id in self._by_id else None

    def _run_id_problems(self, record: Record) -> Iterator[str]:
        expected = expected_run_id(record, self._weights_of)
        if expected not in (None, record.run_id):
            yield f"run_id={record.run_id}: its configuration, data and teacher weights are those of run {expected}"

    def _conflicts(self, path: Path, record: Record) -> Iterator[str]:
        """Find copies that differ."""
        for other, copy in self._by_id[record.run_id]:
            if other != path and not are_copies((record, copy)):
                yield f"run_id={record.run_id}: is also that of another record, {other}"

    def _teacher_problems(self, record: Record) -> Iterator[str]:
        teacher = record.teacher
        run = self._first(teacher.run_id) if teacher is not None else None
        if teacher is None or run is None:
            return
        if teacher.weights_sha256 != run.student.weights_sha256:
            yield f"teacher.weights_sha256={teacher.weights_sha256}: run {run.run_id} has {run.student.weights_sha256}"
        if teacher.name != run.student.name:
            yield f"teacher.name={teacher.name!r}: run {run.run_id} trained {run.student.name!r}"


def measured_problems(record: Record) -> list[str]:
    """List what is wrong with the numbers of a record."""
    return [*measurement_problems(record), *full_problems(record)]


def _place_problems(path: Path, record: Record) -> Iterator[str]:
    """Check that a run's folder is named by its id and a published record stands where its contents say."""
    parts = path.absolute().parts
    if path.name == RECORD_FILE:
        folder = parts[-2]
        is_run_id = len(folder) == len(record.run_id) and set(folder) <= set("0123456789abcdef")
        if is_run_id and folder != record.run_id:
            yield f"run_id={record.run_id}: lies in the folder of run {folder}"
    elif path.match(PUBLISHED_FILES) and not any(
        parts[-4:] == published_path(record, apart).parts for apart in (False, True)
    ):
        yield f"path: should end in {published_path(record)}"
