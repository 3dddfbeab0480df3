"""The command that makes a recorded run again: the choices and overrides that compose to its configuration.

A record has them since it was written. Those of older records are found by composing.
"""

import json
import pickle
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from kd_bench.config.composition import choices
from kd_bench.config.interpolations import UNRECORDED, leaves
from kd_bench.config.overrides import composed_choices
from kd_bench.config.paths import CONF
from kd_bench.config.schema import EvaluationConfig, RunConfig, TuningConfig
from kd_bench.errors import ConfigError
from kd_bench.results.records.literals import literal
from kd_bench.results.records.packed import packed, packed_cell, unpacked
from kd_bench.results.records.record import Record

_NAME = re.compile(r"[A-Za-z_]\w*")  # a part of a dotted key
_CHOICE = re.compile(r"\w[\w.-]*")
_DOTTED = re.compile(r"[A-Za-z_][\w.]*")  # in an interpolation: a key, or part of one
_GROUPS = ("dataset", "teacher", "student", "method", "recipe", "trainer")
_TO_FILL_IN = "FOLDER"
_NOWHERE = object()
_PARSER = OverridesParser.create()
# Sections that the first records lack.
_LATER = {"evaluation": EvaluationConfig().model_dump(), "tuning": TuningConfig().model_dump()}
# Keys that `kd-bench import` sets by itself.
_BY_IMPORT = ("teacher", "student", "student.name", "method", "seed", "names.method", "names.recipe")


def command(record: Record) -> str:
    """Return a line for a shell. Where the data lie on this machine is left to fill in if there is no default.

    Raises:
        ConfigError: the record names overrides that its configuration does not have, or it names none and its
            configuration cannot be written as overrides.
    """
    return shlex.join(command_words(record))


def command_words(record: Record) -> list[str]:
    """Return the words of ``command``.

    Raises:
        ConfigError: as there.
    """
    if record.variant_of is not None:
        return ["kd-bench", "export", record.variant_of, "--int8"]
    if problems := unfounded(record):
        raise ConfigError(problems[0])
    overrides = record.overrides if record.overrides is not None else _to_repeat(record.config)
    if record.imported_from is None:
        return ["kd-bench", "train", *overrides]
    kept = [override for override in overrides if _key(override) not in _BY_IMPORT]
    return ["kd-bench", "import", record.imported_from, "--model", record.student.name, *kept]


def to_record(config: Mapping[str, Any]) -> list[str] | None:
    """Return what a new record of this configuration says of its choices; None if overrides cannot say it."""
    try:
        return _to_repeat(json.loads(json.dumps(config)))
    except ConfigError:
        return None


def unfounded(record: Record) -> list[str]:
    """List problems of overrides that a record names and that its configuration does not have; nothing is composed.

    Anybody may write a record, and commands are copied into shells: an override may name a choice, or give a key the
    value that it has in the configuration.
    """
    overrides, config = record.overrides or (), record.config
    shared = _unfounded(tuple(each for each in overrides if _key(each) != "seed"), packed_cell(config))
    return [
        f"overrides: {override!r} is not what the configuration says"
        for override in overrides
        if (override in shared if _key(override) != "seed" else not _is_founded(override, config))
    ]


@lru_cache(maxsize=4096)  # more than the cells of large studies, whose seeds stand apart in folders of runs
def _unfounded(overrides: tuple[str, ...], cell: bytes) -> frozenset[str]:
    config = unpacked(cell)
    return frozenset(each for each in overrides if not _is_founded(each, config))


def _is_founded(override: str, config: Mapping[str, Any]) -> bool:
    prefix, (key, given, value) = override[:1], override.lstrip("+~").partition("=")
    if key in _GROUPS and override == f"{key}={value}":
        return _CHOICE.fullmatch(value) is not None
    recorded: Any = config
    for name in key.split("."):
        recorded = recorded.get(name, _NOWHERE) if isinstance(recorded, Mapping) else _NOWHERE
    if recorded is _NOWHERE:
        removed = override == f"~{key}" and key.split(".")[0] in config
        return removed or (key in UNRECORDED and override == f"{key}={_TO_FILL_IN}")
    if prefix == "~" or not given:
        return False
    try:
        return value in (literal(recorded), literal(_odd(recorded)))
    except ConfigError:
        return False


def differing(record: Record) -> list[str]:
    """List what the overrides of a record lack to compose to its configuration; empty if it names none.

    The shipped choices may have changed since the record was written.
    """
    if record.overrides is None:
        return []
    # The seeds of a cell differ in nothing else, and composing takes time.
    overrides = tuple(each for each in record.overrides if _key(each) != "seed")
    return list(_lacking(overrides, packed({**record.config, "seed": 0})))


@lru_cache(maxsize=4096)
def _lacking(overrides: tuple[str, ...], cell: bytes) -> tuple[str, ...]:
    config = unpacked(cell)
    return _differing(*_without_free(overrides, config)) and _differing(overrides, json.dumps(config))


