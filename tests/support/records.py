"""A factory of valid records: short arguments for what boards look at, fixed values for the rest."""

import hashlib
import json
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

from kd_bench.results.records.record import Record

SHIPPED = {  # conf/method/scratch.yaml and kd.yaml: the baselines of boards
    "scratch": {"_target_": "kd_bench.methods.scratch.Scratch"},
    "kd": {
        "_target_": "kd_bench.methods.kd.KD",
        "ce_weight": 0.1,
        "kd_weight": 0.9,
        "temperature": 4.0,
        "standardize_logits": False,
    },
}


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


SAMPLES = 10**6  # of both held-out splits: any accuracy of a test is nearly a whole number of them


def split_metrics(top1: float, teacher_top1: float | None, samples: int = SAMPLES) -> dict[str, Any]:
    """Metrics with the accuracy nearest to ``top1`` that a model can have, with flips that lead to it."""
    right = round(top1 * samples)
    teacher = None if teacher_top1 is None else round(teacher_top1 * samples)
    return {"top1": right / samples, "top5": None, "nll": 0.75, "ece": 0.04, "ece_noise_floor": 0.01} | (
        of_teacher(right, teacher, samples) if teacher is not None else dict.fromkeys(OF_TEACHER)
    )


OF_TEACHER = ("teacher_agreement", "negative_flips", "positive_flips", "retention")


