"""Make docs/reliability.md from table.yaml and the figures in docs/reliability.json: python tests/faults/page.py"""

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("table.yaml")
FIGURES = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
INTRODUCTION = """<!-- Made by `python tests/faults/page.py` from tests/faults/table.yaml: edits here are lost. -->

# Reliability

Nine promises with measured figures, and more than fifty faults with the behaviour of kd_bench. The last column links
the file of a test; [table.yaml](../tests/faults/table.yaml) names all tests of a row, and
[reliability.json](reliability.json) has every figure with its test."""
MEASURED_AGAIN = """These commands measure the figures again, in about half an hour, and make this page. Run them on
an idle machine, as root, who may mount file systems:

```
KD_BENCH_FIGURES=1 .venv/bin/python -m pytest tests/faults tests/runs/studies -m "slow or not slow"
.venv/bin/python tests/faults/page.py
```"""
SUMMARIES: dict[str, Callable[[list[Any]], Any]] = {"sum": sum, "max": max, "count": len}


def table() -> dict[str, Any]:
    """Return the content of table.yaml."""
    return yaml.safe_load(TABLE.read_text())


def named_tests() -> Iterator[tuple[str, str]]:
    """Yield every row of the table with each of its tests."""
    rows = table()
    for group in (rows["promises"], *rows["faults"].values()):
        for row, entry in group.items():
            for test in entry["tests"]:
                yield row, test


def page() -> str:
    """Return the text of docs/reliability.md."""
    rows, figures = table(), json.loads(FIGURES.read_text()).values()
    promises = [
        (name, row["text"], measured(row["measured"], name, figures), row["how"], _link(row["tests"]))
        for name, row in rows["promises"].items()
    ]
    parts = [INTRODUCTION, "## Promises", _markdown(("", "promise", "measured", "how", "test"), promises)]
    parts += [f"Measured on {where}." for where in sorted(set(map(_circumstances, figures)))] + [MEASURED_AGAIN]
    parts.append("## Faults")
    for kind, faults in rows["faults"].items():
        lines = [(name, row["fault"], row["does"], _link(row["tests"])) for name, row in faults.items()]
        parts += [f"### {kind}", _markdown(("", "fault", "what happens", "test"), lines)]
    return "\n\n".join(parts) + "\n"


def measured(text: str, promise: str, figures: Collection[dict[str, Any]]) -> str:
    """Replace each ``{sum NAME}``, ``{max NAME}`` or ``{count NAME}`` by that of the promise's figures called NAME.

    Raises:
        LookupError: no test of the promise has measured such a figure.
    """

    def value(found: re.Match[str]) -> str:
        each = [
            figure["numbers"][found[2]]
            for figure in figures
            if figure["promise"] == promise and found[2] in figure["numbers"]
        ]
        if not each:
            raise LookupError(f"{promise} has no figure {found[2]!r}")
        if found[1] == "max":  # a figure may be a list in words: "2.8, 3.0, 3.2"
            each = [float(number) if "." in number else int(number) for one in each for number in str(one).split(", ")]
        return str(SUMMARIES[found[1]](each))

    return re.sub(r"\{(\w+) ([^}]+)\}", value, text)


def _circumstances(figure: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(figure["versions"].items()))
    return f"{figure['date']}, {figure['machine']}, {versions}"


def _link(tests: list[str]) -> str:
    """Link the file of the first test by its name in words."""
    path = tests[0].partition("::")[0]
    name = path.rpartition("/test_")[2].removesuffix(".py").replace("_", " ")
    return f"[{name}](../{path})"


def _markdown(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))


if __name__ == "__main__":
    PAGE.write_text(page())
