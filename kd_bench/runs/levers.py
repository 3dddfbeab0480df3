"""Levers of speed: what each makes of the time, loss and gradient of a pair's training step, on this machine."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kd_bench.config.schema import RunConfig
from kd_bench.errors import ConfigError
from kd_bench.models.features import Outputs
from kd_bench.runs.preview import TrialStep
from kd_bench.training.cache import packed, unpacked
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import build
from kd_bench.training.teachers import FrozenTeacher

REPEATS = 5
PAYS = 0.95  # ratios above are noise
EXACT = {"precision": "32-true", "channels_last": False, "compile": "none"}
FAST = {"precision": "bf16-mixed", "channels_last": True}
READ = "teacher outputs read"
LEVERS: dict[str, dict[str, Any]] = {
    "exact": {},
    "channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16-mixed"},
    "fast: bf16, channels_last": FAST,
    READ: {},
    f"fast, {READ}": FAST,
}


@dataclass(frozen=True)
class Lever:
    """A way to run a training step, and what it gives.

    Attributes:
        ratio: of its seconds to those of the exact step, the median of repeats that take turns.
        least, most: of these repeats.
        loss_deviation: of the loss from that of the exact step, as a share of it.
        gradient_cosine: of the gradients of all trained parameters.
    """

    name: str
    ratio: float
    least: float
    most: float
    loss_deviation: float
    gradient_cosine: float


def measure(config: RunConfig, repeats: int = REPEATS) -> list[Lever]:
    """Measure the levers on random images; no data set is loaded, and no weights: networks are as they start.

    A step is the forward and backward pass of a batch, without the optimizer. What the user's configuration adds, such
    as ``trainer.compile`` or ``trainer.threads``, is measured last, under its own name.

    Raises:
        ConfigError: as ``build``.
    """
    with torch_threads(config.trainer.threads):
        steps = {name: _step(config, changes, name.endswith(READ)) for name, changes in LEVERS.items()}
        made = {name: step for name, step in steps.items() if step is not None}
        if (asked := {name: getattr(config.trainer, name) for name in EXACT}) not in [
            EXACT | change for change in LEVERS.values()
        ]:
            made["as configured"] = _Step(config, asked)
        results = {name: step.result() for name, step in made.items()}
        seconds = _in_turns({name: step.seconds for name, step in made.items()}, repeats)
    return [_lever(name, seconds, results) for name in made]


def _step(config: RunConfig, changes: dict[str, Any], reads: bool) -> "_Step | None":
    """Make the step of a lever; None where the pair or the machine does not have it."""
    try:
        step = _Step(config, EXACT | changes)
    except ConfigError:
        if changes:
            return None
        raise
    return step if not reads or step.remember() else None


class _Step:
    """A training step under changed keys of ``trainer``, on images and weights that are the same for all of them."""

    def __init__(self, config: RunConfig, changes: dict[str, Any]) -> None:
        trainer = config.trainer.model_copy(update=changes)
        config = config.model_copy(update={"trainer": trainer})
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self._trial = TrialStep(config, build(config))

    def remember(self) -> bool:
        """Read the teacher's outputs from now on, if the method tells which it reads; say whether it does."""
        module = self._trial.module
        teacher, reads = module.teacher, module.method.reads
        if reads is None or not isinstance(teacher, FrozenTeacher) or teacher.changes:
            return False
        module.cache = _Remembered("stages" in reads)  # type: ignore[assignment]  # as much of it as a step asks for
        return True

    def result(self) -> tuple[float, Tensor]:
        """Return loss and gradient of the first step."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss = self._trial.loss()
        found = [each.grad.flatten() for each in self._trial.module.parameters() if each.grad is not None]
        return loss, torch.cat(found).double()

    def seconds(self) -> float:
        """Return the seconds of a step on an idle machine: no more than the processor was busy with it."""
        return self._trial.seconds()


class _Remembered:
    """A stand-in for a cache of teacher outputs that has every block at hand."""

    def __init__(self, stages: bool) -> None:
        self._stages, self._kept = stages, dict[str, Tensor]()

    def outputs(self, step: int, images: Tensor, compute: Callable[[Tensor], Outputs]) -> Outputs:
        """Return the outputs of the first call."""
        if not self._kept:
            self._kept = packed(compute(images), "", self._stages)
        return unpacked(self._kept, "", images.device)


def _in_turns(steps: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    for step in steps.values():
        step()  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(step())
    return seconds


def _lever(name: str, seconds: dict[str, list[float]], results: dict[str, tuple[float, Tensor]]) -> Lever:
    exact_loss, exact_gradient = results["exact"]
    loss, gradient = results[name]
    ratios = [own / exact for own, exact in zip(seconds[name], seconds["exact"], strict=True)]
    cosine = torch.nn.functional.cosine_similarity(gradient, exact_gradient, dim=0)
    deviation = abs(loss - exact_loss) / max(abs(exact_loss), 1e-12)
    return Lever(name, statistics.median(ratios), min(ratios), max(ratios), deviation, float(cosine))


def as_table(levers: list[Lever]) -> str:
    """Write the levers as a table for a terminal, with a sentence on what pays."""
    lines = [f"{'lever':30}{'time of a step':>24}{'loss':>12}{'gradient cosine':>18}"]
    lines += [
        f"{each.name:30}{f'{each.ratio:.2f} ({each.least:.2f}-{each.most:.2f})':>24}"
        f"{f'{each.loss_deviation:.3%}':>12}{each.gradient_cosine:>18.5f}"
        for each in levers
    ]
    return "\n".join([*lines, "", verdict(levers)])


def verdict(levers: list[Lever]) -> str:
    """Say what pays: which lever of those that change numbers, and whether a cache does."""
    changing = [each for each in levers if not each.name.endswith(READ) and each.name != "exact"]
    best = min(changing, key=lambda each: each.ratio)
    said = [
        f"{best.name} pays: a step takes {best.ratio:.2f} of the exact one; its numbers are others, and boards keep "
        "them apart"
        if best.ratio <= PAYS
        else "no lever that changes numbers pays here"
    ]
    reads = [each for each in levers if each.name == READ]
    if not reads:
        said.append("teacher outputs of this method cannot be shared")
    elif reads[0].ratio <= PAYS:
        said.append(f"runs that share teacher outputs take {reads[0].ratio:.2f}, and their numbers stay the same")
    else:
        said.append("sharing teacher outputs saves nothing")
    return "; ".join(said) + "."
