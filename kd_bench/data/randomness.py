"""Random numbers as a function of (seed, epoch, stream, sample index), on any device and in any order.

A counter-based generator (SplitMix64's output function, Steele et al. 2014, over a mixed key): no state to save, so a
resumed run, another worker layout or a cached teacher output sees the same order and the same augmentation.
"""

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

# Streams: independent uses of randomness for one sample in one epoch. A number, once used, keeps its meaning.
ORDER, CROP_ROW, CROP_COLUMN, FLIP, PARTNER, AREA, RATIO = 1, 2, 3, 4, 5, 6, 7
MIXED, SHARE, WHICH, MIX_ROW, MIX_COLUMN = 11, 12, 13, 14, 15  # of a batch, by its first sample
WINDOW = 100  # and the 39 after it: a window of the photograph as it is stored
STEP, STEP_STRIDE = 200, 32  # the streams of a view's step number n start at STEP + n * STEP_STRIDE
VIEW_STRIDE = 1000  # the streams of view v start at v * VIEW_STRIDE


def mix(value: int) -> int:
    """Return SplitMix64's output for state ``value``: a bijection of 64-bit integers that scatters them."""
    z = (value + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)


def key(*parts: int) -> int:
    """Make one 64-bit key of several integers; order matters."""
    state = 0
    for part in parts:
        state = mix(state ^ (part & _MASK))
    return state


def derive_seed(*parts: int) -> int:
    """Return a seed for torch's, numpy's and Python's generators, in [0, 2**32)."""
    return key(*parts) >> 32


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift right logically: torch's shift is arithmetic."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def uniform(seed: int, epoch: int, stream: int, index: Tensor) -> Tensor:
    """Return one number in [0, 1) per sample: float64, of the shape of ``index`` (int64)."""
    z = index ^ _signed(key(seed, epoch, stream))
    z = z + _signed(_GAMMA)
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    z = z ^ _shifted(z, 31)
    return _shifted(z, 11).to(torch.float64) * 2.0**-53


def integers(seed: int, epoch: int, stream: int, index: Tensor, bound: int) -> Tensor:
    """Return one integer in [0, bound) per sample: int64."""
    return (uniform(seed, epoch, stream, index) * bound).long()
