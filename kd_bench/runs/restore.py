"""A finished run as objects again: its configuration, its data and its networks with their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from kd_bench.config.check import check
from kd_bench.config.composition import quoted
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.presence import require
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.models.weights import combined_sha256, weights_sha256
from kd_bench.results.records.command import overrides_of
from kd_bench.results.records.directory import WEIGHTS_FILE
from kd_bench.results.records.record import Record
from kd_bench.runs.lineage import load_arrays
from kd_bench.runs.run import data_module
from kd_bench.training.pair import Pair, build, load_student, load_teachers
from kd_bench.training.teachers import TeacherWeights, from_checkpoint


@dataclass(frozen=True)
class Restored:
    """What ``kd_bench.runs.run`` had when a run was done, with the headline weights."""

    config: RunConfig
    pair: Pair
    data: ImageDataModule
    teachers: list[TeacherWeights]


def restore(record: Record, directory: Path, overrides: Sequence[str] = ()) -> Restored:
    """Build a run again from its directory and those of its teachers beside it.

    Args:
        overrides: of the configuration, for what records do not hold: ``paths.data=DIR``, ``trainer=gpu``.

    Raises:
        ConfigError: an override that there is not, or code from elsewhere that was not asked for.
        IntegrityError: data or weights are absent or not those of the record.
    """
    cfg = recomposed(record, directory.parent, overrides)
    config = check(cfg)
    pair = build(config)
    arrays = load_arrays(config, pair)
    if arrays.content_sha256 != record.dataset.content_sha256:
        raise IntegrityError(f"{record.dataset.name}: the data here are not those of the run; their content differs")
    load_student(pair, directory)
    if weights_sha256(pair.student.network.state_dict()) != record.student.weights_sha256:
        raise IntegrityError(f"{directory / WEIGHTS_FILE} is not the file of its record: its content has changed")
    teachers = teachers_of(record, config)
    if pair.teacher is not None:
        load_teachers(pair.teacher, teachers)
    return Restored(config, pair, data_module(config, pair, arrays), teachers)


def recomposed(record: Record, runs: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a recorded run, for this machine.

    Raises:
        ConfigError: as ``restore``.
        IntegrityError: the data set is not here.
    """
    plugins = record.config["plugins"]
    if plugins and not any(override.startswith("plugins=") for override in overrides):
        raise ConfigError(
            f"plugins={plugins}: the run used code from elsewhere, which a record cannot ask for; "
            f"say plugins=[{','.join(plugins)}] if you trust it"
        )
    recorded = {**record.config, "evaluation": {"sections": []}}  # what to measure is asked anew
    cfg = compose_run([*overrides_of(recorded), f"paths.runs={quoted(str(runs))}", "logger=none", *overrides])
    require(cfg.dataset.source)
    return cfg


def teachers_of(record: Record, config: RunConfig) -> list[TeacherWeights]:
    """Where the weights of the pair's teacher are.

    Raises:
        IntegrityError: they are not there, or they are others than the run had.
    """
    if record.teacher is None:
        return []
    sources = record.teacher.source.split(", ")
    networks = config.teacher.networks()
    if len(networks) != len(sources):
        raise IntegrityError(f"teacher.source={record.teacher.source!r}: should name {len(networks)} networks")
    found = [
        from_checkpoint(
            network.model_copy(update={"checkpoint": source}) if network.checkpoint == "auto" else network, config.runs
        )
        for network, source in zip(networks, sources, strict=True)
    ]
    if combined_sha256([weights.sha256 for weights in found]) != record.teacher.weights_sha256:
        raise IntegrityError(f"teacher {record.teacher.name}: the weights here are not those that the run had")
    return found
