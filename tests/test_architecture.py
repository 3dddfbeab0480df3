"""The house: ten rooms, imports that point one way, names that stand for one thing. Found by looking at the files."""

import ast
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kd_bench

PACKAGE = Path(kd_bench.__file__).parent
# Each room may import those on the levels before its own.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("config",),
    ("data", "results"),
    ("models",),
    ("methods",),
    ("training",),
    ("evaluation",),
    ("runs",),
    ("deploy",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
ROOT_FILES = {"__init__.py", "__main__.py", "py.typed", "errors.py"}
DATA_IN_A_WHEEL = {"conf", "experiments"}  # folders that an installed package has beside its rooms
# Why a module may have the name of one in another room.
SAME_NAME = {
    "cache": "a command is named after what it does",
    "check": "a command is named after what it does, here config/check.py on records",
    "evaluate": "a command is named after what it does",
    "profile": "a command is named after what it does, here the plot of performance profiles",
    "publish": "a command is named after what it does",
    "trace": "a command is named after what it does",
    "verify": "a command is named after what it does",
}
# Why a module outside of `cli`, whose commands must not wait for each other's imports, imports inside a function.
LAZY = {
    "kd_bench.data.cifar": "torchvision, which no other data set needs",
    "kd_bench.data.digits": "scikit-learn, which no other data set needs",
    "kd_bench.data.fashion_mnist": "torchvision, which no other data set needs",
    "kd_bench.deploy.timing": "torch or onnxruntime: a process whose start is measured loads what its files need",
    "kd_bench.runs.studies.scheduling": "torch: the process that schedules runs needs none",
    "kd_bench.runs.studies.search": "optuna, an extra",
    "kd_bench.runs.studies.sweep": "torch: a mistake in a sweep is told before it is there",
    "kd_bench.training.trackers": "wandb and tensorboard: only the tracker that is asked for",
}
HEAVY = ("torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "wandb")
LONGEST_FUNCTION, LONGEST_FILE = 50, 400


@cache
def modules() -> dict[str, Path]:
    """Every module of the package with its file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Names that a module imports, at its top or in a function, but not for type checking only.

    ``from a.b import c`` counts as ``a.b.c`` where that is a module, and else as ``a.b``.
    """
    names: set[str] = set()
    for node in at_run_time(tree(module)):
        names |= imported_by(node)
    return frozenset(names)


def imported_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    assert node.level == 0, "imports are absolute"
    origin = str(node.module)
    return {each if (each := f"{origin}.{alias.name}") in modules() else origin for alias in node.names}


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for child in node.orelse if for_types else ast.iter_child_nodes(node):
        yield from at_run_time(child)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name in modules() and name != "kd_bench"}


def room(module: str) -> str:
    return module.split(".")[1]


def folder(module: str) -> str:
    return modules()[module].parent.relative_to(PACKAGE).as_posix()


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that lead to each other."""
    reach = {node: reached(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reach[node] if node in reach.get(other, ()))) for node in graph}
    return sorted([*group] for group in groups if group)


def reached(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


IN_ROOMS = sorted(name for name in modules() if name not in ("kd_bench", "kd_bench.__main__"))


def test_the_modules_and_their_imports_are_found():
    assert {"kd_bench.errors", "kd_bench.methods.kd", "kd_bench.results.leaderboard.board"} <= modules().keys()
    assert {"torch", "kd_bench.methods.base"} <= imports("kd_bench.methods.kd")
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]


def test_the_package_has_ten_rooms_and_nothing_beside_them():
    beside = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"} - ROOT_FILES - DATA_IN_A_WHEEL
    assert sorted(beside - set(LEVEL)) == []
    assert sorted(set(LEVEL) - beside - {"errors"}) == []


@pytest.mark.parametrize("module", IN_ROOMS)
def test_imports_point_one_way(module):
    upward = [
        name for name in own_imports(module) if room(name) != room(module) and LEVEL[room(name)] >= LEVEL[room(module)]
    ]
    assert sorted(upward) == [], f"the rooms that {room(module)} may import: {LEVELS[: LEVEL[room(module)]]}"


def test_no_file_leads_back_to_itself():
    assert circles({name: own_imports(name) for name in modules()}) == []


def test_no_folder_leads_back_to_itself():
    graph: dict[str, set[str]] = {}
    for module in IN_ROOMS:
        others = {folder(name) for name in own_imports(module)} - {folder(module), "."}
        graph.setdefault(folder(module), set()).update(others)
    assert circles(graph) == []


def test_a_name_stands_for_one_module():
    rooms: dict[str, set[str]] = {}
    for module in IN_ROOMS:
        if not modules()[module].name.startswith("__"):
            rooms.setdefault(module.rpartition(".")[2], set()).add(room(module))
    assert {name: found for name, found in rooms.items() if len(found) > 1 and name not in SAME_NAME} == {}
    assert [name for name in SAME_NAME if len(rooms.get(name, ())) < 2] == [], "these need no reason any more"


def test_results_lead_to_no_torch():
    graph = {name: imports(name) | {name.rpartition(".")[0]} for name in modules()}
    for module in (name for name in IN_ROOMS if room(name) in ("errors", "config", "results")):
        heavy = sorted(name for name in reached(graph, module) if name.split(".")[0] in HEAVY)
        assert heavy == [], f"{module} leads to {heavy}"


def test_imports_inside_functions_spare_an_import():
    found = set()
    for module in (name for name in IN_ROOMS if room(name) != "cli"):
        for function in ast.walk(tree(module)):
            if isinstance(function, ast.FunctionDef) and any(map(imported_by, ast.walk(function))):
                found.add(module)
    assert sorted(found) == sorted(LAZY)


def test_lightning_is_imported_under_one_name():
    """``lightning`` and ``pytorch_lightning`` are two packages whose classes do not mix."""
    assert [name for name in modules() for imported in imports(name) if imported.split(".")[0] == "lightning"] == []


@pytest.mark.parametrize("module", IN_ROOMS)
def test_files_and_functions_are_short(module):
    assert len(modules()[module].read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    lengths = {
        node.name: int(node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", IN_ROOMS)
def test_public_classes_and_functions_are_documented(module):
    """A method that overrides a documented one is documented by it."""
    found = importlib.import_module(module)
    assert found.__doc__, f"{module} has no docstring"
    lacking = []
    for name, member in public(vars(found)):
        if getattr(member, "__module__", None) != module:
            continue
        own = member.__doc__ if inspect.isfunction(member) else vars(member).get("__doc__")
        lacking += [] if own else [name]
        if inspect.isclass(member):
            lacking += [f"{name}.{method}" for method, each in public(vars(member)) if not documented(member, each)]
    assert lacking == []


def public(members: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Classes, functions and properties whose names do not begin with an underscore."""
    kinds = (type, property, classmethod, staticmethod)
    return [
        (name, member)
        for name, member in members.items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, kinds))
    ]


def documented(owner: type, member: Any) -> bool:
    name = getattr(member, "__name__", "") or getattr(getattr(member, "fget", None), "__name__", "")
    return bool(inspect.getdoc(getattr(owner, name, member)))


@pytest.mark.parametrize("module", IN_ROOMS)
def test_docstrings_begin_with_their_subject_or_verb(module):
    nodes = (ast.Module, ast.FunctionDef, ast.ClassDef)
    texts = [ast.get_docstring(node) or "-" for node in ast.walk(tree(module)) if isinstance(node, nodes)]
    assert [text.splitlines()[0] for text in texts if text.split()[0] in ("Of", "What", "By", "How")] == []
