"""Splits: stratified, nested, complete, and the same for ever."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits

from kd_bench.data.splits import carve, stratified_order


def labels(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return {
        "digits": torch.from_numpy(load_digits().target).long(),
        "sorted": torch.arange(10).repeat_interleave(37),
        "skewed": torch.multinomial(torch.tensor([0.6, 0.3, 0.07, 0.03]), 500, replacement=True, generator=generator),
        "two": torch.tensor([0, 1] * 20),
    }[name]


NAMES = ("digits", "sorted", "skewed", "two")


@pytest.mark.parametrize("name", NAMES)
def test_every_prefix_is_stratified_within_one_sample_of_each_class(name):
    targets = labels(name)
    order = stratified_order(targets, "validation").tolist()
    totals, seen = Counter(targets.tolist()), Counter()
    for taken, position in enumerate(order, start=1):
        seen[int(targets[position])] += 1
        for label, total in totals.items():
            assert abs(seen[label] - taken * total / len(order)) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_disjoint_complete_and_in_order(name):
    targets = labels(name)
    for count in (0, 1, len(targets) // 3, len(targets)):
        taken, rest = (part.tolist() for part in carve(targets, count, "x"))
        assert len(taken) == count
        assert taken == sorted(taken)
        assert rest == sorted(rest)
        assert sorted(taken + rest) == list(range(len(targets)))


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_part_lies_inside_a_larger_one(name):
    targets = labels(name)
    parts = [set(carve(targets, count, "x")[0].tolist()) for count in (5, 20, 21, 39)]
    assert all(small < large for small, large in pairwise(parts))


def test_the_salt_decides_and_global_randomness_does_not():
    targets = labels("digits")
    torch.manual_seed(1)
    first = stratified_order(targets, "a")
    torch.manual_seed(2)
    assert torch.equal(stratified_order(targets, "a"), first)
    overlap = len(set(carve(targets, 500, "a")[0].tolist()) & set(carve(targets, 500, "b")[0].tolist()))
    assert overlap == pytest.approx(500 * 500 / 1797, abs=40)  # as many as two independent draws share


def test_within_a_class_the_choice_is_not_by_position():
    """A dataset may be ordered by writer or time; the first samples of a class must not all land in one part."""
    taken, _ = carve(torch.zeros(1000, dtype=torch.long), 500, "x")
    assert float(taken.double().mean()) == pytest.approx(499.5, abs=40)


def test_splits_are_frozen():
    """Published numbers refer to these very samples."""
    order = stratified_order(labels("digits"), "validation")
    assert order[:12].tolist() == [1370, 681, 1227, 95, 886, 942, 1072, 1415, 1338, 643, 1727, 457]
    assert carve(labels("two"), 6, "validation")[0].tolist() == [0, 23, 26, 29, 37, 38]
