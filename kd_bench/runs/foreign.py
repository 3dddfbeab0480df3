"""Networks from elsewhere, each as a finished run: measured here, with a record that names its file."""

import time
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, open_dict
from torch import Tensor

from kd_bench.data.datamodule import ImageDataModule
from kd_bench.evaluation.evaluate import labels, metrics_of, teacher_predictions, top1_by_split
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.models.weights import load_strictly, read_weights, save_tensors, weights_sha256
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE, claim, finished
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.record import RECORD_FILE, Record, Times, write_record
from kd_bench.results.records.states import new_state, now, write_state
from kd_bench.runs.lineage import completed, load_arrays, scratch_run
from kd_bench.runs.recorder import make_record
from kd_bench.runs.run import data_module
from kd_bench.training.pair import Pair, build
from kd_bench.training.teachers import check_teacher

IMPORTED = "imported"  # method and recipe of a network that was trained elsewhere
RULES = ("last", "best_on_validation")


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
    config = completed(_imported(cfg))
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
        opened = OpenedRun(config, pair, arrays, data, directory, [])
        return _recorded(opened, run_id, predictions, file.name, started, time.perf_counter() - clock)


def _measured(pair: Pair, data: ImageDataModule, expected_top1: float | None) -> dict[str, Tensor]:
    """Return what ``predictions.safetensors`` holds; there is one set of weights for both selection rules.

    Raises:
        IntegrityError: the network is not what it claims to be.
    """
    logits, _ = teacher_predictions(pair.student, data)
    expected = None if expected_top1 is None else ("test", expected_top1)
    check_teacher(pair.student.name, top1_by_split(logits, data), expected, pair.spec.num_classes)
    return {f"{split}/{rule}": values for split, values in logits.items() for rule in RULES} | labels(data)


def _recorded(
    opened: OpenedRun, run_id: str, predictions: dict[str, Tensor], file_name: str, started: datetime, seconds: float
) -> Record:
    """Leave in the run's directory what a training would have left."""
    directory = opened.directory
    save_tensors(predictions, directory / PREDICTIONS_FILE)
    save_tensors(opened.pair.student.network.state_dict(), directory / WEIGHTS_FILE)
    state = new_state(opened.config, run_id, "teacher", epochs=0)
    record = make_record(
        opened=opened,
        state=state,
        previous=[],
        metrics=metrics_of(predictions, dict.fromkeys(RULES, 0)),
        teacher_top1=None,
        history=[],
        times=Times(
            started_at=started,
            finished_at=now(),
            train_seconds=None,
            evaluation_seconds=seconds,
            teacher_train_seconds=None,
            resumed=0,
        ),
        files=[PREDICTIONS_FILE, WEIGHTS_FILE],
        imported_from=file_name,
    )
    write_state(state.moved("completed", epoch=0), directory)
    write_record(record, directory / RECORD_FILE)
    return record


def _imported(cfg: DictConfig) -> DictConfig:
    derived = scratch_run(cfg)
    with open_dict(derived):
        derived.teacher = {"name": None}
        derived.names.method = derived.names.recipe = IMPORTED
        derived.recipe.selection = "last"  # there is one set of weights
        derived.seed = 0
    return derived
