"""A finished run read back: its configuration, its data and its networks with their weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from kd_bench.config.composition import quoted
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.data.presence import require
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.evaluation.evaluate import SPLITS
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.models.weights import combined_sha256, weights_sha256
from kd_bench.results.records.command import overrides_of
from kd_bench.results.records.directory import WEIGHTS_FILE
from kd_bench.results.records.record import Record
from kd_bench.runs.lineage import prepare
from kd_bench.runs.run import data_module
from kd_bench.training.pair import load_student, load_teachers
from kd_bench.training.teachers import TeacherWeights, from_checkpoint


def restore(record: Record, directory: Path, overrides: Sequence[str] = ()) -> OpenedRun:
    """Build a run again from its directory and those of its teachers beside it, with the headline weights.

    Args:
        overrides: of the configuration, for what records do not hold: ``paths.data=DIR``, ``trainer=gpu``.

    Raises:
        ConfigError: an override that there is not, or code from elsewhere that was not asked for.
        IntegrityError: data or weights are absent or not those of the record.
    """
    opened = rebuilt(recomposed(record, directory.parent, overrides), directory)
    check_data(record, opened)
    load_weights(record, opened)
    teachers = teachers_of(record, opened.config)
    if opened.pair.teacher is not None:
        load_teachers(opened.pair.teacher, teachers)
    return replace(opened, teachers=teachers)


def rebuilt(cfg: DictConfig, directory: Path, device_here: bool = True) -> OpenedRun:
    """Build the objects of a run, without any weights.

    Args:
        device_here: as for ``kd_bench.training.pair.build``.
    """
    config, pair, arrays = prepare(cfg, device_here)
    return OpenedRun(config, pair, arrays, data_module(config, pair, arrays), directory, [])


def check_data(record: Record, opened: OpenedRun) -> None:
    """Raise IntegrityError unless the data are those of the record, split by split."""
    recorded, found = record.dataset, opened.arrays.content_sha256
    if found != recorded.content_sha256:
        raise IntegrityError(f"dataset.content_sha256={recorded.content_sha256}: the data here have {found}")
    for split in ("train", *SPLITS):
        samples, size = getattr(recorded, f"{split}_samples"), len(getattr(opened.data, split))
        if samples != size:
            raise IntegrityError(f"dataset.{split}_samples={samples}: the split here has {size}")


def load_weights(record: Record, opened: OpenedRun) -> None:
    """Load the headline weights, those of the method's head included.

    Raises:
        IntegrityError: a file is missing, does not fit, or is not the one of the record.
    """
    load_student(opened.pair, opened.directory)
    found = weights_sha256(opened.pair.student.network.state_dict())
    if found != record.student.weights_sha256:
        path = opened.directory / WEIGHTS_FILE
        raise IntegrityError(f"student.weights_sha256={record.student.weights_sha256}: {path} holds {found}")


def recomposed(record: Record, runs: Path, overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of a recorded run for this machine.

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
    """Find the weights of the pair's teacher.

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
