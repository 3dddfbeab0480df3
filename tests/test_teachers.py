"""Where teachers come from, and what keeps them as they are."""

import copy
from typing import Any

import pytest
import torch
from leaderboard.factory import make_record
from omegaconf import DictConfig, OmegaConf
from taps import make_tap
from torch import nn

from kd_bench.building import build
from kd_bench.config import MemberConfig, check
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.models.checkpoints import save_tensors, weights_sha256
from kd_bench.models.features import FeatureTap
from kd_bench.runs.directory import WEIGHTS_FILE
from kd_bench.runs.record import RECORD_FILE, Record, write_record
from kd_bench.teachers import (
    FrozenTeacher,
    TeacherWeights,
    check_teacher,
    from_checkpoint,
    from_record,
    previous_run,
    scratch_run,
    teacher_run,
)

SPEC = DataSpec(10, (8, 8), (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))


def tap(seed: int = 0, name: str = "resnet8_cifar") -> FeatureTap:
    return make_tap(name, SPEC, seed)


def images() -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


# The frozen network.


def test_a_frozen_teacher_stays_in_eval_mode_whoever_asks():
    teacher = FrozenTeacher(tap())
    around = nn.ModuleList([teacher])
    for switch in (teacher.train, around.train, lambda: teacher.train(True), around.eval, around.train):
        switch()
        assert not teacher.training
        assert not any(part.training for part in teacher.modules())
    assert teacher.train() is teacher


def test_a_frozen_teacher_gives_no_gradient_and_does_not_move():
    teacher = FrozenTeacher(tap()).train()
    before = copy.deepcopy(teacher.state_dict())
    x = images().requires_grad_()
    outputs = teacher(x)
    for tensor in (outputs.logits, outputs.embedding, *outputs.stages, *outputs.pre_activation):
        assert not tensor.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_a_frozen_teacher_gives_what_its_network_gives():
    network = tap(3)
    expected = copy.deepcopy(network).eval()(images())
    assert torch.equal(FrozenTeacher(network)(images()).logits, expected.logits)


# Teachers that are not what they claim to be.


@pytest.mark.parametrize(
    ("expected", "measured", "accepted"),
    [
        (("test", 0.9), {"validation": 0.1, "test": 0.9}, True),
        (("test", 0.9), {"validation": 0.1, "test": 0.8901}, True),  # one point of tolerance
        (("test", 0.9), {"validation": 1.0, "test": 0.8899}, False),
        (("test", 0.9), {"validation": 0.1, "test": 1.0}, True),
        (("validation", 0.9), {"validation": 0.895, "test": 0.0}, True),
        (("validation", 0.9), {"validation": 0.88, "test": 1.0}, False),
        (None, {"validation": 0.146, "test": 0.0}, True),  # a twentieth of the way from chance to 1
        (None, {"validation": 0.144, "test": 1.0}, False),
    ],
)
def test_a_teacher_must_reach_what_is_expected_of_it(expected, measured, accepted):
    if accepted:
        check_teacher("net", measured, expected, classes=10)
        return
    with pytest.raises(IntegrityError, match=r"^teacher net: top-1 on the (test|validation) split is "):
        check_teacher("net", measured, expected, classes=10)


def test_the_refusal_says_what_was_measured_and_what_expected():
    with pytest.raises(IntegrityError, match=r"top-1 on the test split is 12\.34 %, 70\.00 % expected: wrong weights"):
        check_teacher("net", {"validation": 0.7, "test": 0.1234}, ("test", 0.7), classes=10)
    with pytest.raises(IntegrityError, match=r"top-1 on the validation split is 0\.90 %, chance is 1\.00 %"):
        check_teacher("net", {"validation": 0.009, "test": 0.7}, None, classes=100)


# Configurations of the runs that a run needs.


def trained(cfg: DictConfig) -> DictConfig:
    """The run that trains the one teacher of ``cfg``."""
    (network,) = check(cfg).teacher.networks()
    return teacher_run(cfg, network)


def test_a_teachers_run_is_its_network_from_scratch(compose):
    cfg = compose("method=at", "seed=7", "teacher.seed=1234", "recipe.epochs=9", "names.method=mine")
    before = copy.deepcopy(cfg)
    config, derived = check(cfg), check(trained(cfg))
    assert derived.student.name == "resnet20_cifar"
    assert derived.teacher.name is None
    assert derived.method == {"_target_": "kd_bench.methods.scratch.Scratch"}
    assert (derived.names.method, derived.names.dataset, derived.names.recipe) == ("scratch", "digits", "digits")
    assert (derived.seed, derived.chain.generations) == (1234, 0)
    assert (derived.dataset, derived.recipe, derived.trainer) == (config.dataset, config.recipe, config.trainer)
    assert cfg == before
    assert build(derived).student.name == "resnet20_cifar"


def test_students_of_all_methods_and_seeds_share_their_teachers_run(compose):
    runs = [
        check(trained(compose(*overrides)))
        for overrides in ((), ("method=at", "seed=3"), ("student=wrn_16_1_cifar",), ("method=born_again", "seed=1"))
    ]
    assert all(other == runs[0] for other in runs)


def test_arguments_of_the_teachers_network_are_kept(compose):
    cfg = compose("teacher.name=vit_tiny_patch16_224", "+teacher.kwargs={img_size: 8, patch_size: 4}")
    derived = check(trained(cfg))
    assert derived.student.kwargs == {"img_size": 8, "patch_size": 4}


