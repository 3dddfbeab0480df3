"""Sweeps on any launcher: the whole grid is checked before a job starts, and each job leaves its outcome in a file.

The outcomes are read from these files and never from the results of a launcher: most drop every result when one worker
dies, and SLURM calls a job that raised an error completed. Needs no torch before a grid is checked.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.explain import explain
from kd_bench.config.files import write_atomically
from kd_bench.config.guard import problems
from kd_bench.errors import ConfigError, KDBenchError, Preempted
from kd_bench.runs.studies.points import Composer
from kd_bench.runs.studies.search import check_search

if TYPE_CHECKING:
    from kd_bench.runs.studies.pairs import Pairs

HYDRAS_CHECK = HydraSweeper.validate_batch_is_legal  # of the points that a search makes up
RAY = (".RayLauncher", ".RayAWSLauncher")
ELSEWHERE = (".SlurmLauncher", *RAY)  # may start jobs on other machines
POINTS_SHOWN = 5
REFUSED_SHOWN = 10
SECONDS_TO_BE_ENDED = 600.0  # that SLURM may take to end a job which it has queued again


class Carried(BaseException):
    """Carries a failure through Hydra, which would report an ``Exception`` in its own words, or as a warning."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(failure)
        self.failure = failure


@dataclass(frozen=True)
class Sweep:
    """A sweep under way: where its jobs leave their outcomes, and its points; None if a search makes them up."""

    folder: Path
    points: list[str] | None


class CheckedSweep(Callback):
    """Checks the grid when Hydra is about to start its jobs; ``hydra.callbacks`` in ``conf/train.yaml`` names it."""

    started: ClassVar[Sweep | None] = None

    @classmethod
    def forget(cls) -> None:
        """Forget the sweep before the next command of this process."""
        cls.started = None

    def on_multirun_start(self, config: DictConfig, **arguments: Any) -> None:
        """Note the sweep, or refuse it.

        Raises:
            Carried: a ConfigError that names every point that is wrong, or Hydra's own error.
        """
        try:
            points = _grid(config) if is_grid(config.hydra) else check_search(config)
            labels = _labels(points)
            _check(config, dict(zip(labels, points, strict=True)))
        except Exception as error:
            raise Carried(error) from error
        # Hydra makes a class of its own of the file of BasicSweeper, but not of its base's.
        checked = _checked_before if is_grid(config.hydra) else HYDRAS_CHECK
        HydraSweeper.validate_batch_is_legal = checked  # type: ignore[assignment]
        CheckedSweep.started = Sweep(_folder(config.hydra), labels if is_grid(config.hydra) else None)
        if str(config.hydra.launcher._target_).endswith(RAY):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # while it waits Ray lets no other exception out


def _checked_before(sweeper: HydraSweeper, batch: Sequence[Sequence[str]]) -> None:
    """Stand in for Hydra's own check of a grid, which composes each point again, all choices included."""


def is_grid(hydra: HydraConf) -> bool:
    """Return whether all points of the sweep are known before it starts."""
    return str(hydra.sweeper._target_).endswith(".BasicSweeper")


def is_in_this_process(hydra: HydraConf) -> bool:
    """Return whether the jobs run one after the other in the process of the command."""
    return str(hydra.launcher._target_).endswith(".BasicLauncher")


def _folder(hydra: HydraConf) -> Path:
    return Path(hydra.runtime.cwd, hydra.sweep.dir)


