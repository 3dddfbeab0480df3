"""What a training step of each method costs beside one of ``scratch``, measured on one pair and kept in a file."""

import json
import statistics
from functools import cache
from pathlib import Path
from typing import TypedDict

import torch

from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.evaluation.efficiency import adapter_parameters
from kd_bench.runs.preview import TrialStep
from kd_bench.training.pair import build

TEACHER, STUDENT, BATCH_SIZE = "resnet20_cifar", "resnet8_cifar", 64
ROUNDS = 7


class Cost(TypedDict):
    """``time`` and ``memory`` of a step are ratios to those of ``scratch``."""

    adapter_parameters: int
    time: float
    memory: float
    threads: int


def measure(method: str) -> Cost:
    """Steps of the method and of ``scratch`` in turns, so that what else the machine does meets both."""
    config, baseline = _config(method), _config("scratch")
    pair = build(config)
    step, plain = TrialStep(config, pair), TrialStep(baseline, build(baseline))
    memory = sum(step.memory().values()) / sum(plain.memory().values())
    ratios = [step.seconds() / plain.seconds() for _ in range(ROUNDS)]
    return Cost(
        adapter_parameters=adapter_parameters(pair.method),
        time=round(statistics.median(ratios), 2),
        memory=round(memory, 2),
        threads=torch.get_num_threads(),
    )


@cache
def _config(method: str) -> RunConfig:
    pair = [f"teacher={TEACHER}", f"student={STUDENT}", "dataset=cifar100", f"recipe.batch_size={BATCH_SIZE}"]
    return check(compose_run([*pair, f"method={method}"]))


def read_costs(path: Path) -> dict[str, Cost]:
    """The costs of a file, none where there is no file yet."""
    costs: dict[str, Cost] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return costs


def write_costs(path: Path, costs: dict[str, Cost]) -> None:
    """One line a method, so that a change shows as one."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(costs[name])}" for name in sorted(costs))
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
