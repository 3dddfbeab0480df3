"""Which runs a study needs, in which order, and what they would cost. Runs in a process of its own: it needs torch."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from kd_bench.runs.studies.tasks import Task
from kd_bench.training.pair import Pair, build


@dataclass(frozen=True)
class _Checked:
    """A run and its objects, which have no weights: planning asks for their structure, of hundreds of runs at once."""

    cfg: DictConfig
    config: RunConfig
    pair: Pair


def plan(points: list[StudyRun], estimate: bool = False, skip_refused: bool = False) -> list[Task]:
    """Every run of a study, those that others learn from before them.

    Args:
        estimate: measure a training step of each kind of run, for the expected duration.
        skip_refused: keep points that are refused as such instead of raising.

    Raises:
        ConfigError: lists every point of the grid that is wrong; none has been started.
        IntegrityError: the data set is absent or damaged.
    """
    pairs: dict[str, Pair] = {}
    checked = [(point, _checked_or_why_not(point.cfg, pairs)) for point in points]
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


def _checked_or_why_not(cfg: DictConfig, pairs: dict[str, Pair]) -> _Checked | str:
    try:
        return _checked(cfg, pairs)
    except ConfigError as error:
        return str(error)


def _checked(cfg: DictConfig, pairs: dict[str, Pair]) -> _Checked:
    """A run and its objects.

    Args:
        pairs: those built before, one for all seeds.

    Raises:
        ConfigError: the run is refused.
    """
    config = check(cfg)
    kind = _key(config.model_copy(update={"seed": 0}))
    if kind not in pairs:
        pairs[kind] = _weightless(build(config))
    return _Checked(cfg, config, pairs[kind])


def _weightless(pair: Pair) -> Pair:
    for part in (pair.student, pair.teacher, *pair.previous, pair.source, pair.method):
        if part is not None:
            part.to("meta")
    return pair


def _by_cause(problems: list[tuple[str, str]]) -> str:
    """Each cause once, with the runs that it concerns."""
    labels: dict[str, list[str]] = {}
    for label, cause in problems:
        labels.setdefault(cause, []).append(label)
    return "; ".join(
        f"{cause} ({'; '.join(each[:3])}{'; ...' if len(each) > 3 else ''})" for cause, each in labels.items()
    )


class _Planner:
    def __init__(self, estimate: bool, pairs: dict[str, Pair]) -> None:
        self.tasks: dict[str, Task] = {}
        self._records: dict[str, Record | None] = {}
        self._estimate, self._pairs = estimate, pairs
        self._step_seconds: dict[str, float] = {}

    def add(self, label: str, one: _Checked, role: Role) -> str:
        """Add a run after those that it learns from; returns its key."""
        key = _key(one.config)
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

    def _earlier(self, cfg: DictConfig, role: Role) -> tuple[str, _Checked, Role]:
        one = _checked(cfg, self._pairs)
        name = "teacher" if role == "teacher" else one.config.names.method
        return f"{name} {one.config.student.name} seed {one.config.seed}", one, role

    def _run_id(self, one: _Checked, arrays: ImageArrays) -> str | None:
        def obtain(cfg: DictConfig, role: Role) -> Record:
            record = self._records[_key(check(cfg))]
            if record is None:
                raise _Unfinished
            return record

        try:
            return resolve(one.cfg, one.config, one.pair, arrays, obtain)[2]
        except _Unfinished:
            return None

    def _seconds(self, one: _Checked, arrays: ImageArrays) -> float:
        """Of training: steps of all epochs times the duration of one, without the optimizer's and the evaluation's."""
        config = one.config
        same = [config.dataset.image_size, config.teacher.model_dump(), config.student.model_dump(), config.method]
        kind = _hash([*same, config.recipe.batch_size, config.trainer.model_dump()])
        if kind not in self._step_seconds:
            self._step_seconds[kind] = step_cost(config, build(config))["seconds"]
        samples = len(data_module(config, one.pair, arrays).train)
        return training_steps(config, one.pair, samples) * self._step_seconds[kind]


def training_steps(config: RunConfig, pair: Pair, samples: int) -> int:
    """Of all epochs, pretraining included, on ``samples`` training images."""
    epochs = config.recipe.epochs + pair.method.pretrain_epochs
    return epochs * math.ceil(samples / config.recipe.batch_size)


class _Unfinished(Exception):
    pass


def _key(config: RunConfig) -> str:
    return _hash([config.recorded()])


def _hash(parts: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(parts), sort_keys=True).encode()).hexdigest()[:16]
