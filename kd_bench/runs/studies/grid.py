"""A study is a question with a grid of runs: ``experiments/<name>/study.yaml``, a primary Hydra configuration.

Its grid stands where Hydra looks for it, in ``hydra.sweeper.params``; the same file also works as
``kd-bench train --config-dir experiments/<name> --config-name study -m``.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.composition import choices, composed, composing, quoted
from kd_bench.config.explain import explain
from kd_bench.config.overrides import refuse_doubles
from kd_bench.config.paths import CONF, EXPERIMENTS
from kd_bench.errors import ConfigError, nearest
from kd_bench.runs.studies.sweep import is_grid, is_in_this_process

_SEARCH = f"hydra.searchpath=[{quoted(f'file://{CONF}')}]"


@dataclass(frozen=True)
class StudyRun:
    """One point of a study's grid: its overrides and the composed configuration."""

    label: str
    cfg: DictConfig


def compose_study(name: str, overrides: list[str]) -> list[StudyRun]:
    """Every point of a study's grid, composed, in the order of the grid (the last key changes fastest).

    Args:
        overrides: hold for all points.

    Raises:
        ConfigError: there is no such study.
    """
    folder = study_folder(name)
    refuse_doubles(folder)
    with composing(folder):
        base = _base(overrides)
        points = _grid(OmegaConf.to_container(base.hydra.sweeper.params or {}))
        return [
            StudyRun(", ".join(point).replace("=", " "), composed("study", [_SEARCH, *overrides, *point]))
            for point in points
        ]


def compose_list(labelled: list[tuple[str, list[str]]]) -> list[StudyRun]:
    """The runs of a study that is no grid: labels, each with its overrides of ``conf/train.yaml``.

    Raises:
        ConfigError: an override that does not fit.
    """
    runs = []
    with composing():
        for label, overrides in labelled:
            try:
                runs.append(StudyRun(label, composed("train", overrides)))
            except (HydraException, OmegaConfBaseException) as error:
                raise ConfigError(explain(error, overrides)) from error
    return runs


def study_runs(name: str, overrides: list[str]) -> Path:
    """Where the runs of a study go.

    Raises:
        ConfigError: there is no such study, or an override is wrong.
    """
    with composing(study_folder(name)):
        return Path(_base(overrides).paths.runs).expanduser()


def is_for_hydra(name: str, overrides: list[str]) -> bool:
    """Whether the runs of a study are started by one of Hydra's launchers, or made up by a search.

    Raises:
        ConfigError: there is no such study, or an override is wrong.
    """
    with composing(study_folder(name)):
        hydra_part = _base(overrides).hydra
    return not (is_grid(hydra_part) and is_in_this_process(hydra_part))


def study_folder(name: str) -> Path:
    """The folder of a study, which may be one of the user's own: a path with a ``study.yaml``.

    Raises:
        ConfigError: there is no such study.
    """
    for folder in (EXPERIMENTS / name, Path(name)):
        if (folder / "study.yaml").is_file():
            return folder.resolve()
    known = [path.parent.name for path in EXPERIMENTS.glob("*/study.yaml")]
    raise ConfigError(f"study {name!r}: no such study{nearest(name, known) or f'; there are: {sorted(known)}'}")


def _base(overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose("study", overrides=[_SEARCH, *overrides], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


def _grid(params: object) -> list[list[str]]:
    assert isinstance(params, dict)
    axes = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return [list(point) for point in itertools.product(*map(_values, axes))]


def _values(axis: Override) -> list[str]:
    """Every override that an axis stands for; ``glob(*)`` means the choices of a group."""
    key = axis.get_key_element()
    value: object = axis.value()
    if isinstance(value, Glob):
        return [f"{key}={name}" for name in value.filter(choices(key))]
    if axis.is_sweep_override():
        return [f"{key}={each}" for each in axis.sweep_string_iterator()]
    return [str(axis.input_line)]
