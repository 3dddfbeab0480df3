"""The configuration of a record, checked as plain data. Needs no torch."""

import hashlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from kd_bench.config.check import INSTANTIATION_KEYS, allowed_targets, is_allowed, shown_target, slot_of
from kd_bench.config.interpolations import leaves
from kd_bench.config.schema import RunConfig
from kd_bench.results.records.fingerprint import determining, fingerprint_of, numbers_as_floats
from kd_bench.results.records.packed import has_plain_seed, packed_cell, unpacked
from kd_bench.results.records.record import Record, problems_in

# Parts that records leave out, with values that do not matter.
LEFT_OUT: dict[str, Any] = {"paths": {"runs": "runs", "data": "data"}, "logger": {}}


def config_problems(record: Record) -> list[str]:
    """List what no composed configuration can hold: foreign targets, interpolations, unknown keys, wrong values."""
    return list(_cell(packed_cell(record.config))[0])


@lru_cache(maxsize=4096)  # more than the cells of large studies, whose seeds stand apart in folders of runs
def _cell(cell: bytes) -> tuple[tuple[str, ...], RunConfig | None]:
    """List the problems of a configuration; return it if it is one."""
    config = unpacked(cell)
    plugins = config.get("plugins")
    modules = [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []
    problems = [
        f"config.{key}={value!r}: {reason}"
        for key, value in leaves(config)
        if (reason := _leaf_problem(key, value, modules))
    ]
    try:
        return tuple(problems), RunConfig.model_validate({**LEFT_OUT, **config})
    except ValidationError as error:
        return (*problems, *problems_in(error, "config.")), None


@lru_cache(maxsize=4096)
def _determined(cell: bytes) -> dict[str, Any]:
    config = _cell(cell)[1]
    assert config is not None  # as callers have found it without problems
    determined: dict[str, Any] = numbers_as_floats(determining(config, plugins={}))
    return determined


def _leaf_problem(key: str, value: Any, plugins: list[str]) -> str:
    name = key.rpartition(".")[2]
    if name == "_target_":
        return _target_problem(key, value, plugins)
    if name in INSTANTIATION_KEYS:
        return "is not allowed in a configuration"
    if isinstance(value, str) and "${" in value:
        return "is an interpolation; records hold resolved values"
    return "must be a finite number" if isinstance(value, float) and not math.isfinite(value) else ""


def _target_problem(key: str, value: Any, plugins: list[str]) -> str:
    of_teacher = key.partition(".overrides.")[2] if key.startswith("teacher.") else ""  # how it is trained
    slot = slot_of(of_teacher or key)
    if slot is None:
        return "is not allowed here"
    prefixes = allowed_targets(slot, plugins)
    plain = isinstance(value, str) and all(part.isidentifier() for part in value.split("."))
    if plain and is_allowed(value, prefixes):
        return ""
    return f"is not allowed here; allowed: {', '.join(map(shown_target, prefixes))}"


def expected_run_id(record: Record, weights_of: Callable[[str], str | None]) -> str | None:
    """Compute the run id from what the record says of its configuration, data and teachers.

    Args:
        record: one without problems in its configuration.
        weights_of: returns the hash of the weights of a run, None if it is not known.

    Returns:
        None where it cannot be said: the weights of an earlier run are not known, or the record is older than the
        hashes of plugins, which are part of the fingerprint. No plugin is imported here.
    """
    cell = packed_cell(record.config)
    config = _cell(cell)[1]
    assert config is not None
    weights = [*_teacher_weights(record, config, weights_of)], [weights_of(run) for run in record.method.trained_from]
    if record.code.plugins.keys() != set(config.plugins) or None in weights[0] + weights[1]:
        return None
    known = [[each for each in networks if each is not None] for networks in weights]
    determined = {**_determined(cell), "plugins": record.code.plugins}
    if has_plain_seed(record.config):
        determined = {**determined, "seed": numbers_as_floats(record.config["seed"])}
    return fingerprint_of(determined, record.dataset.content_sha256, known, record.method.generation)


def _teacher_weights(
    record: Record, config: RunConfig, weights_of: Callable[[str], str | None]
) -> Iterator[str | None]:
    networks = config.teacher.networks()
    if record.imported_from is not None:
        yield record.student.weights_sha256
    elif record.teacher is not None and len(networks) == 1:
        yield record.teacher.weights_sha256
    elif record.teacher is not None:
        yield from _members(record.teacher.source, record.teacher.weights_sha256, weights_of)


def _members(source: str, together: str, weights_of: Callable[[str], str | None]) -> Iterator[str | None]:
    """Yield the hashes of an ensemble's members, whose hash together is the ensemble's own."""
    hashes = [weights_of(run_id) for run_id in source.split(", ")]
    joined = " ".join(each or "" for each in hashes)
    known = None not in hashes and hashlib.sha256(joined.encode()).hexdigest() == together
    yield from hashes if known else [None]
