"""Verification tiers of rows: the weakest of their records."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kd_bench.results.checking.collection import TIERS, Recompute, Tier, check_records, find_records, read_all
from kd_bench.results.checking.load import Collection, Rejected
from kd_bench.results.leaderboard.rows import Row

UNCHECKED: Tier = "local"  # of every record that a board ranks, before anybody looked further
MEANINGS: Mapping[Tier, str] = {
    "reproduced": "trained again with the same result",
    "checked": "metrics follow from the predictions at hand",
    "local": "valid and without contradictions; no predictions were looked at",
    "damaged": "something about it cannot be",
}


def row_tier(row: Row, tiers: Mapping[str, Tier]) -> Tier:
    """Return the weakest tier of the runs of a row."""
    return max((tiers.get(run.run_id, UNCHECKED) for run in row.entry.runs), key=TIERS.index)


def verified(collection: Collection, directory: Path, recompute: Recompute) -> tuple[Collection, dict[str, Tier]]:
    """Do what ``kd-bench check`` does with everything below ``directory``, from which the collection was loaded.

    Returns:
        The collection without records that are found damaged, which are rejected instead, and the tiers of the others
        by run id. Of several copies of a record the best counts.
    """
    if not collection.records:
        return collection, {}
    tiers: dict[str, Tier] = {}
    rejected = {each.path: each for each in collection.rejected}
    for each in check_records(read_all(find_records([directory])), recompute):
        if each.record is not None:
            known = tiers.get(each.record.run_id, "damaged")
            tiers[each.record.run_id] = min(known, each.tier, key=TIERS.index)
        if each.problems:
            path = each.path.relative_to(directory).as_posix()
            rejected.setdefault(path, Rejected(path, "; ".join(each.problems)))
    kept = tuple(record for record in collection.records if tiers.get(record.run_id) != "damaged")
    found = replace(collection, records=kept, rejected=tuple(rejected[path] for path in sorted(rejected)))
    return found, {record.run_id: tiers.get(record.run_id, UNCHECKED) for record in kept}
