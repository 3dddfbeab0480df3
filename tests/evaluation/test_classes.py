"""Gaps by class and by sample, against scikit-learn, scipy and by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, false_discovery_control
from sklearn.metrics import recall_score

from evaluation.problems import one_hot, problem, softmax
from kd_bench.evaluation.classes import EXEMPLARS_LISTED, class_metrics, disagreements


def test_counts_are_scikit_learns_recalls():
    logits, targets = problem(500, 10, 1.0)
    teacher, _ = problem(500, 10, 1.0, seed=1)
    metrics = class_metrics(logits, targets, teacher)
    recalls = recall_score(targets, logits.argmax(1), average=None)
    top1 = [correct / samples for correct, samples in zip(metrics.correct, metrics.samples, strict=True)]
    assert top1 == pytest.approx(recalls)
    assert metrics.samples == np.bincount(targets).tolist()
    assert metrics.worst_top1 == metrics.worst_tenth_top1 == pytest.approx(min(recalls))
    assert metrics.sd_top1 == pytest.approx(np.std(recalls))
    theirs = recall_score(targets, teacher.argmax(1), average=None)
    flips = np.array(metrics.negative_flips) - np.array(metrics.positive_flips)
    assert np.array(metrics.correct) + flips == pytest.approx(theirs * metrics.samples)


@pytest.mark.parametrize(("classes", "tenth"), [(9, 1), (19, 1), (20, 2), (100, 10)])
def test_the_worst_tenth_is_never_more_than_a_tenth_but_at_least_one_class(classes, tenth):
    logits, targets = problem(40 * classes, classes, 1.0)
    metrics = class_metrics(logits, targets, None)
    recalls = sorted(recall_score(targets, logits.argmax(1), average=None))
    assert metrics.worst_tenth_top1 == pytest.approx(np.mean(recalls[:tenth]))


def test_classes_that_differ_are_those_of_exact_tests_at_a_false_discovery_rate():
    """Of 20 classes the student is much worse in three, much better in one, and as good in the rest."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(20).repeat_interleave(60)
    right = torch.rand(len(targets), generator=generator) < torch.full((20,), 0.8).repeat_interleave(60)
    teacher_right = torch.rand(len(targets), generator=generator) < 0.8
    right[(targets < 3) & (torch.rand(len(targets), generator=generator) < 0.4)] = False
    teacher_right[(targets == 7) & (torch.rand(len(targets), generator=generator) < 0.5)] = False

    def logits(correct: torch.Tensor) -> torch.Tensor:
        return one_hot(torch.where(correct, targets, (targets + 1) % 20).tolist(), 20)

    metrics = class_metrics(logits(right), targets, logits(teacher_right))
    pairs = list(zip(metrics.negative_flips, metrics.positive_flips, strict=True))
    p_values = [binomtest(negative, negative + positive).pvalue for negative, positive in pairs]
    found = np.flatnonzero(false_discovery_control(p_values, method="bh") <= 0.05)
    assert {0, 2, 7} <= set(found.tolist())
    assert metrics.significantly_worse == [label for label in found if pairs[label][0] > pairs[label][1]]
    assert metrics.significantly_better == [label for label in found if pairs[label][0] < pairs[label][1]]
    assert sum(p <= 0.05 for p in p_values) >= len(found)


def test_a_student_like_its_teacher_differs_in_no_class():
    logits, targets = problem(300, 10, 1.0)
    metrics = class_metrics(logits, targets, logits)
    assert metrics.negative_flips == metrics.positive_flips == [0] * 10
    assert metrics.significantly_worse == metrics.significantly_better == []


def test_a_class_without_samples_counts_nowhere():
    metrics = class_metrics(one_hot([0, 1, 1], 4), torch.tensor([0, 1, 0]), None)
    assert metrics.samples == [2, 1, 0, 0]
    assert (metrics.worst_top1, metrics.sd_top1) == (0.5, 0.25)
    assert metrics.negative_flips is metrics.significantly_worse is None


def test_disagreements_start_with_those_that_the_teacher_is_surest_of():
    student, targets = problem(400, 10, 0.3)
    teacher, _ = problem(400, 10, 2.0, seed=1)
    listed = disagreements(student, targets, teacher)
    confidence, predicted = softmax(teacher).max(1), softmax(teacher).argmax(1)
    different = [index for index in range(400) if predicted[index] != student.argmax(1)[index]]
    expected = sorted(different, key=lambda index: (-round(confidence[index], 6), index))[:EXEMPLARS_LISTED]
    assert listed.total == len(different) > EXEMPLARS_LISTED
    assert listed.index == expected
    assert listed.teacher == [predicted[index] for index in expected]
    assert listed.student == [int(student[index].argmax()) for index in expected]
    assert listed.target == [int(targets[index]) for index in expected]
    assert listed.teacher_confidence == pytest.approx([confidence[index] for index in expected], abs=1e-6)


def test_twins_disagree_nowhere():
    logits, targets = problem(100, 10, 1.0)
    listed = disagreements(logits, targets, logits)
    assert (listed.total, listed.index, listed.teacher_confidence) == (0, [], [])
