"""Self-supervision knowledge distillation against loops over views, and which views teach."""

import math

import pytest
import torch
from golden_rows.contrastive import sskd_method
from golden_rows.given import run
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kd_bench.methods.sskd import SSKD, kept, rotated, rotation_loss, similarities, upright
from kd_bench.models.features import Outputs

from .slow import cross_entropy, kl, mean, random_labels, random_logits, reproducible

SETTINGS = {
    "ce_weight": 0.1,
    "kd_weight": 0.9,
    "transformed_weight": 2.7,
    "selfsup_weight": 10.0,
    "kd_temperature": 4.0,
    "transformed_temperature": 3.0,
    "selfsup_temperature": 0.5,
    "ratio_transformed": 0.5,
    "ratio_selfsup": 0.75,
}


def method(**changed: float) -> SSKD:
    made = sskd_method({**SETTINGS, **changed})
    made.student_head = made.teacher_head = nn.Identity()  # type: ignore[assignment]
    return made


def cosine(one: list[float], other: list[float]) -> float:
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


def slow_kept(scores: list[list[float]], targets: list[int], share: float) -> list[int]:
    ranks = [sorted(row, reverse=True).index(row[target]) for row, target in zip(scores, targets, strict=True)]
    wrong = sorted((row for row, rank in enumerate(ranks) if rank), key=lambda row: (ranks[row], row))
    right = [row for row, rank in enumerate(ranks) if not rank]
    return sorted([*right, *wrong[: int(share * len(wrong))]])


def slow_terms(own: Tensor, other: Tensor, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, float]:
    images = len(labels)
    views = [(turn * images + image, image) for image in range(images) for turn in (1, 2, 3)]
    ours, theirs, targets = own.tolist(), other.tolist(), labels.tolist()
    rows = slow_kept([theirs[view] for view, _ in views], [targets[image] for _, image in views], 0.5)
    alike = [
        [[cosine(each[view], each[image]) for image in range(images)] for view, _ in views]
        for each in (student.tolist(), teacher.tolist())
    ]
    close = slow_kept(alike[1], [image for _, image in views], 0.75)
    return {
        "ce": 0.1 * cross_entropy(ours[:images], targets),
        "kd": 0.9 * 16 * kl(ours[:images], theirs[:images], 4.0),
        "transformed": 2.7
        * 9
        * kl([ours[views[row][0]] for row in rows], [theirs[views[row][0]] for row in rows], 3.0),
        "selfsup": 10 * 0.25 * kl([alike[0][row] for row in close], [alike[1][row] for row in close], 0.5),
    }


@reproducible
@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 1000))
def test_the_terms_are_those_of_the_paper_for_the_views_that_are_kept(images, classes, seed):
    own, other = random_logits((4 * images, classes), seed), random_logits((4 * images, classes), seed + 1)
    student, teacher = random_logits((4 * images, 5), seed + 2), random_logits((4 * images, 3), seed + 3)
    labels = random_labels((images, classes), seed)
    terms = run(method(), Outputs(own, [], student), Outputs(other, [], teacher), labels=labels)
    for name, expected in slow_terms(own, other, student, teacher, labels).items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_views_are_taken_rotation_by_rotation():
    rows = torch.arange(12)[:, None]  # 3 images: 0 to 2 upright, 3 to 5 turned by 90 degrees, ...
    assert upright(rows).flatten().tolist() == [0, 1, 2]
    assert rotated(rows).flatten().tolist() == [3, 6, 9, 4, 7, 10, 5, 8, 11]


@reproducible
@given(st.integers(1, 9), st.integers(2, 6), st.sampled_from([0.0, 0.1, 0.5, 0.75, 1.0]), st.integers(0, 1000))
def test_right_views_and_the_least_wrong_are_kept(rows, classes, share, seed):
    scores, targets = random_logits((rows, classes), seed), random_labels((rows, classes), seed)
    found = kept(scores, targets, share).nonzero()[:, 0].tolist()
    assert found == slow_kept(scores.tolist(), targets.tolist(), share)


def test_where_no_view_is_kept_the_term_is_zero_and_finite():
    own, labels = random_logits((4, 3), 0).requires_grad_(), torch.tensor([0])
    other = torch.tensor([[0.0, 1.0, 2.0]]).double().repeat(4, 1)
    student, teacher = Outputs(own, [], own), Outputs(other, [], other)
    value = run(method(ratio_transformed=0.0), student, teacher, labels=labels)["transformed"]
    value.backward()
    assert value.item() == 0
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_the_first_stage_looks_for_the_image_that_a_view_was_rotated_from():
    embedding = random_logits((12, 5), 0)
    rows = embedding.tolist()
    expected = mean(
        [
            cross_entropy([[cosine(rows[3 * turn + image], rows[other]) for other in range(3)]], [image])
            for image in range(3)
            for turn in (1, 2, 3)
        ]
    )
    assert rotation_loss(embedding).item() == pytest.approx(expected, rel=1e-9)
    assert similarities(torch.eye(3).repeat(4, 1)).tolist() == torch.eye(3).repeat_interleave(3, 0).tolist()
    alike = rotation_loss(torch.eye(3).repeat(4, 1)).item()
    assert alike == pytest.approx(math.log(math.e + 2) - 1)  # the least there is


def test_the_first_stage_trains_the_teachers_head_alone_and_the_second_leaves_it():
    made = sskd_method(SETTINGS)
    made.student_head, made.teacher_head = nn.Linear(5, 5), nn.Linear(5, 5)  # type: ignore[assignment]
    made = made.double()
    outputs = Outputs(random_logits((8, 3), 0), [], random_logits((8, 5), 1))
    assert set(made.pretrain_parameters(None)) == set(made.teacher_head.parameters())  # type: ignore[arg-type]
    sum(run(made, outputs, outputs, labels=torch.tensor([0, 1])).values()).backward()
    assert all(p.grad is None for p in made.teacher_head.parameters())
    assert all(p.grad is not None for p in made.student_head.parameters())
