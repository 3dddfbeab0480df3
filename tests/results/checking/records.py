"""Records as plain data, to be changed, saved and checked."""

import json
from pathlib import Path
from typing import Any

from kd_bench.evaluation.recomputed import prediction_problems
from kd_bench.results.checking.collection import Checked, check_records, find_records, read_all


def contents(runs: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The records of a folder by method and seed."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in runs.glob("*/record.json")]
    return {(each["method"]["name"], each["seed"]): each for each in found}


def save(content: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def checked(*paths: Path, predictions: Path | None = None) -> list[Checked]:
    return list(check_records(read_all(find_records(paths)), prediction_problems, predictions))


def changed(content: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """``content`` with another value at ``a/b/0``, where numbers are positions in lists."""
    node: Any = content
    *parents, last = [int(part) if part.isdigit() else part for part in key.split("/")]
    for part in parents:
        node = node[part]
    node[last] = value
    return content
