"""Corrections for testing many hypotheses at once."""

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values by Holm's step-down procedure, for tests of several methods against one baseline (Holm 1979).

    The i-th smallest of m p values becomes the largest of (m - j + 1) · p(j) over j <= i, at most 1. ``None`` marks a
    test that was not made: it stays ``None`` and does not count towards m.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((value, position) for position, value in enumerate(p_values) if value is not None)
    largest = 0.0
    for rank, (value, position) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[position] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p values by the step-up procedure that bounds the false discovery rate (Benjamini & Hochberg 1995).

    The i-th smallest of m p values becomes the smallest of m / j · p(j) over j >= i, at most 1. Rejecting those at or
    below 0.05 keeps the expected share of false rejections at 5 %, for independent or positively dependent tests.
    """
    order = sorted(range(len(p_values)), key=lambda position: p_values[position], reverse=True)
    adjusted = [1.0] * len(p_values)
    smallest = 1.0
    for larger, position in enumerate(order):
        smallest = min(smallest, len(p_values) / (len(p_values) - larger) * p_values[position])
        adjusted[position] = smallest
    return adjusted
