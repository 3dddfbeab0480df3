"""Lineage: from a configuration to the runs that it learns from, their weights, and the run's id."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.check import check
from kd_bench.config.schema import MemberConfig, NetworkConfig, RunConfig, TrainedConfig
from kd_bench.data.image_folder import ImageFolder
from kd_bench.data.source import ImageArrays
from kd_bench.errors import ConfigError
from kd_bench.evaluation.added_metrics import check_metrics
from kd_bench.models.weights import start_sha256
from kd_bench.results.records.directory import finished
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.record import Record
from kd_bench.training.pair import Pair, build
from kd_bench.training.teachers import TeacherWeights, as_trained, from_checkpoint, from_record

Role = Literal["student", "teacher"]
Network = TypeVar("Network", bound=NetworkConfig)


def prepare(cfg: DictConfig, device_here: bool = True, role: Role = "student") -> tuple[RunConfig, Pair, ImageArrays]:
    """Return the checked configuration, the objects and the data set of a run.

    Args:
        device_here: as for ``build``.
        role: as which the configuration of the user has the network that is trained, for messages.

    Raises:
        ConfigError, IntegrityError: whatever is wrong with them.
    """
    config = completed(cfg)
    pair = build(config, device_here, role)
    check_metrics(config.metrics, pair.spec.num_classes)
    return config, pair, load_arrays(config, pair)


def completed(cfg: DictConfig) -> RunConfig:
    """Check a configuration and complete it by what is known elsewhere.

    A teacher that is a finished run gets the arguments, size and normalization that it was trained with, a network
    that starts from a file gets its hash, and ``dataset.num_classes=null`` becomes the number of class folders.

    Raises:
        ConfigError: the configuration contradicts the record of a teacher, or the data set does not say its classes.
        IntegrityError: the folder of the data set cannot be read.
    """
    return complete(check(cfg))


def complete(config: RunConfig) -> RunConfig:
    """Complete a checked configuration, as ``completed`` does."""
    if config.dataset.num_classes is None:
        source = instantiate(config.dataset.source, _convert_="all")
        if not isinstance(source, ImageFolder):
            raise ConfigError("dataset.num_classes=null: only image folders are counted; give the number of classes")
        dataset = config.dataset.model_copy(update={"num_classes": len(source.classes())})
        config = config.model_copy(update={"dataset": dataset})
    config = config.model_copy(update={"teacher": as_trained(config)})
    teacher = _started("teacher", config.teacher)
    members = {key: _started(f"teacher.members.{key}", member) for key, member in teacher.members.items()}
    update = {
        "teacher": teacher.model_copy(update={"members": members}),
        "student": _started("student", config.student),
    }
    return config.model_copy(update=update)


def _started(key: str, network: Network) -> Network:
    """Complete a network by the hash of the file that its training starts from."""
    if network.init is None:
        return network
    if isinstance(network, TrainedConfig) and network.checkpoint != "auto":
        raise ConfigError(
            f"{key}.init={network.init!r}: is where training starts, but {key}.checkpoint={network.checkpoint!r} is "
            f"not trained; {key}.checkpoint=auto trains it"
        )
    found = start_sha256(f"{key}.init", network.init, network.init_sha256)
    return network.model_copy(update={"init_sha256": found})


def locate(cfg: DictConfig, role: Role = "student") -> str | None:
    """Return the id of the run that ``cfg`` describes; None as long as a run that it learns from is not finished."""
    try:
        return resolve(cfg, *prepare(cfg, role=role), finished_run)[2]
    except Unfinished:
        return None


class Unfinished(Exception):
    """A run that another one learns from is not finished, or not here."""


def finished_run(cfg: DictConfig, role: Role) -> Record:
    """Return the record of the run that ``cfg`` describes.

    Raises:
        Unfinished: there is none.
    """
    run_id = locate(cfg, role)
    record = finished(Path(cfg.paths.runs).expanduser() / run_id) if run_id else None
    if record is None:
        raise Unfinished(f"the run {run_id or 'before it'} is not in {cfg.paths.runs}")
    return record


def resolve(
    cfg: DictConfig,
    config: RunConfig,
    pair: Pair,
    arrays: ImageArrays,
    obtain: Callable[[DictConfig, Role], Record],
) -> tuple[list[TeacherWeights], list[TeacherWeights], str]:
    """Return the weights of the pair's teacher, those of earlier runs, and the run's id, which depends on them.

    Args:
        obtain: gives the record of a run that this one learns from.
    """
    return identified(config, pair, arrays, (obtain(*earlier) for earlier in earlier_runs(cfg, config, pair)))


def identified(
    config: RunConfig, pair: Pair, arrays: ImageArrays, records: Iterator[Record]
) -> tuple[list[TeacherWeights], list[TeacherWeights], str]:
    """Return what ``resolve`` does.

    Args:
        records: of the runs that this one learns from, in the order of ``earlier_runs``.
    """
    teachers = [
        from_checkpoint(network, config.runs)
        if network.checkpoint != "auto"
        else from_record(next(records), config.runs)
        for network in config.teacher.networks()
    ]
    previous = [from_record(record, config.runs) for record in records]
    hashes = [[weights.sha256 for weights in networks] for networks in (teachers, previous)]
    return teachers, previous, fingerprint(config, arrays.content_sha256, hashes, pair.generation)


def earlier_runs(cfg: DictConfig, config: RunConfig, pair: Pair) -> list[tuple[DictConfig, Role]]:
    """List the runs to finish before this one: its teachers, and those that the method learns from beside them."""
    trained = [network for network in config.teacher.networks() if network.checkpoint == "auto"]
    return [*((teacher_run(cfg, network), "teacher") for network in trained), *learns_from(cfg, pair)]


def learns_from(cfg: DictConfig, pair: Pair) -> list[tuple[DictConfig, Role]]:
    """Return the runs whose networks the method learns from beside or instead of the pair's teacher."""
    if pair.generation:
        return [(previous_run(cfg, pair.generation), "student")]
    return [(assistant_run(cfg, number), "teacher") for number in range(len(pair.method.assistants))]


