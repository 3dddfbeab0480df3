"""A disk that is full costs what was being written: with space again a run ends as if it had never stopped."""

import json
import warnings

import pytest
import pytorch_lightning as pl

import kd_bench.runs.run
from kd_bench.errors import IntegrityError
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run
from kd_bench.runs.studies.grid import Study
from kd_bench.runs.studies.progress import ProgressFile, read_status
from kd_bench.runs.studies.tasks import Outcome, Task
from kd_bench.training.checkpoints import AtomicCheckpointIO, latest_checkpoint

from .conftest import fill

RUN = [
    *("recipe.epochs=3", "student=resnet8_cifar", "dataset.train_samples=100", "method=scratch", "teacher=none"),
    *("logger=none", "trainer.progress=none", "trainer.threads=1", "trainer.checkpoint_seconds=0"),
]


class FillAt(pl.Callback):
    """Fills the disk when epoch ``epoch`` starts (counted from 0), or when training has ended."""

    def __init__(self, folder, epoch: int | None) -> None:
        self.folder, self.epoch = folder, epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            fill(self.folder)

    def on_train_end(self, trainer, pl_module):
        if self.epoch is None:
            fill(self.folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run on a disk with space, trained once."""
    return tmp_path_factory.mktemp("whole")


def left_by(runs, run_id: str) -> tuple:
    record = json.loads((runs / run_id / RECORD_FILE).read_text())
    del record["times"], record["cost"]
    return record, *((runs / run_id / name).read_bytes() for name in (WEIGHTS_FILE, PREDICTIONS_FILE))


def test_too_small_a_disk_is_told_of_before_anything_is_trained(compose, disk):
    runs = disk(1 << 20)
    with pytest.raises(IntegrityError, match=r"the checkpoints of this run need about .* MB, .* MB are free") as caught:
        run(compose(*RUN, f"paths.runs={runs}"))
    assert caught.value.exit_code == 4
    (state,) = runs.glob("*/state.json")
    assert read_state(state.parent).state == "failed"


@pytest.mark.parametrize("moment", ["checkpoint", "predictions", "record"])
@pytest.mark.filterwarnings("ignore:.*state.json cannot be written")  # it says failed, or nothing new
def test_a_full_disk_costs_what_was_being_written(compose, disk, whole, monkeypatch, figure, moment):
    runs = disk(8 << 20)
    make = kd_bench.runs.run.make_record

    def make_and_fill(**arguments):
        record = make(**arguments)
        fill(runs)
        return record

    fill_at = {"checkpoint": FillAt(runs, 1), "predictions": FillAt(runs, None), "record": FillAt(runs, 99)}[moment]
    with monkeypatch.context() as patch:
        if moment == "record":
            patch.setattr(kd_bench.runs.run, "make_record", make_and_fill)
        with pytest.raises(IntegrityError, match="cannot be written: No space left on device") as caught:
            run(compose(*RUN, f"paths.runs={runs}"), callbacks=(lambda: [fill_at],))
    assert caught.value.exit_code == 4
    (folder,) = [path.parent for path in runs.glob("*/state.json")]
    assert not (folder / RECORD_FILE).exists()
    found = latest_checkpoint(folder)
    assert found.epochs == (1 if moment == "checkpoint" else 3)
    AtomicCheckpointIO().load_checkpoint(found.path)

    (runs / "filler").unlink()
    record = run(compose(*RUN, f"paths.runs={runs}"))
    assert record.times.resumed == 1
    expected = run(compose(*RUN, f"paths.runs={whole}"))
    same = left_by(runs, record.run_id) == left_by(whole, expected.run_id)
    figure("R1", {"disk full while writing": moment, "checkpoint left of epoch": found.epochs, "same run after": same})
    assert same


def test_a_full_disk_leaves_the_last_status_of_a_study(disk):
    runs = disk(1 << 20)
    task, study = Task("key", "method kd", None, "student"), Study("mine", runs, list)
    file = ProgressFile(study, [task])
    file.write()
    fill(runs)
    file.tasks["key"] = file.tasks["key"].model_copy(update={"state": "failed", "cause": "x" * 100_000})
    with pytest.warns(UserWarning, match=r"mine.json cannot be written: No space left on device; kd-bench status is"):
        file.write()
    assert [each.state for each in read_status(study).tasks] == ["waiting"]
    (runs / "filler").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file.update(task, Outcome("completed", top1=0.5))
        file.write()
    assert [each.state for each in read_status(study).tasks] == ["completed"]
