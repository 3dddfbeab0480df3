"""Explanations of Hydra's errors, in one sentence that names the key and the nearest valid choice."""

import os
import re

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.composition import composing
from kd_bench.config.networks import GROUPS
from kd_bench.config.paths import CONF
from kd_bench.errors import nearest

# The extra of each of Hydra's launchers and sweepers; see docs/engines.md.
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
EXTRAS |= {"ray_aws": "ray", "optuna": "optuna"}


def explain(error: Exception, arguments: list[str]) -> str:
    """Return one line that names the key, what was found and the nearest valid choice.

    Args:
        arguments: of the command line, for the files that were chosen.
    """
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, MissingConfigException):
        cause = cause.__cause__
    if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
        group, _, choice = cause.missing_cfg_file.rpartition("/")
        if extra := EXTRAS.get(choice if group.startswith("hydra/") else ""):
            return f"{group}={choice!r}: needs the extra: pip install 'kd-bench[{extra}]'"
        options = [str(option) for option in cause.options or [] if not str(option).startswith("_")]
        hint = nearest(choice, options) or f"; allowed: {', '.join(sorted(options))}"
        networks = f"; any network of `kd-bench list models` is {group}.name=NAME" if group in GROUPS else ""
        return f"{group}={choice!r}: no such choice{hint}{networks}"
    text = "\n".join(str(e) for e in (error, cause))
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], arguments)
    empty = [a for a in arguments if re.fullmatch(r"[^=]+=(null|None)?", a) and (CONF / a.partition("=")[0]).is_dir()]
    if empty and isinstance(error, ValueError):
        return f"{empty[0]}: should be a choice; leave it out, or `kd-bench train --help` names them"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    more = 2 if lines and lines[0].endswith("raised while composing config:") else 1
    return " ".join(lines[:more]) or type(cause).__name__


def _unknown_key(key: str, arguments: list[str]) -> str:
    parent, _, name = key.rpartition(".")
    known = _keys(parent, arguments)
    if name in known:
        return f"{key}: has no such entry yet; add one with a plus: +{key}.NAME=VALUE or '+{key}={{NAME: VALUE}}'"
    hint = nearest(name, known) or (f"; allowed: {', '.join(sorted(known))}" if known else "")
    return f"{key}: unknown key{hint}"


def _keys(parent: str, arguments: list[str]) -> list[str]:
    """Return the keys below ``parent`` in the configuration that the chosen files alone give."""
    choices = [a for a in arguments if re.fullmatch(r"[a-z]+=[\w/]+", a) and (CONF / a.partition("=")[0]).is_dir()]
    config_dir = value_of("--config-dir", arguments)
    search = [f"hydra.searchpath=[file://{os.path.abspath(config_dir)}]"] if config_dir else []
    try:
        with composing():
            cfg = hydra.compose("train", overrides=[*choices, *search])
    except (HydraException, OmegaConfBaseException):
        return []
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return [str(name) for name in node if name != "_target_"] if isinstance(node, DictConfig) else []


def value_of(flag: str, arguments: list[str]) -> str | None:
    """Return what follows an option such as ``--config-dir`` on a command line."""
    for position, argument in enumerate(arguments):
        if argument in (flag, "-cd") and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None
