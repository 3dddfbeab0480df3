"""Trackers mirror a run. What they say is what the record says; when they fail, the run does not notice."""

import base64
import csv
import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import wandb
from support.wandb_reader import read, runs_in

from kd_bench.errors import IntegrityError, Interrupted
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import Record
from kd_bench.runs.run import run
from kd_bench.training.checkpoints import AtomicCheckpointIO

BASE = [
    "recipe.epochs=3",
    "recipe.batch_size=32",
    "student=resnet8_cifar",
    "dataset.train_samples=100",
    "trainer.progress=none",
    "trainer.threads=1",
]
ALONE = ["method=scratch", "teacher=none"]
PAIR = ["method=kd", "teacher.name=resnet8_cifar"]
WANDB = Path(sys.executable).with_name("wandb")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, in which nothing may appear."""
    empty = tmp_path / "working-directory"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


@pytest.fixture
def train(compose, tmp_path):
    def of(*overrides: str, runs: str = "runs", **options) -> Record:
        return run(compose(*BASE, f"paths.runs={tmp_path / runs}", *overrides), **options)

    return of


def files(folder: Path, record: Record) -> list[bytes]:
    return [(folder / record.run_id / name).read_bytes() for name in (WEIGHTS_FILE, PREDICTIONS_FILE)]


def same_run(train, tmp_path: Path, record: Record, *overrides: str) -> bool:
    """Whether the run equals, to the bit, the one that nobody tracked."""
    untracked = train(*overrides, "logger=none", runs="untracked")
    return (
        untracked.run_id == record.run_id
        and untracked.metrics == record.metrics
        and untracked.history == record.history
        and files(tmp_path / "runs", record) == files(tmp_path / "untracked", record)
    )


# --- W&B ---


def test_a_tracked_run_is_its_record(train, tmp_path, folder):
    """Two runs of one process, a teacher and its student, are two W&B runs."""
    record = train(*PAIR, "logger=wandb", "logger.tags=[nightly]", "study=mirror", "trainer.log_every_n_steps=2")
    (student,) = runs_in(tmp_path / "runs" / record.run_id)
    (teacher,) = runs_in(tmp_path / "runs" / record.teacher.run_id)

    settings = "batch_size=32-epochs=3-teacher=resnet8_cifar-train_samples=100"
    name = f"kd-resnet8_cifar-{settings}-s0"
    assert (student.id, student.name, student.project) == (record.run_id, name, "kd_bench")
    assert (student.group, student.job_type) == ("mirror", "kd")
    assert sorted(student.tags) == ["digits", "kd", "nightly", "resnet8_cifar"]
    assert student.exit_code == 0
    config = {key: value for key, value in student.config.items() if key != "_wandb"}
    assert config.pop("code") == record.code.model_dump()
    assert config["dataset"].pop("content_sha256") == record.dataset.content_sha256
    assert config["teacher"].pop("test_top1") == record.teacher.test_top1
    assert config == record.config

    epochs = [row for row in student.history if "epoch" in row]
    assert len(epochs) == len(record.history) == 3
    for row, expected in zip(epochs, record.history, strict=True):
        assert {key: row[key] for key in expected} == expected
    assert {"train/loss", "train/ce", "train/kd", "val/top1", "val/nll", "lr"} <= set(epochs[0])
    assert [row["trainer/global_step"] for row in epochs] == [4, 8, 12]  # 100 samples by 32
    within = [row for row in student.history if "train_step/loss" in row]
    assert [row["trainer/global_step"] for row in within] == [2, 4, 6, 8, 10, 12]

    test = record.metrics.last.test
    assert student.summary["test/top1"] == test.top1
    assert student.summary["test/retention"] == test.retention
    assert student.summary["val/top1"] == record.metrics.last.validation.top1

    assert (teacher.id, teacher.job_type, teacher.exit_code) == (record.teacher.run_id, "teacher", 0)
    assert teacher.summary["test/top1"] == record.teacher.test_top1
    assert list(folder.iterdir()) == []
    assert same_run(train, tmp_path, record, *PAIR, "study=mirror", "trainer.log_every_n_steps=2")


def test_without_a_study_runs_are_grouped_by_their_pair(train, tmp_path):
    record = train(*PAIR, "recipe.epochs=1", "logger=wandb")
    (tracked,) = runs_in(tmp_path / "runs" / record.run_id)
    assert tracked.group == "digits/resnet8_cifar->resnet8_cifar"


ENVIRONMENT = {"WANDB_PROJECT": "mine", "WANDB_NAME": "first try", "WANDB_RUN_GROUP": "night"}


def test_the_variables_of_wandb_are_honoured(train, tmp_path, monkeypatch):
    """A teacher that is trained for the run keeps a name of its own; an id is a fingerprint in any case."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    record = train(*PAIR, "recipe.epochs=1", "logger=wandb")
    (student,) = runs_in(tmp_path / "runs" / record.run_id)
    (teacher,) = runs_in(tmp_path / "runs" / record.teacher.run_id)
    assert (student.id, student.name) == (record.run_id, "first try")
    assert (teacher.id, teacher.name[:22]) == (record.teacher.run_id, "scratch-resnet8_cifar-")
    assert {(each.project, each.group) for each in (student, teacher)} == {("mine", "night")}


