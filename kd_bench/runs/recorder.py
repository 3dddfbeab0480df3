"""The recorder: from a trained run to its record."""

import torch

from kd_bench.config.files import file_sha256
from kd_bench.config.schema import RunConfig
from kd_bench.evaluation import efficiency
from kd_bench.evaluation import machine as provenance
from kd_bench.evaluation.latency import device_of
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.models.weights import combined_sha256, weights_sha256
from kd_bench.results.records.command import to_record
from kd_bench.results.records.fingerprint import plugin_hashes
from kd_bench.results.records.measured import FullEvaluation, Metrics, TrainingCost
from kd_bench.results.records.record import (
    SCHEMA_VERSION,
    DatasetInfo,
    MethodInfo,
    NetworkInfo,
    Record,
    TeacherInfo,
    Times,
)
from kd_bench.results.records.states import RunState
from kd_bench.training.module import DistillationModule
from kd_bench.training.pair import Pair
from kd_bench.training.teachers import TeacherWeights


def _dataset(opened: OpenedRun) -> DatasetInfo:
    config, arrays, data = opened.config, opened.arrays, opened.data
    return DatasetInfo(
        name=config.names.dataset,
        content_sha256=arrays.content_sha256,
        num_classes=opened.pair.spec.num_classes,
        class_names=arrays.class_names,
        duplicates=arrays.duplicates,
        image_size=config.dataset.image_size,
        train_samples=len(data.train),
        validation_samples=len(data.validation),
        test_samples=len(data.test),
    )


def _student(pair: Pair) -> NetworkInfo:
    return NetworkInfo(
        name=pair.student.name,
        weights_sha256=weights_sha256(pair.student.network.state_dict()),
        parameters=efficiency.parameters(pair.student, pair.method),
        macs=efficiency.macs(pair.student, pair.spec, pair.method),
        input_size=list(pair.student.input_size),
        trainable_parameters=efficiency.parameters(pair.student, pair.method, trainable=True),
        file_bytes=efficiency.file_bytes(pair.student, pair.method),
    )


def _teacher(pair: Pair, teachers: list[TeacherWeights], test_top1: float | None) -> TeacherInfo | None:
    if pair.teacher is None or test_top1 is None:
        return None
    run_ids = [each.record.run_id for each in teachers if each.record]
    return TeacherInfo(
        name=pair.teacher.name,
        weights_sha256=combined_sha256([each.sha256 for each in teachers]),
        parameters=efficiency.parameters(pair.teacher),
        macs=efficiency.macs(pair.teacher, pair.spec),
        input_size=list(pair.teacher.input_size),
        file_bytes=efficiency.file_bytes(pair.teacher),
        run_id=run_ids[0] if len(teachers) == len(run_ids) == 1 else None,
        source=", ".join(each.source for each in teachers),
        test_top1=test_top1,
    )


def _method(config: RunConfig, pair: Pair, previous: list[TeacherWeights]) -> MethodInfo:
    return MethodInfo(
        name=config.names.method,
        family=pair.method.family,
        paper=pair.method.paper,
        target=config.method["_target_"],
        adapter_parameters=efficiency.adapter_parameters(pair.method),
        trained_from=[each.record.run_id for each in previous if each.record],
        generation=pair.generation,
    )


def training_cost(config: RunConfig, module: DistillationModule) -> TrainingCost:
    """Return what a training took beside its time."""
    on_gpu = config.trainer.accelerator == "gpu"  # the module itself is back on the CPU
    cached = module.cached_teacher_seconds
    train_seconds, teacher_seconds = module.train_seconds + cached, module.teacher_seconds + cached
    share = min(1.0, teacher_seconds / train_seconds) if train_seconds else 0.0
    return TrainingCost(
        teacher_forward_share=None if on_gpu else share,
        peak_memory_bytes=provenance.peak_memory_bytes(),
        device_peak_memory_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        cached_teacher_seconds=cached or None,
    )


def make_record(
    opened: OpenedRun,
    state: RunState,
    previous: list[TeacherWeights],
    metrics: Metrics,
    teacher_top1: float | None,
    history: list[dict[str, float]],
    times: Times,
    files: list[str],
    imported_from: str | None = None,
    cost: TrainingCost | None = None,
    full: FullEvaluation | None = None,
) -> Record:
    """Put the record of a trained run together.

    Args:
        previous: weights of the earlier runs that the method learned from beside the pair's teacher.
        teacher_top1: of the pair's teacher on the test split, in [0, 1].
        files: artefacts in the run's directory to hash.
    """
    config, pair = opened.config, opened.pair
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=state.run_id,
        role=state.role,
        study=config.study,
        dataset=_dataset(opened),
        teacher=_teacher(pair, opened.teachers, teacher_top1),
        student=_student(pair),
        method=_method(config, pair, previous),
        recipe=config.names.recipe,
        selection=config.recipe.selection,
        seed=config.seed,
        config=config.recorded(),
        overrides=to_record(config.recorded()),
        code=provenance.code().model_copy(update={"plugins": plugin_hashes(config.plugins)}),
        environment=provenance.environment(),
        hardware=provenance.hardware(device_of(config)),
        times=times,
        metrics=metrics,
        history=history,
        imported_from=imported_from,
        artifacts={name: file_sha256(opened.directory / name) for name in files},
        cost=cost,
        full=full,
    )
