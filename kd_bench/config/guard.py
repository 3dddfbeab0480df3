"""Keys of Hydra's own that a configuration may set. Needs no torch.

Hydra acts on its own part of a configuration before any job starts: it makes callbacks, sweepers, launchers and log
handlers of whatever is named there, and sets environment variables. A composed configuration is therefore compared
with the one that kd-bench ships, and every key that differs must be on the list below; a key of a later Hydra is not.
Settings of launchers are commands by nature, such as submitit's ``setup`` lines: they are allowed.
"""

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import conf as shipped
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kd_bench.config.interpolations import check_interpolations, leaves
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError

ALLOWED = (
    "mode",
    "verbose",
    "run.dir",
    "sweep.dir",
    "sweep.subdir",
    "job.chdir",
    "job.config.override_dirname.*",
    "searchpath",  # looked at in the files themselves, before Hydra reads them
    "callbacks.*",
    "launcher.*",
    "sweeper._target_",
    "sweeper.params.*",
    "sweeper.max_batch_size",
    *(f"sweeper.{name}" for name in ("n_trials", "n_jobs", "direction", "storage", "study_name", "max_failure_rate")),
    *(f"sweeper.{name}" for name in ("sampler.*", "search_space*", "custom_search_space")),
    "job_logging.*",
    "hydra_logging.*",
)
# What Hydra itself writes into a composed configuration.
BY_HYDRA = ("runtime.*", "overrides.*", "job.config_name", "job.override_dirname")
REPLACED = ("launcher.", "sweeper.", "job_logging.", "hydra_logging.")  # parts that are chosen as a whole

LAUNCHERS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_aws_launcher.RayAWSLauncher",
)
SWEEPERS = (
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
)
CALLBACKS = ("kd_bench.runs.studies.sweep.CheckedSweep", "hydra.experimental.callbacks.LogJobReturnCallback")
SAMPLERS = "optuna.samplers."  # what a sweeper may be configured with
LOGGING = {
    "job_logging": ("none", "disabled", "stdout"),
    "hydra_logging": ("none", "disabled", "default", "hydra_debug"),
}
"""Choices of Hydra that open no file. Levels may differ from theirs."""


def check_hydra(arguments: list[str]) -> None:
    """Look at Hydra's own part of the configuration, if the command line touches it, before Hydra does.

    Raises:
        ConfigError: names a key that is not on the list, or a value that is none of those allowed.
    """
    options = get_args_parser().parse_args(arguments)
    if getattr(options, "experimental_rerun", None):
        raise ConfigError("--experimental-rerun: reads a pickle, which may run code; give the overrides instead")
    if options.config_path:
        raise ConfigError("--config-path: the configuration is that of kd-bench; add a folder of yours by --config-dir")
    touched = any("hydra" in override.partition("=")[0] for override in options.overrides)
    if touched or options.config_name or (options.config_dir and os.path.isdir(options.config_dir)):
        check_composed(_composed(options), options.overrides)


def check_composed(cfg: DictConfig, overrides: list[str]) -> None:
    """Look at a whole configuration, Hydra's own part included.

    Args:
        overrides: those that it was composed with.

    Raises:
        ConfigError: names what Hydra must not act on, or what must be neither stored nor shown.
    """
    _check_overrides(cfg, overrides)
    check_interpolations(OmegaConf.to_container(cfg, resolve=False))
    for problem in problems(cfg):
        raise ConfigError(problem)


@contextmanager
def copying_no_environment() -> Iterator[None]:
    """Say what is wrong where Hydra, while it composes, copies an environment variable that there is not.

    Raises:
        ConfigError: names the key of Hydra.
    """
    try:
        yield
    except KeyError as error:
        raise ConfigError(f"hydra.job.env_copy: {error} is not allowed here") from error