def test_the_configuration_comes_before_the_variables(train, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    record = train(*ALONE, "recipe.epochs=1", "logger=wandb", "logger.project=theirs", "logger.mode=offline")
    (tracked,) = runs_in(tmp_path / "runs" / record.run_id)
    assert tracked.project == "theirs"


def test_the_mode_is_taken_from_the_environment(train, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    record = train(*ALONE, "recipe.epochs=1", "logger=wandb")
    assert not (tmp_path / "runs" / record.run_id / "wandb").exists()


@pytest.mark.parametrize("chosen", ["[csv,wandb]", "[wandb,csv]"])
def test_several_trackers_mirror_one_run(train, tmp_path, chosen):
    record = train(*ALONE, f"logger={chosen}", "logger.tags=[both]")
    (tracked,) = runs_in(tmp_path / "runs" / record.run_id)
    assert "both" in tracked.tags
    assert len([row for row in tracked.history if "epoch" in row]) == 3
    assert len(rows(tmp_path / "runs" / record.run_id / "metrics.csv")) == 3


@pytest.mark.parametrize("every", [3, 5])
def test_steps_are_logged_at_their_interval_whatever_the_length_of_an_epoch(train, tmp_path, every):
    """Each row is the mean over the steps since the last row, or since the epoch began: four steps have one."""
    single, logged = (
        {row["trainer/global_step"]: row["train_step/loss"] for row in tracked.history if "train_step/loss" in row}
        for each in (1, every)
        for record in [train(*ALONE, "logger=wandb", f"trainer.log_every_n_steps={each}", runs=str(each))]
        for tracked in runs_in(tmp_path / str(each) / record.run_id)
    )
    assert list(single) == list(range(1, 13))
    assert list(logged) == [step for step in range(1, 13) if step % every == 0]
    for step, loss in logged.items():
        first = max(step - every, (step - 1) // 4 * 4) + 1
        assert loss == pytest.approx(
            sum(single[each] for each in range(first, step + 1)) / (step + 1 - first), rel=1e-6
        )


def test_disabled_means_that_nothing_is_written(train, tmp_path, folder):
    record = train(*ALONE, "logger=wandb", "logger.mode=disabled")
    assert not (tmp_path / "runs" / record.run_id / "wandb").exists()
    assert list(folder.iterdir()) == []


class StopAt(pl.Callback):
    """Ends the run as a signal does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise Interrupted("stopped")


def test_the_last_folder_of_an_interrupted_run_holds_all_of_it(train, tmp_path):
    """Each is an upload of its own: the next one replaces it. What is set aside is not uploaded."""
    steps = "trainer.log_every_n_steps=3"
    with pytest.raises(Interrupted):
        train(*ALONE, "logger=wandb", steps, callbacks=(lambda: [StopAt(2)],))
    record = train(*ALONE, "logger=wandb", steps)
    folder = tmp_path / "runs" / record.run_id / "wandb"
    (whole,) = runs_in(folder.parent)
    (first,) = [read(path) for path in folder.glob("offline-run-*/*.earlier")]
    assert first.id == whole.id == record.run_id
    assert (first.exit_code, whole.exit_code) == (1, 0)
    assert "test/top1" not in first.summary
    rows = [row for row in whole.history if "epoch" in row]
    assert [{key: row[key] for key in expected} for row, expected in zip(rows, record.history, strict=True)] == (
        record.history
    )
    assert [row["trainer/global_step"] for row in rows] == [4, 8, 12]
    within = [row["trainer/global_step"] for row in whole.history if "train_step/loss" in row]
    assert within == [3, 6, 9, 12]
    sync = [WANDB, "sync", "--dry-run", "--no-skip-online", folder]
    listed = subprocess.run(sync, capture_output=True, text=True, check=True)
    assert "Would sync 1 run(s)" in listed.stdout + listed.stderr


def test_what_has_been_uploaded_stays_where_it_is(train, tmp_path):
    with pytest.raises(Interrupted):
        train(*ALONE, "logger=wandb", callbacks=(lambda: [StopAt(2)],))
    (part,) = tmp_path.glob("runs/*/wandb/offline-run-*/*.wandb")
    part.with_name(f"{part.name}.synced").touch()
    train(*ALONE, "logger=wandb")
    assert part.is_file()


def test_weights_are_an_artifact_on_request(train, tmp_path):
    record = train(*ALONE, "recipe.epochs=1", "logger=wandb", "logger.weights=true")
    directory = tmp_path / "runs" / record.run_id
    (artifact,) = [artifact for run in runs_in(directory) for artifact in run.artifacts]
    digest = base64.b64encode(
        hashlib.md5((directory / WEIGHTS_FILE).read_bytes(), usedforsecurity=False).digest()
    ).decode()
    assert artifact == (f"weights-{record.run_id}", "model", {WEIGHTS_FILE: digest})


def refuse(*arguments, **options):
    raise RuntimeError("no luck\nat all")


def refuse_later(calls: int):
    """A client that works for a while."""
    genuine, seen = wandb.sdk.wandb_run.Run.log, []

    def log(self, *arguments, **options):
        seen.append(arguments)
        if len(seen) > calls:
            raise ConnectionError("the server is gone")
        return genuine(self, *arguments, **options)

    return log


@pytest.mark.parametrize("moment", ["init", "first log", "later log", "summary", "finish"])
def test_a_failing_tracker_costs_one_warning_and_nothing_else(train, tmp_path, monkeypatch, moment):
    target, replacement, reason = {
        "init": (("wandb.init",), refuse, "no luck"),
        "first log": (("wandb.sdk.wandb_run.Run.log",), refuse_later(0), "the server is gone"),
        "later log": (("wandb.sdk.wandb_run.Run.log",), refuse_later(2), "the server is gone"),
        "summary": (("wandb.sdk.wandb_summary.SummaryDict.update",), refuse, "no luck"),
        "finish": (("wandb.sdk.wandb_run.Run.finish",), refuse, "no luck"),
    }[moment]
    started = []
    genuine = wandb.init
    monkeypatch.setattr("wandb.init", lambda **options: started.append(genuine(**options)) or started[-1])
    with monkeypatch.context() as patch:
        patch.setattr(*target, replacement)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = train(*ALONE, "logger=wandb")
    (ours,) = [str(warning.message) for warning in caught if "dropped" in str(warning.message)]
    message, _, upload = ours.partition("; what it has written is uploaded by: ")
    assert message == f"W&B is dropped, the run goes on without it: {reason}"
    assert bool(upload) == (moment != "init")
    if upload:
        assert list(Path(upload.removeprefix("wandb sync ")).glob("*.wandb"))
    assert same_run(train, tmp_path, record, *ALONE)
    for tracked in started:
        tracked.finish()


def test_a_package_that_is_not_installed_costs_one_warning(train, monkeypatch):
    monkeypatch.setattr("pytorch_lightning.loggers.TensorBoardLogger", refuse)
    with pytest.warns(UserWarning, match="TensorBoard is dropped, the run goes on without it: no luck") as caught:
        train(*ALONE, "logger=tensorboard")
    assert len(caught) == 1


@pytest.mark.parametrize("moment", ["asked", "started"])
def test_a_server_that_does_not_take_the_run_costs_one_warning_that_says_how_to_upload_it(
    train, tmp_path, monkeypatch, moment
):
    genuine = wandb.init

    def init(**options):
        return genuine(**options) if options["mode"] == "offline" else refuse()

    monkeypatch.setattr("wandb.init", init)
    monkeypatch.setattr("kd_bench.training.trackers._await_answer", refuse if moment == "asked" else lambda url: None)
    with pytest.warns(UserWarning, match="W&B does not take the run, it is kept offline: no luck; ") as caught:
        record = train(*ALONE, "logger=wandb", "logger.mode=online")
    (ours,) = [str(warning.message) for warning in caught]
    assert list(Path(ours.partition("uploaded by: wandb sync ")[2]).glob("*.wandb"))
    (tracked,) = runs_in(tmp_path / "runs" / record.run_id)
    assert tracked.id == record.run_id
    assert len([row for row in tracked.history if "epoch" in row]) == 3
    assert same_run(train, tmp_path, record, *ALONE)


# --- CSV ---


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_is_the_history(train, tmp_path):
    record = train(*PAIR, "logger=csv", "trainer.log_every_n_steps=1")
    table = rows(tmp_path / "runs" / record.run_id / "metrics.csv")
    assert [row.pop("trainer/global_step") for row in table] == ["4", "8", "12"]
    assert [{key: float(value) for key, value in row.items()} for row in table] == record.history
    assert same_run(train, tmp_path, record, *PAIR, "trainer.log_every_n_steps=1")


def stopped_by_a_signal(train, overrides: list[str], monkeypatch) -> None:
    with pytest.raises(Interrupted):
        train(*overrides, callbacks=(lambda: [StopAt(2)],))


def stopped_between_row_and_checkpoint(train, overrides: list[str], monkeypatch) -> None:
    """The row of epoch 2 is written, its checkpoint is not: the epoch is trained again."""
    genuine, saved = AtomicCheckpointIO.save_checkpoint, []

    def save(self, *arguments, **options):
        saved.append(arguments)
        if len(saved) == 2:
            raise IntegrityError("the disk is full")
        genuine(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
        with pytest.raises(IntegrityError, match="the disk is full"):
            train(*overrides)


@pytest.mark.parametrize("stop", [stopped_by_a_signal, stopped_between_row_and_checkpoint])
def test_a_resumed_run_has_neither_lost_nor_doubled_rows(train, tmp_path, monkeypatch, stop):
    stop(train, [*ALONE, "logger=csv"], monkeypatch)
    (table,) = (tmp_path / "runs").glob("*/metrics.csv")
    assert [float(row["epoch"]) for row in rows(table)] == [1.0, 2.0]
    record = train(*ALONE, "logger=csv")
    assert record.times.resumed == 1
    whole = train(*ALONE, "logger=csv", runs="uninterrupted")
    assert table.read_bytes() == (tmp_path / "uninterrupted" / whole.run_id / "metrics.csv").read_bytes()
    assert [float(row["epoch"]) for row in rows(table)] == [1.0, 2.0, 3.0]


def test_the_rows_of_both_stages_stand_in_one_table(train, tmp_path):
    record = train("method=fitnet_two_stage", "method.pretrain_epochs=2", "teacher.name=resnet8_cifar", "logger=csv")
    table = rows(tmp_path / "runs" / record.run_id / "metrics.csv")
    assert [float(row["epoch"]) for row in table] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [bool(row["train/hint"]) for row in table] == [True, True, False, False, False]
    assert [bool(row["train/kd"]) for row in table] == [False, False, True, True, True]
