"""The text of the pages."""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from types import ModuleType
from typing import Any

from kd_bench.cli.catalogue import catalogue
from kd_bench.cli.method_pages.docstrings import docstring, markdown
from kd_bench.cli.method_pages.settings import header, hyperparameters, taken_over, written
from kd_bench.cli.method_pages.step_costs import BATCH_SIZE, STUDENT, TEACHER, Cost
from kd_bench.methods.base import Method
from kd_bench.results.text.escape import for_markdown
from kd_bench.runs.preview import TRIAL_SAMPLES

INDEX = "README.md"
MADE = "<!-- Made by `python -m kd_bench.cli.method_pages`: what is changed here is lost. -->"
ABOUT = f"""One page a method: its loss, hyperparameters and cost. `kd-bench list methods` prints the same in short,
and a method of your own begins with `kd-bench new-method`.

Time and memory of a training step are ratios to one of `scratch` in the same run: {TEACHER} to {STUDENT}, 32x32
images of 100 classes, batches of {BATCH_SIZE}, float32 on a CPU. Time is that of the passes through the networks and of
the loss, without loading images and without the optimizer. Memory is that of activations, weights (the teacher's too)
and gradients. Both are of the main stage, with memories over a training set of {TRIAL_SAMPLES:,} samples. Adapters are
counted in parameters that are trained beside the student's and thrown away after training."""


def pages(costs: Mapping[str, Cost]) -> dict[str, str]:
    """The text of every page by its file's name."""
    entries = catalogue()
    return {INDEX: _index(entries, costs)} | {
        f"{entry['name']}.md": _page(entry, costs[entry["name"]]) for entry in entries
    }


def _index(entries: list[dict[str, Any]], costs: Mapping[str, Cost]) -> str:
    blocks = [MADE, "# Methods", ABOUT]
    by_family = sorted(entries, key=lambda entry: (entry["family"], entry["name"]))
    for family, members in groupby(by_family, key=lambda entry: entry["family"]):
        rows = [
            [
                _link(entry["name"]),
                markdown(header(entry["name"]), cell=True),
                _needs(entry),
                *_numbers(costs[entry["name"]]),
            ]
            for entry in members
        ]
        blocks += [f"## {family}", _table(["method", "", "needs", "time", "memory", "adapters"], rows)]
    return _text(blocks)


def _page(entry: dict[str, Any], cost: Cost) -> str:
    name = entry["name"]
    blocks = [MADE, f"# {name}", markdown(header(name)), "\n".join(_facts(entry))]
    blocks += ["## Loss", *_loss(name), "## Hyperparameters", _hyperparameters(name), "## Cost", _cost(cost)]
    return _text(blocks)


def _hyperparameters(name: str) -> str:
    rows = [
        [
            f"`{row.name}`",
            f"`{row.default}`",
            *(markdown(text, cell=True) for text in (row.allowed, row.meaning, row.note)),
        ]
        for row in hyperparameters(name)
    ]
    return _table(["below `method`", "default", "range", "meaning", "note"], rows) if rows else "None."


def _cost(cost: Cost) -> str:
    time, memory, adapters = _numbers(cost)
    return (
        f"A step takes {time} times as long as one of `scratch` (threads: {cost['threads']}) and {memory} times its "
        f"memory; the adapters have {adapters} parameters. [What is measured]({INDEX})."
    )


def _facts(entry: dict[str, Any]) -> Iterator[str]:
    name = entry["name"]
    module = _module(name).__name__.replace(".", "/")
    files = [f"conf/method/{name}.yaml", f"{module}.py"]
    yield f"- Family: {entry['family']}"
    yield f"- Paper: {_paper(entry['paper'])}"
    yield f"- Needs: {_needs(entry)}"
    yield f"- Run: `kd-bench train method={name}`"
    yield f"- Files: {', '.join(f'[`{file}`](../../{file})' for file in files)}"


def _needs(entry: dict[str, Any]) -> str:
    return for_markdown(", ".join(entry["requires"]))


def _paper(text: str) -> str:
    return re.sub(r"arXiv:([\d.]+\d)", r"[\g<0>](https://arxiv.org/abs/\1)", for_markdown(text))


def _loss(name: str) -> Iterator[str]:
    parts = taken_over(name)
    if len(parts) > 1:
        yield f"The terms of {' and '.join(map(_link, parts.values()))} in one sum; terms of one name are added up."
        return
    module = _module(name)
    yield from map(markdown, docstring(module).paragraphs)
    for base in parts.values():
        yield f"This is {_link(base)} with other values."
    yield from map(markdown, docstring(getattr(module, _target(name).rpartition(".")[2])).paragraphs)
    for member in _members(module):
        yield from _described(member)


def _described(member: Any) -> Iterator[str]:
    """A function or module of which the loss is made."""
    found = docstring(member)
    arguments = "" if isinstance(member, type) else f"({', '.join(inspect.signature(member).parameters)})"
    yield f"### `{member.__name__}{arguments}`"
    yield from map(markdown, found.paragraphs)
    lines = [f"- `{argument}`: {markdown(meaning)}" for argument, meaning in found.arguments.items()]
    if found.returns:
        lines.append(f"- returns {markdown(found.returns)}")
    if lines:
        yield "\n".join(lines)


def _members(module: ModuleType) -> list[Any]:
    """The public functions and classes of a method's module but the methods, as far as they are described."""
    return [
        member
        for name, member in vars(module).items()
        if (inspect.isfunction(member) or (isinstance(member, type) and not issubclass(member, Method)))
        and member.__module__ == module.__name__
        and member.__doc__
        and not name.startswith("_")
    ]


def _target(name: str) -> str:
    return written(name)["_target_"].value


def _module(name: str) -> ModuleType:
    return importlib.import_module(_target(name).rpartition(".")[0])


def _link(name: str) -> str:
    return f"[{for_markdown(name)}]({name}.md)"


def _numbers(cost: Cost) -> list[str]:
    return [f"{cost['time']:.2f}", f"{cost['memory']:.2f}", f"{cost['adapter_parameters']:,}"]


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(blocks: Iterable[str]) -> str:
    return "\n\n".join(blocks) + "\n"
