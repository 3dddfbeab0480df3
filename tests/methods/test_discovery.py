"""What must exist for each method: found by looking, not by a list to keep."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from golden_rows import ORACLES, ROWS, VARIANTS
from omegaconf import OmegaConf

import kd_bench
from kd_bench.cli.scaffold import PAPER, UNPUBLISHED
from kd_bench.config.check import check
from kd_bench.config.paths import CONF
from kd_bench.methods.base import Method
from kd_bench.training.pair import build

from .pairs import at_home

PACKAGE = Path(kd_bench.__file__).parent
CHECKOUT = Path(__file__).parents[2]
METHODS = sorted(
    path.stem
    for path in (PACKAGE / "methods").glob("*.py")
    if path.stem not in ("__init__", "base", "combined", "losses")
)
CHOICES = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))


def gaps(method: str) -> list[str]:
    """What a method's module lacks: its choice, and what proves its numbers."""
    module, choice = f"kd_bench/methods/{method}.py", CONF / "method" / f"{method}.yaml"
    found = []
    if not choice.is_file():
        found.append(f"{module} has no choice: conf/method/{method}.yaml is missing")
    elif not str(OmegaConf.load(choice).get("_target_")).startswith(f"kd_bench.methods.{method}."):
        found.append(f"conf/method/{method}.yaml: its _target_ is no class of {module}")
    if method not in ROWS and method not in ORACLES:
        found.append(f"{module} has no row in ROWS of tests/golden_rows/, and no test in its ORACLES")
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_its_choice_and_its_row(method):
    assert gaps(method) == []


def test_what_a_new_method_lacks_is_named():
    assert gaps("dkd_of_tomorrow") == [
        "kd_bench/methods/dkd_of_tomorrow.py has no choice: conf/method/dkd_of_tomorrow.yaml is missing",
        "kd_bench/methods/dkd_of_tomorrow.py has no row in ROWS of tests/golden_rows/, and no test in its ORACLES",
    ]
    assert gaps("combined")[0].endswith("conf/method/combined.yaml is missing")


def test_no_row_is_left_of_a_method_that_is_gone():
    assert sorted({*ROWS, *ORACLES} - {*METHODS, *VARIANTS}) == []
    assert sorted(set(VARIANTS.values()) - set(CHOICES)) == []


@pytest.mark.parametrize(("method", "test"), ORACLES.items(), ids=ORACLES.keys())
def test_an_oracle_exists(method, test):
    path, _, name = test.partition("::")
    assert (CHECKOUT / path).is_file(), f"ORACLES[{method!r}] names {path}, which is missing"
    assert f"def {name}(" in (CHECKOUT / path).read_text(encoding="utf-8"), f"{path} has no test {name}"


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_composes_passes_the_check_and_builds(compose, choice):
    config = check(at_home(compose, choice))
    assert config.names.method == choice
    method = build(config).method
    assert f"{type(method).__module__}.{type(method).__name__}" == config.method["_target_"]
    assert re.search(PAPER, method.paper) or method.paper in ("no distillation", UNPUBLISHED)
    assert method.family


@pytest.mark.parametrize("module", [*METHODS, "combined"])
def test_a_method_says_what_it_is(module):
    found: list[Any] = [
        member
        for member in vars(importlib.import_module(f"kd_bench.methods.{module}")).values()
        if isinstance(member, type) and issubclass(member, Method) and member.__module__.endswith(f".{module}")
    ]
    assert found, f"kd_bench/methods/{module}.py has no Method"
    for member in found:
        assert vars(member).get("__doc__"), f"{member.__name__} has no docstring"
        assert member.family, f"{member.__name__} has no family"
