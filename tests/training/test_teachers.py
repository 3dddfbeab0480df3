"""Where teachers come from, and what keeps them as they are."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from support.records import make_record
from support.taps import make_tap
from torch import nn

from kd_bench.config.check import check
from kd_bench.config.schema import MemberConfig, RecipeConfig, TeacherConfig, TrainerConfig
from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.source import ImageArrays, Split
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import FeatureTap
from kd_bench.models.weights import save_tensors, weights_sha256
from kd_bench.results.records.directory import WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE, Record, write_record
from kd_bench.runs.lineage import assistant_run, completed, previous_run, scratch_run, teacher_run
from kd_bench.training.loop import fit
from kd_bench.training.module import DistillationModule
from kd_bench.training.pair import build
from kd_bench.training.teachers import (
    FrozenTeacher,
    MovingAverage,
    Teacher,
    TeacherWeights,
    TrainedAlong,
    check_teacher,
    from_checkpoint,
    from_record,
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


@pytest.mark.parametrize("name", ["resnet8_cifar", "test_efficientnet"])
def test_with_batch_statistics_it_gives_what_the_network_gives_in_train_mode(name):
    network = tap(3, name)
    training, evaluating = copy.deepcopy(network).train()(images()), copy.deepcopy(network).eval()(images())
    frozen = FrozenTeacher(copy.deepcopy(network), batch_statistics=True)
    plain = FrozenTeacher(copy.deepcopy(network))
    assert not torch.allclose(training.logits, evaluating.logits, atol=1e-3)
    for _ in range(2):
        assert torch.equal(frozen(images()).logits, training.logits)
        assert torch.equal(plain(images()).logits, evaluating.logits)
        frozen.train()
        plain.train()


@pytest.mark.parametrize("name", ["resnet8_cifar", "test_efficientnet"])
def test_with_batch_statistics_the_running_ones_stay_as_they_are(name):
    teacher = FrozenTeacher(tap(3, name), batch_statistics=True)
    before = copy.deepcopy(teacher.state_dict())
    nn.ModuleList([teacher]).train()
    outputs = teacher(images().requires_grad_())
    assert not outputs.logits.requires_grad
    after = teacher.state_dict()
    assert before.keys() == after.keys()
    assert any(key.endswith("running_mean") for key in after)
    assert all(torch.equal(before[key], value) for key, value in after.items())


# The moving average.


def test_following_is_the_average_written_out():
    student, teacher = tap(1), MovingAverage(tap(0))
    expected = {name: value.double() for name, value in tap(0).state_dict().items()}
    for step, decay in enumerate((0.5, 0.9, 0.0, 0.99)):
        student.train()(images() + step)  # moves statistics and counters
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.01 * step)
        teacher.follow(student, decay)
        for name, value in student.state_dict().items():
            counter = name.endswith("num_batches_tracked")
            expected[name] = value.double() if counter else decay * expected[name] + (1 - decay) * value.double()
        for name, value in teacher.tap.state_dict().items():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
    counters = [int(value) for name, value in expected.items() if name.endswith("num_batches_tracked")]
    assert set(counters) == {4}


def test_following_without_decay_is_a_copy_and_leaves_the_student_alone():
    student = tap(1)
    teacher, before = MovingAverage(tap(0)), copy.deepcopy(student.state_dict())
    teacher.follow(student, 0.0)
    assert same_weights(teacher.tap, student)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_a_moving_average_starts_as_the_student_and_shares_nothing_with_it():
    student = tap(1).train()
    teacher = MovingAverage(student)
    assert same_weights(teacher.tap, student)
    addresses = {value.data_ptr() for value in student.state_dict().values()}
    assert addresses.isdisjoint(value.data_ptr() for value in teacher.tap.state_dict().values())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert student.training


def test_a_moving_average_stays_in_eval_mode_without_gradients():
    teacher = MovingAverage(tap(0))
    module = module_of(teacher)
    for switch in (module.train, module.eval, teacher.train):
        switch()
        teacher.follow(tap(1), 0.5)
        assert not any(part.training for part in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(images().requires_grad_()).logits.requires_grad


# Teachers that change are a part of the module.


class Both(Method):
    """Cross-entropy of student and teacher; a moving average goes faster as time goes by."""

    paper, family = "none", "baseline"
    requires = Requirements(teacher="trained")

    def teacher_decay(self, progress: Progress) -> float:
        return 1 / (2 + progress.step)

    def forward(self, student, teacher, batch: Batch, progress: Progress) -> dict[str, torch.Tensor]:
        terms = {"ce": cross_entropy(student.logits, batch.targets)}
        if teacher.logits.requires_grad:
            terms["teacher"] = 3 * cross_entropy(teacher.logits, batch.targets)
        return terms


def module_of(teacher: Teacher, student: FeatureTap | None = None) -> DistillationModule:
    make_optimizer: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    return DistillationModule(student or tap(1), Both(), teacher, make_optimizer, None, 0, 100)


def small_data() -> ImageDataModule:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=generator)
    split = Split(pixels, torch.arange(50) % 10)
    return ImageDataModule(ImageArrays(split, split, list("abcdefghij")), SPEC, Augmentation(), 10, 0, 0.2)


TRAINER = TrainerConfig(
    accelerator="cpu",
    precision="32-true",
    channels_last=False,
    threads=1,
    checkpoint_every_n_epochs=1,
    log_every_n_steps=100,
    progress="none",
)


def fitted(module: DistillationModule, directory: Path, *callbacks: Callback, epochs: int = 2) -> DistillationModule:
    directory.mkdir(exist_ok=True)
    recipe = RecipeConfig(
        epochs=epochs,
        batch_size=10,
        optimizer={},
        scheduler=None,
        augmentation={"crop_padding": 0, "horizontal_flip": False, "resized_crop": None},
        selection="last",
    )
    fit(module, small_data(), recipe, TRAINER, directory, [], [lambda: list(callbacks)], lambda epoch: None)
    return module


class Students(Callback):
    """Keeps the student's weights as they are after each step."""

    def __init__(self) -> None:
        self.after: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.after.append(copy.deepcopy(pl_module.student.state_dict()))


