"""Teacher outputs that runs share change no number, and are shared by those runs alone that see the same batches."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.choices import METHODS, networks_for

from kd_bench.cli.main import main
from kd_bench.methods.dkd import DKD
from kd_bench.results.records.directory import WEIGHTS_FILE
from kd_bench.results.records.record import Record
from kd_bench.runs.run import run
from kd_bench.training.cache import CACHE_FOLDER, stores

FEW = ("dkd", "crd", "simkd", "sskd", "kd_at", "mlld")
BASE = [
    "recipe.epochs=2",
    "teacher.name=resnet8_cifar",
    "student=resnet8_cifar",
    "dataset.train_samples=100",
    "+teacher.overrides={recipe.epochs:2}",
    "logger=none",
    "trainer.progress=none",
    "trainer.threads=1",
]
Train = Callable[..., Record]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that holds the teacher of ``BASE``."""
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture
def train(compose, teachers, tmp_path) -> Train:
    """``train("one", "method=kd")``: a run in a folder of its own beside the teacher's, whose outputs are shared."""

    def _train(folder: str, *options: str) -> Record:
        if not list(teachers.glob("*/record.json")):
            run(compose(*BASE, "method=kd", "seed=99", f"paths.runs={teachers}"))
            shutil.rmtree(teachers / CACHE_FOLDER, ignore_errors=True)
        runs = tmp_path / folder
        if not runs.exists():
            shutil.copytree(teachers, runs)
        return run(compose(*BASE, f"paths.runs={runs}", *options))

    return _train


def same_weights(train: Train, tmp_path: Path, method: str) -> float | None:
    """Train live, keeping and reading; return the seconds that reading saved, or None where nothing is shared."""
    stages = ["method.pretrain_epochs=1"] if method == "fitnet_two_stage" else []
    options = [f"method={method}", "seed=7", *stages, *networks_for(method)]
    live = train("live", *options, "trainer.cache=never")
    keeping = train("keeping", *options, "trainer.cache=always")
    shutil.copytree(tmp_path / "keeping" / CACHE_FOLDER, tmp_path / "reading" / CACHE_FOLDER, dirs_exist_ok=True)
    for record in (tmp_path / "live").glob("*"):
        if record.name != live.run_id:
            shutil.copytree(record, tmp_path / "reading" / record.name, dirs_exist_ok=True)
    reading = train("reading", *options, "trainer.cache=always")
    files = [tmp_path / each / live.run_id / WEIGHTS_FILE for each in ("live", "keeping", "reading")]
    assert len({path.read_bytes() for path in files}) == 1
    assert len({each.run_id for each in (live, keeping, reading)}) == 1
    assert live.cost is not None
    assert live.cost.cached_teacher_seconds is None
    return None if reading.cost is None else reading.cost.cached_teacher_seconds


@pytest.mark.parametrize("method", FEW)
def test_some_methods_train_alike_live_and_from_the_cache(train, tmp_path, method):
    saved = same_weights(train, tmp_path, method)
    assert saved is not None
    assert saved > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", [method for method in METHODS if method not in FEW])
def test_all_methods_train_alike_live_and_from_the_cache(train, tmp_path, method):
    same_weights(train, tmp_path, method)


def test_methods_share_outputs_and_other_batches_have_their_own(train, tmp_path):
    options = ["trainer.cache=always", "seed=3"]
    teacher = train("runs", *options, "method=kd").teacher.run_id
    folder = tmp_path / "runs" / CACHE_FOLDER
    kept = stores(folder)
    assert len(kept) == 2  # of the batches, and of the held-out images
    for method in ("dkd", "crd"):
        assert train("runs", *options, f"method={method}").cost.cached_teacher_seconds > 0
    assert train("runs", *options, "method=kd", "student.name=resnet14_cifar").cost.cached_teacher_seconds > 0
    assert stores(folder) == kept
    for other in ("seed=4", "recipe.batch_size=32", "recipe.augmentation.horizontal_flip=true"):
        record = train("runs", *options, "method=kd", f"teacher.checkpoint={teacher}", other)
        assert record.cost.cached_teacher_seconds is None, other
    assert len(stores(folder)) == 5