def _without_free(overrides: tuple[str, ...], config: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """Leave out overrides that set a free value to the recorded one; return the others, and the configuration as JSON.

    There the free values are those of the files. Cells that differ in nothing else are composed once.
    """
    try:
        chosen = tuple(each for each in overrides if _key(each) in _GROUPS)
        free = _free(chosen)
        left = [each for each in overrides if each not in chosen and not _sets(each, free, config)]
    except ConfigError:
        return overrides, json.dumps(config)
    removed = {_key(each) for each in overrides} - {_key(each) for each in (*chosen, *left)}
    if any(_overlap(_key(each), key) or "${" in each for each in left for key in removed):
        return overrides, json.dumps(config)
    for key in removed:
        config = _replaced(config, key.split("."), free[key])
    return (*chosen, *left), json.dumps(config)


def _sets(override: str, free: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Tell whether an override gives a free key the value that the configuration has."""
    key, given, value = override.partition("=")
    if not given or key not in free:
        return False
    recorded: Any = config
    for name in key.split("."):
        recorded = recorded.get(name, _NOWHERE) if isinstance(recorded, Mapping) else _NOWHERE
    return recorded is not _NOWHERE and not isinstance(recorded, (Mapping, list)) and value == literal(recorded)


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _replaced(node: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**node, first: _replaced(node[first], rest, value) if rest else value}


@lru_cache(maxsize=64)
def _free(chosen: tuple[str, ...]) -> dict[str, Any]:
    """Return the values, by key, of the chosen files that no value depends on and that depend on no other."""
    found = dict(leaves(_written(chosen)))
    texts = [value for value in found.values() if _interpolated(value)]
    if any("${." in text for text in texts):
        return {}
    named = {name.strip(".") for text in texts for name in _DOTTED.findall(text)}
    plain = {key: value for key, value in found.items() if not _interpolated(value) and "[" not in key}
    return {key: value for key, value in plain.items() if not any(_overlap(key, name) for name in named)}


@lru_cache(maxsize=4096)
def _differing(overrides: tuple[str, ...], recorded: str) -> tuple[str, ...]:
    chosen = tuple(each for each in overrides if _key(each) in _GROUPS)
    others = tuple(each for each in overrides if _key(each) not in _GROUPS)
    try:
        composed = _recorded(chosen, (*others, "seed=0"))
        found = list(_differences(composed, json.loads(recorded), composed, ""))
    except ConfigError as error:
        return (str(error),)
    return tuple(each for each in found if not each.startswith("~"))  # a key that came later


def _to_repeat(recorded: Mapping[str, Any]) -> list[str]:
    overrides = overrides_of(recorded)
    unset = OmegaConf.missing_keys(_composed(tuple(_choices(recorded)))) - {_key(each) for each in overrides}
    return overrides + [f"{key}={_TO_FILL_IN}" for key in sorted(unset)]


def overrides_of(recorded: Mapping[str, Any]) -> list[str]:
    """Find choices and overrides whose composition has the recorded values.

    Values that follow from others, such as the length of a schedule from the number of epochs, are overridden only
    where they differ from what follows: a teacher that is trained first, for other epochs, depends on it.

    Args:
        recorded: ``Record.config``, without problems.

    Raises:
        ConfigError: there are no such overrides; the message begins with the key that they fail at.
    """
    recorded = {**_LATER, **recorded}
    written = _written(tuple(_choices(recorded)))
    # The seeds of a cell differ in nothing else, no shipped value refers to them, and composing takes time.
    other = written["seed"] + 1
    shared = _found(json.dumps({**recorded, "seed": other}))
    own = [] if recorded["seed"] == written["seed"] else [f"seed={literal(recorded['seed'])}"]
    return [each for override in shared for each in (own if override == f"seed={other}" else [override])]


@lru_cache(maxsize=256)
def _found(text: str) -> tuple[str, ...]:
    recorded = json.loads(text)
    choices = tuple(_choices(recorded))
    overrides = tuple(_changed(_written(choices), recorded, ""))
    written = _container(_with(choices, overrides), resolve=False)
    more = tuple(_differences(_recorded(choices, overrides), recorded, written, ""))
    if more and (left := list(_differences(_recorded(choices, overrides + more), recorded, written, ""))):
        raise ConfigError(f"{left[0]}: cannot be given as an override")
    return (*choices, *overrides, *more)


def _choices(recorded: Mapping[str, Any]) -> list[str]:
    """Name one file for each group: the recorded one, or the nearest. Groups without one keep their default."""
    names, teacher = recorded["names"], recorded["teacher"]
    ensemble = "ensemble" if teacher["members"] else teacher["name"] or "none"
    wanted = {
        "dataset": _named_or_nearest("dataset", names["dataset"], recorded["dataset"], "source"),
        "teacher": ensemble,
        "student": recorded["student"]["name"],
        "method": _named_or_nearest("method", names["method"], recorded["method"], ""),
        "recipe": names["recipe"],
        "trainer": recorded["trainer"]["accelerator"],
    }
    return [f"{group}={choice}" for group, choice in wanted.items() if choice in choices(group)]


def _named_or_nearest(group: str, name: str, node: Mapping[str, Any], part: str) -> str:
    """Return the choice of that name; else, of those with the same ``_target_``, the one that differs least."""
    if name in choices(group):
        return name
    target = (node[part] if part else node)["_target_"]
    found = []
    for choice in choices(group):
        own = _file(group, choice)
        if (own.get(part, {}) if part else own).get("_target_") == target:
            found.append((len(list(_differences(own, node, own, ""))), choice))
    return min(found)[1] if found else "scratch" if group == "method" else ""


@lru_cache(maxsize=256)
def _file(group: str, choice: str) -> dict[str, Any]:
    own = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    assert isinstance(own, dict)
    return {str(name): value for name, value in own.items()}


@lru_cache(maxsize=64)
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """Compose the choices that the runs of a cell share."""
    with _undisturbed():
        return composed_choices(list(choices))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave Hydra's own application, in which a run may write its record, as it is."""
    application, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    try:
        yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = application, config


@lru_cache(maxsize=64)
def _written(choices: tuple[str, ...]) -> dict[str, Any]:
    """Return the values as they stand in the files: interpolations are not resolved."""
    return _container(_composed(choices), resolve=False)


def _with(choices: tuple[str, ...], overrides: tuple[str, ...]) -> DictConfig:
    """Let Hydra's own function override values in what it has composed of the choices already.

    Raises:
        ConfigError: it does not take an override.
    """
    cfg = pickle.loads(_pickled(choices))  # noqa: S301 (made by this process)
    try:
        parsed = [_parsed(override) for override in overrides]
        ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    assert isinstance(cfg, DictConfig)
    return cfg


@lru_cache(maxsize=64)
def _pickled(choices: tuple[str, ...]) -> bytes:
    """Return what was composed as bytes, which are read in half the time that a copy takes."""
    return pickle.dumps(_composed(choices))


@lru_cache(maxsize=1024)
def _parsed(override: str) -> Override:
    """Parse an override once: the cells of a study share most of theirs."""
    return _PARSER.parse_overrides([override])[0]


def _recorded(choices: tuple[str, ...], overrides: tuple[str, ...]) -> dict[str, Any]:
    try:
        return RunConfig.model_validate(_container(_with(choices, overrides), resolve=True)).recorded()
    except (ValidationError, OmegaConfBaseException) as error:
        raise ConfigError(str(error).splitlines()[0]) from error


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _container(cfg: DictConfig, resolve: bool) -> dict[str, Any]:
    container = OmegaConf.to_container(cfg, resolve=resolve)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def _changed(written: Any, recorded: Any, key: str) -> Iterator[str]:
    """Yield overrides of the values that stand in the chosen files as such and not as interpolations."""
    if isinstance(written, dict) and isinstance(recorded, Mapping):
        for name in sorted(written.keys() & recorded.keys()):
            yield from _changed(written[name], recorded[name], f"{key}.{name}" if key else name)
        return
    plain = not isinstance(written, dict) and not isinstance(recorded, Mapping) and not _interpolated(written)
    if plain and not _equal(written, recorded):
        yield f"{key}={literal(recorded)}"


def _interpolated(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _differences(base: Any, recorded: Any, written: Any, key: str) -> Iterator[str]:
    """Yield overrides that lead from ``base`` to ``recorded``.

    Args:
        written: the part of the configuration as it stands in files and overrides, without defaults of its schema.
    """
    if not isinstance(base, dict) or not isinstance(recorded, Mapping):
        if not _equal(base, recorded):
            yield f"{key}={literal(recorded)}"
        return
    for name in sorted(base.keys() | recorded.keys()):
        path = f"{key}.{name}" if key else name
        exists = isinstance(written, dict) and name in written
        if name not in recorded:
            yield f"~{path}"
        elif not _NAME.fullmatch(name):
            continue
        elif name in base and exists:
            yield from _differences(base[name], recorded[name], written[name], path)
        elif name not in base or not _equal(base[name], recorded[name]):
            yield f"+{path}={literal(recorded[name])}"
    if any(name not in base or not _equal(base[name], value) for name, value in _odd(recorded).items()):
        yield f"+{key}={literal(_odd(recorded))}"


def _odd(node: Any) -> dict[str, Any]:
    """Return the entries of a dictionary whose names are no part of a dotted key."""
    entries = node.items() if isinstance(node, Mapping) else ()
    return {name: value for name, value in entries if not _NAME.fullmatch(name)}


def _equal(one: Any, other: Any) -> bool:
    """Compare values: 4 and 4.0 are the same; true and 1 are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
