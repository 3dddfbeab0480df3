"""The records that are runs of a published cell: those of its protocol, of one teacher, one a seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd_bench.config.interpolations import UNRECORDED, leaves
from kd_bench.results.leaderboard.entries import lookup, recency
from kd_bench.results.records.record import Record
from kd_bench.runs.reproduction.cells import Cell

# Parts that a protocol decides; the training of the teacher shows in its accuracy.
PARTS = (
    "method",
    "recipe",
    "student",
    "stage_pairs",
    "dataset.source",
    "dataset.mean",
    "dataset.std",
    "dataset.validation_fraction",
    "dataset.train_samples",
    "trainer.precision",
    "trainer.channels_last",
    "trainer.compile",
    "trainer.devices",
)
SHOWN = 3


@dataclass(frozen=True)
class Matched:
    """The runs of a cell, one a seed by ascending seed, and notes on other runs of its names."""

    runs: tuple[Record, ...]
    notes: tuple[str, ...]


def by_names(cell: Cell, records: Iterable[Record]) -> list[Record]:
    """Return the records of a cell's data set, networks and method, whatever their protocol."""
    teacher, student = cell.networks
    return [
        record
        for record in records
        if record.role == "student"
        and record.dataset.name == cell.protocol.dataset
        and record.student.name == student
        and (record.teacher is None or record.teacher.name == teacher)
        and (record.method.name, record.method.generation) == (cell.choice, 0)
    ]


def matched(cfg: DictConfig, named: Sequence[Record]) -> Matched:
    """Return the runs of a cell.

    Args:
        cfg: its configuration, with any seed.
        named: records of its names.
    """
    expected: Any = OmegaConf.to_container(cfg, resolve=True)
    differing = {record.run_id: _differences(expected, record.config) for record in named}
    fitting = [record for record in named if not differing[record.run_id]]
    others = dict.fromkeys(text for text in differing.values() if text)
    notes = [f"not counted, of another protocol: {text}" for text in others]
    by_teacher: dict[str, list[Record]] = {}
    for record in sorted(fitting, key=recency):
        by_teacher.setdefault(record.teacher.weights_sha256 if record.teacher else "", []).append(record)
    if len(by_teacher) > 1:
        notes.append(f"of {len(by_teacher)} teachers, the one with the most seeds counts")
    most = max(by_teacher.values(), key=lambda group: len({record.seed for record in group}), default=[])
    newest = {record.seed: record for record in most}
    return Matched(tuple(newest[seed] for seed in sorted(newest)), tuple(notes))


def _differences(expected: dict[str, Any], config: dict[str, Any]) -> str:
    """Name the keys in which a run differs from its protocol, such as ``recipe.epochs=30 instead of 240``."""
    wanted, found = _decided(expected), _decided(config)
    keys = [key for key in sorted({*wanted, *found}) if wanted.get(key) != found.get(key)]
    texts = [f"{key}={found.get(key)} instead of {wanted.get(key)}" for key in keys[:SHOWN]]
    return ", ".join([*texts, *(["..."] if len(keys) > SHOWN else [])])


def _decided(config: dict[str, Any]) -> dict[str, Any]:
    """Return dotted keys and values. 4 equals 4.0, and a missing key equals null: newer versions have more keys."""
    decided = {key: value for part in PARTS for key, value in leaves(lookup(config, part), part)}
    if decided.get("trainer.compile") == "none":  # which records leave out
        del decided["trainer.compile"]
    return {key: value for key, value in decided.items() if key not in UNRECORDED}
