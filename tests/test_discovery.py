"""What must exist for each method, and which way imports may point: found by looking, not by a list to keep."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from golden_rows import ORACLES, ROWS, VARIANTS
from omegaconf import OmegaConf

import kd_bench
from kd_bench.building import build
from kd_bench.config import check
from kd_bench.methods.base import Method
from kd_bench.paths import CONF
from kd_bench.scaffold import PAPER, UNPUBLISHED

PACKAGE = Path(kd_bench.__file__).parent
CHECKOUT = Path(__file__).parent.parent
METHODS = sorted(
    path.stem for path in (PACKAGE / "methods").glob("*.py") if path.stem not in ("__init__", "base", "combined")
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
    config = check(compose(f"method={choice}"))
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


# Imports.


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Names that a module imports, at its top or in a function, but not for type checking only.

    ``from a.b import c`` counts as ``a.b`` and ``a.b.c``, since ``c`` may be a module.
    """
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for child in node.orelse if for_types else ast.iter_child_nodes(node):
        yield from at_run_time(child)


def reached(module: str) -> dict[str, str]:
    """Everything that importing ``module`` may lead to, each with the module that imports it."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        parents = {current.rpartition(".")[0]} & modules().keys()
        for name in imports(current) | parents:
            if name not in found and name != module:
                found[name] = current
                waiting += [name] if name in modules() else []
    return found


def below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules_of(*packages: str) -> list[str]:
    return sorted(name for name in modules() if below(name, packages))


def test_the_modules_are_found():
    assert {"kd_bench", "kd_bench.losses", "kd_bench.methods.kd", "kd_bench.leaderboard"} <= modules().keys()
    assert "torch.nn" in imports("kd_bench.losses")
    assert "kd_bench.methods.base" in reached("kd_bench.train")
    assert reached("kd_bench.methods.kd")["torch.nn.functional"]


HEAVY = ("torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "safetensors", "wandb")
DIRECTIONS = {
    "losses": (("kd_bench.methods", "kd_bench.distillation", "kd_bench.train"), ["kd_bench.losses"]),
    "methods": (
        tuple(f"kd_bench.{name}" for name in ("distillation", "train", "runs", "evaluation", "leaderboard")),
        modules_of("kd_bench.methods"),
    ),
    "models": (("kd_bench.methods", "kd_bench.distillation", "kd_bench.train"), modules_of("kd_bench.models")),
    "data": (("kd_bench.methods", "kd_bench.models", "kd_bench.distillation"), modules_of("kd_bench.data")),
    "distillation": (("kd_bench.train",), ["kd_bench.distillation"]),
    "leaderboard": (HEAVY, modules_of("kd_bench.leaderboard", "kd_bench.statistics")),
}


@pytest.mark.parametrize(("forbidden", "module"), [(f, name) for f, names in DIRECTIONS.values() for name in names])
def test_imports_point_one_way(module, forbidden):
    """Not even by way of other modules."""
    found = reached(module)
    wrong = [f"{name}, imported by {found[name]}" for name in sorted(found) if below(name, forbidden)]
    assert wrong == [], f"{module} must not lead to {', '.join(forbidden)}"


def test_lightning_is_imported_under_one_name():
    """``lightning`` and ``pytorch_lightning`` are two packages whose classes do not mix."""
    wrong = [name for name in modules() for imported in imports(name) if below(imported, ("lightning",))]
    assert wrong == []
