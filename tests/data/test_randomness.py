"""The counter-based generator against SplitMix64 written out in plain Python, and against what randomness should be."""

import itertools

import pytest
import torch
from scipy import stats

from kd_bench.data.randomness import VIEW_STRIDE, derive_seed, integers, key, mix, uniform

KEYS = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2), (2**63, 239, 4), (2**64 - 1, 10**6, VIEW_STRIDE + 3)]


class SplitMix64:
    """Steele, Lea and Flood 2014, figure 16, as published: a state, a step, an output function."""

    def __init__(self, seed: int) -> None:
        self.state = seed % 2**64

    def __call__(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z // 2**30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z // 2**27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z // 2**31)


def test_the_oracle_gives_the_published_first_outputs():
    """The values of Vigna's splitmix64.c and of Java's SplittableRandom for seed 1234567."""
    generator = SplitMix64(1234567)
    assert [generator() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("value", [0, 1, 1234567, 2**63, 2**64 - 1])
def test_mix_is_splitmix64(value):
    assert mix(value) == SplitMix64(value)()


def slow_key(*parts: int) -> int:
    state = 0
    for part in parts:
        state = SplitMix64(state ^ (part % 2**64))()
    return state


@pytest.mark.parametrize("parts", KEYS)
def test_uniform_is_the_top_53_bits_of_splitmix64_over_the_key(parts):
    positions = [0, 1, 2, 63, 49_999, 2**40, 2**62]
    expected = [(SplitMix64(position ^ slow_key(*parts))() >> 11) / 2**53 for position in positions]
    assert uniform(*parts, torch.tensor(positions)).tolist() == expected


@pytest.mark.parametrize("parts", KEYS)
def test_derived_seeds_are_the_top_32_bits_of_the_key(parts):
    assert key(*parts) == slow_key(*parts)
    assert derive_seed(*parts) == slow_key(*parts) >> 32 < 2**32


def test_values_are_frozen():
    """These numbers decide the order and the augmentation of every published run: they may never change."""
    assert uniform(0, 0, 1, torch.arange(3)).tolist() == [0.8513026201288322, 0.1345321208590312, 0.10317913945866874]
    assert integers(3, 7, 2, torch.arange(8), 9).tolist() == [7, 3, 4, 3, 0, 3, 5, 0]


def test_order_and_chunks_do_not_matter():
    index = torch.arange(1000)
    whole = uniform(5, 2, 1, index)
    shuffled = index[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(uniform(5, 2, 1, shuffled), whole[shuffled])
    assert torch.equal(torch.cat([uniform(5, 2, 1, part) for part in index.split(7)]), whole)
    assert torch.equal(uniform(5, 2, 1, index.view(10, 100)), whole.view(10, 100))


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = uniform(1, 2, 3, torch.arange(10))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(uniform(1, 2, 3, torch.arange(10)), first)


@pytest.mark.parametrize("parts", KEYS)
def test_values_are_uniform(parts):
    values = uniform(*parts, torch.arange(20_000)).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations(KEYS, 2)), ids=lambda parts: "-".join(map(str, parts))
)
def test_seeds_epochs_and_streams_are_independent(first, second):
    index = torch.arange(20_000)
    one, other = uniform(*first, index).numpy(), uniform(*second, index).numpy()
    assert abs(stats.pearsonr(one, other).statistic) < 4 / 20_000**0.5
    assert stats.kstest((one - other) % 1, "uniform").pvalue > 0.001


@pytest.mark.parametrize("lag", [1, 2, 64])
def test_neighbouring_samples_are_independent(lag):
    values = uniform(0, 0, 1, torch.arange(20_000)).numpy()
    assert abs(stats.pearsonr(values[lag:], values[:-lag]).statistic) < 4 / 20_000**0.5


def test_consecutive_seeds_give_no_shifted_copies():
    """A seed that merely moved the counter would give seed 1 the numbers of seed 0, one sample later."""
    index = torch.arange(1000)
    seen = torch.cat([uniform(seed, epoch, 1, index) for seed in range(5) for epoch in range(5)])
    assert len(torch.unique(seen)) == len(seen)


@pytest.mark.parametrize("bound", [1, 2, 3, 9, 256])
def test_integers_are_the_scaled_uniforms_and_evenly_spread(bound):
    index = torch.arange(20_000)
    values = integers(0, 0, 2, index, bound)
    assert values.dtype == torch.int64
    assert values.tolist() == [int(value * bound) for value in uniform(0, 0, 2, index).tolist()]
    counts = torch.bincount(values, minlength=bound)
    assert len(counts) == bound
    assert bound == 1 or stats.chisquare(counts.numpy()).pvalue > 0.001
