"""A study is a question with a grid of runs: ``experiments/<name>/study.yaml``, a primary Hydra configuration.

Its grid stands where Hydra looks for it, in ``hydra.sweeper.params``; the same file also works as
``kd-bench train --config-dir experiments/<name> --config-name study -m``.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pytorch_lightning.callbacks import Callback

from kd_bench.composing import composed, composing, quoted
from kd_bench.errors import ConfigError, KDBenchError, SweepError, nearest
from kd_bench.leaderboard import terminal_table, write_leaderboard
from kd_bench.paths import CONF, EXPERIMENTS


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
    folder = EXPERIMENTS / name
    if not (folder / "study.yaml").is_file():
        known = [path.parent.name for path in EXPERIMENTS.glob("*/study.yaml")]
        raise ConfigError(f"study {name!r}: no such study{nearest(name, known)}")
    with composing(folder):
        search = f"hydra.searchpath=[{quoted(f'file://{CONF}')}]"
        base = hydra.compose("study", overrides=[search, *overrides], return_hydra_config=True)
        points = _grid(OmegaConf.to_container(base.hydra.sweeper.params or {}))
        return [
            StudyRun(", ".join(point).replace("=", " "), composed("study", [search, *overrides, *point]))
            for point in points
        ]


def _grid(params: object) -> list[list[str]]:
    assert isinstance(params, dict)
    axes = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    choices = [
        [f"{axis.get_key_element()}={value}" for value in axis.sweep_string_iterator()]
        if axis.is_sweep_override()
        else [str(axis.input_line)]
        for axis in axes
    ]
    return [list(point) for point in itertools.product(*choices)]


def demo(runs: Path | None) -> None:
    """Run the study ``demo`` and show its leaderboard.

    Args:
        runs: where the runs go, instead of what the study says.

    Raises:
        SweepError: some of its runs failed; the others are done and shown.
    """
    started = time.monotonic()
    where = [f"paths.runs={quoted(str(runs))}"] if runs else []
    points = compose_study("demo", ["trainer.progress=none", *where])
    directory = Path(points[0].cfg.paths.runs)
    print(_opening(EXPERIMENTS / "demo" / "README.md"), flush=True)
    failures = run_in_turn(points)
    summary = write_leaderboard(directory, directory / "leaderboard")
    print(f"\n{terminal_table(summary.boards)}\n")
    print(f"{summary}; {time.monotonic() - started:.0f} s")
    print(f"leaderboard: {(directory / 'leaderboard' / 'index.html').resolve()}")
    if failures:
        raise SweepError(f"{len(failures)} of {len(points)} runs failed: {'; '.join(failures)}")


def _opening(readme: Path) -> str:
    """The text of a study's README before its first section: the question and how it is asked."""
    return readme.read_text(encoding="utf-8").split("\n## ")[0].lstrip("# ").strip() + "\n"


def run_in_turn(points: list[StudyRun]) -> list[str]:
    """Check every point before the first one starts, then run them; a failure does not stop the others.

    Returns:
        One line for each run that failed.
    """
    print(f"{len(points)} runs; finished ones are only read", flush=True)
    from kd_bench.building import build
    from kd_bench.config import check
    from kd_bench.train import run

    for point in points:
        build(check(point.cfg))
    failures = []
    with _shown(len(points)) as display:
        for number, point in enumerate(points, start=1):
            began = time.monotonic()
            try:
                record = run(point.cfg, callbacks=(display.callbacks,))
            except KDBenchError as error:
                failures.append(f"{point.label}: {error}")
                display.done(f"[{number}/{len(points)}] {point.label}: FAILED: {error}")
                continue
            top1 = 100 * record.headline().test.top1
            seconds = time.monotonic() - began
            display.done(f"[{number}/{len(points)}] {point.label}: test top-1 {top1:.2f} % ({seconds:.1f} s)")
    return failures


class _Display:
    """A line for each finished run; on a terminal also a bar over the runs and one over the current run's epochs."""

    def __init__(self, progress: Progress, runs: int) -> None:
        self._progress = progress
        self._runs = progress.add_task("runs", total=runs)
        self._epochs = progress.add_task("", total=None)

    def callbacks(self) -> "list[Callback]":
        from kd_bench.progress import Listener

        return [Listener(self._epoch)]

    def _epoch(self, title: str, done: int, epochs: int) -> None:
        self._progress.update(self._epochs, description=title, completed=done, total=epochs)

    def done(self, line: str) -> None:
        self._progress.advance(self._runs)
        self._progress.console.print(line, highlight=False, markup=False)


@contextmanager
def _shown(runs: int) -> Iterator[_Display]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Display(progress, runs)
