"""Stores of teacher outputs that runs share: which one a run uses, and whether it pays."""

from pathlib import Path
from typing import Any

from kd_bench.config.schema import RunConfig
from kd_bench.evaluation import machine
from kd_bench.evaluation.latency import device_of
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.models.ensemble import taps_of
from kd_bench.models.features import FeatureTap
from kd_bench.results.records.fingerprint import determining, plugin_hashes
from kd_bench.training.cache import CACHE_FOLDER, Store, TeacherCache, make_room
from kd_bench.training.module import DistillationModule
from kd_bench.training.teachers import FrozenTeacher, TeacherWeights

_NUMERICS = ("torch", "torchvision", "timm")  # packages whose version may change the last digits of a network
_MAKES_OUTPUTS = ["kd_bench.data", "kd_bench.models", "kd_bench.training.teachers"]  # whoever edits them computes anew


def held_out_store(opened: OpenedRun) -> Store | None:
    """Return the store of the pair's teacher for images that are not augmented; None where none is to be used."""
    if not _wanted(opened.config) or opened.pair.teacher is None:
        return None
    return Store(_folder(opened.config), _key(opened, opened.pair.teacher, opened.teachers))


def use_cache(module: DistillationModule, opened: OpenedRun, weights: list[TeacherWeights]) -> None:
    """Give a module the cache of what its method reads of a frozen teacher, if one is wanted and has room.

    Args:
        weights: those of the networks that the method learns from.
    """
    config, method, teacher = opened.config, opened.pair.method, module.teacher
    if not _wanted(config) or config.trainer.devices > 1 or method.reads is None or method.chooses_images:
        return
    stages = "stages" in method.reads  # hundreds of times as large as the rest: kept where they are asked for
    if not isinstance(teacher, FrozenTeacher) or teacher.changes or (stages and config.trainer.cache == "auto"):
        return
    recipe, data, requires = config.recipe, opened.data, method.requires
    rows = recipe.batch_size * data.sampler.groups * requires.views * (4 if requires.rotations else 1)
    step_bytes = rows * _row_bytes(teacher.tap, opened.pair.spec.num_classes, stages)
    steps = -(-len(data.train) // recipe.batch_size) * (recipe.epochs + method.pretrain_epochs)
    key = _key(opened, teacher.tap, weights) | {
        "batch_statistics": teacher.batch_statistics,
        "stages": stages,
        "seed": config.seed,
        "batch_size": recipe.batch_size,
        "augmentation": recipe.augmentation.model_dump(),
        "views": [requires.views, requires.rotations, requires.sampler, *requires.strong_views],
    }
    store = Store(_folder(config), key)
    if make_room(store.folder, store.directory, step_bytes * steps, round(config.trainer.cache_gb * 2**30)):
        module.cache = TeacherCache(store, step_bytes, stages)


def _wanted(config: RunConfig) -> bool:
    return config.trainer.cache == "always" or (config.trainer.cache == "auto" and config.study is not None)


def _folder(config: RunConfig) -> Path:
    return config.runs / CACHE_FOLDER


def _row_bytes(tap: FeatureTap, classes: int, stages: bool) -> int:
    """Return the bytes of what a teacher gives for one image; those of an ensemble's members are taken to be alike."""
    numbers = tap.embedding_size + classes
    if stages:
        numbers += sum(channels * height * width for channels, height, width in tap.stage_shapes)
    return 4 * numbers * (1 + len(taps_of(tap)))


def _key(opened: OpenedRun, source: FeatureTap, weights: list[TeacherWeights]) -> dict[str, Any]:
    """Return what the outputs of a teacher for images as stored are a function of, on this machine."""
    config = opened.config
    parts = determining(config)
    hardware = machine.hardware(device_of(config)).model_dump()
    return {
        "code": plugin_hashes(_MAKES_OUTPUTS),
        "teacher": [source.name, [tap.name for tap in taps_of(source)], parts["teacher"]],
        "student": parts["student"] if opened.pair.generation else None,  # of a teacher that is a student before
        "weights": [each.sha256 for each in weights],
        "dataset": [parts["dataset"], opened.arrays.content_sha256],
        "trainer": parts["trainer"],
        "plugins": parts["plugins"],
        "machine": {name: hardware[name] for name in ("system", "processor", "device", "threads")},
        "packages": {name: machine.environment().packages[name] for name in _NUMERICS},
    }
