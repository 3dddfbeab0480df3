"""From a configuration to the identity of its run: data, the runs that it learns from, their weights, the run's id."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from hydra.utils import instantiate
from omegaconf import DictConfig

from kd_bench.building import Pair, build
from kd_bench.config import RunConfig, check
from kd_bench.data.source import ImageArrays
from kd_bench.runs.directory import finished
from kd_bench.runs.fingerprint import fingerprint
from kd_bench.runs.record import Record
from kd_bench.teachers import TeacherWeights, assistant_run, from_checkpoint, from_record, previous_run, teacher_run

Role = Literal["student", "teacher"]


def prepare(cfg: DictConfig) -> tuple[RunConfig, Pair, ImageArrays]:
    """The checked configuration, the objects and the data set of a run.

    Raises:
        ConfigError, IntegrityError: whatever is wrong with them.
    """
    config = check(cfg)
    pair = build(config)
    return config, pair, load_arrays(config, pair)


def locate(cfg: DictConfig) -> str | None:
    """The id of the run that ``cfg`` describes; None as long as a run that it learns from is not finished."""

    def obtain(earlier: DictConfig, role: Role) -> Record:
        run_id = locate(earlier)
        record = finished(Path(earlier.paths.runs).expanduser() / run_id) if run_id else None
        if record is None:
            raise _Unfinished
        return record

    try:
        return resolve(cfg, *prepare(cfg), obtain)[2]
    except _Unfinished:
        return None


class _Unfinished(Exception):
    pass


def resolve(
    cfg: DictConfig,
    config: RunConfig,
    pair: Pair,
    arrays: ImageArrays,
    obtain: Callable[[DictConfig, Role], Record],
) -> tuple[list[TeacherWeights], list[TeacherWeights], str]:
    """The weights of the pair's teacher and of earlier runs, and the run's id, which depends on them.

    Args:
        obtain: the record of a run that this one learns from.
    """
    teachers = [
        from_checkpoint(network, config.runs)
        if network.checkpoint != "auto"
        else from_record(obtain(teacher_run(cfg, network), "teacher"), config.runs)
        for network in config.teacher.networks()
    ]
    previous = [from_record(obtain(*earlier), config.runs) for earlier in learns_from(cfg, pair)]
    hashes = [[weights.sha256 for weights in networks] for networks in (teachers, previous)]
    return teachers, previous, fingerprint(config, arrays.content_sha256, hashes, pair.generation)


def earlier_runs(cfg: DictConfig, config: RunConfig, pair: Pair) -> list[tuple[DictConfig, Role]]:
    """Every run that must be finished before this one: its teachers, and what the method learns from beside them."""
    trained = [network for network in config.teacher.networks() if network.checkpoint == "auto"]
    return [*((teacher_run(cfg, network), "teacher") for network in trained), *learns_from(cfg, pair)]


def learns_from(cfg: DictConfig, pair: Pair) -> list[tuple[DictConfig, Role]]:
    """The runs whose networks the method learns from beside or instead of the pair's teacher."""
    if pair.generation:
        return [(previous_run(cfg, pair.generation), "student")]
    return [(assistant_run(cfg, number), "teacher") for number in range(len(pair.method.assistants))]


def load_arrays(config: RunConfig, pair: Pair) -> ImageArrays:
    """The data set, compared with what the configuration says of it."""
    arrays = _load(json.dumps(config.dataset.source, sort_keys=True))
    arrays.check(config.names.dataset, config.dataset.num_classes, pair.spec.image_size)
    return arrays


@lru_cache(maxsize=2)
def _load(source: str) -> ImageArrays:
    """The jobs of a sweep share their data set."""
    arrays: ImageArrays = instantiate(json.loads(source), _convert_="all").load()
    return arrays
