"""The cost of filling a table, counted and calibrated by a few short steps. Needs torch, and no data."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.methods.base import Method
from kd_bench.results.records.record import Record
from kd_bench.results.text.formats import duration, estimate
from kd_bench.runs.lineage import teacher_run
from kd_bench.runs.preview import step_cost
from kd_bench.runs.reproduction.cells import Cell
from kd_bench.runs.reproduction.matching import by_names, matched
from kd_bench.runs.studies.grid import StudyRun
from kd_bench.runs.studies.planning import training_steps
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import build


def cost_lines(
    cells: Sequence[Cell], runs: Sequence[StudyRun], seeds: int | None, records: Sequence[Record], jobs: int
) -> Iterator[str]:
    """Yield a line for each teacher and each cell, as soon as it is known, then the sum.

    Args:
        runs: the cells' composed configurations.
        seeds: of every cell; as many as were published where None.
        records: runs that may be finished already.

    Raises:
        ConfigError: a cell is refused.
    """
    steps, total, counted, todo = _Steps(), 0.0, 0, 0
    for job in _jobs(cells, runs, seeds, records):
        each = _seconds(job.config, job.train_images, steps)
        left = job.runs - job.finished
        total, counted, todo = total + each * left, counted + job.runs, todo + left
        yield _line(job, each)
    yield f"{counted} runs, {todo} to do: {estimate(total, jobs)} (counted; calibrated by a few steps on this CPU)"


@dataclass(frozen=True)
class _Job:
    """The runs of one configuration, all seeds."""

    label: str
    config: RunConfig
    train_images: int
    runs: int
    finished: int


def _jobs(
    cells: Sequence[Cell], runs: Sequence[StudyRun], seeds: int | None, records: Sequence[Record]
) -> Iterator[_Job]:
    """Yield every cell, and before it the teachers that it needs."""
    trained: set[str] = set()
    for cell, run in zip(cells, runs, strict=True):
        config, images = check(run.cfg), cell.protocol.train_images
        for cfg in _teachers(run.cfg, config):
            teacher = check(cfg)
            name = teacher.student.name
            if name not in trained:
                trained.add(name)
                named = [record for record in records if (record.role, record.student.name) == ("teacher", name)]
                yield _Job(f"teacher {name}", teacher, images, 1, _finished(cfg, named, [teacher.seed]))
        wanted = range(seeds or cell.runs)
        yield _Job(cell.label, config, images, len(wanted), _finished(run.cfg, by_names(cell, records), wanted))


def _finished(cfg: DictConfig, named: Sequence[Record], seeds: Iterable[int]) -> int:
    return len({record.seed for record in matched(cfg, named).runs} & set(seeds))


def _teachers(cfg: DictConfig, config: RunConfig) -> list[DictConfig]:
    return [teacher_run(cfg, network) for network in config.teacher.networks() if network.checkpoint == "auto"]


class _Steps:
    """Seconds of training steps, of which few are measured.

    A method is taken to cost the same multiple of another one on every pair, so that a table of P pairs and M methods
    takes P + M measurements. What trains without a teacher is measured for every student.
    """

    def __init__(self) -> None:
        self._measured: dict[tuple[str, str], float] = {}  # by networks and method
        self._methods: dict[str, tuple[Method, bool]] = {}  # and whether it learns from a teacher

    def of(self, config: RunConfig) -> tuple[float, Method]:
        """Return the seconds of a step, and the method with its stages of training."""
        method, student = json.dumps(config.method, sort_keys=True), config.student.model_dump_json()
        networks = f"{config.teacher.model_dump_json()} {student}"
        if method in self._methods and not self._methods[method][1]:
            networks = student
        seconds = self._measured.get((networks, method)) or self._derived(networks, method)
        if seconds is None:
            pair = build(config)
            self._methods[method] = pair.method, pair.source is not None
            with torch_threads(config.trainer.threads):
                seconds = float(step_cost(config, pair)["seconds"])
            self._measured[networks if pair.source is not None else student, method] = seconds
        return seconds, self._methods[method][0]

    def _derived(self, networks: str, method: str) -> float | None:
        """Scale a step of another method on these networks, if both methods were measured on other networks."""
        for (others, same), seconds in self._measured.items():
            for (these, base), known in self._measured.items():
                if same == method and these == networks and (others, base) in self._measured:
                    return known * seconds / self._measured[others, base]
        return None


def _seconds(config: RunConfig, train_images: int, steps: _Steps) -> float:
    """Return the estimated seconds of one run, without the optimizer and the evaluation."""
    step, method = steps.of(config)
    held_out = round(config.dataset.validation_fraction * train_images)
    samples = config.dataset.train_samples or train_images - held_out
    return training_steps(config, method, samples) * step


def _line(job: _Job, each: float) -> str:
    noun = "run" if job.runs == 1 else "runs"
    state = f", {job.finished} finished" if job.finished else ""
    return f"{job.label:<44}{job.runs} {noun}{state}, about {duration(each)}{' each' if job.runs > 1 else ''}"