def test_overrides_of_the_teachers_training_reach_what_follows_from_them(compose):
    cfg = compose("recipe.epochs=9", "+teacher.overrides={recipe.epochs: 40, recipe.optimizer.lr: 0.1}")
    derived = check(trained(cfg))
    assert derived.recipe.epochs == 40
    assert derived.recipe.scheduler["T_max"] == 40
    assert derived.recipe.optimizer["lr"] == 0.1
    own = check(cfg)
    assert (own.recipe.epochs, own.recipe.scheduler["T_max"]) == (9, 9)


@pytest.mark.parametrize("key", ["recipe.epoch", "recipe.optimizer.leraning_rate", "recipes.epochs", "seed.x"])
def test_an_override_of_nothing_is_refused(compose, key):
    cfg = compose()
    OmegaConf.update(cfg, "teacher.overrides", {key: 3}, merge=False)
    with pytest.raises(ConfigError, match=rf"teacher.overrides: '{key}'"):
        trained(cfg)


def test_a_scratch_run_keeps_the_pair_it_is_compared_within(compose):
    cfg = compose("method=born_again", "chain=born_again", "chain.generations=3", "seed=5")
    before = copy.deepcopy(cfg)
    config, derived = check(cfg), check(scratch_run(cfg))
    assert derived.method == {"_target_": "kd_bench.methods.scratch.Scratch"}
    assert (derived.names.method, derived.chain.generations, derived.seed) == ("scratch", 0, 5)
    assert (derived.student, derived.teacher, derived.recipe) == (config.student, config.teacher, config.recipe)
    assert cfg == before
    assert build(derived).generation == 0


def test_a_chain_goes_back_one_generation_at_a_time_to_scratch(compose):
    cfg = compose("method=born_again", "chain=born_again", "chain.generations=3")
    generations = []
    for generation in (3, 2, 1):
        cfg = previous_run(cfg, generation)
        config = check(cfg)
        generations.append((config.names.method, config.chain.generations, config.seed))
    assert generations == [("born_again", 2, 0), ("born_again", 1, 0), ("scratch", 0, 0)]


# Weights.


@pytest.fixture
def finished_run(tmp_path) -> Record:
    """A run directory with the weights of a network and its record."""
    network = tap(5).network
    record = make_record("scratch", 0, 0.8, best=0.9)
    student = record.student.model_copy(update={"weights_sha256": weights_sha256(network.state_dict())})
    record = record.model_copy(update={"student": student})
    directory = tmp_path / record.run_id
    directory.mkdir()
    save_tensors(network.state_dict(), directory / WEIGHTS_FILE)
    write_record(record, directory / RECORD_FILE)
    return record


def member(checkpoint: str, **config: Any) -> MemberConfig:
    return MemberConfig(name="resnet8_cifar", checkpoint=checkpoint, **config)


def loaded(weights: TeacherWeights, into: FeatureTap) -> FeatureTap:
    weights.load(into)
    return into


def same_weights(own: FeatureTap, other: FeatureTap) -> bool:
    return weights_sha256(own.network.state_dict()) == weights_sha256(other.network.state_dict())


def test_a_finished_run_is_a_teacher(compose, finished_run, tmp_path):
    weights = from_checkpoint(member(finished_run.run_id), tmp_path)
    assert weights == from_record(finished_run, tmp_path)
    assert (weights.source, weights.record) == (finished_run.run_id, finished_run)
    assert same_weights(loaded(weights, tap(0)), tap(5))
    assert weights.expected() == ("validation", 0.8)


def test_what_is_expected_of_a_run_is_what_its_selection_rule_reports(compose, finished_run, tmp_path):
    best = finished_run.model_copy(update={"selection": "best_on_validation"})
    assert from_record(best, tmp_path).expected() == ("validation", 0.9)


def test_a_file_is_a_teacher(compose, tmp_path):
    path = tmp_path / "resnet8.pth"
    torch.save({"model": tap(5).network.state_dict(), "epoch": 240}, path)
    weights = from_checkpoint(member(str(path)), tmp_path / "runs")
    assert weights.sha256 == weights_sha256(tap(5).network.state_dict())
    assert (weights.source, weights.record) == ("resnet8.pth", None)
    assert same_weights(loaded(weights, tap(0)), tap(5))
    assert weights.expected() is None
    assert from_checkpoint(member(str(path), expected_top1=0.7), tmp_path).expected() == ("test", 0.7)


def test_a_checkpoint_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(
        IntegrityError, match=r"teacher.checkpoint='0123456789abcdef': neither a finished run in .* nor"
    ):
        from_checkpoint(member("0123456789abcdef"), tmp_path)
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(
        IntegrityError, match=r"'unfinished': neither a finished run .* `auto` trains the teacher first"
    ):
        from_checkpoint(member("unfinished"), tmp_path)


def test_weights_that_changed_since_their_record_are_refused(finished_run, tmp_path):
    save_tensors(tap(6).network.state_dict(), tmp_path / finished_run.run_id / WEIGHTS_FILE)
    with pytest.raises(IntegrityError, match=r"student\.safetensors is not the file of its record"):
        from_checkpoint(member(finished_run.run_id), tmp_path).load(tap(0))


def test_weights_that_are_gone_are_refused(finished_run, tmp_path):
    (tmp_path / finished_run.run_id / WEIGHTS_FILE).unlink()
    with pytest.raises(IntegrityError, match="no such weight file"):
        from_checkpoint(member(finished_run.run_id), tmp_path).load(tap(0))


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(tap(5).network.state_dict(), path)
    weights = from_checkpoint(member(str(path)), tmp_path)
    with pytest.raises(IntegrityError, match=r"other\.pth does not fit the network: missing: layer1\.1\."):
        weights.load(tap(0, "resnet14_cifar"))