def of_teacher(right: int, teacher: int, samples: int) -> dict[str, float | None]:
    both_ways = min(samples // 50, right, teacher, samples - right, samples - teacher)
    negative, positive = max(teacher - right, 0) + both_ways, max(right - teacher, 0) + both_ways
    agreement = samples - negative - positive
    counts = {"teacher_agreement": agreement, "negative_flips": negative, "positive_flips": positive}
    return {name: count / samples for name, count in counts.items()} | {
        "retention": right / teacher if teacher else None
    }


def network(name: str, parameters: int, macs: int, *key: object) -> dict[str, Any]:
    cost = {"parameters": parameters, "macs": macs, "input_size": [8, 8]}
    return {"name": name, "weights_sha256": digest("weights", name, *key), **cost}


def metrics(top1: float, best: float, teacher_top1: float | None, samples: int = SAMPLES) -> dict[str, Any]:
    def selected(epoch: int, value: float) -> dict[str, Any]:
        split = split_metrics(value, teacher_top1, samples)
        return {"epoch": epoch, "validation": split, "test": split}

    return {"last": selected(30, top1), "best_on_validation": selected(21, best)}


def record_content(
    method: str = "kd",
    seed: int = 0,
    top1: float = 0.75,
    *,
    best: float | None = None,
    teacher: str | None = "wide",
    teacher_top1: float = 0.8,
    teacher_weights: object = 0,
    student: str = "narrow",
    dataset: str = "shapes",
    data: object = 0,
    recipe: str = "short",
    role: str = "student",
    selection: str = "last",
    generation: int = 0,
    options: dict[str, Any] | None = None,
    recipe_options: dict[str, Any] | None = None,
    family: str = "logits",
    paper: str = "Doe et al., 2020, arXiv:2001.00001",
    finished: str = "2025-01-01T10:00:00Z",
    run_id: str | None = None,
    seconds: float = 12.5,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    reference = teacher_top1 if teacher else None
    node = {**SHIPPED.get(method, {"_target_": f"kd.{method}"}), **(options or {})}
    config = {"method": node, "recipe": recipe_options or {"epochs": 30}}
    key = (method, seed, teacher, teacher_weights, student, dataset, data, recipe, role, generation, config, finished)
    content: dict[str, Any] = {
        "schema_version": 2,
        "imported_from": None,
        "run_id": run_id or digest(key)[:16],
        "role": role,
        "study": None,
        "dataset": {
            "name": dataset,
            "content_sha256": digest("data", dataset, data),
            "num_classes": 4,
            "class_names": ["a", "b", "c", "d"],
            "image_size": [8, 8],
            "duplicates": 0,
            "train_samples": 900,
            "validation_samples": samples,
            "test_samples": samples,
        },
        "teacher": None,
        "student": network(student, 1500, 250_000, key),
        "method": {
            "name": method,
            "family": family,
            "paper": paper,
            "target": f"kd.{method}",
            "adapter_parameters": 0,
            "trained_from": [],
            "generation": generation,
        },
        "recipe": recipe,
        "selection": selection,
        "seed": seed,
        "config": config,
        "code": {"version": "0.1.0", "commit": None, "dirty": None},
        "environment": {"python": "3.11", "packages": {}},
        "hardware": {"host": "h", "system": "Linux", "processor": "p", "device": "cpu", "threads": 2},
        "times": {
            "started_at": "2025-01-01T09:00:00Z",
            "finished_at": finished,
            "train_seconds": seconds,
            "evaluation_seconds": 1.0,
            "teacher_train_seconds": None,
            "resumed": 0,
        },
        "metrics": metrics(top1, top1 if best is None else best, reference, samples),
        "history": [],
        "artifacts": {},
    }
    if teacher:
        content["teacher"] = {
            **network(teacher, 1_234_000, 41_000_000, teacher_weights),
            "run_id": None,
            "source": "file",
            "test_top1": teacher_top1,
        }
    return deepcopy(content)


def measured_content(content: dict[str, Any], change: float = 0.0) -> dict[str, Any]:
    """The same with everything measured that can be; ``change`` is added to what the tests look at."""
    scaled = {"temperature": 1.5, "nll": 0.5, "ece": 0.02 + change, "ece_noise_floor": 0.015, "brier": 0.3}
    scaled |= {"ece_equal_mass": 0.021, "classwise_ece": 0.022, "mce": 0.2}
    more = {"macro_top1": 0.7, "brier": 0.4 + change, "ece_equal_mass": 0.041, "classwise_ece": 0.042, "mce": 0.3}
    more |= {"kl": 0.6, "js": 0.1, "correctness_kappa": -0.1, "retention_over_chance": 0.9}
    for selected in content["metrics"].values():
        selected["test"] |= {**more, "scaled": scaled}
        selected["validation"] |= more
        selected["classes"] = {
            "samples": [100, 100, 100, 0],
            "correct": [90, 60, 80, 0],
            "negative_flips": [5, 30, 0, 0],
            "positive_flips": [5, 0, 10, 0],
            "worst_top1": 0.6,
            "worst_tenth_top1": 0.6 + change,
            "sd_top1": 0.12,
            "significantly_worse": [1],
            "significantly_better": [],
        }
        selected["reliability"] = {
            "samples": [0] * 7 + [100, 0, 0, 0, 0, 0, 0, 300],
            "correct": [0] * 7 + [40, 0, 0, 0, 0, 0, 0, 270],
            "confidence": [None] * 7 + [0.5, None, None, None, None, None, None, 0.97],
        }
        lists = {"index": [7, 3], "target": [1, 0], "teacher": [1, 0], "student": [2, 1]}
        selected["exemplars"] = {"total": 60, **lists, "teacher_confidence": [0.99, 0.5]}
        selected["not_measured"] = {"test.top5": "fewer than 6 classes"}
    content["student"] |= {"trainable_parameters": 1400, "file_bytes": 6400}
    content["cost"] = {
        "teacher_forward_share": 0.3,
        "peak_memory_bytes": 500_000_000,
        "device_peak_memory_bytes": None,
    }
    content["history"] = [
        {"epoch": float(epoch), "train/loss": 2.0 / epoch, "val/top1": 0.5 + 0.004 * epoch, "lr": 0.1}
        for epoch in range(1, 101)
    ]
    speed = {"p50_ms": 2.5, "p95_ms": 3.0, "p99_ms": 4.0, "images_per_second": 900.0, "best_batch": 64}
    speed |= {"activation_bytes": 40_000, "load_seconds": 0.01}
    latency = {"batch_size": 1, "threads": 1, "processes": 3, "timings": 200, "student": speed}
    latency["teacher"] = {**speed, "p50_ms": 2.9}
    content["full"] = {
        "embedding_cka": 0.8,
        "latency": {**latency, "p50_ratio": {"mean": 0.25, "low": 0.2, "high": 0.3}},
        "transfer": {
            "fashion_mnist": {
                "classes": 10,
                "train_samples": 10_000,
                "test_samples": 10_000,
                "teacher": None,
                "student": {"embedding_size": 64, "linear_probe_top1": 0.7, "knn_top1": 0.6},
            }
        },
        "not_measured": {"cifar_c": "no files"},
    }
    if content["teacher"] is None:
        content["full"]["embedding_cka"] = None
        content["full"]["latency"] |= {"teacher": None, "p50_ratio": None}
    return content


def make_record(*args: Any, **kwargs: Any) -> Record:
    return Record.model_validate_json(json.dumps(record_content(*args, **kwargs)))


def seeds_of(method: str, top1: Iterable[float], **kwargs: Any) -> list[Record]:
    """One record a value, for seeds 0, 1, 2, ..."""
    return [make_record(method, seed, value, **kwargs) for seed, value in enumerate(top1)]


def save(content: dict[str, Any] | str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def save_records(records: Iterable[Record], directory: Path) -> None:
    for record in records:
        save(record.model_dump_json(), directory / record.run_id / "record.json")


def state_content(method: str = "kd", state: str = "failed", **changes: Any) -> dict[str, Any]:
    return {
        "run_id": digest(method, state, sorted(changes.items()))[:16],
        "state": state,
        "cause": "out of luck",
        "role": "student",
        "study": None,
        "dataset": "shapes",
        "teacher": "wide",
        "student": "narrow",
        "method": method,
        "recipe": "short",
        "seed": 0,
        "epoch": 3,
        "epochs": 30,
        "host": "elsewhere.invalid",
        "pid": 1,
        "updated_at": "2025-01-01T10:00:00Z",
        **changes,
    }
