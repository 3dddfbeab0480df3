"""Logits and targets for the tests of metrics, and slow formulas that several of them use."""

import numpy as np
import torch

BINS = 15
PROBLEMS = [(300, 10, 1.0), (300, 10, 6.0), (257, 100, 2.0), (200, 2, 1.0), (50, 3, 0.1), (1, 6, 1.0)]


def problem(samples: int, classes: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of a model that is right more often than not."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (samples,), generator=generator)
    logits = scale * torch.randn(samples, classes, generator=generator)
    logits[torch.arange(samples), targets] += scale
    return logits, targets


def softmax(logits: torch.Tensor) -> np.ndarray:
    values = logits.double().numpy()
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def with_confidence(confidences: np.ndarray, classes: int) -> torch.Tensor:
    """Logits whose softmax gives class 0 these probabilities and shares the rest evenly."""
    rest = np.log((1 - confidences) / (classes - 1))
    return torch.from_numpy(np.column_stack([np.log(confidences), *[rest] * (classes - 1)]))


def one_hot(classes: list[int], of: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), of).float()
