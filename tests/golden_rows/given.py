"""What the rows share: from the arrays of a case to what a method takes."""

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.models.features import Outputs

Case = dict[str, Any]
Arrays = dict[str, Tensor]
Row = Callable[[Case, Arrays], dict[str, Tensor]]


class Settings(Mapping[str, Any]):
    """The settings of a case. ``read`` has the names of those that a row asked for: what is left, it does not know."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given, self.read = given, set[str]()

    def __getitem__(self, name: str) -> Any:
        value = self.given[name]
        self.read.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


def only(case: Case, name: str, *allowed: Any) -> None:
    """Fail, naming the setting, where a case has a value that the code, or the row, does not have."""
    value = case["hyperparameters"].get(name, allowed[0])
    if value not in allowed:
        words = " or ".join(map(repr, allowed))
        reason = f"{case['id']}: {name}={value!r} is no setting of kd_bench's {case['method']!r}: it has {words}"
        pytest.fail(reason, pytrace=False)


def described(case: Case, *names: str) -> None:
    """Settings that say what the arrays show, or that have no effect in the reference."""
    for name in names:
        case["hyperparameters"].get(name)


def numbered(arrays: Arrays, prefix: str) -> list[Tensor]:
    """The arrays ``prefix0``, ``prefix1``, ..."""
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{i}"] for i in range(count)]


def adapt(method: Method, student: list[Tensor], teacher: list[Tensor]) -> None:
    """Let a method build its adapters for networks with these stages."""
    spec = DataSpec(10, (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    method.build_adapters(network_with(student), network_with(teacher), spec)


def network_with(stages: list[Tensor]) -> Any:
    shapes = [tuple(stage.shape[1:]) for stage in stages]
    return SimpleNamespace(name="given", stage_shapes=shapes, stage_pairs=None)


def outputs(stages: list[Tensor]) -> Outputs:
    """Outputs of which only the stages matter."""
    logits = stages[0].new_zeros(len(stages[0]), 2)
    return Outputs(logits, stages, stages[-1].mean(dim=(2, 3)))


def on_logits(logits: Tensor) -> Outputs:
    """Outputs of which only the logits matter."""
    return Outputs(logits, [], logits)


def run(
    method: Method,
    student: Outputs,
    teacher: Outputs | None = None,
    labels: Tensor | None = None,
    weights: Arrays | None = None,
) -> dict[str, Tensor]:
    """The terms of a method, its adapters holding ``weights``."""
    size = len(student.logits)
    targets = torch.zeros(size, dtype=torch.long) if labels is None else labels
    batch = Batch(torch.zeros(size, 3, 1, 1), targets, torch.arange(size))
    return functional_call(method, weights or {}, (student, teacher, batch, Progress(0, 1, 0, 1)))


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
