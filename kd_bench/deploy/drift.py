"""Drift: tests of predictions in use against the reference statistics of a student."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr
from scipy.stats import chi2, chi2_contingency, ks_2samp

from kd_bench.deploy.columnar import Array
from kd_bench.deploy.policy import DriftBounds
from kd_bench.deploy.reference import SAMPLED, Reference, histogram
from kd_bench.deploy.scores import Scores
from kd_bench.errors import IntegrityError, NotEnoughEvidence
from kd_bench.results.statistics.multiplicity import holm

FEWEST = 100  # predictions that can be told from the reference at all
LEAST_EXPECTED = 5  # images of a class in either sample, below which the chi-square approximation is poor
LEAST_SHARE = 1e-4  # of an empty bin, which the index could not divide by


@dataclass(frozen=True)
class DriftTest:
    """A change from the reference: its size, the bound of the size, and the p value before and after Holm's correction.

    Attributes:
        detail: where the change is largest; empty where that says nothing.
    """

    name: str
    size: float
    bound: float
    p_value: float
    adjusted: float
    drifted: bool
    detail: str = ""


def drift_tests(reference: Reference, scores: Scores, bounds: DriftBounds, class_names: list[str]) -> list[DriftTest]:
    """Compare predictions with the reference. A change is drift if it is significant and larger than its bound.

    Raises:
        NotEnoughEvidence: there are too few predictions.
        IntegrityError: the embeddings have another size.
    """
    if len(scores) < FEWEST:
        raise NotEnoughEvidence(f"{len(scores)} predictions: it takes {FEWEST} to tell drift from chance")
    tests = [_population_stability(reference, scores, bounds), _prior(reference, scores, bounds, class_names)]
    for name in SAMPLED:
        found = ks_2samp(reference.samples[name], getattr(scores, name), method="asymp")
        size, p_value = float(found.statistic), float(found.pvalue)
        tests.append(_test(f"{name} (Kolmogorov-Smirnov)", size, bounds.kolmogorov_smirnov, p_value))
    if scores.embeddings is not None:
        tests.append(_embedding(reference, scores.embeddings, bounds))
    adjusted = [float(value or 0.0) for value in holm([test.p_value for test in tests])]
    return [
        replace(test, adjusted=value, drifted=value <= bounds.significance and test.size > test.bound)
        for test, value in zip(tests, adjusted, strict=True)
    ]


def _test(name: str, size: float, bound: float, p_value: float, detail: str = "") -> DriftTest:
    return DriftTest(name, size, bound, p_value, p_value, False, detail)


def population_stability_index(expected: Array, found: Array) -> float:
    """Return Σ (q - p) ln(q / p) over bins with shares p of the reference and q of what was found, from their counts.

    Empty bins count as a share of 0.0001.
    """
    p, q = (np.maximum(counts / counts.sum(), LEAST_SHARE) for counts in (expected, found))
    return float(((q - p) * np.log(q / p)).sum())


def _population_stability(reference: Reference, scores: Scores, bounds: DriftBounds) -> DriftTest:
    """Test the index: without drift, it is 1 / n + 1 / m times a chi-square with one degree fewer than there are bins.

    (Yurdakul and Naranjo 2020, "Statistical properties of the population stability index".)
    """
    counts = histogram(scores.confidence, reference.edges)
    index = population_stability_index(reference.histogram, counts)
    scale = 1 / reference.histogram.sum() + 1 / len(scores)
    p_value = float(chi2.sf(index / scale, max(1, len(counts) - 1)))
    return _test("confidence (population stability)", index, bounds.population_stability, p_value)


def _prior(reference: Reference, scores: Scores, bounds: DriftBounds, class_names: list[str]) -> DriftTest:
    found = np.bincount(scores.predicted, minlength=len(class_names)).astype(np.float64)
    shares = found / found.sum(), reference.prior / reference.prior.sum()
    change = shares[0] - shares[1]
    largest = int(np.abs(change).argmax())
    detail = f"class {class_names[largest]}: {100 * change[largest]:+.1f} points"
    p_value = _contingency(np.stack([reference.prior, found]))
    return _test("predicted classes (chi-square)", float(np.abs(change).sum() / 2), bounds.prior, p_value, detail)


def _contingency(counts: Array) -> float:
    """Return the p value of the chi-square test of two rows of counts, in which rare classes are counted together."""
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    rare = expected < LEAST_EXPECTED
    pooled = np.concatenate([counts[:, ~rare], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0


def _embedding(reference: Reference, embeddings: Array, bounds: DriftBounds) -> DriftTest:
    """Test the means of the dimensions by Welch's z, with Bonferroni's correction for their number."""
    size, mean = len(reference.embedding_mean), reference.embedding_mean
    if embeddings.shape[1] != size:
        raise IntegrityError(f"embeddings have {embeddings.shape[1]} dimensions, those of the student have {size}")
    variance, images = np.diag(reference.embedding_covariance), reference.prior.sum()
    error = np.sqrt(variance / images + embeddings.var(axis=0, ddof=1) / len(embeddings))
    shift = np.abs(embeddings.mean(axis=0) - mean)
    moved = error > 0
    z = np.where(moved, shift / np.where(moved, error, 1.0), np.where(shift > 0, math.inf, 0.0))
    deviations = np.where(variance > 0, shift / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)
    largest = int(deviations.argmax())
    p_value = min(1.0, size * float(2 * ndtr(-z.max())))
    detail = f"dimension {largest} of {size}"
    return _test("embedding means (z)", float(deviations[largest]), bounds.embedding, p_value, detail)
