"""Runs from end to end on scikit-learn's digits: what they leave, what they survive, what they do not disturb.

Where a test needs a process of its own, it is forked from a server that has imported torch once: a real process with a
process number, signals and an exit code, without the seconds of import.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from support.choices import METHODS, networks_for
from support.taps import make_tap

from kd_bench.cli.main import main
from kd_bench.config.files import file_sha256
from kd_bench.data.batch import DataSpec
from kd_bench.data.digits import Digits
from kd_bench.errors import Diverged, IntegrityError, Interrupted
from kd_bench.models.weights import weights_sha256
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run
from kd_bench.training.teachers import FrozenTeacher

BASE = [
    "recipe.epochs=2",
    "teacher.name=resnet8_cifar",
    "student=resnet8_cifar",
    "dataset.train_samples=100",
    "logger=none",
    "trainer.progress=none",
    "trainer.checkpoint_seconds=0",
    "trainer.threads=1",
]

NO_TEACHER = ["teacher=none", "teacher.name=null"]
SAME_TEACHER = ["+teacher.overrides={recipe.epochs:2}"]  # for students of another length, the teacher of BASE


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """Runs that several tests use; the teacher of ``BASE`` is trained there once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def train(compose, shared):
    """``train("method=kd")``: a run in this process, with the settings of ``BASE`` unless told otherwise."""

    def of(*overrides: str, runs: Path = shared, **options) -> Record:
        return run(compose(*BASE, f"paths.runs={runs}", *overrides), **options)

    return of


@pytest.fixture
def teacher(train, shared) -> Record:
    """Of ``BASE``."""
    return read_record(shared / train("method=kd").teacher.run_id / RECORD_FILE)


@pytest.fixture
def with_teacher(teacher, shared, tmp_path) -> Path:
    """A folder of runs of a test's own, in which the teacher is trained already."""
    shutil.copytree(shared / teacher.run_id, tmp_path / "runs" / teacher.run_id)
    return tmp_path / "runs"


def of_role(runs: Path, role: str) -> Record:
    """The one record of a teacher or of a student in a folder."""
    (found,) = [record for path in runs.glob("*/" + RECORD_FILE) if (record := read_record(path)).role == role]
    return found


# --- What a run leaves ---


def test_a_record_says_what_ran(train, teacher, shared):
    record = train("method=kd", "seed=3", "study=fields")
    folder = shared / record.run_id
    assert read_record(folder / RECORD_FILE) == record
    assert (record.role, record.study, record.seed) == ("student", "fields", 3)
    assert (record.dataset.name, record.dataset.num_classes, record.dataset.image_size) == ("digits", 10, [8, 8])
    sizes = (record.dataset.train_samples, record.dataset.validation_samples, record.dataset.test_samples)
    assert sizes == (100, 216, 719)
    assert record.dataset.content_sha256 == Digits(test_fraction=0.4).load().content_sha256
    assert (record.method.name, record.method.family) == ("kd", "logits")
    assert record.method.target == "kd_bench.methods.kd.KD"
    assert record.method.paper == "Hinton et al. 2015, arXiv:1503.02531"
    assert (record.method.generation, record.method.trained_from, record.method.adapter_parameters) == (0, [], 0)
    assert (record.student.name, record.student.parameters, record.student.macs) == ("resnet8_cifar", 78_042, 781_952)
    assert (record.recipe, record.selection) == ("digits", "last")
    assert record.config["method"]["temperature"] == 4.0
    assert record.config["recipe"]["epochs"] == 2
    assert not {"paths", "logger"} & set(record.config)

    assert record.teacher.run_id == teacher.run_id == record.teacher.source
    assert (teacher.role, teacher.seed, teacher.method.name) == ("teacher", 1000, "scratch")
    assert record.teacher.weights_sha256 == teacher.student.weights_sha256
    assert record.teacher.test_top1 == teacher.metrics.last.test.top1

    assert record.metrics.last.epoch == 2
    assert [row["epoch"] for row in record.history] == [1.0, 2.0]
    for row in record.history:
        assert row["train/loss"] == pytest.approx(row["train/ce"] + row["train/kd"])
    assert record.history[-1]["val/top1"] == record.metrics.last.validation.top1
    assert record.history[-1]["val/nll"] == pytest.approx(record.metrics.last.validation.nll, rel=1e-5)

    assert record.times.started_at < record.times.finished_at
    assert record.times.resumed == 0
    assert record.hardware.threads == 1
    assert set(record.artifacts) == {PREDICTIONS_FILE, WEIGHTS_FILE}
    assert all(file_sha256(folder / name) == sha256 for name, sha256 in record.artifacts.items())
    assert weights_sha256(load_file(folder / WEIGHTS_FILE)) == record.student.weights_sha256
    assert not list(folder.glob("*.ckpt"))

    state = read_state(folder)
    assert (state.state, state.epoch, state.epochs, state.cause) == ("completed", 2, 2, "")


