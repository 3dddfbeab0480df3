"""A study is a question with a grid of runs: ``experiments/<name>/study.yaml``, a primary Hydra configuration.

Its grid stands where Hydra looks for it, in ``hydra.sweeper.params``; the same file also works as
``kd-bench train --config-dir experiments/<name> --config-name study -m``.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.composition import choices, composing, quoted
from kd_bench.config.explain import explain
from kd_bench.config.folders import check_folder, read_yaml
from kd_bench.config.guard import check_composed, copying_no_environment
from kd_bench.config.paths import CONF, EXPERIMENTS
from kd_bench.config.plugins import look_in
from kd_bench.errors import ConfigError, nearest
from kd_bench.runs.studies.points import Composer
from kd_bench.runs.studies.sweep import is_grid, is_in_this_process
from kd_bench.runs.studies.written import Written

_SEARCH = f"hydra.searchpath=[{quoted(f'file://{CONF}')}]"


@dataclass(frozen=True)
class StudyRun:
    """One point of a study's grid: its overrides and its configuration."""

    label: str
    written: Written

    @property
    def cfg(self) -> DictConfig:
        """The composed configuration, as a task sees it."""
        return self.written.cfg


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it.

    Attributes:
        name: of the study, or the path of its folder.
        runs: where its runs go.
        compose: returns its points.
        hydra_folder: the folder of a study whose runs are started by one of Hydra's launchers or made up by a search;
            None where each point runs in a process of its own.
        overrides: of that folder's configuration; axes that were replaced stand where Hydra looks for its grid.
        folder: of its ``study.yaml``, without links.
    """

    name: str
    runs: Path
    compose: Callable[[], list[StudyRun]]
    hydra_folder: Path | None = None
    overrides: tuple[str, ...] = ()
    folder: Path | None = None

    @cached_property
    def points(self) -> list[StudyRun]:
        """Every point of the grid, composed when it is first asked for; the last key changes fastest.

        Raises:
            ConfigError: a point cannot be composed.
        """
        return self.compose()

    @property
    def status_file(self) -> Path:
        """The file that says how the study stands."""
        return self.logs.with_name(f"{self.logs.name}.json")

    @property
    def logs(self) -> Path:
        """The folder for what the runs of the study print; studies of one name in different places have their own."""
        folder = self.folder or EXPERIMENTS / self.name
        elsewhere = folder.parent != EXPERIMENTS
        suffix = f"-{hashlib.sha256(bytes(folder)).hexdigest()[:8]}" if elsewhere else ""
        return self.runs / "studies" / f"{folder.name}{suffix}"


def open_study(name: str, overrides: list[str]) -> Study:
    """Open a study: its base is composed now, its points when they are needed.

    Args:
        name: of a folder in ``experiments/``, or the path of a folder with a ``study.yaml``.
        overrides: of an axis of the grid replace that axis; the others hold for all points.

    Raises:
        ConfigError: there is no such study, its grid is no mapping, or an override is wrong.
    """
    folder = _folder(name)
    check_folder(folder)
    look_in(folder)
    with composing(folder), _explained(overrides):
        common, narrowed = _apart(overrides, _axes(name, folder / "study.yaml"))
        shared = [_SEARCH, *common]
        with copying_no_environment():
            base = hydra.compose("study", [*shared, *narrowed], return_hydra_config=True)
        if folder.parent != EXPERIMENTS:
            check_composed(base, [*shared, *narrowed])
        runs = Path(base.paths.runs).expanduser()

    def compose() -> list[StudyRun]:
        if not base.hydra.sweeper.params:
            raise ConfigError(f"study {name!r}: {folder / 'study.yaml'} has no grid: hydra.sweeper.params is missing")
        points = _grid(OmegaConf.to_container(base.hydra.sweeper.params))
        with composing(folder):
            return _runs("study", [(", ".join(point).replace("=", " "), [*shared, *point]) for point in points])

    is_ours = is_grid(base.hydra) and is_in_this_process(base.hydra)
    return Study(name, runs, compose, None if is_ours else folder, (*common, *narrowed), folder)


def _axes(name: str, file: Path) -> list[str]:
    """Return the keys of the grid that stands in a file; none if the file has no grid, or that of a search.

    Raises:
        ConfigError: the grid is no mapping.
    """
    node = read_yaml(file)
    for key in ("hydra", "sweeper", "params"):
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        return list(node)
    if node in (None, "", "null", "~") or str(node).startswith("${"):
        return []
    expected = "should be a mapping of keys to values, such as {method: 'kd,at'}"
    raise ConfigError(f"study {name!r}: {file} has no grid: hydra.sweeper.params {expected}")


def _apart(overrides: list[str], axes: list[str]) -> tuple[list[str], list[str]]:
    """Return the overrides that hold for all points, and one of Hydra's grid that replaces the axes of the others.

    Raises:
        ConfigError: a key that is no axis is given several values.
    """
    known = {axis.lstrip("+"): axis for axis in axes}
    common, given = [], {}
    for override in OverridesParser.create().parse_overrides(overrides):
        text = str(override.input_line)
        if axis := known.get(override.get_key_element().lstrip("+")):
            given[axis] = text.partition("=")[2]
        elif axes and override.is_sweep_override():
            raise ConfigError(f"{text}: takes one value; only axes of the grid take several: {', '.join(axes)}")
        else:
            common.append(text)
    params = ", ".join(f"{axis}: {quoted(value)}" for axis, value in given.items())
    return common, [f"hydra.sweeper.params={{{params}}}"] if given else []


def compose_list(labelled: list[tuple[str, list[str]]]) -> list[StudyRun]:
    """Compose the runs of a study that is no grid: labels, each with its overrides of ``conf/train.yaml``.

    Raises:
        ConfigError: an override does not fit.
    """
    with composing():
        return _runs("train", labelled)


def _runs(config: str, labelled: list[tuple[str, list[str]]]) -> list[StudyRun]:
    composer = Composer(lambda overrides: hydra.compose(config, overrides, return_hydra_config=True))
    runs = []
    for label, overrides in labelled:
        with _explained(overrides):
            runs.append(StudyRun(label, composer(overrides)))
    return runs


@contextmanager
def _explained(overrides: list[str]) -> Iterator[None]:
    """Turn Hydra's errors into a ConfigError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


def _folder(name: str) -> Path:
    for folder in (EXPERIMENTS / name, Path(name)):
        if (folder / "study.yaml").is_file():
            return folder.resolve()
    known = [path.parent.name for path in EXPERIMENTS.glob("*/study.yaml")]
    raise ConfigError(f"study {name!r}: no such study{nearest(name, known) or f'; there are: {sorted(known)}'}")


@_explained([])
def _grid(params: object) -> list[list[str]]:
    assert isinstance(params, dict)
    axes = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return [list(point) for point in itertools.product(*map(_values, axes))]


def _values(axis: Override) -> list[str]:
    """Return every override that an axis stands for; ``glob(*)`` means the choices of a group."""
    key = axis.get_key_element()
    value: object = axis.value()
    if isinstance(value, Glob):
        return [f"{key}={name}" for name in value.filter(choices(key))]
    if axis.is_sweep_override():
        return [f"{key}={each}" for each in axis.sweep_string_iterator()]
    return [str(axis.input_line)]
