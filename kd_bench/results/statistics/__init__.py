"""Intervals, paired tests, simultaneous comparisons and aggregates of results over seeds.

Everything here is a pure function of numbers; nothing imports torch. Accuracies come in and go out as fractions in
[0, 1], never percent. Scores of a method are a mapping from seed to value, so that two methods can be compared on the
seeds they share ("paired"): a shared seed means the same teacher, split and data order, and most of the noise of
training cancels in the difference (Bouthillier et al. 2021, arXiv:2103.03098).

There are two uncertainties. Seeds: t intervals and paired t tests (``intervals``, ``paired``). The finite test split,
which all seeds share: McNemar's test and the paired bootstrap over samples, ``sampling_half_width``.
"""
