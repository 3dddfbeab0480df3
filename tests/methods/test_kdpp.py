"""KD++: lengths, directions and class means, one sample at a time."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.trained import train
from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress, TrainingSet
from kd_bench.methods.kdpp import KDPlusPlus, class_means, norm_direction_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs

from .pairs import built
from .slow import mean, random_logits


def length(values: list[float]) -> float:
    return math.sqrt(sum(value**2 for value in values))


def test_norm_direction_is_one_less_the_projection_by_the_longer_length():
    own, other, centers = (random_logits((6, 4), seed) for seed in range(3))
    losses = []
    for row, target, center in zip(own.tolist(), other.tolist(), centers.tolist(), strict=True):
        inner = sum(a * b for a, b in zip(row, center, strict=True)) / length(center)
        losses.append(1 - inner / max(length(row), length(target)))
    assert norm_direction_loss(own, other, centers).item() == pytest.approx(mean(losses), rel=1e-9)


def test_a_student_on_the_center_that_is_no_shorter_than_the_teacher_has_nothing_to_learn():
    center = random_logits((3, 4), 0)
    longer = 2 * center
    assert norm_direction_loss(longer, center, center).item() == pytest.approx(0, abs=1e-12)
    assert norm_direction_loss(center / 2, center, center).item() == pytest.approx(0.5)
    assert norm_direction_loss(-longer, center, center).item() == pytest.approx(2)


def test_an_embedding_or_a_center_of_zeros_gives_finite_gradients():
    own = torch.zeros(2, 4, requires_grad=True)
    loss = norm_direction_loss(own, torch.zeros(2, 4), torch.zeros(2, 4))
    loss.backward()
    assert loss.item() == 1
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_class_means_are_over_all_batches_and_zero_for_a_class_without_samples():
    embeddings, targets = random_logits((7, 3), 0), torch.tensor([0, 2, 2, 0, 4, 2, 0])

    def outputs() -> Iterator[tuple[Batch, Outputs]]:
        for index in torch.arange(7).split(3):
            yield Batch(torch.zeros(0), targets[index], index), Outputs(embeddings[index], [], embeddings[index])

    means = class_means(TrainingSet(targets, 5, outputs))
    for label in range(5):
        rows = [row for row, target in zip(embeddings.tolist(), targets.tolist(), strict=True) if target == label]
        expected = [mean([row[i] for row in rows]) if rows else 0.0 for i in range(3)]
        assert means[label].tolist() == pytest.approx(expected)


def test_the_released_means_are_those_of_augmented_images_in_four_decimals():
    embeddings, augmented = random_logits((7, 3), 0), random_logits((7, 3), 1)
    targets = torch.tensor([0, 2, 2, 0, 1, 2, 0])

    def passes(values: Tensor) -> Callable[[], Iterator[tuple[Batch, Outputs]]]:
        def outputs() -> Iterator[tuple[Batch, Outputs]]:
            for index in torch.arange(7).split(3):
                yield Batch(torch.zeros(0), targets[index], index), Outputs(values[index], [], values[index])

        return outputs

    means = class_means(TrainingSet(targets, 3, passes(embeddings), passes(augmented)), as_released=True)
    for label in range(3):
        rows = [row for row, target in zip(augmented.tolist(), targets.tolist(), strict=True) if target == label]
        expected = [round(mean([round(row[i], 4) for row in rows]), 4) for i in range(3)]
        assert means[label].tolist() == pytest.approx(expected, rel=1e-12)


def test_kd_is_warmed_up_from_nothing(compose):
    made = built(compose, "kdpp")
    batch = made.batch()
    student, teacher = made.outputs(batch)
    terms = [made.method(student, teacher, batch, Progress(epoch, 240, 0, 1))["kd"].item() for epoch in (0, 10, 20, 99)]
    assert terms[0] == 0
    assert terms[1] == pytest.approx(terms[2] / 2)
    assert terms[2] == terms[3]


def test_class_means_are_in_the_checkpoint(compose):
    made = built(compose, "kdpp")
    assert made.module.state_dict()["method.means"].shape == (10, 64)
    assert made.method.means.any()


def test_a_run_gives_the_augmented_images_of_its_first_epoch(tmp_path, monkeypatch):
    plain, augmented, trained = {}, {}, {}

    def prepare(self: KDPlusPlus, training_set: TrainingSet) -> None:
        assert training_set.augmented_outputs is not None
        for passes, seen in ((training_set.teacher_outputs, plain), (training_set.augmented_outputs, augmented)):
            for batch, outputs in passes():
                seen.update(zip(batch.index.tolist(), zip(batch.images, outputs.embedding, strict=True), strict=True))

    def forward(self: KDPlusPlus, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> Any:
        trained.update(zip(batch.index.tolist(), zip(batch.images, teacher.embedding, strict=True), strict=True))
        return {"ce": cross_entropy(student.logits, batch.targets)}

    monkeypatch.setattr(KDPlusPlus, "prepare", prepare)
    monkeypatch.setattr(KDPlusPlus, "forward", forward)
    train(tmp_path, "method=kdpp", "recipe.epochs=1")
    assert plain.keys() == augmented.keys() == set(range(100))
    assert set(trained) <= set(augmented)
    for index, (images, embedding) in trained.items():
        assert torch.equal(images, augmented[index][0])
        assert torch.allclose(embedding, augmented[index][1], atol=1e-5)
    assert any(not torch.equal(images, augmented[index][0]) for index, (images, _) in plain.items())