def _grid(config: DictConfig) -> list[list[str]]:
    """Return the overrides of every point, as Hydra's own sweeper expands them."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides([*params, *config.hydra.overrides.task])
    (points,) = BasicSweeper.split_arguments(overrides, None)
    return points


def _labels(points: list[list[str]]) -> list[str]:
    """Return the overrides in which the points differ; all of them where there is only one point."""
    varying = [len(set(values)) > 1 or len(points) == 1 for values in zip(*points, strict=True)]
    return [" ".join(each for each, shown in zip(point, varying, strict=True) if shown) for point in points]


def _check(config: DictConfig, points: dict[str, list[str]]) -> None:
    """Raise ConfigError unless every point can be composed, passes the checks and can be built."""
    from kd_bench.runs.studies.pairs import Pairs

    pairs = Pairs(device_here=not str(config.hydra.launcher._target_).endswith(ELSEWHERE))
    composer = Composer(lambda point: GlobalHydra.instance().config_loader().load_sweep_config(config, point))
    before = HydraConfig.instance().cfg
    try:
        problems = {label: _problem(composer, pairs, point) for label, point in points.items()}
    finally:
        HydraConfig.instance().cfg = before
    wrong = [f"{label}: {problem}" for label, problem in problems.items() if problem]
    if wrong:
        raise ConfigError(
            f"{len(wrong)} of {len(points)} points are wrong, none was started: {_some(wrong, REFUSED_SHOWN)}"
        )


@lru_cache(maxsize=1)  # points with the same choices share Hydra's part
def _of_hydra(part: Any) -> str | None:
    return next(problems(part), None)


def _problem(composer: Composer, pairs: "Pairs", point: list[str]) -> str | None:
    """Return why a point is refused; None if it is not."""
    application = GlobalHydra.instance().hydra
    try:
        written = composer(point)
        if problem := _of_hydra(HydraConfig.instance().cfg):
            return problem
        pairs.checked(written)
    except ConfigError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        reason = explain(error, point)  # which composes, and so needs a Hydra of its own
        GlobalHydra.instance().hydra = application
        return reason
    return None


def leave_outcome(failure: str | None = None, **result: Any) -> None:
    """Write the outcome of this job to its file, wherever it ran.

    Args:
        failure: the reason; None if the job has its record.
        result: values for the readers of a search.
    """
    hydra = HydraConfig.get()
    searched = () if is_grid(hydra) else tuple(f"{key}=" for key in hydra.sweeper.params)
    point = [override for override in hydra.overrides.task if not searched or override.startswith(searched)]
    outcome = {"point": " ".join(point), "failure": failure, **result}
    write_atomically(_folder(hydra) / f"job-{hydra.job.num}.json", json.dumps(outcome) + "\n")


def hand_back(stop: Preempted) -> None:
    """Let SLURM queue this job again, as ``submitit`` started it; the next attempt resumes the run.

    Returns where that is not possible.

    Raises:
        SystemExit: submitit has queued the job again.
        Exception: submitit's, in its words: why it has not.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return
    if stop.number == signal.SIGUSR2:
        signal.raise_signal(stop.number)  # submitit's own handler, which counts how often the time was not enough
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    # With a grace time SLURM takes a job that leaves by itself for a finished one and does not queue it again.
    subprocess.run(["scontrol", "requeue", job], check=False)
    time.sleep(SECONDS_TO_BE_ENDED)


def failure_lines(sweep: Sweep, error: Exception | None) -> list[str]:
    """Return one line for each cause, with the jobs that failed of it; none if every job has its record.

    Args:
        error: the error of a launcher or sweeper that ended the sweep.
    """
    outcomes = _outcomes(sweep.folder)
    points = dict(enumerate(sweep.points)) if sweep.points else {n: str(each["point"]) for n, each in outcomes.items()}
    failed: dict[str, list[str]] = {}
    for number, outcome in outcomes.items():
        if outcome["failure"] is not None:
            failed.setdefault(outcome["failure"], []).append(points[number])
    count = f"of {len(points)} jobs"
    lines = [f"{len(names)} {count} failed: {cause} ({_some(names)})" for cause, names in failed.items()]
    if lost := [point for number, point in points.items() if number not in outcomes]:
        lines.append(f"{len(lost)} {count} have no result: {_words(error)} ({_some(lost)})")
    elif error is not None and not isinstance(error, KDBenchError):
        lines.append(f"the sweep ended early: {_words(error)}")
    return lines


def _outcomes(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the outcomes of the jobs by their numbers."""
    files = {int(path.stem.removeprefix("job-")): path for path in folder.glob("job-*.json")}
    return {number: json.loads(path.read_text(encoding="utf-8")) for number, path in sorted(files.items())}


def _some(names: Sequence[str], shown: int = POINTS_SHOWN) -> str:
    more = f"; and {len(names) - shown} more" if len(names) > shown else ""
    return "; ".join(names[:shown]) + more


def _words(error: Exception | None) -> str:
    """Return the first line of a foreign error that is not empty."""
    if error is None:
        return "their processes are gone"
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"
