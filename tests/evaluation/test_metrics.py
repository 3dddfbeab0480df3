"""Accuracy against scikit-learn, and all metrics of a split together."""

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

from evaluation.problems import PROBLEMS, problem
from kd_bench.errors import Diverged
from kd_bench.evaluation.calibration import calibration_metrics
from kd_bench.evaluation.fidelity import fidelity_metrics
from kd_bench.evaluation.metrics import accuracy, macro_accuracy, split_metrics


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_accuracy_is_scikit_learns(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    assert accuracy(logits, targets) == accuracy_score(targets, logits.argmax(1))
    if classes > 5:
        expected = top_k_accuracy_score(targets, logits.numpy(), k=5, labels=range(classes))
        assert accuracy(logits, targets, k=5) == pytest.approx(expected, abs=1e-15)


def test_macro_accuracy_is_scikit_learns_balanced_accuracy():
    """Of classes of very different sizes."""
    targets = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    logits, _ = problem(100, 3, 1.0)
    logits[torch.arange(100), targets] += torch.tensor([2.0, 0.5, 0.0])[targets]
    predicted = logits.argmax(1)
    assert set(predicted.tolist()) == {0, 1, 2}
    assert macro_accuracy(logits, targets) == pytest.approx(balanced_accuracy_score(targets, predicted), abs=1e-12)
    assert abs(macro_accuracy(logits, targets) - accuracy(logits, targets)) > 0.05


def test_macro_accuracy_leaves_out_classes_that_do_not_occur():
    logits = torch.eye(5)[[0, 1, 1, 4]]
    assert macro_accuracy(logits, torch.tensor([0, 1, 4, 4])) == pytest.approx((1 + 1 + 0.5) / 3)


def test_equal_logits_are_the_first_class_for_every_metric():
    """So that accuracies and flips, which need one prediction a sample, fit together."""
    logits, targets = torch.zeros(10, 4), torch.tensor([0, 1] * 5)
    assert accuracy(logits, targets) == macro_accuracy(logits, targets) == 0.5
    assert fidelity_metrics(logits, logits, targets)["retention"] == 1


def test_split_metrics_puts_each_metric_in_its_place():
    logits, targets = problem(300, 10, 1.0)
    teacher, _ = problem(300, 10, 1.0, seed=1)
    metrics = split_metrics(logits, targets, teacher, temperature=1.7)
    assert metrics.top1 == accuracy(logits, targets)
    assert metrics.top5 == accuracy(logits, targets, k=5) > metrics.top1
    assert metrics.macro_top1 == macro_accuracy(logits, targets)
    for name, value in {**calibration_metrics(logits, targets), **fidelity_metrics(logits, teacher, targets)}.items():
        assert getattr(metrics, name) == value, name
    expected = {"temperature": 1.7, **calibration_metrics(logits.double() / 1.7, targets)}
    assert metrics.scaled.model_dump() == expected
    assert split_metrics(logits, targets, teacher).scaled is None


@pytest.mark.parametrize(("classes", "measured"), [(2, False), (5, False), (6, True)])
def test_top5_means_something_with_more_than_five_classes_only(classes, measured):
    logits, targets = problem(100, classes, 1.0)
    assert (split_metrics(logits, targets, None).top5 is not None) is measured


def test_without_a_teacher_nothing_refers_to_one():
    logits, targets = problem(100, 10, 1.0)
    metrics = split_metrics(logits, targets, None)
    names = fidelity_metrics(logits, logits, targets)
    assert {name: getattr(metrics, name) for name in names} == dict.fromkeys(names)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_logits_that_are_not_finite_are_refused(whose, value):
    """Some metrics improve with NaN: argmax of NaN is class 0, and a calibration error skips it."""
    logits, targets = problem(100, 10, 1.0)
    broken = logits.clone()
    broken[3, 4] = value
    student, teacher = (broken, logits) if whose == "student" else (logits, broken)
    with pytest.raises(Diverged, match=f"^the {whose}'s logits are not finite: no metric is computed$"):
        split_metrics(student, targets, teacher)