def load_arrays(config: RunConfig, pair: Pair) -> ImageArrays:
    """Load the data set, and compare it with what the configuration says of it."""
    arrays = _load(json.dumps(config.dataset.source, sort_keys=True))
    arrays.check(config.names.dataset, pair.spec.num_classes, pair.spec.image_size)
    return arrays


@lru_cache(maxsize=2)
def _load(source: str) -> ImageArrays:
    """Load a data set once for all jobs of a sweep."""
    arrays: ImageArrays = instantiate(json.loads(source), _convert_="all").load()
    return arrays


# Parts of a configuration that say nothing of how its teachers are trained: ``teacher_run`` replaces them all.
REPLACED = ("method", "chain", "evaluation", "student", "stage_pairs", "teacher", "seed", "tuning")
SCRATCH = {"_target_": "kd_bench.methods.scratch.Scratch"}


def teacher_run(cfg: DictConfig, teacher: MemberConfig) -> DictConfig:
    """Derive the configuration of the run that trains a teacher of ``cfg``: its network as a student, from scratch.

    Data set and recipe are those of ``cfg`` but for the teacher's ``overrides``.

    Raises:
        ConfigError: an override names a key that does not exist.
    """
    derived = student_run(scratch_run(cfg), teacher)
    with open_dict(derived):
        derived.teacher = {"name": None}
        derived.seed = teacher.seed
        derived.tuning = {"trials": 0, "space": None}
    for key, value in teacher.overrides.items():
        try:
            OmegaConf.update(derived, str(key), value, merge=not _chooses_another(derived, str(key), value))
        except (OmegaConfBaseException, AttributeError, ValueError) as error:
            raise ConfigError(f"teacher.overrides: {key!r} is no key of the configuration") from error
    return derived


def _chooses_another(cfg: DictConfig, key: str, value: Any) -> bool:
    """Return whether ``value`` is a recipe, or names another class than the node at ``key``: it replaces the node."""
    if key == "recipe" and isinstance(value, Mapping):
        return "optimizer" in value and "epochs" in value  # a whole recipe
    if not isinstance(value, Mapping) or "_target_" not in value:
        return False
    return bool(value["_target_"] != OmegaConf.select(cfg, f"{key}._target_"))


def student_run(cfg: DictConfig, network: MemberConfig) -> DictConfig:
    """Derive ``cfg`` with another network as its student, one that is not fully evaluated by itself."""
    derived = cfg.copy()
    with open_dict(derived):
        derived.evaluation = {"sections": []}
        derived.metrics = {}
        derived.student = {"name": network.name, **{key: getattr(network, key) for key in NetworkConfig.model_fields}}
        derived.stage_pairs = None
    return derived


def assistant_run(cfg: DictConfig, number: int) -> DictConfig:
    """Derive the run that trains ``method.assistants[number]``, which learns from teacher and earlier assistants."""
    assistants = list(cfg.method.assistants)
    derived = student_run(cfg, MemberConfig(name=assistants[number]))
    derived.method.assistants = assistants[:number]
    return derived


def previous_run(cfg: DictConfig, generation: int) -> DictConfig:
    """Derive the configuration of the run before ``generation`` (counted from 1) in a chain."""
    if generation == 1:
        return scratch_run(cfg)
    derived = cfg.copy()
    derived.chain.generations = generation - 1
    return derived


def scratch_run(cfg: DictConfig) -> DictConfig:
    """Derive the run that trains the student of ``cfg`` without distillation: generation 0 of a chain."""
    derived = cfg.copy()
    with open_dict(derived):
        derived.method = SCRATCH
        derived.names.method = "scratch"
        derived.chain = {"generations": 0}
    return derived
