"""``kd-bench train`` as a Hydra application: overrides, ``-m`` sweeps, launchers, ``--cfg``, shell completion.

Hydra's own errors become one line; ours pass through it. What becomes of the jobs of a sweep: ``kd_bench/sweeping.py``.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_bench.composing import refuse_doubles
from kd_bench.data.presence import require
from kd_bench.errors import ConfigError, Interrupted, KDBenchError, Preempted, SweepError, nearest
from kd_bench.hydra_compose import composing
from kd_bench.hydra_guard import check_hydra
from kd_bench.paths import CONF
from kd_bench.runs.signals import stop_signals
from kd_bench.searching import found
from kd_bench.sweeping import (
    Carried,
    CheckedSweep,
    Sweep,
    failure_lines,
    hand_back,
    is_grid,
    is_in_this_process,
    leave_outcome,
)

# What brings Hydra's launchers and sweepers; see docs/engines.md.
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
EXTRAS |= {"ray_aws": "ray", "optuna": "optuna"}


def train(arguments: list[str]) -> int:
    """Run the application on ``arguments``.

    Raises:
        KDBenchError: the expected failures of a single run, a wrong configuration, or SweepError.
        Interrupted: stopped by a signal.
    """
    # Hydra reports errors itself and exits unless asked not to.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [sys.argv[0], *arguments]
    config_dir = _value_of("--config-dir", arguments)
    if config_dir:
        # Plugins that lie in or beside a folder of configurations are found.
        sys.path += [os.path.abspath(config_dir), os.path.dirname(os.path.abspath(config_dir))]
        refuse_doubles(Path(config_dir))
    CheckedSweep.forget()
    ended_by: Exception | None = None
    try:
        check_hydra(arguments)
        with stop_signals():
            _run_hydra()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, arguments)) from error
    except Exception as error:
        if CheckedSweep.started is None:
            raise
        ended_by = error
    sweep: Sweep | None = CheckedSweep.started
    lines = failure_lines(sweep, ended_by) if sweep else []
    if sweep and (line := found(sweep.folder)):
        print(line, flush=True)
    for line in lines[:-1]:
        print(f"kd-bench: {line}", file=sys.stderr)
    if lines:
        raise SweepError(lines[-1]) from ended_by
    return 0


def _run_hydra() -> None:
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job)()
    except Carried as carrier:
        raise carrier.failure from carrier.failure.__cause__
    except KeyboardInterrupt as error:
        raise Interrupted("stopped by the user; the same command resumes") from error


def job(cfg: DictConfig) -> float | None:
    """One job, in whatever process the launcher runs it.

    Returns:
        Validation top-1 of the weights in the headline, for sweepers that tune. None if the job of a grid failed: an
        error would keep some launchers from starting the others.

    Raises:
        Carried: a single run has failed.
        KDBenchError: a job has failed whose sweeper wants to know.
        Interrupted: stopped, and with it the jobs that this process would have run.
    """
    in_a_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    os.chdir(HydraConfig.get().runtime.cwd)  # the workers of a standing cluster begin somewhere else
    try:
        # A launcher that gave up may have left jobs behind that are still running.
        run_id, top1 = _trained(cfg, wait=in_a_sweep and not is_in_this_process(HydraConfig.get()))
    except Interrupted as stop:
        if not in_a_sweep or is_in_this_process(HydraConfig.get()):
            raise
        failure = _not_handed_back(stop)
    except (Exception, SystemExit) as error:
        # A method that leaves the process would take the rest of a sweep along.
        if not isinstance(error, KDBenchError | SystemExit):
            traceback.print_exc()
        failure = error if isinstance(error, KDBenchError) else KDBenchError(f"{type(error).__name__}: {error}")
        if not in_a_sweep:
            raise Carried(failure) from error
    else:
        if in_a_sweep:
            leave_outcome(run_id=run_id, validation_top1=top1)
        return top1
    leave_outcome(" ".join(str(failure).split()))
    if not is_grid(HydraConfig.get()):
        raise failure
    return None


def _trained(cfg: DictConfig, wait: bool) -> tuple[str, float]:
    """The run's id and its validation top-1.

    Args:
        wait: until another process that trains this very run is done.
    """
    _check_presence(cfg)
    from kd_bench.train import run

    record = run(cfg, wait=wait)
    return record.run_id, record.headline().validation.top1


def _not_handed_back(stop: Interrupted) -> KDBenchError:
    """What to report of a job that was stopped and could not be queued again."""
    try:
        if isinstance(stop, Preempted):
            hand_back(stop)
    except Exception as error:  # submitit's reason
        return KDBenchError(str(error))
    return KDBenchError(str(stop))


def _check_presence(cfg: DictConfig) -> None:
    """Absent data are told of within a second. A configuration that cannot be read is left to its own check."""
    with suppress(OmegaConfBaseException):
        require(cfg.dataset.source)


def complete(arguments: list[str], commands: Iterable[str]) -> int:
    """Shell completion: of the command's name here, of everything behind ``train`` by Hydra."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split(" ")
    if "query=" in " ".join(arguments) and len(words) <= 2:
        print(" ".join(name for name in commands if name.startswith(words[-1])))
        return 0
    if len(words) > 2 and words[1] != "train":
        return 0
    os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    return train(arguments)


def _value_of(flag: str, arguments: list[str]) -> str | None:
    for position, argument in enumerate(arguments):
        if argument in (flag, "-cd") and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def explain(error: Exception, arguments: list[str]) -> str:
    """One line that names the key, what was found and the nearest valid choice."""
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, MissingConfigException):
        cause = cause.__cause__
    if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
        group, _, choice = cause.missing_cfg_file.rpartition("/")
        if extra := EXTRAS.get(choice if group.startswith("hydra/") else ""):
            return f"{group}={choice!r}: needs the extra: pip install 'kd-bench[{extra}]'"
        options = [str(option) for option in cause.options or [] if not str(option).startswith("_")]
        hint = nearest(choice, options) or f"; allowed: {', '.join(sorted(options))}"
        return f"{group}={choice!r}: no such choice{hint}"
    text = "\n".join(str(e) for e in (error, cause))
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], arguments)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(cause).__name__)


def _unknown_key(key: str, arguments: list[str]) -> str:
    parent, _, name = key.rpartition(".")
    known = _keys(parent, arguments)
    if name in known:
        return f"{key}: has no such entry yet; add one with a plus: +{key}.NAME=VALUE or '+{key}={{NAME: VALUE}}'"
    hint = nearest(name, known) or (f"; allowed: {', '.join(sorted(known))}" if known else "")
    return f"{key}: unknown key{hint}"


def _keys(parent: str, arguments: list[str]) -> list[str]:
    """The keys below ``parent`` in the configuration that the chosen files alone give."""
    choices = [a for a in arguments if re.fullmatch(r"[a-z]+=[\w/]+", a) and (CONF / a.partition("=")[0]).is_dir()]
    config_dir = _value_of("--config-dir", arguments)
    search = [f"hydra.searchpath=[file://{os.path.abspath(config_dir)}]"] if config_dir else []
    try:
        with composing():
            cfg = hydra.compose("train", overrides=[*choices, *search])
    except (HydraException, OmegaConfBaseException):
        return []
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return [str(name) for name in node if name != "_target_"] if isinstance(node, DictConfig) else []
