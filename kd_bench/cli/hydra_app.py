"""``kd-bench train`` as a Hydra application: overrides, ``-m`` sweeps, launchers, ``--cfg``, shell completion.

Hydra's own errors become one line; ours pass through it. The outcomes of a sweep's jobs are read in
``kd_bench/runs/studies/sweep.py``.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd_bench.cli.listing import names
from kd_bench.config.explain import explain, value_of
from kd_bench.config.folders import check_folder
from kd_bench.config.guard import check_hydra
from kd_bench.config.paths import CONF
from kd_bench.config.plugins import look_in
from kd_bench.data.presence import require
from kd_bench.errors import ConfigError, Interrupted, KDBenchError, Preempted, SweepError
from kd_bench.results.text.escape import visible
from kd_bench.runs.studies.search import found
from kd_bench.runs.studies.sweep import (
    Carried,
    CheckedSweep,
    Sweep,
    failure_lines,
    hand_back,
    is_grid,
    is_in_this_process,
    leave_outcome,
)
from kd_bench.training.signals import end_with_parent, stop_signals


def train(arguments: list[str]) -> int:
    """Run the application on ``arguments``.

    Raises:
        KDBenchError: the expected failures of a single run, a wrong configuration, or SweepError.
        Interrupted: stopped by a signal.
    """
    # Hydra reports errors itself and exits unless asked not to.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    arguments = _overrides_together(arguments)
    sys.argv = [sys.argv[0], *arguments]
    config_dir = value_of("--config-dir", arguments)
    if config_dir:
        look_in(config_dir)
        check_folder(Path(config_dir))
    CheckedSweep.forget()
    ended_by: Exception | None = None
    try:
        check_hydra(arguments)
        with stop_signals():
            _run_hydra()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, arguments)) from error
    except Exception as error:
        if CheckedSweep.started is None and isinstance(error, ValueError | RecursionError):  # of Hydra, before any job
            raise ConfigError(explain(error, arguments)) from error
        if CheckedSweep.started is None:
            raise
        ended_by = error
    sweep: Sweep | None = CheckedSweep.started
    lines = failure_lines(sweep, ended_by) if sweep else []
    if sweep and (line := found(sweep.folder)):
        print(line, flush=True)
    for line in lines[:-1]:
        print(f"kd-bench: {visible(line)}", file=sys.stderr)
    if lines:
        raise SweepError(lines[-1]) from ended_by
    return 0


def _overrides_together(arguments: list[str]) -> list[str]:
    """Put overrides before the flags if they stand on both sides of one, which Hydra's parser would refuse."""
    options, rest = get_args_parser().parse_known_args(arguments)
    late = [argument for argument in rest if not argument.startswith("-")]
    overrides, flags = [*options.overrides, *late], list(arguments)
    for override in overrides:
        flags.remove(override)
    return [*overrides, *flags] if late else arguments


def _run_hydra() -> None:
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job)()
    except Carried as carrier:
        raise carrier.failure from carrier.failure.__cause__
    except KeyboardInterrupt as error:
        raise Interrupted("stopped by the user; the same command resumes") from error


def job(cfg: DictConfig) -> float | None:
    """Train one run, in whatever process the launcher has started for it.

    Returns:
        Validation top-1 of the weights in the headline, for sweepers that tune. None if the job of a grid failed: an
        error would keep some launchers from starting the others.

    Raises:
        Carried: a single run has failed.
        KDBenchError: a job has failed whose sweeper wants to know.
        Interrupted: stopped, and with it the jobs that this process would have run.
    """
    in_a_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if multiprocessing.current_process().name != "MainProcess":  # a worker of joblib
        end_with_parent()
    os.chdir(HydraConfig.get().runtime.cwd)  # the workers of a standing cluster begin somewhere else
    _look_for_plugins()
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


def _look_for_plugins() -> None:
    """Look where the command looks, also in a process of a launcher that knows nothing of the command."""
    for source in HydraConfig.get().runtime.config_sources:
        if source.provider == "command-line":
            look_in(source.path)


def _trained(cfg: DictConfig, wait: bool) -> tuple[str, float]:
    """Train the run; return its id and its validation top-1 in [0, 1].

    Args:
        wait: until another process that trains this very run is done.
    """
    _check_presence(cfg)
    from kd_bench.runs.run import run

    record = run(cfg, wait=wait)
    return record.run_id, record.headline().validation.top1


def _not_handed_back(stop: Interrupted) -> KDBenchError:
    """Queue a stopped job again; return the error to report where that is not possible."""
    try:
        if isinstance(stop, Preempted):
            hand_back(stop)
    except Exception as error:  # submitit's reason
        return KDBenchError(str(error))
    return KDBenchError(str(stop))


def _check_presence(cfg: DictConfig) -> None:
    """Report absent data within a second. A configuration that cannot be read is left to its own check."""
    with suppress(OmegaConfBaseException):
        require(cfg.dataset.source)


def complete(arguments: list[str], commands: Iterable[str]) -> int:
    """Complete a line of the shell: commands and studies by their names, everything behind ``train`` by Hydra."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split(" ")
    known = commands if len(words) <= 2 else names("studies") if words[1] in ("study", "status") else []
    if "query=" in " ".join(arguments) and len(words) <= 3 and known:
        print(" ".join(name for name in known if name.startswith(words[-1])))
        return 0
    if len(words) > 2 and words[1] != "train":
        return 0
    os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    return train(arguments)
