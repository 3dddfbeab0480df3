"""From a trained run to its record."""

from pathlib import Path

import torch

from kd_bench.config.files import file_sha256
from kd_bench.config.schema import RunConfig
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.source import ImageArrays
from kd_bench.evaluation import efficiency
from kd_bench.evaluation import machine as provenance
from kd_bench.models.weights import combined_sha256, weights_sha256
from kd_bench.results.records.measured import FullEvaluation, Metrics, TrainingCost
from kd_bench.results.records.record import (
    SCHEMA_VERSION,
    CodeInfo,
    DatasetInfo,
    Environment,
    Hardware,
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


def code_and_machine(config: RunConfig) -> tuple[CodeInfo, Environment, Hardware]:
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    return provenance.code(), provenance.environment(), provenance.hardware(device)


def dataset_info(config: RunConfig, arrays: ImageArrays, data: ImageDataModule) -> DatasetInfo:
    return DatasetInfo(
        name=config.names.dataset,
        content_sha256=arrays.content_sha256,
        num_classes=config.dataset.num_classes,
        class_names=arrays.class_names,
        duplicates=arrays.duplicates,
        image_size=config.dataset.image_size,
        train_samples=len(data.train),
        validation_samples=len(data.validation),
        test_samples=len(data.test),
    )


def student_info(pair: Pair) -> NetworkInfo:
    return NetworkInfo(
        name=pair.student.name,
        weights_sha256=weights_sha256(pair.student.network.state_dict()),
        parameters=efficiency.parameters(pair.student, pair.method),
        macs=efficiency.macs(pair.student, pair.spec, pair.method),
        input_size=list(pair.student.input_size),
        trainable_parameters=efficiency.parameters(pair.student, pair.method, trainable=True),
        file_bytes=efficiency.file_bytes(pair.student, pair.method),
    )


def teacher_info(pair: Pair, weights: list[TeacherWeights], test_top1: float) -> TeacherInfo | None:
    if pair.teacher is None:
        return None
    hashes = [each.sha256 for each in weights]
    run_ids = [each.record.run_id for each in weights if each.record]
    return TeacherInfo(
        name=pair.teacher.name,
        weights_sha256=combined_sha256(hashes),
        parameters=efficiency.parameters(pair.teacher),
        macs=efficiency.macs(pair.teacher, pair.spec),
        input_size=list(pair.teacher.input_size),
        file_bytes=efficiency.file_bytes(pair.teacher),
        run_id=run_ids[0] if len(weights) == len(run_ids) == 1 else None,
        source=", ".join(each.source for each in weights),
        test_top1=test_top1,
    )


def method_info(config: RunConfig, pair: Pair, previous: list[TeacherWeights]) -> MethodInfo:
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
    """What a training that is done took beside its time."""
    on_gpu = config.trainer.accelerator == "gpu"  # the module itself is back on the CPU
    share = min(1.0, module.teacher_seconds / module.train_seconds) if module.train_seconds else 0.0
    return TrainingCost(
        teacher_forward_share=None if on_gpu else share,
        peak_memory_bytes=provenance.peak_memory_bytes(),
        device_peak_memory_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
    )


def make_record(
    config: RunConfig,
    state: RunState,
    pair: Pair,
    dataset: DatasetInfo,
    teacher: TeacherInfo | None,
    method: MethodInfo,
    metrics: Metrics,
    history: list[dict[str, float]],
    times: Times,
    directory: Path,
    files: list[str],
    imported_from: str | None = None,
    cost: TrainingCost | None = None,
    full: FullEvaluation | None = None,
) -> Record:
    """Put the record together.

    Args:
        files: artefacts in ``directory`` to hash.
    """
    code, environment, hardware = code_and_machine(config)
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=state.run_id,
        role=state.role,
        study=config.study,
        dataset=dataset,
        teacher=teacher,
        student=student_info(pair),
        method=method,
        recipe=config.names.recipe,
        selection=config.recipe.selection,
        seed=config.seed,
        config=config.recorded(),
        code=code,
        environment=environment,
        hardware=hardware,
        times=times,
        metrics=metrics,
        history=history,
        imported_from=imported_from,
        artifacts={name: file_sha256(directory / name) for name in files},
        cost=cost,
        full=full,
    )