def test_the_history_has_the_learning_rate_that_each_epoch_was_trained_with(train):
    """Cosine from 0.05 over two epochs: 0.05, then 0.05 * (1 + cos(pi / 2)) / 2."""
    assert [row["lr"] for row in train("method=kd").history] == pytest.approx([0.05, 0.025])


def test_a_finished_run_is_only_read(train, shared):
    first = train("method=kd")
    files = {path: path.stat().st_mtime_ns for path in shared.rglob("*") if path.name != ".lock" and path.is_file()}
    assert train("method=kd", "study=other", "logger=csv") == first
    after = {path: path.stat().st_mtime_ns for path in shared.rglob("*") if path.name != ".lock" and path.is_file()}
    assert after == files


def test_the_saved_weights_give_the_saved_predictions(train, shared):
    record = train("method=kd")
    assert weights_predict(shared / record.run_id, "last")


def weights_predict(folder: Path, rule: str) -> bool:
    """Whether the weight file, loaded into a fresh network, gives the test logits of ``rule``."""
    spec = DataSpec(10, (8, 8), (0.3056,) * 3, (0.3764,) * 3)
    tap = make_tap("resnet8_cifar", spec, seed=1).eval()
    tap.network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    with torch.no_grad():
        logits = tap(Digits(test_fraction=0.4).load().test.images / 255.0).logits
    return torch.allclose(logits, load_file(folder / PREDICTIONS_FILE)[f"test/{rule}"], atol=1e-4)


def test_the_selection_rule_decides_which_weights_are_saved(train, shared):
    """The learning rate of the last epoch is such that the network gets worse."""
    falling = [
        "~recipe.scheduler",
        "+recipe.scheduler={_target_:torch.optim.lr_scheduler.MultiStepLR,milestones:[3],gamma:20}",
    ]
    settings = ["method=scratch", *NO_TEACHER, "recipe.epochs=4", "recipe.batch_size=16", *falling]
    last = train(*settings)
    best = train(*settings, "recipe.selection=best_on_validation")
    validation = [row["val/top1"] for row in best.history]
    assert best.metrics.best_on_validation.epoch == 1 + validation.index(max(validation)) < 4
    assert best.metrics == last.metrics
    assert best.headline() == best.metrics.best_on_validation
    assert last.headline() == last.metrics.last
    assert weights_predict(shared / best.run_id, "best_on_validation")
    assert weights_predict(shared / last.run_id, "last")
    assert not weights_predict(shared / best.run_id, "last")


def test_the_test_split_selects_only_where_the_recipe_says_so(train, shared):
    """As published tables did it; such a record says so, and keeps the honest numbers beside it."""
    settings = ["method=scratch", *NO_TEACHER, "recipe.epochs=4", "recipe.batch_size=16", "recipe.optimizer.lr=0.2"]
    plain = train(*settings)
    best = train(*settings, "recipe.selection=best_on_test")
    tested = [row["test/top1"] for row in best.history]
    assert best.headline() == best.metrics.best_on_test
    assert best.metrics.best_on_test.test.top1 == max(tested)
    assert tested[best.metrics.best_on_test.epoch - 1] == max(tested)
    assert best.metrics.last == plain.metrics.last
    assert best.metrics.last.test.top1 == tested[-1]
    assert weights_predict(shared / best.run_id, "best_on_test")
    assert best.metrics.best_on_validation == plain.metrics.best_on_validation
    assert plain.metrics.best_on_test is None
    assert not any(name.startswith("test/") for row in plain.history for name in row)


# --- What a run does not disturb ---