def _composed(options: Any) -> DictConfig:
    """Compose what Hydra is about to see. The axes of a sweep are left out: Hydra acts before it looks at them."""
    search = create_config_search_path(str(CONF))
    if options.config_dir:
        mine = f"file://{os.path.abspath(options.config_dir)}"
        search.prepend("command-line", mine, anchor=SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("kd-bench", search)
        name = options.config_name or "train"
        with copying_no_environment():
            cfg = hydra.compose_config(name, options.overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    finally:
        GlobalHydra.instance().clear()
    return cfg


def _check_overrides(cfg: DictConfig, overrides: list[str]) -> None:
    """Refuse overrides that stand in a file, where Hydra would take them for those of the command line."""
    given = [override.input_line for override in OverridesParser.create().parse_overrides(overrides)]
    noted = [*cfg.hydra.overrides.hydra, *cfg.hydra.overrides.task]
    if more := [override for override in noted if override not in given]:
        raise ConfigError(f"hydra.overrides={more[0]!r}: is not allowed here")


@cache
def _shipped() -> dict[str, Any]:
    """The part that kd-bench ships, as it is written."""
    search = create_config_search_path(str(CONF))
    before, name = GlobalHydra.instance().hydra, JobRuntime.instance().get("name")
    GlobalHydra.instance().clear()
    try:
        cfg = Hydra.create_main_hydra2("kd-bench", search).compose_config("train", [], RunMode.MULTIRUN)
    finally:
        GlobalHydra.instance().hydra = before
        JobRuntime.instance().set("name", name)
    return dict(leaves(OmegaConf.to_container(cfg.hydra, resolve=False)))


def problems(cfg: DictConfig) -> Iterator[str]:
    """Yield why Hydra must not act on a composed configuration: that of a command, or of one point of its sweep.

    Raises:
        ConfigError: its text would bring in what must not be shown.
    """
    hydra, ours = OmegaConf.to_container(cfg.hydra, resolve=False), _shipped()
    check_interpolations(hydra, "hydra")
    yield from _target_problems(cfg)
    theirs = {re.sub(r"\[\d+\]$", "", key): value for key, value in leaves(hydra)}
    for key in ours.keys() - theirs.keys():
        if not key.startswith(REPLACED):
            yield f"hydra.{key}: is not allowed to be left out"
    for key, value in theirs.items():
        by_hydra = _matches(key, BY_HYDRA) or (key == "job.name" and value == JobRuntime.instance().get("name"))
        searched = (key, value) == ("sweeper.params", "${tuning.space}")
        if not (by_hydra or searched) and (key not in ours or ours[key] != value):
            yield from _problem(key, value)
    yield from _logging_problems(hydra)


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _problem(key: str, value: Any) -> Iterator[str]:
    """Say what is wrong with a key that differs from ours."""
    name = key.rpartition(".")[2]
    if not _matches(key, ALLOWED):
        names = ", ".join(f"hydra.{pattern}" for pattern in ALLOWED)
        yield f"hydra.{key}: is not allowed here; allowed: {names}"
    elif name in ("_args_", "_partial_", "_recursive_", "_convert_"):
        yield f"hydra.{key}={value!r}: is not allowed here"
    elif name == "custom_search_space" and value is not None:  # a function, which Optuna's sweeper calls
        yield f"hydra.{key}={value!r}: is not allowed here; the search space is tuning.space"
    elif key == "sweeper.storage" and not (value is None or str(value).startswith("sqlite:///")):
        yield f"hydra.{key}={value!r}: is not allowed here; allowed: sqlite:///FILE"
    elif key.startswith("callbacks.") and name != "_target_":
        yield f"hydra.{key}={value!r}: is not allowed here; callbacks take no settings"
    elif key.startswith("sweeper.params."):
        axis = key.removeprefix("sweeper.params.").lstrip("+~")
        if "hydra" in axis.replace("@", "/").replace(".", "/").split("/") and axis not in (
            "hydra/launcher",
            "hydra/sweeper",
        ):
            yield f"hydra.{key}={value!r}: is not allowed here; a sweep changes no setting of Hydra"


def _logging_problems(hydra: Any) -> Iterator[str]:
    """Compare configurations of logging with the choices of Hydra, of which only levels may differ."""
    for part, choices in LOGGING.items():
        written = _without_levels(hydra.get(part))
        if all(written != _without_levels(_logging(part, choice)) for choice in choices):
            yield f"hydra.{part}: is not allowed here; allowed: hydra/{part}={'|'.join(choices)}, and levels of these"


@cache
def _logging(part: str, choice: str) -> Any:
    path = Path(str(shipped.__file__)).parent / "hydra" / part / f"{choice}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _without_levels(node: Any) -> Any:
    if isinstance(node, Mapping):
        kept = {name: _without_levels(value) for name, value in node.items() if name not in ("level", "defaults")}
        return {name: value for name, value in kept.items() if value is not None}
    return node


def _target_problems(cfg: DictConfig) -> Iterator[str]:
    """Look at what would be called, wherever an interpolation takes it from. Resolved values are not shown."""
    HydraConfig.instance().set_config(cfg)  # what ${hydra:...} refers to
    for part, targets in (("callbacks", CALLBACKS), ("launcher", LAUNCHERS), ("sweeper", SWEEPERS)):
        node = cfg.hydra[part]
        written = dict(leaves(OmegaConf.to_container(node, resolve=False) if node else {}))
        for key, value in leaves(OmegaConf.to_container(node, resolve=True) if node else {}):
            if key.rpartition(".")[2] == "_target_" and not _is_known(part, key, str(value), targets):
                shown = f"={value!r}" if written.get(key) == value else ""
                allowed = ", ".join(targets) if key.count(".") < 2 else f"{SAMPLERS}*"
                yield f"hydra.{part}.{key}{shown}: is not allowed here; allowed: {allowed}"


def _is_known(part: str, key: str, target: str, targets: tuple[str, ...]) -> bool:
    if part == "callbacks" or key == "_target_":
        return target in targets
    return part == "sweeper" and target.startswith(SAMPLERS) and target.removeprefix(SAMPLERS).isidentifier()
