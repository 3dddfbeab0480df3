"""A network trained elsewhere, as a finished run: measured here, with a record that names its file."""

import time
from pathlib import Path

import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from kd_bench.config.check import check
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.evaluation.evaluate import SPLITS, metrics_of, teacher_predictions
from kd_bench.evaluation.metrics import accuracy
from kd_bench.models.weights import load_strictly, read_weights, save_tensors, weights_sha256
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE, claim, finished
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.record import RECORD_FILE, Record, Times, write_record
from kd_bench.results.records.states import new_state, now, write_state
from kd_bench.runs.lineage import load_arrays, scratch_run
from kd_bench.runs.recorder import dataset_info, make_record, method_info
from kd_bench.runs.run import data_module
from kd_bench.training.pair import Pair, build
from kd_bench.training.teachers import check_teacher

IMPORTED = "imported"  # method and recipe of a network that was trained elsewhere


def import_teacher(cfg: DictConfig, file: Path, expected_top1: float | None) -> Record:
    """Measure the weights in ``file`` on the configured data set and add them to the runs as a teacher.

    Its validation images may have been trained on: only the numbers of the test split say how good it is.

    Args:
        cfg: ``student`` is the network of the file.
        expected_top1: on the test split, in [0, 1]; more than a point below is refused.

    Raises:
        ConfigError, IntegrityError: the network does not exist, or the file does not fit it or does not classify.
    """
    started, clock = now(), time.perf_counter()
    config = check(_imported(cfg))
    pair = build(config)
    for note in load_strictly(pair.student.network, read_weights(file), str(file)):
        print(note, flush=True)
    arrays = load_arrays(config, pair)
    data = data_module(config, pair, arrays)
    sha256 = weights_sha256(pair.student.network.state_dict())
    run_id = fingerprint(config, arrays.content_sha256, [[sha256], []], 0)
    if (record := finished(config.runs / run_id)) is not None:
        return record
    # Before the directory is made: what is refused leaves nothing behind.
    predictions = _measured(pair, data, expected_top1)
    with claim(config.runs, run_id, wait=True) as directory:
        if (record := finished(directory)) is not None:
            return record
        save_tensors(predictions, directory / PREDICTIONS_FILE)
        save_tensors(pair.student.network.state_dict(), directory / WEIGHTS_FILE)
        state = new_state(config, run_id, "teacher", epochs=0)
        record = make_record(
            config=config,
            state=state,
            pair=pair,
            dataset=dataset_info(config, arrays, data),
            teacher=None,
            method=method_info(config, pair, []),
            metrics=metrics_of(predictions, {"last": 0, "best_on_validation": 0}),
            history=[],
            times=Times(
                started_at=started,
                finished_at=now(),
                train_seconds=None,
                evaluation_seconds=time.perf_counter() - clock,
                teacher_train_seconds=None,
                resumed=0,
            ),
            directory=directory,
            files=[PREDICTIONS_FILE, WEIGHTS_FILE],
            imported_from=file.name,
        )
        write_state(state.moved("completed", epoch=0), directory)
        write_record(record, directory / RECORD_FILE)
        return record


def _measured(pair: Pair, data: ImageDataModule, expected_top1: float | None) -> dict[str, Tensor]:
    """What ``predictions.safetensors`` holds; there is one set of weights for both selection rules.

    Raises:
        IntegrityError: the network is not what it claims to be.
    """
    logits = teacher_predictions(pair.student, data)
    measured = {split: accuracy(logits[split], getattr(data, split).targets) for split in SPLITS}
    expected = None if expected_top1 is None else ("test", expected_top1)
    check_teacher(pair.student.name, measured, expected, pair.spec.num_classes)
    predictions: dict[str, Tensor] = {}
    for split in SPLITS:
        targets = getattr(data, split).targets
        predictions[f"{split}/targets"], predictions[f"{split}/index"] = targets, torch.arange(len(targets))
        predictions[f"{split}/last"] = predictions[f"{split}/best_on_validation"] = logits[split]
    return predictions


def _imported(cfg: DictConfig) -> DictConfig:
    derived = scratch_run(cfg)
    with open_dict(derived):
        derived.teacher = {"name": None}
        derived.names.method = derived.names.recipe = IMPORTED
        derived.recipe.selection = "last"  # there is one set of weights
        derived.seed = 0
    return derived
