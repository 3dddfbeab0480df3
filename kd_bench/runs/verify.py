"""A finished run held against its files, its weights, its data and, if asked, a second training."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from kd_bench.config.check import check
from kd_bench.config.composition import quoted
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.presence import require
from kd_bench.data.source import ImageArrays
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.evaluation.evaluate import SPLITS
from kd_bench.evaluation.predictions import load_predictions, predict
from kd_bench.evaluation.recomputed import prediction_problems
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.features import FeatureTap
from kd_bench.models.weights import load_strictly, read_weights, weights_sha256
from kd_bench.results.checking.collection import Checked, Tier, artifact_problems, known_records, read_all
from kd_bench.results.records.command import overrides_of
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.directory import HEAD_FILE, PREDICTIONS_FILE, WEIGHTS_FILE, finished
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.runs.lineage import Role, load_arrays, locate, resolve
from kd_bench.runs.run import data_module, run
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import Pair, build
from kd_bench.training.teachers import TeacherWeights

# How far logits computed again may lie from the saved ones, relative to the largest of them. GPUs multiply in TF32.
LOGITS_APART = {"cpu": 1e-4, "gpu": 1e-2}
# How far top-1 of a second training may lie from the first on another machine; on the same one nothing may differ.
RETRAINED_APART = 0.02
# Parts of a configuration that may be overridden: they change no number, or the fingerprint looks after them.
FREE = ("trainer", "study", "evaluation", "plugins")

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Run:
    """A record with everything it was made of, built again."""

    record: Record
    directory: Path
    config: RunConfig
    pair: Pair
    arrays: ImageArrays
    data: ImageDataModule


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
    cfg = _composed(record, directory.parent, overrides)
    config = check(cfg)
    composed = json.loads(json.dumps(config.recorded()))
    if changed := [name for name in composed if name not in FREE and composed[name] != record.config.get(name)]:
        raise ConfigError(f"{changed[0]}: the overrides change the run; only {', '.join(FREE)} and paths may differ")
    pair = build(config, device_here=False)
    arrays = load_arrays(config, pair)
    verified = _Run(record, directory, config, pair, arrays, data_module(config, pair, arrays))
    with torch_threads(record.hardware.threads):
        _verify_data(verified, say)
        _verify_weights(verified, say)
        _verify_predictions(verified, cfg, say)
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
    """Records of the runs that this one learned from, as far as they are there."""
    paths = [runs / run_id / RECORD_FILE for run_id in _learned_from(record)]
    return read_all(path for path in paths if path.is_file())


def _learned_from(record: Record) -> list[str]:
    sources = record.teacher.source.split(", ") if record.teacher else []
    return [*(source for source in sources if source.isalnum()), *record.method.trained_from]


def _composed(record: Record, runs: Path, overrides: list[str]) -> DictConfig:
    plugins = record.config["plugins"]
    if plugins and not any(override.startswith("plugins=") for override in overrides):
        raise ConfigError(
            f"plugins={plugins}: the run used code from elsewhere, which a record cannot ask for; "
            f"say plugins=[{','.join(plugins)}] if you trust it"
        )
    cfg = compose_run([*overrides_of(record.config), f"paths.runs={quoted(str(runs))}", "logger=none", *overrides])
    require(cfg.dataset.source)
    return cfg


def _verify_data(verified: _Run, say: Say) -> None:
    recorded, found = verified.record.dataset, verified.arrays.content_sha256
    if found != recorded.content_sha256:
        raise IntegrityError(f"dataset.content_sha256={recorded.content_sha256}: the data here have {found}")
    for split in ("train", *SPLITS):
        samples, size = getattr(recorded, f"{split}_samples"), len(getattr(verified.data, split))
        if samples != size:
            raise IntegrityError(f"dataset.{split}_samples={samples}: the split here has {size}")
    say(f"data: {recorded.name} has the recorded content, {found[:16]}...")


def _verify_weights(verified: _Run, say: Say) -> None:
    record, pair, path = verified.record, verified.pair, verified.directory / WEIGHTS_FILE
    state = read_weights(path)
    if (found := weights_sha256(state)) != record.student.weights_sha256:
        raise IntegrityError(f"student.weights_sha256={record.student.weights_sha256}: {path} holds {found}")
    load_strictly(pair.student.network, state, str(path))
    if modules := pair.method.test_time_modules():
        load_strictly(nn.ModuleList(modules), read_weights(verified.directory / HEAD_FILE), HEAD_FILE)
    if verified.config.trainer.channels_last:
        pair.student.to(memory_format=torch.channels_last)
    say(f"weights: {len(state)} tensors fit {record.student.name} and are the recorded ones, {found[:16]}...")


def _verify_predictions(verified: _Run, cfg: DictConfig, say: Say) -> None:
    """Logits of the headline weights and of the teacher, computed again."""
    record, pair = verified.record, verified.pair
    saved = load_predictions(verified.directory / PREDICTIONS_FILE)
    computed = {
        f"{split}/{record.selection}": predict(pair.student, _batches(verified, split), pair.method) for split in SPLITS
    }
    for split in SPLITS:
        if not torch.equal(saved[f"{split}/targets"], getattr(verified.data, split).targets):
            raise IntegrityError(f"{PREDICTIONS_FILE} {split}/targets: are not the labels of the data")
    say(f"predictions: {_compared(verified, saved, computed)}")
    if pair.teacher is None:
        return
    try:
        teachers, _, run_id = resolve(cfg, verified.config, pair, verified.arrays, _finished_run)
    except (_NotHere, IntegrityError) as error:
        say(f"teacher: not computed again: {error}")
        return
    if run_id != record.run_id:
        raise IntegrityError(f"run_id={record.run_id}: configuration, data and weights at hand are those of {run_id}")
    logits = _teacher_logits(verified, pair.teacher, teachers)
    say(f"teacher: {_compared(verified, saved, logits)}")


def _batches(verified: _Run, split: str) -> Iterable[Batch]:
    return verified.data.evaluation_loader(getattr(verified.data, split))


class _NotHere(Exception):
    """A run that another one learned from is not at hand."""


def _finished_run(cfg: DictConfig, role: Role) -> Record:
    run_id = locate(cfg)
    record = finished(Path(cfg.paths.runs).expanduser() / run_id) if run_id else None
    if record is None:
        raise _NotHere(f"the run {run_id or 'before it'} is not in {cfg.paths.runs}")
    return record


def _teacher_logits(verified: _Run, teacher: FeatureTap, weights: list[TeacherWeights]) -> dict[str, Tensor]:
    ensemble = teacher if isinstance(teacher, Ensemble) else None
    taps = list(ensemble.taps()) if ensemble else [teacher]
    for tap, own in zip(taps, weights, strict=True):
        own.load(tap)
    each = {split: [predict(tap, _batches(verified, split)) for tap in taps] for split in SPLITS}
    return {f"{split}/teacher": ensemble.combine(each[split]) if ensemble else each[split][0] for split in SPLITS}


def _compared(verified: _Run, saved: dict[str, Tensor], computed: dict[str, Tensor]) -> str:
    """How the saved values compare with those computed again.

    Raises:
        IntegrityError: some lie too far apart.
    """
    allowed = LOGITS_APART[verified.config.trainer.accelerator]
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
        same = [f"trainer.threads={record.hardware.threads}", "trainer.progress=auto", "evaluation.sections=[]"]
        again = run(_composed(record, runs, [*same, *overrides]), role=record.role, wait=True)
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
    """The first quantity in which two trainings differ; empty if there is none."""
    if record.run_id != again.run_id:
        return f"run_id={record.run_id}: trained again it is {again.run_id}"
    if record.student.weights_sha256 != again.student.weights_sha256:
        return f"student.weights_sha256={record.student.weights_sha256}: trained again {again.student.weights_sha256}"
    saved, new = load_predictions(directory / PREDICTIONS_FILE), load_predictions(second / PREDICTIONS_FILE)
    if unequal := [name for name in sorted(saved.keys() | new.keys()) if not _equal(saved.get(name), new.get(name))]:
        return f"{PREDICTIONS_FILE} {unequal[0]}: differs from that of the second training"
    return next(iter(metric_differences(record.metrics, again.metrics)), "")


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)
