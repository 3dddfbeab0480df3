"""The command that makes a recorded run again: the choices and overrides that compose to its configuration."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.check import leaves
from kd_bench.config.composition import choices, quoted
from kd_bench.config.overrides import composed_choices
from kd_bench.config.paths import CONF
from kd_bench.config.schema import EvaluationConfig, RunConfig, TuningConfig
from kd_bench.errors import ConfigError
from kd_bench.results.records.record import Record

_NAME = re.compile(r"[A-Za-z_]\w*")  # what a dotted key is made of
_DICTIONARY_KEY = re.compile(r"[A-Za-z_][\w.]*")
_WORD = re.compile(r"[A-Za-z_][\w./-]*")  # what needs no quotes
_OTHER_VALUES = ("null", "true", "false", "nan", "inf")
# What the first records lack.
_LATER = {"evaluation": EvaluationConfig().model_dump(), "tuning": TuningConfig().model_dump()}
# What `kd-bench import` sets by itself.
_BY_IMPORT = ("teacher", "student", "student.name", "method", "seed", "names.method", "names.recipe")


def command(record: Record) -> str:
    """A line for a shell. Where the data lie on this machine is left to fill in if there is no default.

    Raises:
        ConfigError: the configuration cannot be written as overrides.
    """
    overrides = overrides_of(record.config)
    overrides += [f"{key}=FOLDER" for key in sorted(_unset(tuple(_choices(record.config))) - _keys(overrides))]
    if record.imported_from is None:
        return shlex.join(["kd-bench", "train", *overrides])
    kept = [override for override in overrides if override.lstrip("+~").partition("=")[0] not in _BY_IMPORT]
    return shlex.join(["kd-bench", "import", record.imported_from, "--model", record.student.name, *kept])


def overrides_of(recorded: Mapping[str, Any]) -> list[str]:
    """Choices and overrides whose composition has the recorded values.

    Values that follow from others, such as the length of a schedule from the number of epochs, are overridden only
    where they differ from what follows: a teacher that is trained first, for other epochs, depends on it.

    Args:
        recorded: ``Record.config``, without problems.

    Raises:
        ConfigError: there are no such overrides, with the key that they fail at.
    """
    lacking = {"evaluation": EvaluationConfig().model_dump(), "tuning": TuningConfig().model_dump()}
    recorded = {**lacking, **recorded}  # which the first records lack
    written = _written(tuple(_choices(recorded)))
    if _refers_to_seed(written):
        return _found(recorded)
    # The seeds of a cell differ in nothing else, and composing takes a tenth of a second.
    other = written["seed"] + 1
    shared = _found_once(json.dumps({**recorded, "seed": other}))
    own = [] if recorded["seed"] == written["seed"] else [f"seed={literal(recorded['seed'])}"]
    return [each for override in shared for each in (own if override == f"seed={other}" else [override])]


@lru_cache(maxsize=256)
def _found_once(recorded: str) -> tuple[str, ...]:
    return tuple(_found(json.loads(recorded)))


def _found(recorded: dict[str, Any]) -> list[str]:
    choices = tuple(_choices(recorded))
    overrides = tuple(_changed(_written(choices), recorded, ""))
    written = _container(_with(choices, overrides), resolve=False)
    more = tuple(_differences(_recorded(choices, overrides), recorded, written, ""))
    if more and (left := list(_differences(_recorded(choices, overrides + more), recorded, written, ""))):
        raise ConfigError(f"{left[0]}: cannot be given as an override")
    return [*choices, *overrides, *more]


def _choices(recorded: Mapping[str, Any]) -> list[str]:
    """One file a group: the one that the record names, or the nearest. Groups without one keep their default."""
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
    """The choice of that name; else, of those with the same ``_target_``, the one that differs least."""
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
    """The runs of a cell share their choices."""
    return composed_choices(list(choices))


@lru_cache(maxsize=64)
def _written(choices: tuple[str, ...]) -> dict[str, Any]:
    """As it stands in the files: interpolations are not resolved."""
    return _container(_composed(choices), resolve=False)


def _with(choices: tuple[str, ...], overrides: tuple[str, ...]) -> DictConfig:
    """What they compose to. Hydra's own function overrides values in what it has composed of the choices already.

    Raises:
        ConfigError: an override that it does not take.
    """
    cfg = _composed(choices).copy()
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    return cfg


def _recorded(choices: tuple[str, ...], overrides: tuple[str, ...]) -> dict[str, Any]:
    return RunConfig.model_validate(_container(_with(choices, overrides), resolve=True)).recorded()


def _unset(choices: tuple[str, ...]) -> set[str]:
    """Keys that have no value in the files."""
    return set(OmegaConf.missing_keys(_composed(choices)))


def _keys(overrides: list[str]) -> set[str]:
    return {override.lstrip("+~").partition("=")[0] for override in overrides}


def _refers_to_seed(written: dict[str, Any]) -> bool:
    return any("seed" in value for _, value in leaves(written) if _interpolated(value))


def _container(cfg: DictConfig, resolve: bool) -> dict[str, Any]:
    container = OmegaConf.to_container(cfg, resolve=resolve)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def _changed(written: Any, recorded: Any, key: str) -> Iterator[str]:
    """Overrides of the values that stand in the chosen files as such and not as interpolations."""
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
    """Overrides that lead from ``base`` to ``recorded``.

    Args:
        written: what the configuration has of this part, without the defaults of its schema.
    """
    if not isinstance(base, dict) or not isinstance(recorded, Mapping):
        if not _equal(base, recorded):
            yield f"{key}={literal(recorded)}"
        return
    odd: dict[str, Any] = {}
    for name in sorted(base.keys() | recorded.keys()):
        path = f"{key}.{name}" if key else name
        exists = isinstance(written, dict) and name in written
        if name not in recorded:
            yield f"~{path}"
        elif not _NAME.fullmatch(name):
            odd |= {} if name in base and _equal(base[name], recorded[name]) else {name: recorded[name]}
        elif name in base and exists:
            yield from _differences(base[name], recorded[name], written[name], path)
        elif name not in base or not _equal(base[name], recorded[name]):
            yield f"+{path}={literal(recorded[name])}"
    if odd:
        yield f"+{key}={literal(odd)}"


def _equal(one: Any, other: Any) -> bool:
    """4 and 4.0 are the same value; true and 1 are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def literal(value: Any) -> str:
    """A value in the grammar of Hydra's overrides.

    Raises:
        ConfigError: a dictionary with a key that the grammar has no way to write.
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        if odd := [key for key in value if not _DICTIONARY_KEY.fullmatch(key)]:
            raise ConfigError(f"{odd[0]!r}: is no key that an override can name")
        return "{" + ",".join(f"{key}:{literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, str):
        plain = _WORD.fullmatch(value) and value.lower() not in _OTHER_VALUES
        return value if plain else quoted(value)
    return repr(value)
