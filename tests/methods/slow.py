"""Formulas written out one number at a time: what the tests compare with."""

import math
from collections.abc import Sequence

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

Rows = Sequence[Sequence[float]]
reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=40)
SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 6))


def softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    largest = max(logits)
    powers = [math.exp((value - largest) / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def log_softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    largest = max(logits)
    rest = math.log(sum(math.exp((value - largest) / temperature) for value in logits))
    return [(value - largest) / temperature - rest for value in logits]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def entropy(logits: Rows) -> float:
    """Of the softmax of each row, mean over the rows."""
    return mean([-math.fsum(p * math.log(p) for p in softmax(row)) for row in logits])


def kl(student: Rows, teacher: Rows, temperature: float = 1.0) -> float:
    """KL(teacher || student), summed over classes, mean over samples."""
    return mean(
        [
            math.fsum(
                p * (theirs - ours)
                for p, theirs, ours in zip(
                    softmax(other, temperature),
                    log_softmax(other, temperature),
                    log_softmax(own, temperature),
                    strict=True,
                )
            )
            for own, other in zip(student, teacher, strict=True)
        ]
    )


def cross_entropy(logits: Rows, labels: Sequence[int]) -> float:
    return mean([-log_softmax(row)[label] for row, label in zip(logits, labels, strict=True)])


def random_logits(shape: tuple[int, int], seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_labels(shape: tuple[int, int], seed: int) -> Tensor:
    return torch.randint(shape[1], (shape[0],), generator=torch.Generator().manual_seed(seed))
