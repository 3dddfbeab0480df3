"""The meter of loss terms, which notices where one is no longer finite."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kd_bench.errors import Diverged


class Meter:
    """Sums of detached loss terms, read out by interval, since reading a number out costs time.

    Args:
        average: averages values that are read out over all processes that train together.
    """

    def __init__(self, average: Callable[[Tensor], Tensor]) -> None:
        self._average = average
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._epoch: dict[str, float] = {}
        self._epoch_steps = 0
        self._shown: dict[str, float] = {}  # sums and steps of the epoch up to the last call of `recent`
        self._shown_steps = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the loss terms of a step."""
        for name, value in losses.items():
            detached = value.detach()
            self._sums[name] = self._sums[name] + detached if name in self._sums else detached
        self._steps += 1

    def flush(self, step: int) -> None:
        """Move the sums since the last flush to those of the epoch.

        Raises:
            Diverged: one of them is not finite; NaN in a sum stays NaN, so no bad step can hide.
        """
        self._epoch, self._epoch_steps = self._totals(step)
        self._sums, self._steps = {}, 0

    def recent(self, step: int) -> dict[str, float]:
        """Return means over the steps of this epoch since the last call; at least one has been added.

        Raises:
            Diverged: as ``flush``.
        """
        sums, steps = self._totals(step)
        means = {
            name: (value - self._shown.get(name, 0.0)) / (steps - self._shown_steps) for name, value in sums.items()
        }
        self._shown, self._shown_steps = sums, steps
        return _with_loss(means)

    def _totals(self, step: int) -> tuple[dict[str, float], int]:
        """Return the sums and the number of all steps of the epoch."""
        if not self._steps:
            return self._epoch, self._epoch_steps
        values = self._average(torch.stack([value.double() for value in self._sums.values()]))
        sums = dict(zip(self._sums, values.tolist(), strict=True))
        bad = sorted(name for name, value in sums.items() if not math.isfinite(value))
        if bad:
            raise Diverged(
                f"loss term {', '.join(bad)} is not finite within the {self._steps} steps before step {step}"
            )
        return {
            name: self._epoch.get(name, 0.0) + value for name, value in sums.items()
        }, self._epoch_steps + self._steps

    def epoch(self) -> dict[str, float]:
        """Return means over the epoch, which starts anew."""
        means = {name: value / self._epoch_steps for name, value in self._epoch.items()}
        self._epoch, self._epoch_steps = {}, 0
        self._shown, self._shown_steps = {}, 0
        return _with_loss(means)


def _with_loss(means: dict[str, float]) -> dict[str, float]:
    return {"loss": sum(means.values()), **means}