class TeacherWatch(pl.Callback):
    """Holds the teacher in memory against what it was at the start, in every step."""

    def __init__(self) -> None:
        self.steps = 0
        self.before: dict[str, torch.Tensor] = {}

    def on_fit_start(self, trainer, pl_module):
        if type(pl_module.teacher) is FrozenTeacher:
            self.before = {name: value.clone() for name, value in pl_module.teacher.state_dict().items()}
            pl_module.train()  # a user's call must not reach it either

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += 1
        teacher = pl_module.teacher
        if type(teacher) is FrozenTeacher:  # neither one that learns along nor a moving average
            by_batch = pl_module.method.requires.batch_statistics
            assert by_batch or not any(module.training for module in teacher.tap.modules())
            assert not any(parameter.requires_grad for parameter in teacher.parameters())
            assert {id(p) for p in teacher.parameters()}.isdisjoint(id(p) for p in pl_module.parameters())
            state = teacher.state_dict()
            assert all(torch.equal(value, state[name]) for name, value in self.before.items())
            assert any("running_mean" in name for name in state)


# maskedkd learns from a transformer alone: tests/methods/test_maskedkd.py
@pytest.mark.parametrize("method", [method for method in METHODS if method != "maskedkd"])
def test_the_teacher_is_trained_once_and_never_changes(train, teacher, shared, method):
    path = shared / teacher.run_id / WEIGHTS_FILE
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    watch = TeacherWatch()
    stages = ["method.pretrain_epochs=1"] if method == "fitnet_two_stage" else []
    options = [f"method={method}", f"seed={100 + METHODS.index(method)}", "recipe.epochs=1", *stages, *SAME_TEACHER]
    options += networks_for(method)
    record = train(*options, callbacks=(lambda: [watch],))
    assert record.teacher.weights_sha256 == teacher.student.weights_sha256
    assert watch.steps >= 2
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == written
    assert read_record(shared / teacher.run_id / RECORD_FILE) == teacher


def test_scratch_does_not_depend_on_the_teacher(train, shared):
    first = train("method=scratch")
    second = train("method=scratch", "teacher.name=wrn_16_2_cifar")
    third = train("method=scratch", *NO_TEACHER)
    assert len({record.run_id for record in (first, second, third)}) == 3
    assert len({record.student.weights_sha256 for record in (first, second, third)}) == 1
    logits = [load_file(shared / record.run_id / PREDICTIONS_FILE)["test/last"] for record in (first, second, third)]
    assert all(torch.equal(each, logits[0]) for each in logits)
    assert first.metrics.last.test.retention is not None
    assert third.metrics.last.test.retention is None
    assert third.teacher is None


def test_the_process_is_left_as_it_was(train):
    threads, mode = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    folder = Path.cwd()
    train("method=scratch", "seed=11", "trainer.threads=1" if threads != 1 else "trainer.threads=2")
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() is mode
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert Path.cwd() == folder


# --- Chains ---


def test_a_chain_of_generations(train, teacher, shared):
    last = train("method=born_again", "chain=born_again", "chain.generations=2")
    first = read_record(shared / last.method.trained_from[0] / RECORD_FILE)
    origin = read_record(shared / first.method.trained_from[0] / RECORD_FILE)
    assert [record.method.generation for record in (origin, first, last)] == [0, 1, 2]
    assert [record.method.name for record in (origin, first, last)] == ["scratch", "born_again", "born_again"]
    assert origin.method.trained_from == []
    assert len({record.student.weights_sha256 for record in (origin, first, last)}) == 3
    assert {record.role for record in (origin, first, last)} == {"student"}
    assert {record.teacher.run_id for record in (origin, first, last)} == {teacher.run_id}
    assert train("method=scratch") == origin
    assert train("method=born_again") == first
    assert train("method=born_again", "chain=born_again", "chain.generations=1") == first
    assert train("method=tfkd_self").method.trained_from == [origin.run_id]


def test_any_method_with_a_teacher_can_be_chained(train, shared):
    record = train("method=kd", "chain=born_again", "chain.generations=1")
    assert record.method.generation == 1
    assert record.method.trained_from == [train("method=scratch").run_id]
    assert record.run_id != train("method=kd").run_id


# --- What goes wrong ---


