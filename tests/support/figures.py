"""Figures for docs/reliability.md: what tests measured, kept where that is asked for."""

import json
import os
import platform
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

FIGURES = Path(__file__).parents[2] / "docs" / "reliability.json"
ASKED_FOR = "KD_BENCH_FIGURES"  # set it, and the figures of the tests that run replace those of docs/reliability.json
PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "wandb")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, dict[str, Any]], None]:
    """``figure("R1", {"kills during a save": 200, "unloadable": 0})``: printed, and kept where that is asked for."""

    def keep(promise: str, numbers: dict[str, Any]) -> None:
        print("\n" + ", ".join(f"{name}: {number}" for name, number in numbers.items()))
        if ASKED_FOR in os.environ:
            _keep(request.node.nodeid, {"promise": promise, "numbers": numbers, **_circumstances()})

    return keep


def _keep(test: str, entry: dict[str, Any]) -> None:
    with FileLock(FIGURES.with_suffix(".lock")):
        figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        figures[test] = entry
        FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1, ensure_ascii=False) + "\n")
    FIGURES.with_suffix(".lock").unlink(missing_ok=True)


def _circumstances() -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
