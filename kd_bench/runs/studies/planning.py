"""The plan of a study: its runs, their order and their cost. It needs torch, and so has a process of its own."""

import math
from dataclasses import replace

from omegaconf import DictConfig

from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.data.source import ImageArrays
from kd_bench.errors import ConfigError
from kd_bench.results.records.directory import finished
from kd_bench.results.records.record import Record
from kd_bench.runs.lineage import Role, earlier_runs, load_arrays, resolve
from kd_bench.runs.preview import step_cost
from kd_bench.runs.run import data_module
from kd_bench.runs.studies.grid import StudyRun
from kd_bench.runs.studies.pairs import Checked, Pairs, key_of
from kd_bench.runs.studies.tasks import Task
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import Pair, build


def plan(points: list[StudyRun], estimate: bool = False, skip_refused: bool = False) -> list[Task]:
    """Return every run of a study, those that others learn from before them.

    Args:
        estimate: measure a training step of each kind of run, for the expected duration.
        skip_refused: keep points that are refused as such instead of raising.

    Raises:
        ConfigError: lists every point of the grid that is wrong; none has been started.
        IntegrityError: the data set is absent or damaged.
    """
    pairs = Pairs()
    checked = [(point, _checked_or_why_not(pairs, point.cfg)) for point in points]
    problems = [(point.label, one) for point, one in checked if isinstance(one, str)]
    if problems and not skip_refused:
        raise ConfigError(f"{len(problems)} of {len(points)} runs are wrong, none was started: {_by_cause(problems)}")
    planner = _Planner(estimate, pairs)
    refused = []
    for number, (point, one) in enumerate(checked):
        if isinstance(one, str):
            refused.append(Task(f"refused-{number}", point.label, point.cfg, "student", refused=one))
        else:
            planner.add(point.label, one, "student")
    return [*planner.tasks.values(), *refused]


def _checked_or_why_not(pairs: Pairs, cfg: DictConfig) -> Checked | str:
    try:
        return pairs.checked(cfg)
    except ConfigError as error:
        return str(error)


def _by_cause(problems: list[tuple[str, str]]) -> str:
    """Name each cause once, with the runs that it concerns."""
    labels: dict[str, list[str]] = {}
    for label, cause in problems:
        labels.setdefault(cause, []).append(label)
    return "; ".join(
        f"{cause} ({'; '.join(each[:3])}{'; ...' if len(each) > 3 else ''})" for cause, each in labels.items()
    )


class _Planner:
    def __init__(self, estimate: bool, pairs: Pairs) -> None:
        self.tasks: dict[str, Task] = {}
        self._records: dict[str, Record | None] = {}
        self._estimate, self._pairs = estimate, pairs
        self._step_seconds: dict[str, float] = {}

    def add(self, label: str, one: Checked, role: Role) -> str:
        """Add a run after those that it learns from; return its key."""
        key = key_of(one.config.recorded())
        if key in self.tasks:
            if role == "student":  # what others learn from is a point of the grid as well
                self.tasks[key] = replace(self.tasks[key], label=label, role=role)
            return key
        arrays = load_arrays(one.config, one.pair)
        after = tuple(self.add(*self._earlier(cfg, kind)) for cfg, kind in earlier_runs(one.cfg, one.config, one.pair))
        run_id = self._run_id(one, arrays)
        record = finished(one.config.runs / run_id) if run_id else None
        self._records[key] = record
        seconds = self._seconds(one, arrays) if self._estimate and record is None else None
        self.tasks[key] = Task(key, label, one.cfg, role, after, run_id, record is not None, seconds)
        return key

    def _earlier(self, cfg: DictConfig, role: Role) -> tuple[str, Checked, Role]:
        one = self._pairs.checked(cfg)
        name = "teacher" if role == "teacher" else one.config.names.method
        return f"{name} {one.config.student.name} seed {one.config.seed}", one, role

    def _run_id(self, one: Checked, arrays: ImageArrays) -> str | None:
        def obtain(cfg: DictConfig, role: Role) -> Record:
            record = self._records[key_of(check(cfg).recorded())]
            if record is None:
                raise _Unfinished
            return record

        try:
            return resolve(one.cfg, one.config, one.pair, arrays, obtain)[2]
        except _Unfinished:
            return None

    def _seconds(self, one: Checked, arrays: ImageArrays) -> float:
        """Return the estimated seconds of training: those of all steps, without the optimizer and the evaluation."""
        config = one.config
        same = [config.dataset.image_size, config.teacher.model_dump(), config.student.model_dump(), config.method]
        kind = key_of(*same, config.recipe.batch_size, config.trainer.model_dump())
        if kind not in self._step_seconds:
            with torch_threads(config.trainer.threads):
                self._step_seconds[kind] = step_cost(config, build(config))["seconds"]
        samples = len(data_module(config, one.pair, arrays).train)
        return training_steps(config, one.pair, samples) * self._step_seconds[kind]


def training_steps(config: RunConfig, pair: Pair, samples: int) -> int:
    """Count the steps of all epochs, pretraining included, on ``samples`` training images."""
    epochs = config.recipe.epochs + pair.method.pretrain_epochs
    return epochs * math.ceil(samples / config.recipe.batch_size)


class _Unfinished(Exception):
    pass
