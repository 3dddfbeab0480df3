"""From finished runs to ``results/``: records are copied, never weights, and the boards are built from the copies."""

from pathlib import Path

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError
from kd_bench.results.records.directory import published_path
from kd_bench.results.records.record import RECORD_FILE, read_record
from kd_bench.results.records.supplement import supplement_path, with_supplement
from kd_bench.results.write import LeaderboardSummary, write_leaderboard


def publish(study: str, runs: Path, results: Path) -> tuple[int, LeaderboardSummary]:
    """Copy the records of a study to ``results/records`` and rebuild the boards in ``results``.

    What ``kd-bench evaluate`` wrote beside a record is copied with it.

    Returns:
        How many records were copied, and what the boards hold.

    Raises:
        ConfigError: no finished run of that study, or two runs that would be one file.
        IntegrityError: a record is damaged, or what lies beside it belongs to another run or contradicts it.
    """
    found = {path: read_record(path) for path in sorted(runs.rglob(RECORD_FILE))}
    chosen = {path: record for path, record in found.items() if record.study == study}
    if not chosen:
        raise ConfigError(f"study {study!r}: no finished run of it below {runs}")
    targets: dict[Path, Path] = {}
    for source, record in chosen.items():
        target = results / "records" / published_path(record)
        if target in targets:
            raise ConfigError(
                f"{source} and {targets[target]} would both be {target}; tell variants apart by names.method"
            )
        targets[target] = source
    for source, record in chosen.items():
        with_supplement(source, record)
    for target, source in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read_bytes())
        if (supplement := supplement_path(source)).exists():
            write_atomically(supplement_path(target), supplement.read_bytes())
        else:
            supplement_path(target).unlink(missing_ok=True)  # of a run that was published before
    return len(targets), write_leaderboard(results / "records", results)