def test_a_moving_average_follows_after_each_step_with_the_methods_decay(tmp_path):
    seen = Students()
    student = tap(1)
    expected = {name: value.double() for name, value in student.state_dict().items()}
    module = fitted(module_of(MovingAverage(student), student), tmp_path, seen)
    assert len(seen.after) == 8
    for step, state in enumerate(seen.after):
        decay = 1 / (2 + step)
        for name, value in state.items():
            counter = name.endswith("num_batches_tracked")
            expected[name] = value.double() if counter else decay * expected[name] + (1 - decay) * value.double()
    for name, value in module.teacher.tap.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)


class Stop(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise Stopped


class Stopped(Exception):
    pass


@pytest.mark.parametrize("kind", [MovingAverage, TrainedAlong])
def test_a_teacher_that_changes_is_exact_after_a_resume(tmp_path, kind):
    def fresh() -> DistillationModule:
        student = tap(1)
        return module_of(MovingAverage(student) if kind is MovingAverage else TrainedAlong(tap(2)), student)

    whole = fitted(fresh(), tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(fresh(), tmp_path / "resumed", Stop())
    resumed = fitted(fresh(), tmp_path / "resumed")
    assert (whole.resumed, resumed.resumed) == (0, 1)
    expected = whole.state_dict()
    assert any(name.startswith("companion.tap.network.") for name in expected)
    assert all(torch.equal(expected[name], value) for name, value in resumed.state_dict().items())
    assert not same_weights(whole.teacher.tap, whole.student)


def test_which_teachers_the_module_holds_and_trains():
    student = sum(parameter.numel() for parameter in tap(1).parameters())
    for teacher, held, trained_along in (
        (FrozenTeacher(tap(2)), False, False),
        (MovingAverage(tap(2)), True, False),
        (TrainedAlong(tap(2)), True, True),
    ):
        module = module_of(teacher)
        names = {name for name in module.state_dict() if name.startswith("companion.")}
        assert bool(names) is held
        optimizer = module.configure_optimizers()
        optimised = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        assert optimised == (2 if trained_along else 1) * student


def test_a_network_trained_along_steps_by_the_gradient_of_its_terms(tmp_path):
    """One step of plain gradient descent on the first batch, written out."""
    data = small_data()
    first = next(iter(data.train_dataloader()))
    expected = tap(2).train()
    loss = 3 * nn.functional.cross_entropy(expected(first.images / 255).logits, first.targets)
    loss.backward()
    steps: list[dict[str, torch.Tensor]] = []

    class After(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            steps.append(copy.deepcopy(pl_module.teacher.tap.state_dict()))

    fitted(module_of(TrainedAlong(tap(2))), tmp_path, After(), epochs=1)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(
            steps[0][name], (parameter - 0.1 * parameter.grad).detach(), rtol=1e-5, atol=1e-6, msg=name
        )
    statistics = [name for name in steps[0] if "running_" in name]
    assert statistics
    for name in statistics:  # it is in train mode
        torch.testing.assert_close(steps[0][name], expected.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)


# Teachers that are not what they claim to be.


@pytest.mark.parametrize(
    ("expected", "measured", "accepted"),
    [
        (("test", 0.9), {"validation": 0.1, "test": 0.9}, True),
        (("test", 0.9), {"validation": 0.1, "test": 0.8901}, True),  # one point of tolerance
        (("test", 0.9), {"validation": 1.0, "test": 0.8899}, False),
        (("test", 0.9), {"validation": 0.1, "test": 1.0}, True),
        (("validation", 0.9), {"validation": 0.895, "test": 0.0}, True),
        (("validation", 0.1), {"validation": 0.109, "test": 1.0}, False),  # at chance, as its record says
        (("validation", 0.12), {"validation": 0.115, "test": 0.0}, True),
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


def test_an_override_of_the_optimizer_keeps_nothing_of_another_one(compose):
    chosen = "{_target_: torch.optim.AdamW, lr: 0.001}"
    derived = check(trained(compose("+teacher.overrides={recipe.optimizer: " + chosen + "}")))
    assert derived.recipe.optimizer == {"_target_": "torch.optim.AdamW", "lr": 0.001}
    same = check(trained(compose("+teacher.overrides={recipe.optimizer: {_target_: torch.optim.SGD, lr: 0.1}}")))
    assert same.recipe.optimizer == {**check(compose()).recipe.optimizer, "lr": 0.1}
    with pytest.raises(ConfigError, match=r"recipe\.optimizer\._target_='os\.system': is not allowed here"):
        check(trained(compose("+teacher.overrides={recipe.optimizer: {_target_: os.system}}")))


@pytest.mark.parametrize("key", ["recipe.epoch", "recipe.optimizer.leraning_rate", "recipes.epochs", "seed.x"])
def test_an_override_of_nothing_is_refused(compose, key):
    cfg = compose()
    OmegaConf.update(cfg, "teacher.overrides", {key: 3}, merge=False)
    with pytest.raises(ConfigError, match=rf"teacher.overrides: '{key}'"):
        trained(cfg)


def test_an_assistant_learns_from_those_before_it_as_the_student_from_all(compose):
    overrides = ("method=kd", "seed=5", "stage_pairs=[[0,1]]", "method.temperature=3")
    cfg = compose(*overrides, "+method.assistants=[resnet14_cifar,wrn_16_1_cifar,resnet8x4_cifar]")
    before = copy.deepcopy(cfg)
    own = copy.deepcopy(cfg)
    for number, name in enumerate(("resnet14_cifar", "wrn_16_1_cifar", "resnet8x4_cifar")):
        derived = assistant_run(cfg, number)
        assert derived.student.name == name
        assert list(derived.method.assistants) == ["resnet14_cifar", "wrn_16_1_cifar", "resnet8x4_cifar"][:number]
        assert (derived.method.temperature, derived.seed, derived.stage_pairs) == (3, 5, None)
        for key in ("teacher", "recipe", "dataset", "trainer", "chain", "names"):
            assert derived[key] == own[key]
        assert set(derived.student) == set(own.student)
    assert cfg == before


def test_an_assistant_has_none_of_the_arguments_of_the_students_network(compose):
    cfg = compose("+method.assistants=[resnet14_cifar]", "student.input_size=[16,16]", "+student.kwargs={a: 1}")
    derived = assistant_run(cfg, 0)
    assert (derived.student.input_size, derived.student.kwargs) == (None, {})


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


def test_loading_tells_what_was_done_beyond_copying(tmp_path):
    """Files of torch before 0.4.1 have no counters."""
    state = {name: value for name, value in tap(5).network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    weights = from_checkpoint(member(str(tmp_path / "old.pth")), tmp_path)
    (note,) = weights.load(tap(0))
    assert note == f"{tmp_path / 'old.pth'} lacks num_batches_tracked of 9 batch norms; they count from 0"
    torch.save(tap(5).network.state_dict(), tmp_path / "new.pth")
    assert from_checkpoint(member(str(tmp_path / "new.pth")), tmp_path).load(tap(0)) == []


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


def test_a_file_for_other_classes_says_what_can_be_fine_tuned(tmp_path):
    path = tmp_path / "cifar100.pth"
    torch.save(make_tap("resnet8_cifar", replace(SPEC, num_classes=100), 5).network.state_dict(), path)
    with pytest.raises(IntegrityError) as caught:
        from_checkpoint(member(str(path)), tmp_path).load(tap(0))
    assert str(caught.value) == (
        f"{path} has a head for 100 classes, the data set has 10. As a teacher it has to be fine-tuned first, "
        f"which this does: teacher.checkpoint=auto teacher.init={path} +recipe@teacher.overrides.recipe=finetune"
    )


# What a record brings, and a folder.


def test_the_classes_of_a_folder_are_counted_where_the_configuration_does_not_say_them(compose, tmp_path):
    for name in ("a", "b", "c", ".hidden"):
        (tmp_path / "train" / name).mkdir(parents=True)
    overrides = ("dataset=image_folder", f"dataset.source.root={tmp_path}", "teacher=none", "method=scratch")
    assert completed(compose(*overrides)) == check(compose(*overrides, "dataset.num_classes=3"))
    with pytest.raises(ConfigError, match=r"dataset\.num_classes=null: only image folders are counted"):
        completed(compose("dataset.num_classes=null"))


@pytest.fixture
def recorded(finished_run, tmp_path, compose) -> Callable[..., Record]:
    """Give the finished run a configuration."""

    def of(*overrides: str) -> Record:
        student = finished_run.student.model_copy(update={"name": "resnet8_cifar"})
        config = check(compose(*overrides)).recorded()
        record = finished_run.model_copy(update={"config": config, "student": student})
        write_record(record, tmp_path / record.run_id / RECORD_FILE)
        return record

    return of


def teacher_of(compose, tmp_path, record: Record, *overrides: str) -> TeacherConfig:
    chosen = (f"teacher={record.student.name}", f"teacher.checkpoint={record.run_id}", f"paths.runs={tmp_path}")
    return completed(compose(*chosen, *overrides)).teacher


def test_a_run_as_teacher_brings_what_it_was_trained_with(compose, recorded, tmp_path):
    record = recorded("student.pretrained=true", "student.input_size=[16,16]", "student.mean=[0.5,0.5,0.5]")
    teacher = teacher_of(compose, tmp_path, record)
    assert (teacher.pretrained, teacher.input_size, teacher.mean) == (True, [16, 16], [0.5, 0.5, 0.5])
    assert (teacher.std, teacher.checkpoint) == (None, record.run_id)
    repeated = ("teacher.pretrained=true", "teacher.input_size=[16,16]", "teacher.mean=[0.5,0.5,0.5]")
    assert teacher_of(compose, tmp_path, record, *repeated) == teacher


def test_a_run_on_data_of_other_statistics_keeps_those(compose, recorded, tmp_path):
    record = recorded("dataset.mean=[0.1,0.2,0.3]")
    teacher = teacher_of(compose, tmp_path, record)
    assert (teacher.mean, teacher.std, teacher.input_size) == ([0.1, 0.2, 0.3], None, None)
    assert teacher_of(compose, tmp_path, record, "dataset.mean=[0.1,0.2,0.3]").mean is None


@pytest.mark.parametrize(
    ("override", "refusal"),
    [
        ("teacher.mean=[0.1,0.1,0.1]", r"teacher\.mean=\[0\.1, 0\.1, 0\.1\]: run \w+ was trained with \[0\.5, 0\.5, "),
        ("teacher.pretrained=true", r"teacher\.pretrained=True: run \w+ was trained with False; leave it out"),
        ("teacher.name=resnet56_cifar", r"teacher\.name=resnet56_cifar: run \w+ was trained with resnet8_cifar; tea"),
    ],
)
def test_a_teacher_that_contradicts_its_record_is_refused(compose, recorded, tmp_path, override, refusal):
    record = recorded("student.mean=[0.5,0.5,0.5]")
    with pytest.raises(ConfigError, match=refusal):
        teacher_of(compose, tmp_path, record, override)
