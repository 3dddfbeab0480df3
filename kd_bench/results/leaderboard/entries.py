"""Entries: records that may be averaged, which are the seeds of one method in one configuration, and nothing else."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property, lru_cache
from typing import Any

from omegaconf import OmegaConf

from kd_bench.config.paths import CONF
from kd_bench.results.records.record import Record

# Parts of the configuration that make two runs of one method different rows, and those that make them different boards:
# all that determines the numbers beside the seed, the data and the teacher's weights, as the fingerprint has it.
ENTRY_PARTS = ("method", "stage_pairs")
EMPTY_PARTS = {"plugins": [], "tuning.trials": 0}  # of the first records, which have neither
SETTING_PARTS = (
    "recipe",
    "student",
    "dataset.mean",
    "dataset.std",
    "dataset.validation_fraction",
    "trainer.precision",
    "trainer.channels_last",
    "trainer.compile",
    "trainer.devices",
    "trainer.callbacks",
)
# The runs of a row may differ in nothing but a seed that these parts have by interpolation.
IGNORED_KEY = "seed"
UNSET = "unset"
QUOTE = '"'
HASH_LENGTH = 10
PLUGIN_LENGTH = 16  # of a plugin's hash, as of a run id

Options = tuple[tuple[str, str], ...]

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


@dataclass(frozen=True)
class Entry:
    """One method in one configuration: ``runs`` are its records, one a seed, by ascending seed.

    ``options`` are the hyperparameters, and their values, that tell it from entries of the same name on the board.
    ``left_out`` counts further records of the same seeds; of those, the latest counts.
    """

    name: str
    generation: int
    options: Options
    runs: tuple[Record, ...]
    left_out: int

    @property
    def key(self) -> str:
        """Name of the entry among those of its board, where labels may be alike: its first run."""
        return self.runs[0].run_id

    @property
    def label(self) -> str:
        """Name, generation and options."""
        generation = f" (generation {self.generation})" if self.generation else ""
        return self.name + generation + options_text(self.options)

    @cached_property
    def scores(self) -> dict[int, float]:
        """Test top-1 of the recipe's selection rule, by seed."""
        return {run.seed: run.headline().test.top1 for run in self.runs}

    @cached_property
    def latest(self) -> Record:
        """The run that finished last."""
        return max(self.runs, key=recency)

    @property
    def finished_on(self) -> str:
        """Day on which the latest run finished, in UTC."""
        return f"{recency(self.latest)[0]:%Y-%m-%d}"

    @property
    def commits(self) -> tuple[str, ...]:
        """Short commits of the code of its runs, with ``+`` where files were changed; empty where none is known."""
        found = {(run.code.commit[:HASH_LENGTH], run.code.dirty) for run in self.runs if run.code.commit}
        return tuple(sorted(commit + ("+" if dirty else "") for commit, dirty in found))

    @property
    def machines(self) -> frozenset[str | None]:
        """Machines that measured the latencies of its runs; None is one that was not noted."""
        return frozenset(run.full.latency.machine for run in self.runs if run.full and run.full.latency)

    @property
    def selection(self) -> str:
        """The rule that selects the epoch of the headline, the same in all runs."""
        return self.runs[0].selection


def recency(record: Record) -> tuple[datetime, str]:
    """Return the key that sorts records by the time they finished, then by run id; times without a zone are UTC."""
    finished = record.times.finished_at
    aware = finished if finished.tzinfo else finished.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc), record.run_id


def configuration(record: Record, parts: Iterable[str]) -> dict[str, str]:
    """Flatten the named parts of the record's configuration to dotted keys and JSON values.

    Keys of the first part come without its name: ``temperature``, but ``student.pretrained``.
    """
    flat: dict[str, str] = {}
    for position, part in enumerate(parts):
        value = lookup(record.config, part)
        _flatten(value if position == 0 and isinstance(value, dict) else {part: value}, "", flat)
    return flat


