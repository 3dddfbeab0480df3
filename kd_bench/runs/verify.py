"""Verification: a finished run held against its files, weights, data and, if asked, a second training."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from kd_bench.config.schema import RunConfig
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.evaluation import efficiency
from kd_bench.evaluation.evaluate import SPLITS, teacher_predictions
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.evaluation.recomputed import prediction_problems
from kd_bench.methods.base import Method
from kd_bench.models.features import FeatureTap
from kd_bench.results.checking.collection import Checked, Tier, artifact_problems, known_records, read_all
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.fingerprint import plugin_hashes
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.runs.lineage import Unfinished, completed, finished_run, resolve
from kd_bench.runs.restore import check_data, load_weights, rebuilt, recomposed
from kd_bench.runs.run import run
from kd_bench.training.display import display
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import load_teachers, make_module

# How far logits computed again may lie from the saved ones, relative to the largest of them. GPUs multiply in TF32.
LOGITS_APART = {"cpu": 1e-4, "gpu": 1e-2}
# How far top-1 of a second training may lie from the first on another machine; on the same one nothing may differ.
RETRAINED_APART = 0.02
# Parts of a configuration that may be overridden: they change no number, or the fingerprint looks after them.
FREE = ("trainer", "study", "evaluation", "plugins")

Say = Callable[[str], None]


def verify(directory: Path, overrides: list[str], retrain: bool, say: Say) -> Tier:
    """Go through every step, telling each one that holds.

    Args:
        directory: of the run, beside those of its teachers.
        overrides: of the configuration, that say where the data lie: ``paths.data=DIR``, ``dataset.source.root=DIR``.
        retrain: train again, in a temporary folder.

    Returns:
        The tier that the run has shown.

    Raises:
        IntegrityError: names the first quantity that differs.
        ConfigError: the overrides change the run.
    """
    record = _verified_record(directory, say)
    cfg = recomposed(record, directory.parent, overrides)
    composed = json.loads(json.dumps(completed(cfg).recorded()))
    if changed := [name for name in composed if name not in FREE and composed[name] != record.config.get(name)]:
        raise ConfigError(f"{changed[0]}: the overrides change the run; only {', '.join(FREE)} and paths may differ")
    opened = rebuilt(cfg, directory, device_here=False)
    _verify_plugins(record, opened.config)
    with torch_threads(record.hardware.threads):
        _verify_data(record, opened, say)
        _verify_weights(record, opened, say)
        _verify_sizes(record, opened, say)
        _verify_predictions(record, opened, say)
        _verify_teacher(record, opened, cfg, say)
    return _verify_training(record, directory, overrides, say) if retrain else "checked"


def _verified_record(directory: Path, say: Say) -> Record:
    read = read_all([directory / RECORD_FILE])
    record = read[0].record
    if record is None:
        raise IntegrityError(f"{directory / RECORD_FILE}: {read[0].problems[0]}")
    if problems := known_records([*read, *_neighbours(record, directory.parent)]).problems(read[0].path, record):
        raise IntegrityError(problems[0])
    say("record: valid and without contradictions")
    damaged, missing = artifact_problems(record, directory)
    missing += [name for name in (PREDICTIONS_FILE, WEIGHTS_FILE) if name not in record.artifacts]
    if damaged or missing:
        raise IntegrityError(damaged[0] if damaged else f"artifacts.{missing[0]}: there is no such file in {directory}")
    say(f"files: {', '.join(record.artifacts)} are unchanged")
    if problems := prediction_problems(record, directory / PREDICTIONS_FILE):
        raise IntegrityError(problems[0])
    say("metrics: all of them follow from the predictions")
    return record


def _neighbours(record: Record, runs: Path) -> list[Checked]:
    """Read the records of the runs that this one learned from, as far as they are there."""
    paths = [runs / run_id / RECORD_FILE for run_id in _learned_from(record)]
    return read_all(path for path in paths if path.is_file())


def _learned_from(record: Record) -> list[str]:
    sources = record.teacher.source.split(", ") if record.teacher else []
    return [*(source for source in sources if source.isalnum()), *record.method.trained_from]


def _verify_plugins(record: Record, config: RunConfig) -> None:
    found = plugin_hashes(config.plugins)
    for name, sha256 in record.code.plugins.items():
        if found.get(name) != sha256:
            raise IntegrityError(f"code.plugins.{name}={sha256}: the module at hand has {found.get(name)}")


def _verify_data(record: Record, opened: OpenedRun, say: Say) -> None:
    check_data(record, opened)
    say(f"data: {record.dataset.name} has the recorded content, {record.dataset.content_sha256[:16]}...")


def _verify_weights(record: Record, opened: OpenedRun, say: Say) -> None:
    load_weights(record, opened)
    if opened.config.trainer.channels_last:
        opened.pair.student.to(memory_format=torch.channels_last)
    tensors, sha256 = len(opened.pair.student.network.state_dict()), record.student.weights_sha256
    say(f"weights: {tensors} tensors fit {record.student.name} and are the recorded ones, {sha256[:16]}...")


def _verify_sizes(record: Record, opened: OpenedRun, say: Say) -> None:
    """Hold what the record says of its networks and its data against what is at hand.

    Quantities that the first records lack, which are null there, are left out.
    """
    pair = opened.pair
    make_module(opened.config, pair)  # freezes a teacher whose classifier may be the student's
    found: dict[str, Any] = {
        f"{role}.{name}": value
        for role, tap, method in (("student", pair.student, pair.method), ("teacher", pair.teacher, None))
        if tap is not None
        for name, value in _sizes(tap, pair.spec, method).items()
    }
    found["student.trainable_parameters"] = efficiency.parameters(pair.student, pair.method, trainable=True)
    found["method.adapter_parameters"] = efficiency.adapter_parameters(pair.method)
    found |= {"dataset.class_names": opened.arrays.class_names, "dataset.duplicates": opened.arrays.duplicates}
    for key, value in found.items():
        part, name = key.split(".")
        recorded = getattr(getattr(record, part), name)
        if recorded is not None and recorded != value:
            raise IntegrityError(f"{key}={recorded}: the networks and data at hand give {value}")
    say("sizes: parameters, MACs, input size and bytes are those of the networks")


def _sizes(tap: FeatureTap, spec: DataSpec, method: Method | None) -> dict[str, Any]:
    return {
        "parameters": efficiency.parameters(tap, method),
        "macs": efficiency.macs(tap, spec, method),
        "input_size": list(tap.input_size),
        "file_bytes": efficiency.file_bytes(tap, method),
    }


def _verify_predictions(record: Record, opened: OpenedRun, say: Say) -> None:
    """Compute the logits of the headline weights again."""
    saved, data = load_predictions(opened.directory / PREDICTIONS_FILE), opened.data
    computed = {
        f"{split}/{record.selection}": opened.student_logits(data.evaluation_loader(getattr(data, split)))
        for split in SPLITS
    }
    for split in SPLITS:
        if not torch.equal(saved[f"{split}/targets"], getattr(data, split).targets):
            raise IntegrityError(f"{PREDICTIONS_FILE} {split}/targets: are not the labels of the data")
    say(f"predictions: {_compared(opened.config, saved, computed)}")


def _verify_teacher(record: Record, opened: OpenedRun, cfg: DictConfig, say: Say) -> None:
    """Compute the teacher's logits again, if the runs that the run learned from are at hand."""
    pair = opened.pair
    if pair.teacher is None:
        return
    try:
        teachers, _, run_id = resolve(cfg, opened.config, pair, opened.arrays, finished_run)
    except (Unfinished, IntegrityError) as error:
        say(f"teacher: not computed again: {error}")
        return
    if run_id != record.run_id:
        raise IntegrityError(f"run_id={record.run_id}: configuration, data and weights at hand are those of {run_id}")
    load_teachers(pair.teacher, teachers)
    logits, _ = teacher_predictions(pair.teacher, opened.data)
    computed = {f"{split}/teacher": values for split, values in logits.items()}
    saved = load_predictions(opened.directory / PREDICTIONS_FILE)
    say(f"teacher: {_compared(opened.config, saved, computed)}")