def test_more_epochs_go_on_where_others_ended(train):
    train("runs", "method=kd", "trainer.cache=always")
    longer = train("runs", "method=kd", "trainer.cache=always", "recipe.epochs=4")
    live = train("live", "method=kd", "trainer.cache=never", "recipe.epochs=4")
    assert longer.cost.cached_teacher_seconds > 0
    assert longer.student.weights_sha256 == live.student.weights_sha256


def test_nothing_is_kept_without_room_outside_of_studies_or_for_a_teacher_that_changes(train, tmp_path):
    train("alone", "method=kd")
    train("small", "method=kd", "trainer.cache=always", "trainer.cache_gb=0.00001")
    train("moving", "method=mean_teacher", "trainer.cache=always")
    for folder, kept in (("alone", 0), ("small", 1), ("moving", 1)):  # held-out outputs are no batches
        assert len(stores(tmp_path / folder / CACHE_FOLDER)) == kept, folder
    train("study", "method=at", "study=mine")  # stage maps are large: kept where they are asked for
    assert len(stores(tmp_path / "study" / CACHE_FOLDER)) == 1
    train("study", "method=kd", "study=mine")
    assert len(stores(tmp_path / "study" / CACHE_FOLDER)) == 2


def test_edited_sources_and_methods_that_choose_images_read_nothing(train, tmp_path, monkeypatch):
    train("runs", "method=kd", "trainer.cache=always")
    folder = tmp_path / "runs" / CACHE_FOLDER
    first = set(stores(folder))
    with monkeypatch.context() as patch:
        patch.setattr(DKD, "observe", lambda self, student, teacher, images: (student(images), teacher(images)))
        assert train("runs", "method=dkd", "trainer.cache=always").cost.cached_teacher_seconds is None
    monkeypatch.setattr("kd_bench.runs.shared_outputs.plugin_hashes", lambda names: dict.fromkeys(names, "edited"))
    assert train("runs", "method=dist", "trainer.cache=always").cost.cached_teacher_seconds is None
    assert len(set(stores(folder)) - first) == 2


def test_an_ensemble_is_shared_with_its_members(train):
    ensemble = ["teacher=ensemble", "seed=2"]
    live = train("live", *ensemble, "method=kd", "trainer.cache=never")
    train("runs", *ensemble, "method=kd", "trainer.cache=always")
    read = train("runs", *ensemble, "method=dkd", "trainer.cache=always")
    other = train("live", *ensemble, "method=dkd", "trainer.cache=never")
    assert read.cost.cached_teacher_seconds > 0
    assert read.student.weights_sha256 == other.student.weights_sha256
    assert live.student.weights_sha256 != other.student.weights_sha256


def test_a_command_lists_verifies_and_clears(train, tmp_path, capsys):
    train("runs", "method=kd", "trainer.cache=always")
    folder = tmp_path / "runs"
    capsys.readouterr()
    assert main(["cache", "--runs", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "resnet8_cifar on 10 classes, seed 0, 2 epochs" in out
    assert "2 stores" in out
    assert main(["cache", "--runs", str(folder), "--verify"]) == 0
    block = next((folder / CACHE_FOLDER).glob("*/00001-00000.safetensors"))
    block.write_bytes(block.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["cache", "--runs", str(folder), "--verify"]) == 4
    assert f"{block}: damaged" in capsys.readouterr().out
    assert main(["cache", "--runs", str(folder), "nothing"]) == 2
    assert "no store 'nothing'" in capsys.readouterr().err
    assert main(["cache", "--runs", str(folder), "--clear"]) == 0
    assert stores(folder / CACHE_FOLDER) == []
