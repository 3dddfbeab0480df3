"""Runs whose images are mixed, or others for the teacher: recorded, and refused where a method cannot take them."""

import pytest
import torch

from kd_bench.config.check import check
from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import Batch
from kd_bench.errors import ConfigError
from kd_bench.results.records.fingerprint import determining, fingerprint
from kd_bench.training.pair import build, make_module

NETWORKS = ["teacher.name=resnet14_cifar", "student=resnet8_cifar", "dataset=digits"]


def test_keys_that_are_not_used_change_no_fingerprint(compose):
    config = check(compose(*NETWORKS, "method=kd"))
    kept = {"crop_padding": 1, "horizontal_flip": False, "resized_crop": None}
    assert determining(config)["recipe"]["augmentation"] == kept
    used = [
        "recipe.augmentation.steps=[]",
        "recipe.augmentation.teacher_steps=[]",
        "recipe.augmentation.strong_steps=[{kind: flip}]",
        "recipe.augmentation.mixing={mixup: 0.2}",
    ]
    names = {
        fingerprint(check(compose(*NETWORKS, "method=kd", *more)), "data", [], 0) for more in ([], *([u] for u in used))
    }
    assert len(names) == 5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=dkd", "recipe.augmentation.mixing={cutmix: 1.0}"], "method=dkd reads hard labels"),
        (["method=crd_kd", "recipe.augmentation.mixing={cutmix: 1.0}"], "method=crd_kd reads hard labels"),
        (["recipe.augmentation.mixing={mixup: 0.0}"], "recipe.augmentation.mixing"),
        (["recipe.augmentation.steps=[{kind: blur}]"], "recipe.augmentation.steps"),
    ],
)
def test_what_cannot_be_mixed_is_refused_by_name(compose, overrides, words):
    with pytest.raises(ConfigError) as caught:
        build(check(compose(*NETWORKS, *overrides)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["scratch", "kd", "function_matching", "at", "dml"])
def test_methods_that_read_labels_by_cross_entropy_take_soft_ones(compose, method):
    """One-hot shares are the labels themselves."""
    config = check(compose(*NETWORKS, f"method={method}", "recipe.augmentation.mixing={mixup: 0.2}"))
    pair = build(config)
    images, targets = torch.rand(4, 3, 8, 8), torch.tensor([0, 3, 9, 3])
    hard = Batch(images, targets, torch.arange(4))
    soft = hard._replace(soft_targets=torch.nn.functional.one_hot(targets, 10).float())
    module = make_module(config, pair).eval()
    student, teacher = pair.student(images), None if module.teacher is None else module.teacher(images)
    terms = [pair.method(student, teacher, batch, None) for batch in (hard, soft)]
    for name, value in terms[0].items():
        assert terms[1][name].item() == pytest.approx(value.item(), rel=1e-5)


def test_the_teacher_sees_its_own_images(compose):
    config = check(compose(*NETWORKS, "method=kd"))
    module = make_module(config, build(config))
    seen = []
    module._meter.add = lambda losses: None
    module._progress = lambda step: None
    module.method.observe = lambda student, teacher, images: (seen.append(images), student(images), teacher(images))[1:]
    module._teacher = (Recorder(module.teacher, seen),)
    batch = Batch(torch.rand(2, 4, 3, 8, 8), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    taught = torch.rand(2, 4, 3, 8, 8)
    module.method.forward = lambda student, teacher, batch, progress: {"ce": student.logits.sum()}
    module.training_step(batch._replace(teacher_images=taught), 0)
    module.training_step(batch, 1)
    assert torch.equal(seen[1], taught.flatten(0, 1))
    assert torch.equal(seen[2], seen[3])


class Recorder:
    """A teacher that notes what it is shown."""

    changes = False

    def __init__(self, teacher, seen: list) -> None:
        self.teacher, self.seen = teacher, seen

    def __call__(self, images, kept=None):
        self.seen.append(images)
        return self.teacher(images, kept)


def test_a_mixed_run_is_recorded_and_the_same_when_made_again(compose, tmp_path):
    from kd_bench.runs.run import run

    def trained(folder: str, *more: str):
        return run(
            compose(
                "student=resnet8_cifar", "teacher=none", "teacher.name=null", "dataset=digits", "method=scratch",
                "dataset.train_samples=96", "recipe.epochs=2", "recipe.batch_size=32", "logger=none",
                "trainer.progress=none", "trainer.threads=1", f"paths.runs={tmp_path / folder}",
                "recipe.augmentation.mixing={mixup: 0.8, cutmix: 1.0}",
                "recipe.augmentation.steps=[{kind: rand_augment}, {kind: random_erasing, fill: noise}]", *more,
            )
        )  # fmt: skip

    first, second = trained("a"), trained("b")
    assert first.student.weights_sha256 == second.student.weights_sha256
    assert first.config["recipe"]["augmentation"]["mixing"]["cutmix"] == 1.0
    assert [step["kind"] for step in first.config["recipe"]["augmentation"]["steps"]] == [
        "rand_augment",
        "random_erasing",
    ]


def test_a_strong_view_reaches_the_data_module(compose):
    from kd_bench.data.source import ImageArrays, Split
    from kd_bench.runs.run import data_module

    config = check(compose(*NETWORKS, "method=crld"))
    pair = build(config)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    arrays = ImageArrays(Split(images, torch.arange(40) % 10), Split(images, torch.arange(40) % 10), list("abcdefghij"))
    data = data_module(config, pair, arrays)
    assert isinstance(data.augmentation, Augmentation)
    assert (data.views, data.augmentation.strong_views) == (2, (1,))