def entry_configuration(record: Record) -> dict[str, str]:
    """Flatten what makes two runs of one method different rows: hyperparameters, plugins and trials of a search.

    A plugin is known by the hash of its source. Records that hold none are told from those that do.
    """
    flat = configuration(record, ENTRY_PARTS)
    flat |= {f"plugins.{name}": _as_json(sha256[:PLUGIN_LENGTH]) for name, sha256 in record.code.plugins.items()}
    return flat | {part: _as_json(lookup(record.config, part) or empty) for part, empty in EMPTY_PARTS.items()}


def baseline(entries: Iterable[Entry], name: str) -> Entry | None:
    """Return the entry of method ``name`` in its shipped configuration, outside of chains; None without one."""
    found = [entry for entry in entries if (entry.name, entry.generation) == (name, 0) and _is_shipped(entry.runs[0])]
    return min(found, key=lambda entry: entry.selection != "last", default=None)


def _is_shipped(record: Record) -> bool:
    changed = any(lookup(record.config, part) for part in ("stage_pairs", *EMPTY_PARTS))
    return not changed and lookup(record.config, "method") == _shipped_method(record.method.name)


@lru_cache
def _shipped_method(name: str) -> Any:
    return OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{name}.yaml"))


def lookup(config: Any, key: str) -> Any:
    """Return the value of a dotted key, None where there is no such key."""
    for name in key.split("."):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _flatten(part: dict[str, Any], prefix: str, flat: dict[str, str]) -> None:
    for name, value in part.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{name}.", flat)
        elif name != IGNORED_KEY:
            flat[prefix + name] = _as_json(value)


def _as_json(value: Any) -> str:
    """Encode a value; numbers, which are most values, without the encoder's detours."""
    kind = type(value)
    return repr(value) if kind is int or (kind is float and math.isfinite(value)) else _encode(value)


def options_text(options: Options) -> str:
    """Format options such as `` [temperature=4, warmup=unset]``, with a space in front; empty without options."""
    shown = ", ".join(f"{key}={value.strip(QUOTE)}" for key, value in options)
    return f" [{shown}]" if shown else ""


def frozen(flat: Mapping[str, str]) -> Options:
    """Make a flat configuration hashable."""
    return tuple(sorted(flat.items()))


def differences(configurations: Sequence[Mapping[str, str]]) -> list[Options]:
    """Return, for each configuration, its values of the keys on which not all of them agree."""
    keys = sorted({key for flat in configurations for key in flat})
    differing = [key for key in keys if len({flat.get(key) for flat in configurations}) > 1]
    return [tuple((key, flat.get(key, UNSET)) for key in differing) for flat in configurations]


def build_entries(records: Iterable[Record]) -> list[Entry]:
    """Group the student records of one board. The order depends on the records alone."""
    groups: dict[tuple[str, int, Options], list[Record]] = {}
    for record in records:
        groups.setdefault(_identity(record), []).append(record)
    named: dict[tuple[str, int], list[tuple[str, int, Options]]] = {}
    for identity in sorted(groups):
        named.setdefault(identity[:2], []).append(identity)
    entries = []
    for identities in named.values():
        options = differences([dict(identity[2]) for identity in identities])
        entries += [_entry(groups[key], shown) for key, shown in zip(identities, options, strict=True)]
    return entries


def _identity(record: Record) -> tuple[str, int, Options]:
    flat = {**entry_configuration(record), "selection": record.selection}
    return record.method.name, record.method.generation, frozen(flat)


def _entry(records: list[Record], options: Options) -> Entry:
    """Keep one record a seed: one measured against the board's teacher if any, then the one that finished last."""
    newest: dict[int, Record] = {}
    for record in sorted(records, key=lambda record: (record.teacher is not None, *recency(record))):
        newest[record.seed] = record
    runs = tuple(newest[seed] for seed in sorted(newest))
    return Entry(runs[0].method.name, runs[0].method.generation, options, runs, len(records) - len(runs))
