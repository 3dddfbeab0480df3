"""Several processes that train one run: the numbers of one process, one record, and no process left behind.

Every run is a command of its own, as a user starts it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, log_loss

from kd_bench.data.digits import Digits
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.states import process_is_gone, read_state

slow = pytest.mark.slow
SMALL = ["recipe.epochs=1", "logger=csv", "trainer.progress=none", "trainer.threads=1"]
ALONE = ["method=scratch", "teacher=none", "teacher.name=null"]
DDP = ["trainer=ddp"]


class Command:
    def __init__(self, folder: Path, *arguments: str) -> None:
        self.output = folder / f"output-{len(list(folder.glob('output-*')))}"
        whole = [sys.executable, "-m", "kd_bench", "train", *arguments]
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(whole, cwd=folder, stdout=file, stderr=subprocess.STDOUT)

    def end(self) -> tuple[int, list[str]]:
        """Exit code and what ``kd-bench`` has said."""
        try:
            code = self.process.wait(120)
        finally:
            self.process.kill()
        lines = self.output.read_text().splitlines()
        assert not [line for line in lines if line.startswith("Traceback")], "\n".join(lines)
        return code, [line for line in lines if line.startswith("kd-bench: ")]

    def other(self) -> int:
        """The process that shares the training."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (found,) = [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


def only_record(folder: Path) -> Record:
    (path,) = folder.glob(f"runs/*/{RECORD_FILE}")
    return read_record(path)


def trained(folder: Path, *arguments: str) -> Record:
    folder.mkdir()
    code, lines = Command(folder, *SMALL, *arguments).end()
    assert (code, lines) == (0, [])
    return only_record(folder)


@slow
def test_two_processes_train_as_one(tmp_path):
    """A network without batch norm, whose gradient is the mean of its samples': only rounding differs."""
    settings = [*ALONE, "student.name=test_vit", "dataset.train_samples=320", "recipe.optimizer.lr=0.01"]
    one = trained(tmp_path / "one", *settings)
    two = trained(tmp_path / "two", *settings, *DDP)
    assert two.run_id != one.run_id
    assert two.config["trainer"]["devices"] == 2
    assert two.history[0]["train/ce"] == pytest.approx(one.history[0]["train/ce"], rel=1e-5)
    logits = [
        load_file(tmp_path / name / "runs" / record.run_id / PREDICTIONS_FILE)["test/last"]
        for name, record in (("one", one), ("two", two))
    ]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-3, rtol=1e-3)


def test_each_held_out_sample_is_counted_once(tmp_path):
    """719 test and 216 validation images are no multiple of anything; metrics are recomputed by scikit-learn."""
    record = trained(tmp_path / "runs-of-two", "student=resnet8_cifar", *ALONE, *DDP)
    folder = tmp_path / "runs-of-two" / "runs" / record.run_id
    saved = load_file(folder / PREDICTIONS_FILE)
    for split, samples in (("validation", 216), ("test", 719)):
        assert saved[f"{split}/index"].tolist() == list(range(samples))
        logits, targets = saved[f"{split}/last"].double(), saved[f"{split}/targets"]
        assert logits.shape == (samples, 10)
        metrics = getattr(record.metrics.last, split)
        assert metrics.top1 == accuracy_score(targets, logits.argmax(1))
        assert metrics.nll == pytest.approx(log_loss(targets, logits.softmax(1)), rel=1e-6)
    assert torch.equal(saved["test/targets"], Digits(test_fraction=0.4).load().test.targets)
    assert record.history[0]["val/top1"] == record.metrics.last.validation.top1
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2
    assert read_state(folder).state == "completed"


