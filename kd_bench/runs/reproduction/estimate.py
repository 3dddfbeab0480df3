"""The cost of filling a table, from measured steps. Needs torch, and no data."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.results.records.record import Record
from kd_bench.runs.lineage import teacher_run
from kd_bench.runs.preview import step_cost
from kd_bench.runs.reproduction.cells import Cell
from kd_bench.runs.reproduction.matching import by_names, matched
from kd_bench.runs.studies.grid import StudyRun
from kd_bench.runs.studies.planning import training_steps
from kd_bench.runs.studies.running import duration
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import build


def cost_lines(
    cells: Sequence[Cell], runs: Sequence[StudyRun], seeds: int | None, records: Sequence[Record], jobs: int
) -> Iterator[str]:
    """Yield a line for each teacher and each cell, as soon as its step is measured, then the sum.

    Args:
        runs: the cells' composed configurations.
        seeds: of every cell; as many as were published where None.
        records: runs that may be finished already.

    Raises:
        ConfigError: a cell is refused.
    """
    total, counted, todo = 0.0, 0, 0
    for job in _jobs(cells, runs, seeds, records):
        each = _seconds(job.config, job.train_images)
        left = job.runs - job.finished
        total, counted, todo = total + each * left, counted + job.runs, todo + left
        yield _line(job, each)
    at_a_time = f", at best {duration(total / jobs)} with --jobs {jobs}" if jobs > 1 else ""
    yield (
        f"{counted} runs, {todo} to do: about {duration(total)} of training one after the other{at_a_time} "
        "(steps measured here, on the CPU)"
    )


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


def _seconds(config: RunConfig, train_images: int) -> float:
    """Return the estimated seconds of one run, without the optimizer and the evaluation."""
    pair = build(config)
    with torch_threads(config.trainer.threads):
        step = float(step_cost(config, pair)["seconds"])
    held_out = round(config.dataset.validation_fraction * train_images)
    samples = config.dataset.train_samples or train_images - held_out
    return training_steps(config, pair, samples) * step


def _line(job: _Job, each: float) -> str:
    noun = "run" if job.runs == 1 else "runs"
    state = f", {job.finished} finished" if job.finished else ""
    return f"{job.label:<44}{job.runs} {noun}{state}, about {duration(each)}{' each' if job.runs > 1 else ''}"