def test_a_loss_that_explodes_ends_the_run_without_a_number(train, tmp_path):
    with pytest.raises(Diverged, match="is not finite") as caught:
        train("method=scratch", *NO_TEACHER, "recipe.optimizer.lr=1e6", runs=tmp_path)
    assert caught.value.exit_code == 1
    (folder,) = tmp_path.iterdir()
    state = read_state(folder)
    assert (state.state, state.cause) == ("diverged", str(caught.value))
    assert not (folder / RECORD_FILE).exists()
    assert not (folder / PREDICTIONS_FILE).exists()


def test_teacher_weights_that_changed_since_their_record_are_refused(train, teacher, with_teacher):
    path = with_teacher / teacher.run_id / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="is not the file of its record: its content has changed") as caught:
        train("method=kd", "seed=5", runs=with_teacher)
    assert caught.value.exit_code == 4


def test_what_was_done_to_a_teachers_file_is_told(train, teacher, shared, tmp_path, capsys, monkeypatch):
    """Of the pair's teacher and of each member of an ensemble."""
    monkeypatch.setattr("kd_bench.runs.run.check_teacher", lambda *arguments: None)  # trained too little to be let in
    state = load_file(shared / teacher.run_id / WEIGHTS_FILE)
    old = tmp_path / "old.pth"
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, old)
    told = f"  {old} lacks num_batches_tracked of 9 batch norms; they count from 0"
    one = [f"teacher.checkpoint={old}", "recipe.epochs=1", "trainer.progress=lines"]
    train("method=kd", *one, runs=tmp_path / "one")
    assert capsys.readouterr().out.splitlines()[0] == told
    members = [f"teacher.members.{name}.name=resnet8_cifar" for name in ("first", "second")]
    files = [f"+teacher.members.{name}.checkpoint={old}" for name in ("first", "second")]
    ensemble = ["teacher=ensemble", "teacher.name=two", *members, *files, *one[1:]]
    train("method=kd", *ensemble, runs=tmp_path / "two")
    assert capsys.readouterr().out.splitlines()[:2] == [told, told]
    train("method=kd", *one[:2], "trainer.progress=none", "seed=1", runs=tmp_path / "one")
    assert capsys.readouterr().out == ""


def test_a_failure_after_training_costs_no_training(train, with_teacher, shared, monkeypatch):
    """The disk is full when the record is to be written; with space again, the run ends as if nothing had been."""

    def full(*arguments) -> None:
        raise IntegrityError("the disk is full")

    expected = train("method=kd", "seed=6")
    with monkeypatch.context() as patch:
        patch.setattr("kd_bench.runs.run.write_record", full)
        with pytest.raises(IntegrityError, match="the disk is full"):
            train("method=kd", "seed=6", runs=with_teacher)
    state = read_state(with_teacher / expected.run_id)
    assert (state.state, state.cause) == ("failed", "the disk is full")
    watch = TeacherWatch()
    record = train("method=kd", "seed=6", runs=with_teacher, callbacks=(lambda: [watch],))
    assert watch.steps == 0
    assert record.times.resumed == 1
    assert comparable(with_teacher, expected.run_id) == comparable(shared, expected.run_id)


def test_a_run_stopped_behind_its_record_is_complete(train, tmp_path, monkeypatch):
    """The record is the truth: the next call puts the rest in order."""

    def stop(*arguments) -> None:
        raise Interrupted("stopped by the user; the same command resumes")

    with monkeypatch.context() as patch:
        patch.setattr("kd_bench.runs.run.delete_checkpoints", stop)
        with pytest.raises(Interrupted):
            train("method=scratch", *NO_TEACHER, runs=tmp_path)
    record = train("method=scratch", *NO_TEACHER, runs=tmp_path)
    folder = tmp_path / record.run_id
    assert read_state(folder).state == "completed"
    assert not list(folder.glob("*.ckpt"))


def test_a_finished_run_needs_its_record_alone(train, tmp_path):
    """Its state file is lost or damaged, as after a copy by hand."""
    record = train("method=scratch", *NO_TEACHER, runs=tmp_path)
    state = tmp_path / record.run_id / "state.json"
    for lose in (state.unlink, lambda: state.write_text("{")):
        lose()
        assert train("method=scratch", *NO_TEACHER, runs=tmp_path) == record
        assert read_state(state.parent).state == "completed"