@slow
@pytest.mark.parametrize(
    "settings",
    [
        ["method=fitnet_two_stage", "method.pretrain_epochs=1"],
        ["method=cskd"],
        ["method=dlb"],
        ["method=mean_teacher"],
        ["method=dml"],
        ["method=kdpp"],
    ],
    ids=lambda settings: settings[0].partition("=")[2],
)
def test_methods_of_every_kind_are_shared(tmp_path, settings):
    """Two stages, pairs, repeated halves, teachers that change, and what is made before training."""
    pair = ["student=resnet8_cifar", "teacher=resnet8_cifar", "recipe.epochs=2"]
    (tmp_path / "folder").mkdir()
    code, lines = Command(tmp_path / "folder", *SMALL, *pair, *settings, *DDP).end()
    assert (code, lines) == (0, [])
    records = [read_record(path) for path in (tmp_path / "folder").glob(f"runs/*/{RECORD_FILE}")]
    assert {record.config["trainer"]["devices"] for record in records} == {2}
    assert sorted(record.role for record in records) == ["student", "teacher"]


LONG = [*SMALL, "trainer.checkpoint_seconds=0", "student=resnet8_cifar", *ALONE, *DDP, "recipe.epochs=30"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Record:
    return trained(tmp_path_factory.mktemp("uninterrupted") / "folder", *LONG)


def interrupted(folder: Path) -> Command:
    """A run that has saved a few epochs."""
    command = Command(folder, *LONG)
    wait_for(lambda: list(folder.glob("runs/*/checkpoint-1-0000[5-9]-*")))
    return command


def resumed(folder: Path, uninterrupted: Record) -> bool:
    code, lines = Command(folder, *LONG).end()
    assert (code, lines) == (0, [])
    record = only_record(folder)
    assert (record.run_id, record.times.resumed) == (uninterrupted.run_id, 1)
    return record.student.weights_sha256 == uninterrupted.student.weights_sha256


@slow
def test_when_another_process_is_killed_the_run_fails_and_can_be_resumed(tmp_path, uninterrupted):
    command = interrupted(tmp_path)
    os.kill(command.other(), signal.SIGKILL)
    words = "process 1 of this run was killed by SIGKILL; the same command resumes"
    assert command.end() == (1, [f"kd-bench: {words}"])
    (folder,) = tmp_path.glob("runs/*")
    assert (read_state(folder).state, read_state(folder).cause) == ("failed", words)
    assert resumed(tmp_path, uninterrupted)


@slow
@pytest.mark.parametrize(
    ("number", "code", "state"), [(signal.SIGKILL, -9, "stale"), (signal.SIGTERM, 143, "preempted")]
)
def test_when_the_first_process_ends_the_others_do(tmp_path, uninterrupted, number, code, state):
    command = interrupted(tmp_path)
    other = command.other()
    command.process.send_signal(number)
    assert command.end()[0] == code
    wait_for(lambda: process_is_gone(other))
    (folder,) = tmp_path.glob("runs/*")
    assert read_state(folder).state == state
    assert resumed(tmp_path, uninterrupted)


@slow
def test_a_process_that_is_stopped_does_not_hold_the_end_of_the_others(tmp_path, uninterrupted):
    """The first one waits for it in a collective operation, which no handler of a signal interrupts."""
    command = interrupted(tmp_path)
    other = command.other()
    os.kill(other, signal.SIGSTOP)
    time.sleep(3)
    since = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    code, lines = command.end()
    assert time.monotonic() - since < 30
    assert (code, lines) == (143, ["kd-bench: stopped by SIGTERM; the same command resumes"])
    wait_for(lambda: process_is_gone(other))
    (folder,) = tmp_path.glob("runs/*")
    assert read_state(folder).state == "preempted"
    assert resumed(tmp_path, uninterrupted)


@slow
def test_a_process_that_is_stopped_ends_with_the_first_one(tmp_path):
    command = interrupted(tmp_path)
    other = command.other()
    os.kill(other, signal.SIGSTOP)
    command.process.kill()
    assert command.end()[0] == -signal.SIGKILL
    wait_for(lambda: process_is_gone(other), 10)