def _compared(config: RunConfig, saved: dict[str, Tensor], computed: dict[str, Tensor]) -> str:
    """Say how the saved values compare with those computed again.

    Raises:
        IntegrityError: some lie too far apart.
    """
    allowed = LOGITS_APART[config.trainer.accelerator]
    worst = 0.0
    for name, values in computed.items():
        apart = float(
            (saved[name].double() - values.double()).abs().max() / saved[name].double().abs().max().clamp(min=1)
        )
        if apart > allowed:
            changed = f"{int((saved[name].argmax(-1) != values.argmax(-1)).sum())} of {len(values)} classes change"
            raise IntegrityError(f"{PREDICTIONS_FILE} {name}: differs by {apart:.2g} of its largest value; {changed}")
        worst = max(worst, apart)
    how = "bitwise equal" if worst == 0 else f"equal to {worst:.1g} of the largest value; allowed: {allowed:g}"
    return f"{', '.join(computed)} computed again, {how}"


def _verify_training(record: Record, directory: Path, overrides: list[str], say: Say) -> Tier:
    if record.imported_from is not None:
        raise ConfigError(f"--retrain: {record.run_id} was imported from {record.imported_from}, not trained here")
    with tempfile.TemporaryDirectory(prefix="kd-bench-verify-") as temporary:
        runs = Path(temporary)
        for run_id in _learned_from(record):
            if (directory.parent / run_id / RECORD_FILE).is_file():
                shutil.copytree(directory.parent / run_id, runs / run_id)
        same = [f"trainer.threads={record.hardware.threads}", "trainer.progress=none"]
        again = run(
            recomposed(record, runs, [*same, *overrides]),
            role=record.role,
            wait=True,
            callbacks=(lambda: display("auto"),),
        )
        differing = _first_difference(record, again, directory, runs / again.run_id)
    if not differing:
        say("training: weights, predictions and metrics of a second training are bitwise equal")
        return "reproduced"
    if _machine(record) == _machine(again):
        raise IntegrityError(f"{differing} (same machine, packages and threads)")
    change = again.headline().test.top1 - record.headline().test.top1
    if abs(change) > RETRAINED_APART:
        raise IntegrityError(f"{differing}; test top-1 differs by {100 * change:+.2f} points")
    say(f"training: on another machine, {differing}; test top-1 {100 * change:+.2f} points")
    return "reproduced"


def _machine(record: Record) -> tuple[object, ...]:
    hardware = record.hardware
    return hardware.processor, hardware.device, hardware.threads, record.environment.packages


def _first_difference(record: Record, again: Record, directory: Path, second: Path) -> str:
    """Name the first quantity in which two trainings differ; empty if there is none."""
    if record.run_id != again.run_id:
        return f"run_id={record.run_id}: trained again it is {again.run_id}"
    if record.student.weights_sha256 != again.student.weights_sha256:
        return f"student.weights_sha256={record.student.weights_sha256}: trained again {again.student.weights_sha256}"
    saved, new = load_predictions(directory / PREDICTIONS_FILE), load_predictions(second / PREDICTIONS_FILE)
    if unequal := [name for name in sorted(saved.keys() | new.keys()) if not _equal(saved.get(name), new.get(name))]:
        return f"{PREDICTIONS_FILE} {unequal[0]}: differs from that of the second training"
    return next(iter(metric_differences(record.metrics, again.metrics)), "")


def _equal(first: Tensor | None, second: Tensor | None) -> bool:
    return first is not None and second is not None and torch.equal(first, second)
