"""Runs that start from weights in a file: what they are trained with, what records hold, and what names them."""

import shutil
from dataclasses import replace

import pytest
import torch

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.models.weights import save_tensors, weights_sha256
from kd_bench.runs.lineage import completed, locate, prepare, teacher_run
from kd_bench.runs.run import run
from tests.support.taps import make_tap

SPEC = DataSpec(7, (8, 8), (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
FAST = ["dataset.train_samples=100", "logger=none", "trainer.progress=none", "trainer.threads=1"]
ALONE = ["teacher=none", "method=scratch", "recipe.epochs=1"]


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "start.safetensors"
    save_tensors(make_tap("resnet8_cifar", SPEC, 5).network.state_dict(), path)
    return path


def test_a_student_starts_from_all_of_the_file_but_its_head(compose, start):
    _, pair, _ = prepare(compose(*FAST, *ALONE, f"student.init={start}"))
    expected, drawn = make_tap("resnet8_cifar", SPEC, 5), make_tap("resnet8_cifar", replace(SPEC, num_classes=10), 0)
    found = pair.student.network.state_dict()
    same = {name for name, value in expected.network.state_dict().items() if torch.equal(value, found[name])}
    assert found.keys() - same == {"fc.weight", "fc.bias"}
    assert found["fc.weight"].shape == drawn.network.state_dict()["fc.weight"].shape


def test_the_weights_name_the_run_and_not_their_place(compose, start, tmp_path):
    runs = f"paths.runs={tmp_path / 'runs'}"
    record = run(compose(*FAST, *ALONE, runs, f"student.init={start}"))
    assert record.config["student"]["init_sha256"] == weights_sha256(
        make_tap("resnet8_cifar", SPEC, 5).network.state_dict()
    )
    assert str(start) not in record.model_dump_json()
    moved = shutil.copy(start, tmp_path / "moved.safetensors")
    assert locate(compose(*FAST, *ALONE, runs, f"student.init={moved}")) == record.run_id
    known = f"student.init_sha256={record.config['student']['init_sha256']}"
    assert run(compose(*FAST, *ALONE, runs, known)).run_id == record.run_id  # finished, and found without the file
    assert locate(compose(*FAST, *ALONE, runs)) != record.run_id
    with pytest.raises(ConfigError, match=r"student\.init_sha256=.*but student\.init does not name their file"):
        run(compose(*FAST, *ALONE, runs, known, "seed=1"))
    with pytest.raises(IntegrityError, match=r"student\.init=.*student\.init_sha256 says 0000"):
        run(compose(*FAST, *ALONE, runs, f"student.init={start}", f"student.init_sha256={'0' * 64}"))


def test_a_teacher_is_fine_tuned_by_a_recipe_of_its_own(compose, start):
    cfg = compose(
        *FAST,
        "teacher=resnet8_cifar",
        f"teacher.init={start}",
        "+recipe@teacher.overrides.recipe=finetune",
        "teacher.overrides.recipe.epochs=3",
        "recipe.epochs=2",
    )
    config = completed(cfg)
    trained = completed(teacher_run(cfg, config.teacher.networks()[0]))
    assert trained.student.init == str(start)
    assert trained.student.init_sha256 == config.teacher.init_sha256
    assert (trained.recipe.epochs, trained.recipe.scheduler["T_max"], config.recipe.epochs) == (3, 3, 2)
    assert trained.recipe.optimizer == {
        "_target_": "torch.optim.SGD",
        "lr": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
    }
    assert "init" not in config.recorded()["teacher"]


def test_timm_stands_for_its_pretrained_weights(compose):
    one, other = (
        completed(compose("teacher.name=resnet18", each)) for each in ("teacher.init=timm", "teacher.pretrained=true")
    )
    assert one == other


def test_a_start_of_what_is_not_trained_is_refused(compose, start):
    with pytest.raises(ConfigError, match=r"teacher\.init=.*teacher\.checkpoint=auto trains it"):
        completed(compose("teacher=resnet8_cifar", f"teacher.init={start}", f"teacher.checkpoint={start}"))
    with pytest.raises(IntegrityError, match=r"teacher\.init='no\.pth': no such weight file"):
        completed(compose("teacher=resnet8_cifar", "teacher.init=no.pth"))