# --- Processes ---

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["kd_bench.runs.run", "kd_bench.cli.hydra_app", "sklearn.datasets", "wandb"])


def _command(arguments: list[str], folder: str, output: str) -> None:
    os.chdir(folder)
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["kd-bench"]
    sys.exit(main(arguments))


class Commands:
    """Starts ``kd-bench`` processes in a folder, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[tuple[BaseProcess, Path]] = []

    def start(self, *arguments: str, folder: Path | None = None) -> BaseProcess:
        output = self.folder / f"output-{len(self.started)}.txt"
        process = SERVER.Process(target=_command, args=(list(arguments), str(folder or self.folder), str(output)))
        process.start()
        self.started.append((process, output))
        return process

    def end(self, process: BaseProcess) -> tuple[int, str]:
        """Exit code and everything that was printed."""
        process.join(60)
        assert process.exitcode is not None, "still running after a minute"
        (output,) = [path for each, path in self.started if each is process]
        return process.exitcode, output.read_text()

    def run(self, *arguments: str, folder: Path | None = None) -> tuple[int, str]:
        return self.end(self.start(*arguments, folder=folder))


@pytest.fixture
def commands(tmp_path):
    commands = Commands(tmp_path)
    yield commands
    for process, _ in commands.started:
        process.kill()
        process.join()
        process.close()


LONG = ["recipe.epochs=4", "dataset.train_samples=200", "recipe.batch_size=32", *SAME_TEACHER]
RESUMABLE = {
    "kd": ["method=kd"],
    "byot": ["method=byot"],
    "pskd": ["method=pskd"],  # a memory over the training set
    "dml": ["method=dml"],  # a network trained along
    "mean_teacher": ["method=mean_teacher"],  # a moving average in the checkpoint
    "fitnet_two_stage": ["method=fitnet_two_stage", "method.pretrain_epochs=3"],
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The runs that resumed ones are compared with, each trained once."""
    commands = Commands(tmp_path_factory.mktemp("uninterrupted"))

    def of(method: str) -> Path:
        runs = commands.folder / method
        if not runs.exists():
            code, output = commands.run("train", *BASE, *LONG, *RESUMABLE[method], f"paths.runs={runs}")
            assert code == 0, output
        return runs

    yield of
    for process, _ in commands.started:
        process.close()


def comparable(runs: Path, run_id: str) -> dict:
    """Everything that a run leaves, byte by byte, apart from its times and cost."""
    folder = runs / run_id
    record = json.loads((folder / RECORD_FILE).read_text())
    del record["times"], record["cost"]
    files = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    assert files == {".lock", "record.json", "state.json", WEIGHTS_FILE, PREDICTIONS_FILE}
    return {
        "record": record,
        "weights": (folder / WEIGHTS_FILE).read_bytes(),
        "predictions": (folder / PREDICTIONS_FILE).read_bytes(),
    }


def wait_for(condition, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.002)


def copy_teacher(source: Path, target: Path) -> None:
    run_id = of_role(source, "teacher").run_id
    shutil.copytree(source / run_id, target / run_id)


def started_and_stopped(commands, uninterrupted, method, pattern, number) -> tuple[list[str], Path, Path, str]:
    """Start a run, send it a signal as soon as a checkpoint like ``pattern`` is there; returns what to go on with."""
    expected, runs = uninterrupted(method), commands.folder / "runs"
    run_id = of_role(expected, "student").run_id
    copy_teacher(expected, runs)
    arguments = ["train", *BASE, *LONG, *RESUMABLE[method], "paths.runs=runs"]
    process = commands.start(*arguments)
    wait_for(lambda: list(runs.glob(f"{run_id}/{pattern}")) or not process.is_alive())
    os.kill(process.pid, number)
    code, output = commands.end(process)
    expected_code = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert code == expected_code, output
    assert not (runs / run_id / RECORD_FILE).exists()
    return arguments, runs, expected, run_id


