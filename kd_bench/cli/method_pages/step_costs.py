"""The measured costs of the methods, kept in a file beside this one."""

import json
from pathlib import Path
from typing import TypedDict

TEACHER, STUDENT, BATCH_SIZE = "resnet20_cifar", "resnet8_cifar", 64
FILE = Path(__file__).with_name("costs.json")


class Measured(TypedDict):
    """Numbers of a training step; ``time`` and ``memory`` are ratios to those of ``scratch``."""

    adapter_parameters: int
    time: float
    memory: float
    threads: int


class Cost(Measured, total=False):
    """Cost of a training step, with the networks where they are others than ``TEACHER`` and ``STUDENT``."""

    networks: str


def read_costs(path: Path = FILE) -> dict[str, Cost]:
    """Read the costs of a file by method; there are none where there is no file yet."""
    costs: dict[str, Cost] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return costs


def write_costs(costs: dict[str, Cost], path: Path = FILE) -> None:
    """Write one line for each method, so that a change shows as one."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(costs[name])}" for name in sorted(costs))
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
