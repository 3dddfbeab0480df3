"""Searches for hyperparameters, by validation accuracy. The record of every trial has the budget of its search."""

import itertools
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from kd_bench.errors import ConfigError

SPACE = "give the space as tuning.space={KEY: 'interval(LOW, HIGH)'}"
FOUND = "optimization_results.yaml"  # left by Optuna's sweeper in the folder of the sweep


def check_search(config: DictConfig) -> list[list[str]]:
    """Refuse a search that minimises, or whose budget or space would be missing from the records of its trials.

    Returns:
        Points of its space, to be checked before a trial starts: the ends of intervals and every choice.

    Raises:
        ConfigError: names the key.
    """
    hydra = config.hydra
    if not str(hydra.sweeper._target_).endswith(".OptunaSweeper"):
        raise ConfigError(f"hydra.sweeper={hydra.sweeper._target_}: its budget cannot be recorded; use tuning=optuna")
    direction = getattr(hydra.sweeper.direction, "name", hydra.sweeper.direction)
    if direction != "maximize":
        raise ConfigError(f"hydra.sweeper.direction={direction}: should be maximize, for accuracies; use tuning=optuna")
    space = _container(config.tuning.space)
    if not space:
        raise ConfigError(f"tuning.space: is missing; {SPACE}")
    axes = [override for override in _parsed(list(hydra.overrides.task)) if override.is_sweep_override()]
    if axes or _container(hydra.sweeper.params) != space or hydra.sweeper.get("search_space"):
        wrong = axes[0].input_line if axes else "hydra.sweeper.params"
        raise ConfigError(f"{wrong}: is not recorded; {SPACE}")
    _check_budget(hydra, config.tuning.trials)
    values = [_values(axis) for axis in _parsed([f"{key}={axis}" for key, axis in space.items()])]
    points = zip(*(itertools.islice(itertools.cycle(each), max(map(len, values))) for each in values), strict=True)
    return [[*hydra.overrides.task, *point] for point in points]


def _check_budget(hydra: HydraConf, trials: int) -> None:
    sweeper = hydra.sweeper
    earlier = _earlier(sweeper.storage, sweeper.study_name)
    if sweeper.n_trials != trials - earlier:
        held = f", of which {sweeper.storage} holds {earlier}" if earlier else ""
        raise ConfigError(
            f"hydra.sweeper.n_trials={sweeper.n_trials}: should be {max(0, trials - earlier)}, since records will say "
            f"tuning.trials={trials}{held}"
        )


def _earlier(storage: str | None, study: str | None) -> int:
    """Count the trials of the search that have ended before and are in a storage."""
    if storage is None or study is None:
        return 0
    import optuna

    if study not in [each.study_name for each in optuna.get_all_study_summaries(storage)]:
        return 0
    return sum(trial.state.is_finished() for trial in optuna.load_study(study, storage).trials)


def _parsed(lines: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(lines)
    except HydraException as error:
        raise ConfigError(f"tuning.space: {str(error).splitlines()[0]}") from error


def _values(axis: Override) -> list[str]:
    """Return an axis at the ends of its interval or range, or at each of its choices."""
    key, value = axis.get_key_element(), axis.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    if not axis.is_sweep_override():
        raise ConfigError(f"tuning.space: {axis.input_line}: is one value; write interval(LOW, HIGH) or choice(A, B)")
    values = [f"{key}={each}" for each in axis.sweep_string_iterator()]
    return values if axis.is_choice_sweep() else [values[0], values[-1]]


def _container(node: DictConfig | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in node.items()} if node else {}


def found(folder: Path) -> str | None:
    """Return one line with the best overrides of a search; None if it has not ended."""
    if not (folder / FOUND).is_file():
        return None
    result = OmegaConf.load(folder / FOUND)
    assert isinstance(result, DictConfig)
    values = " ".join(f"{key}={value}" for key, value in result.best_params.items())
    return f"best validation top-1 {100 * result.best_value:.2f} %: {values} (trials: {folder})"
