"""Makes docs/reliability.md of table.yaml and of the figures in docs/reliability.json: python tests/faults/page.py"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("table.yaml")
FIGURES = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
INTRODUCTION = """# Reliability

What kd_bench promises, the faults that it survives, and the tests that show it. Figures are measured by the tests that
stand beside them. `KD_BENCH_FIGURES=1 .venv/bin/python -m pytest tests/faults tests/studies -m "slow or not slow"`
measures them again in about half an hour, as root, who may mount file systems, on a machine that does nothing else;
then `.venv/bin/python tests/faults/page.py` makes this page.
"""


def table() -> dict[str, Any]:
    return yaml.safe_load(TABLE.read_text())


def named_tests() -> Iterator[tuple[str, str]]:
    """Every row of the table with each of its tests."""
    rows = table()
    for group in (rows["promises"], *rows["faults"].values()):
        for row, entry in group.items():
            for test in entry["tests"]:
                yield row, test


def page() -> str:
    rows, figures = table(), json.loads(FIGURES.read_text())
    parts = [INTRODUCTION, "## Promises\n"]
    where: dict[str, None] = {}  # the circumstances of the figures, in order of appearance
    for name, promise in rows["promises"].items():
        measured = [_line(test, figure, where) for test, figure in figures.items() if figure["promise"] == name]
        tests = [f"Shown by {_tests(promise['tests'])}."]
        parts.append(
            "\n".join([f"### {name}\n", f"{promise['text']}\n", *measured, *[""] * bool(measured), *tests]) + "\n"
        )
    parts.append("\n".join(f"{_mark(number)} {words}  " for number, words in enumerate(where)) + "\n")
    parts.append("## Faults\n")
    for kind, faults in rows["faults"].items():
        lines = [f"### {kind}\n", "| | fault | what kd_bench does | tests |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {name} | {entry['fault']} | {entry['does']} | {_tests(entry['tests'])} |"
            for name, entry in faults.items()
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(test: str, figure: dict[str, Any], where: dict[str, None]) -> str:
    numbers = "; ".join(f"{name}: **{_shown(number)}**" for name, number in figure["numbers"].items())
    versions = ", ".join(f"{name} {version}" for name, version in sorted(figure["versions"].items()))
    where.setdefault(f"{figure['date']}, {figure['machine']}, {versions}")
    mark = _mark(list(where).index(f"{figure['date']}, {figure['machine']}, {versions}"))
    return f"- {numbers} {mark}<br><sub>`{test.removeprefix('tests/')}`</sub>"


def _mark(number: int) -> str:
    return f"<sup>{number + 1}</sup>"


def _shown(number: Any) -> str:
    return {True: "yes", False: "no"}[number] if isinstance(number, bool) else str(number)


def _tests(tests: list[str]) -> str:
    return ", ".join(f"`{test.removeprefix('tests/')}`" for test in tests)


if __name__ == "__main__":
    PAGE.write_text(page())
