"""The plan of a study: its runs, their order and their cost. It needs torch, and so has a process of its own."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_bench.config.schema import RunConfig
from kd_bench.data.source import ImageArrays
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.methods.base import Method
from kd_bench.results.records.directory import finished
from kd_bench.results.records.record import Record
from kd_bench.results.records.states import read_state
from kd_bench.runs.lineage import REPLACED, Role, earlier_runs, identified, load_arrays
from kd_bench.runs.preview import step_cost
from kd_bench.runs.run import data_module
from kd_bench.runs.studies.grid import StudyRun
from kd_bench.runs.studies.pairs import Checked, Pairs, key_of
from kd_bench.runs.studies.tasks import Task
from kd_bench.runs.studies.written import Shared, Written
from kd_bench.training.checkpoints import has_checkpoints
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import build

CAUSES_SHOWN = 10


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
    checked = [(point, _checked_or_why_not(pairs, point.written)) for point in points]
    problems = [(point.label, one) for point, one in checked if isinstance(one, str)]
    if problems and not skip_refused:
        raise ConfigError(f"{len(problems)} of {len(points)} runs are wrong, none was started: {_by_cause(problems)}")
    planner = _Planner(estimate, pairs)
    refused = []
    for number, (point, one) in enumerate(checked):
        if isinstance(one, str):
            refused.append(Task(f"refused-{number}", point.label, point.written, "student", refused=one))
        else:
            planner.add(point.label, one, "student")
    return [*planner.tasks.values(), *refused]


def _checked_or_why_not(pairs: Pairs, written: Written) -> Checked | str:
    try:
        return pairs.checked(written)
    except ConfigError as error:
        return str(error)


def _by_cause(problems: list[tuple[str, str]]) -> str:
    """Name each cause once, with the runs that it concerns."""
    labels: dict[str, list[str]] = {}
    for label, cause in problems:
        labels.setdefault(cause, []).append(label)
    causes = [f"{cause} ({'; '.join(each[:3])}{'; ...' if len(each) > 3 else ''})" for cause, each in labels.items()]
    more = f"; and {len(causes) - CAUSES_SHOWN} more" if len(causes) > CAUSES_SHOWN else ""
    return "; ".join(causes[:CAUSES_SHOWN]) + more


class _Planner:
    def __init__(self, estimate: bool, pairs: Pairs) -> None:
        self.tasks: dict[str, Task] = {}
        self._records: dict[str, Record | None] = {}
        self._estimate, self._pairs = estimate, pairs
        self._step_seconds: dict[str, float] = {}
        self._samples: dict[str, int] = {}
        self._teachers: dict[str, list[tuple[Checked, Role]]] = {}

    def add(self, label: str, one: Checked, role: Role) -> str:
        """Add a run after those that it learns from; return its key."""
        key = one.key
        if key in self.tasks:
            if role == "student":  # what others learn from is a point of the grid as well
                self.tasks[key] = replace(self.tasks[key], label=label, role=role)
            return key
        arrays = load_arrays(one.config, one.pair)
        after = tuple(self.add(_label(earlier.config, kind), earlier, kind) for earlier, kind in self._earlier(one))
        run_id = self._run_id(one, arrays, after)
        record = finished(one.config.runs / run_id) if run_id else None
        self._records[key] = record
        seconds = self._seconds(one, arrays) if self._estimate and record is None else None
        top1 = record.headline().test.top1 if record and _in_order(one.config.runs / record.run_id) else None
        self.tasks[key] = Task(key, label, one.written, role, after, run_id, record is not None, top1, seconds)
        return key

    def _earlier(self, one: Checked) -> list[tuple[Checked, Role]]:
        """Return the runs that one learns from; those that train the same teachers are derived once."""
        of_its_own = one.pair.generation or one.pair.method.assistants
        key = one.key if of_its_own else _teachers_key(one)
        if key not in self._teachers:
            runs = earlier_runs(one.written.cfg, one.config, one.pair)
            self._teachers[key] = [(self._pairs.checked(Written(Shared(cfg))), role) for cfg, role in runs]
        return self._teachers[key]

    def _run_id(self, one: Checked, arrays: ImageArrays, after: tuple[str, ...]) -> str | None:
        records = [record for key in after if (record := self._records[key]) is not None]
        if len(records) < len(after):
            return None
        return identified(one.config, one.pair, arrays, iter(records))[2]

    def _seconds(self, one: Checked, arrays: ImageArrays) -> float:
        """Return the estimated seconds of training: those of all steps, without the optimizer and the evaluation."""
        config = one.config
        same = [config.dataset.image_size, config.teacher.model_dump(), config.student.model_dump()]
        kind = key_of(*same, _sizes(config.method), config.recipe.batch_size, config.trainer.model_dump())
        if kind not in self._step_seconds:
            with torch_threads(config.trainer.threads):
                self._step_seconds[kind] = step_cost(config, build(config))["seconds"]
        data = key_of(config.dataset.model_dump())
        if data not in self._samples:
            self._samples[data] = len(data_module(config, one.pair, arrays).train)
        return training_steps(config, one.pair.method, self._samples[data]) * self._step_seconds[kind]


def _in_order(directory: Path) -> bool:
    """Return whether a finished run was not stopped between its record and its end."""
    try:
        return read_state(directory).state == "completed" and not has_checkpoints(directory)
    except IntegrityError:
        return False


def _label(config: RunConfig, role: Role) -> str:
    name = "teacher" if role == "teacher" else config.names.method
    return f"{name} {config.student.name} seed {config.seed}"


def _teachers_key(one: Checked) -> str:
    """Return a name for all that the runs of a pair's teachers are derived from."""
    kept = {name: value for name, value in one.written.written().items() if name not in REPLACED}
    kept["names"] = {name: value for name, value in kept["names"].items() if name != "method"}
    return key_of(kept, [network.model_dump() for network in one.config.teacher.networks()])


def _sizes(node: Any) -> Any:
    """Return what of a method's hyperparameters its cost may depend on: weights and temperatures count if not 0."""
    if isinstance(node, dict):
        return {name: _sizes(value) for name, value in node.items()}
    return node != 0 if isinstance(node, float) else node


def training_steps(config: RunConfig, method: Method, samples: int) -> int:
    """Count the steps of all epochs, pretraining included, on ``samples`` training images."""
    epochs = config.recipe.epochs + method.pretrain_epochs
    return epochs * math.ceil(samples / config.recipe.batch_size)
