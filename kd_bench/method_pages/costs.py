"""What a training step of each method costs beside one of ``scratch``, measured on one pair and kept in a file."""

import json
import statistics
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from kd_bench.building import build
from kd_bench.composing import compose_run
from kd_bench.config import RunConfig, check
from kd_bench.evaluation.efficiency import adapter_parameters
from kd_bench.inspection import step_cost

TEACHER, STUDENT, BATCH_SIZE = "resnet20_cifar", "resnet8_cifar", 64
ROUNDS = 3


class Cost(TypedDict):
    """``time`` and ``memory`` of a step are ratios to those of ``scratch``."""

    adapter_parameters: int
    time: float
    memory: float
    threads: int


def measure(method: str) -> Cost:
    """Steps of ``scratch`` and of the method in turns, so that what else the machine does meets both."""
    config, baseline = _config(method), _config("scratch")
    rounds = [(_step(config), _step(baseline)) for _ in range(ROUNDS)]
    step, plain = rounds[0]
    return Cost(
        adapter_parameters=adapter_parameters(build(config).method),
        time=round(statistics.median(own["seconds"] / other["seconds"] for own, other in rounds), 2),
        memory=round(_memory(step) / _memory(plain), 2),
        threads=step["threads"],
    )


@cache
def _config(method: str) -> RunConfig:
    pair = [f"teacher={TEACHER}", f"student={STUDENT}", "dataset=cifar100", f"recipe.batch_size={BATCH_SIZE}"]
    return check(compose_run([*pair, f"method={method}"]))


def _step(config: RunConfig) -> dict[str, Any]:
    return step_cost(config, build(config))


def _memory(step: dict[str, Any]) -> int:
    return int(step["activation_bytes"] + step["weight_bytes"] + step["gradient_bytes"])


def read_costs(path: Path) -> dict[str, Cost]:
    """The costs of a file, none where there is no file yet."""
    costs: dict[str, Cost] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return costs


def write_costs(path: Path, costs: dict[str, Cost]) -> None:
    """One line a method, so that a change shows as one."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(costs[name])}" for name in sorted(costs))
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
