"""Intervals, paired tests, rank bands and aggregates of results over seeds.

Everything here is a pure function of numbers; nothing imports torch. Accuracies come in and go out as fractions in
[0, 1], never percent. Scores of a method are a mapping from seed to value, so that two methods can be compared on the
seeds they share ("paired"): a shared seed means the same teacher, split and data order, and most of the noise of
training cancels in the difference (Bouthillier et al. 2021, arXiv:2103.03098).

There are two uncertainties. Seeds: t intervals and paired t tests (``intervals``, ``paired``). The finite test split,
which all seeds share: McNemar's test and the paired bootstrap over samples, ``sampling_half_width``.
"""

from kd_bench.results.statistics.aggregates import (
    interquartile_mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from kd_bench.results.statistics.exemplars import Exemplar, compression_identified
from kd_bench.results.statistics.intervals import (
    CONFIDENCE,
    Estimate,
    estimate,
    mean,
    sampling_half_width,
    standard_error,
    t_interval,
)
from kd_bench.results.statistics.multiplicity import benjamini_hochberg, holm
from kd_bench.results.statistics.paired import (
    Scores,
    bootstrap_interval,
    mcnemar_p_value,
    paired_differences,
    paired_estimate,
    paired_p_value,
)
from kd_bench.results.statistics.power import (
    Equivalence,
    Spread,
    Verdict,
    equivalence,
    minimum_detectable_difference,
    smallest_mann_whitney_p,
    smallest_wilcoxon_p,
)
from kd_bench.results.statistics.ranking import (
    MINIMUM_CLAIM,
    MINIMUM_RANKED,
    Evidence,
    evidence,
    gap_closed,
    indistinguishable,
    rank_bands,
)

__all__ = [
    "CONFIDENCE",
    "MINIMUM_CLAIM",
    "MINIMUM_RANKED",
    "Equivalence",
    "Estimate",
    "Evidence",
    "Exemplar",
    "Scores",
    "Spread",
    "Verdict",
    "benjamini_hochberg",
    "bootstrap_interval",
    "compression_identified",
    "equivalence",
    "estimate",
    "evidence",
    "gap_closed",
    "holm",
    "indistinguishable",
    "interquartile_mean",
    "mcnemar_p_value",
    "mean",
    "minimum_detectable_difference",
    "optimality_gap",
    "paired_differences",
    "paired_estimate",
    "paired_p_value",
    "performance_profile",
    "probability_of_improvement",
    "rank_bands",
    "sampling_half_width",
    "smallest_mann_whitney_p",
    "smallest_wilcoxon_p",
    "standard_error",
    "stratified_interval",
    "t_interval",
]
