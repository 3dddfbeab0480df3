"""What a configuration may ask of Hydra itself. Hydra acts on its own part of a configuration before any job starts:
it makes callbacks, sweepers, launchers and log handlers of whatever is named there. Needs no torch.

Not covered, because they are commands by nature: settings of launchers, such as submitit's ``setup`` lines, and
``hydra.job.env_set``.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from kd_bench.config.check import leaves
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError

# Of launchers and sweepers themselves Hydra makes sure that they are plugins of its own.
PLUGINS = ("launcher._target_", "sweeper._target_")
CALLBACKS = ("kd_bench.runs.studies.sweep.CheckedSweep", "hydra.experimental.callbacks.LogJobReturnCallback")
SAMPLERS = "optuna.samplers."  # what a sweeper may be configured with
LOG_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter")
LOG_OBJECTS = ("ext://sys.stdout", "ext://sys.stderr")
ACTED_UPON = ("callbacks", "sweeper", "launcher", "job_logging", "hydra_logging")


def check_hydra(arguments: list[str]) -> None:
    """Look at Hydra's own part of the configuration, if the command line touches it, before Hydra does.

    Raises:
        ConfigError: it names something to be called that is no plugin of Hydra.
    """
    options = get_args_parser().parse_args(arguments)
    if getattr(options, "experimental_rerun", None):
        raise ConfigError("--experimental-rerun: reads a pickle, which may run code; give the overrides instead")
    if options.config_path:
        raise ConfigError("--config-path: the configuration is that of kd-bench; add a folder of yours by --config-dir")
    touched = any(override.lstrip("+~").startswith("hydra") for override in options.overrides)
    if touched or options.config_name or (options.config_dir and os.path.isdir(options.config_dir)):
        for problem in _problems(_hydra_part(options)):
            raise ConfigError(problem)


def _hydra_part(options: Any) -> dict[str, Any]:
    """As Hydra is about to see it. The axes of a sweep are left out: Hydra acts before it looks at them."""
    search = create_config_search_path(str(CONF))
    if options.config_dir:
        mine = f"file://{os.path.abspath(options.config_dir)}"
        search.prepend("command-line", mine, anchor=SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("kd-bench", search)
        name = options.config_name or "train"
        cfg = hydra.compose_config(name, options.overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    finally:
        GlobalHydra.instance().clear()
    HydraConfig.instance().set_config(cfg)  # what ${hydra:...} refers to
    return {part: OmegaConf.to_container(cfg.hydra[part], resolve=True) for part in ACTED_UPON if cfg.hydra[part]}


def _problems(hydra: dict[str, Any]) -> Iterator[str]:
    for key, value in leaves(hydra):
        part, name = key.partition(".")[0], key.rpartition(".")[2]
        allowed: Sequence[str] = ()
        if name == "custom_search_space" and value is not None:  # a function, which Optuna's sweeper calls
            yield f"hydra.{key}={value!r}: is not allowed here; the search space is tuning.space"
        if name == "_target_" and key not in PLUGINS and not _is_known(str(value)):
            allowed = (*CALLBACKS, f"{SAMPLERS}*")
        elif part in ("job_logging", "hydra_logging"):
            allowed = _of_logging(name, value)
        if allowed:
            yield f"hydra.{key}={value!r}: is not allowed here; allowed: {', '.join(allowed)}"


def _is_known(target: str) -> bool:
    return target in CALLBACKS or (target.startswith(SAMPLERS) and target.removeprefix(SAMPLERS).isidentifier())


def _of_logging(name: str, value: Any) -> Sequence[str]:
    """What may stand here instead; empty if the value is harmless. Python's logging calls what it is told to."""
    if name in ("()", "class"):
        return () if name == "class" and value in LOG_CLASSES else LOG_CLASSES
    if isinstance(value, str) and value.startswith(("ext://", "cfg://")):
        return () if value in LOG_OBJECTS else LOG_OBJECTS
    return ()