@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("kd", "checkpoint-1-00001-*"),
        ("byot", "checkpoint-1-00002-*"),
        ("fitnet_two_stage", "checkpoint-0-00002-*"),
        ("fitnet_two_stage", "checkpoint-0-00003-*"),
        ("fitnet_two_stage", "checkpoint-1-00002-*"),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(commands, uninterrupted, method, pattern):
    arguments, runs, expected, run_id = started_and_stopped(commands, uninterrupted, method, pattern, signal.SIGKILL)
    state = read_state(runs / run_id)
    assert state.state == "stale"
    assert state.cause.endswith("is gone")
    code, output = commands.run(*arguments)
    assert code == 0, output
    assert read_record(runs / run_id / RECORD_FILE).times.resumed == 1
    assert read_state(runs / run_id).state == "completed"
    assert comparable(runs, run_id) == comparable(expected, run_id)


def test_a_stopped_run_says_so_and_resumes_bit_for_bit(commands, uninterrupted):
    """First by the scheduler, then by the user."""
    first = started_and_stopped(commands, uninterrupted, "kd", "checkpoint-1-00001-*", signal.SIGTERM)
    arguments, runs, expected, run_id = first
    assert read_state(runs / run_id).state == "preempted"
    process = commands.start(*arguments)
    wait_for(lambda: list(runs.glob(f"{run_id}/checkpoint-1-00002-*")) or not process.is_alive())
    os.kill(process.pid, signal.SIGINT)
    assert commands.end(process)[0] == 130
    assert read_state(runs / run_id).state == "interrupted"
    for (_, output), cause in zip(commands.started, ("SIGTERM", "the user"), strict=True):
        assert output.read_text() == f"kd-bench: stopped by {cause}; the same command resumes\n"
    code, printed = commands.run(*arguments)
    assert (code, printed) == (0, "")
    assert read_record(runs / run_id / RECORD_FILE).times.resumed == 2
    assert comparable(runs, run_id) == comparable(expected, run_id)


def test_two_processes_never_train_the_same_run(commands, uninterrupted):
    expected, runs = uninterrupted("kd"), commands.folder / "runs"
    run_id = of_role(expected, "student").run_id
    copy_teacher(expected, runs)
    arguments = ["train", *BASE, *LONG, *RESUMABLE["kd"], "paths.runs=runs"]
    first = commands.start(*arguments)
    wait_for(lambda: (runs / run_id / "state.json").exists())
    os.kill(first.pid, signal.SIGSTOP)
    code, output = commands.run(*arguments)
    os.kill(first.pid, signal.SIGCONT)
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith(f"kd-bench: run {run_id} is already running (host ")
    assert f"pid {first.pid}," in line
    assert commands.end(first)[0] == 0
    assert comparable(runs, run_id) == comparable(expected, run_id)


def test_two_students_that_need_the_same_teacher_train_it_once(commands):
    pair = [commands.start("train", *BASE, f"method={method}", "paths.runs=runs") for method in ("kd", "at")]
    ends = [commands.end(process) for process in pair]
    assert [code for code, _ in ends] == [0, 0], ends
    records = [read_record(path) for path in (commands.folder / "runs").glob("*/" + RECORD_FILE)]
    assert sorted((record.role, record.method.name) for record in records) == [
        ("student", "at"),
        ("student", "kd"),
        ("teacher", "scratch"),
    ]
    teacher = of_role(commands.folder / "runs", "teacher")
    assert {record.teacher.run_id for record in records if record.teacher} == {teacher.run_id}


def test_an_interrupted_sweep_stops(commands):
    """The user means all of it, not the job that happened to run."""
    sweep = ["train", "-m", *BASE, "recipe.epochs=50", "method=scratch", *NO_TEACHER, "seed=0,1", "paths.runs=runs"]
    process = commands.start(*sweep)
    runs = commands.folder / "runs"
    wait_for(lambda: list(runs.glob("*/checkpoint-1-*")) or not process.is_alive())
    os.kill(process.pid, signal.SIGINT)
    code, output = commands.end(process)
    assert (code, output) == (130, "kd-bench: stopped by the user; the same command resumes\n")
    (folder,) = [path.parent for path in runs.glob("*/state.json")]
    assert read_state(folder).state == "interrupted"


def test_a_job_of_a_sweep_equals_the_job_alone(commands):
    """Whatever ran before it in the same process."""
    code, output = commands.run("train", "-m", *BASE, "method=byot,fitnet", "seed=21", "paths.runs=swept")
    assert code == 0, output
    code, output = commands.run("train", *BASE, "method=fitnet", "seed=21", "paths.runs=alone")
    assert code == 0, output
    swept, alone = commands.folder / "swept", commands.folder / "alone"
    assert len(list(swept.glob("*/record.json"))) == 3
    run_id = of_role(alone, "student").run_id
    assert comparable(swept, run_id) == comparable(alone, run_id)


