"""Records as plain data, to be changed, saved and checked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from kd_bench.config.files import file_sha256
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.evaluation.predictions import load_predictions
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


def folder_of(runs: Path, method: str = "kd", seed: int = 0) -> Path:
    found: str = contents(runs)[method, seed]["run_id"]
    return runs / found


def with_predictions(runs: Path, method: str, seed: int, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The record of a run, with other predictions whose hash and metrics fit."""
    folder = folder_of(runs, method, seed)
    arrays = {name: values.clone() for name, values in load_file(folder / "predictions.safetensors").items()}
    change(arrays)
    save_file(arrays, folder / "predictions.safetensors")
    content = json.loads((folder / "record.json").read_text())
    content["artifacts"]["predictions.safetensors"] = file_sha256(folder / "predictions.safetensors")
    epochs = {rule: each["epoch"] for rule, each in content["metrics"].items() if each}
    computed = metrics_of(load_predictions(folder / "predictions.safetensors"), epochs)
    content["metrics"] = json.loads(computed.model_dump_json())
    if content["teacher"]:
        right = (arrays["test/teacher"].argmax(1) == arrays["test/targets"]).double().mean()
        content["teacher"]["test_top1"] = float(right)
    save(content, folder / "record.json")
    return content
