"""The pages of the methods, as Markdown."""

import importlib
import inspect
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from types import ModuleType
from typing import Any

from kd_bench.cli.method_pages.catalogue import catalogue
from kd_bench.cli.method_pages.docstrings import docstring, markdown
from kd_bench.cli.method_pages.settings import Hyperparameter, header, hyperparameters, taken_over, written
from kd_bench.cli.method_pages.step_costs import BATCH_SIZE, STUDENT, TEACHER, Cost, read_costs
from kd_bench.config.check import allowed_targets
from kd_bench.config.composition import choices, file_of, folders_of_choices
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError, nearest
from kd_bench.methods.base import Method
from kd_bench.results.text.escape import for_markdown
from kd_bench.runs.reproduction.pair_settings import all_pair_settings, pair_overrides

INDEX = "README.md"
ABOUT = f"""Each method has a page with its loss, hyperparameters and cost. `kd-bench list methods NAME` prints it.

Time and memory of a training step are ratios to one of `scratch` in the same run: {TEACHER} to {STUDENT}, 32x32
images of 100 classes, batches of {BATCH_SIZE}, float32 on a CPU; for a method that takes transformers alone, small
ones, which its page names. Time is that of the passes through the networks and of the loss, without loading images and
without the optimizer. Memory is that of activations, weights (the teacher's too) and gradients. Both are of the main
stage, with memories over a training set of 1,024 samples. Adapters are counted in parameters that are trained beside
the student's and thrown away after training."""


def page(name: str, plugins: Sequence[str] = ()) -> str:
    """Return the page of one method.

    Args:
        plugins: as for ``catalogue``.

    Raises:
        ConfigError: there is no such method, or as ``catalogue``.
    """
    if name not in (known := choices("method", folders_of_choices())):
        raise ConfigError(f"method={name!r}: no such choice{nearest(name, known) or '; see kd-bench list methods'}")
    allowed = allowed_targets("method", list(plugins))
    for key, value in written(name).items():  # of the file itself, whose modules are imported below
        if key.endswith("_target_") and not value.value.startswith(allowed):
            raise ConfigError(f"method.{key}={value.value!r}: is not allowed here; allowed: {', '.join(allowed)}")
    (entry,) = (entry for entry in catalogue(name, plugins) if entry["name"] == name)
    return _page(entry, read_costs())


def pages() -> dict[str, str]:
    """Return every page by the name of its file in a folder beside ``conf`` and ``kd_bench``, to which pages link."""
    entries, costs = catalogue(), read_costs()
    return {INDEX: _index(entries, costs)} | {f"{entry['name']}.md": _page(entry, costs) for entry in entries}


def _index(entries: list[dict[str, Any]], costs: Mapping[str, Cost]) -> str:
    blocks = ["# All methods", ABOUT]
    by_family = sorted(entries, key=lambda entry: (entry["family"], entry["name"]))
    for family, members in groupby(by_family, key=lambda entry: entry["family"]):
        rows = [
            [
                _link(entry["name"]),
                markdown(header(entry["name"]), cell=True),
                _needs(entry),
                *_numbers(costs.get(entry["name"])),
            ]
            for entry in members
        ]
        blocks += [f"## {family}", _table(["method", "", "needs", "time", "memory", "adapters"], rows)]
    return _text(blocks)


def _page(entry: dict[str, Any], costs: Mapping[str, Cost]) -> str:
    name = entry["name"]
    blocks = [f"# {for_markdown(name)}", markdown(header(name)), "\n".join(_facts(entry))]
    blocks += ["## Loss", *_loss(name), "## Hyperparameters", _hyperparameters(name), *_pair_settings(name)]
    blocks += ["## Cost", _cost(name, costs)]
    return _text(blocks)


def _hyperparameters(name: str) -> str:
    return "\n".join(map(_described_hyperparameter, hyperparameters(name))) or "None."


def _pair_settings(name: str) -> Iterator[str]:
    """Yield the values that are published for single pairs of networks, which ``kd-bench reproduce`` uses."""
    settings = all_pair_settings().get(name)
    if settings is None or not file_of("method", name).is_relative_to(CONF):
        return
    yield "## Values of single pairs"
    yield f"{_paper(settings.source)}. `kd-bench reproduce` takes them for its cells."
    yield "\n".join(
        f"- {for_markdown(dataset)}, `{pair}`: `{' '.join(pair_overrides(name, dataset, pair))}`"
        for dataset, pairs in settings.pairs.items()
        for pair in pairs
    )


def _described_hyperparameter(row: Hyperparameter) -> str:
    """Write the override that sets the default, the range, the meaning and, in parentheses, the note of the file."""
    note = f"({row.note})" if row.note and row.meaning else row.note
    meaning = markdown(" ".join(filter(None, [row.meaning, note])))
    return ": ".join(filter(None, [f"- `method.{row.name}={row.default}`, {markdown(row.allowed)}", meaning]))


def _cost(name: str, costs: Mapping[str, Cost]) -> str:
    if (cost := costs.get(name)) is None:
        if not file_of("method", name).is_relative_to(CONF):
            return "Not measured."
        return f"Not measured yet: `python -m kd_bench.cli.method_pages --measure {name}`."
    time, memory, adapters = _numbers(cost)
    networks = cost.get("networks", f"{TEACHER} to {STUDENT}")
    measured = for_markdown(f"{networks}, batches of {BATCH_SIZE}, threads: {cost['threads']}")
    return (
        f"A step takes {time} times as long as one of `scratch` and {memory} times its memory; the adapters have "
        f"{adapters} parameters ([{measured}]({INDEX}))."
    )


def _facts(entry: dict[str, Any]) -> Iterator[str]:
    name = entry["name"]
    module, file = _module(name), file_of("method", name)
    files, run = [f"conf/method/{name}.yaml", f"{module.__name__.replace('.', '/')}.py"], f"method={name}"
    if not file.is_relative_to(CONF):
        files = [str(file), str(module.__file__)]
        run = f"--config-dir {shlex.quote(str(file.parents[1]))} plugins=[{module.__name__}] {run}"
    yield f"- Family: {entry['family']}"
    yield f"- Paper: {_paper(entry['paper'])}"
    yield f"- Needs: {_needs(entry)}"
    yield f"- Run: `kd-bench train {run}`"
    yield f"- Files: {', '.join(f'[`{file}`](../{file})' for file in files)}"


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
    """Describe a function or module that the loss is made of."""
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
    """List the public functions and classes of a method's module that have a docstring, without the methods."""
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


def _numbers(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["-"] * 3
    return [f"{cost['time']:.2f}", f"{cost['memory']:.2f}", f"{cost['adapter_parameters']:,}"]


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(blocks: Iterable[str]) -> str:
    return "\n\n".join(blocks) + "\n"