PLUGIN = '''
import sys

from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.base import Method, Requirements
from kd_bench.config.ranges import Positive


class Mine(Method):
    """Cross-entropy times a number."""

    paper = "Doe 2024"
    family = "baseline"
    requires = Requirements(teacher="none")

    def __init__(self, factor: Positive) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, student, teacher, batch, progress):
        if self.factor == 17:
            sys.exit(0)
        value = float("nan") if self.factor == 13 and progress.step == 3 else self.factor
        return {"mine": value * cross_entropy(student.logits, batch.targets)}
'''


@pytest.fixture
def repository(tmp_path) -> Path:
    """Someone else's repository: a method and its configuration."""
    folder = tmp_path / "theirs"
    (folder / "my_conf" / "method").mkdir(parents=True)
    (folder / "my_kd.py").write_text(PLUGIN)
    (folder / "my_conf" / "method" / "mine.yaml").write_text("_target_: my_kd.Mine\nfactor: 2.0\n")
    return folder


def test_a_method_from_another_repository(commands, repository, tmp_path):
    settings = [*BASE, "plugins=[my_kd]", "method=mine", *NO_TEACHER]
    inside = ["train", "--config-dir", "my_conf", *settings, f"paths.runs={tmp_path / 'inside'}"]
    code, output = commands.run(*inside, folder=repository)
    assert code == 0, output
    outside = ["train", f"--config-dir={repository / 'my_conf'}", *settings, f"paths.runs={tmp_path / 'outside'}"]
    code, output = commands.run(*outside)
    assert code == 0, output
    (first,), (second,) = (
        [read_record(path) for path in (tmp_path / name).glob("*/record.json")] for name in ("inside", "outside")
    )
    assert first.run_id == second.run_id
    assert first.student.weights_sha256 == second.student.weights_sha256
    assert (first.method.name, first.method.target, first.method.paper) == ("mine", "my_kd.Mine", "Doe 2024")
    assert first.config["plugins"] == ["my_kd"]
    assert first.config["method"]["factor"] == 2.0
    assert set(first.history[0]) >= {"train/loss", "train/mine"}
    assert not list(repository.glob("runs"))

    code, output = commands.run(*inside, "method.factor=0", folder=repository)
    assert (code, output) == (2, "kd-bench: method.factor=0: should be greater than 0\n")
    code, output = commands.run(*inside, "method=mime", folder=repository)
    assert code == 2
    assert output.startswith("kd-bench: method='mime': no such choice; did you mean 'mine'")


def test_a_method_that_gives_nan_ends_the_run(commands, repository, tmp_path):
    settings = [*BASE, "plugins=[my_kd]", "method=mine", "method.factor=13", *NO_TEACHER]
    code, output = commands.run("train", "--config-dir", "my_conf", *settings, "paths.runs=runs", folder=repository)
    assert code == 1
    (line,) = output.splitlines()
    assert line.startswith("kd-bench: loss term mine is not finite within the ")
    (folder,) = (repository / "runs").iterdir()
    assert read_state(folder).state == "diverged"
    assert not (folder / RECORD_FILE).exists()


def test_a_method_that_leaves_the_process_has_failed(commands, repository):
    """Whatever exit code it asks for: there is no record. The jobs of a sweep after it run."""
    settings = [*BASE, "plugins=[my_kd]", "method=mine", *NO_TEACHER, "paths.runs=runs"]
    alone = ["train", "--config-dir", "my_conf", *settings, "method.factor=17"]
    code, output = commands.run(*alone, folder=repository)
    assert code == 1
    assert len(output.splitlines()) == 1
    (folder,) = (repository / "runs").iterdir()
    assert read_state(folder).state == "failed"
    assert not (folder / RECORD_FILE).exists()

    sweep = ["train", "-m", "--config-dir", "my_conf", *settings, "method.factor=17,2"]
    code, output = commands.run(*sweep, folder=repository)
    assert code == 5
    assert len(list((repository / "runs").glob("*/record.json"))) == 1
