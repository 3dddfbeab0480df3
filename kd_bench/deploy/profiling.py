"""Profile of a finished run: what a prediction of its student costs, beside its teacher's, as deployed.

Both networks are exported to PyTorch's own format, to ONNX and to int8, and measured in fresh processes: each alone,
from the start of the process to its first prediction, and all of them in turn. Ratios come with an interval over the
processes; milliseconds belong to the machine that the report names.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kd_bench.config.files import file_sha256, write_atomically
from kd_bench.deploy.exporting import PACKAGES, Say, opened_student
from kd_bench.deploy.graph import Predictor, as_onnx, as_program, traced
from kd_bench.deploy.prices import BreakEven, Distilling, Prices, break_even, distilling, per_million
from kd_bench.deploy.profile_plot import plot
from kd_bench.deploy.profile_report import Comparison, Network, Profile, Role, Runtime
from kd_bench.deploy.quantize import quantized
from kd_bench.errors import IntegrityError, KDBenchError
from kd_bench.evaluation.machine import code, hardware
from kd_bench.evaluation.memory import peak_activation_bytes
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.results.records.measured import Ratio
from kd_bench.results.records.record import Record
from kd_bench.results.records.states import now
from kd_bench.results.statistics.intervals import estimate
from kd_bench.runs.restore import teachers_of
from kd_bench.training.pair import load_teachers

FOLDER, REPORT_FILE, PLOT_FILE = "profile", "profile.json", "profile.svg"
RUNTIMES = {"PyTorch": "pt2", "ONNX": "onnx", "int8": "int8.onnx"}  # and how their files end
NO_COUNTER = "not measured: this machine gives no energy counter that this user may read"


class Settings(NamedTuple):
    """The extent of a profile.

    Attributes:
        processes: rounds of fresh processes.
        starts: rounds that measure cold starts and memory too, each network in a process of its own.
        timings: of a single image of each network in each round, after ``warm_ups``.
        batch: images of a batch of the throughput, which takes ``seconds``.
    """

    processes: int = 3
    starts: int = 2
    timings: int = 200
    warm_ups: int = 20
    batch: int = 64
    seconds: float = 0.3
    threads: int = 1


class Measured(NamedTuple):
    """One network in one round of processes; starts are not measured in every round."""

    timings_ms: list[float]
    images_per_second: float
    joules_per_image: float | None
    cold_start: float | None = None
    peak_memory: int | None = None


def profile(directory: Path, overrides: list[str], prices: Prices, settings: Settings, say: Say) -> Profile:
    """Measure the student of the finished run in ``directory``, and its teacher if it has one; write ``profile.json``.

    Raises:
        ConfigError, IntegrityError: as ``kd_bench.deploy.exporting.opened_student``, or the teacher is not at hand.
        KDBenchError: a network cannot be exported, or a measuring process failed.
    """
    record, opened = opened_student(directory, overrides)
    predictors = _predictors(record, opened)
    activations = {
        role: peak_activation_bytes(partial(predictor, opened.pair.spec.example(1)))
        for role, predictor in predictors.items()
    }
    with tempfile.TemporaryDirectory(prefix="kd-bench-profile-") as temporary:
        files = _exported(predictors, opened, Path(temporary), say)
        rounds = [
            _round(files, opened.pair.spec.image_size, settings, number, say) for number in range(settings.processes)
        ]
        networks = [
            _network(key, files[key], [each[key] for each in rounds], activations, prices, settings) for key in files
        ]
    costs = {(each.role, each.runtime): each.cost_per_million for each in networks}
    made = distilling(record, prices)
    found = Profile(
        run_id=record.run_id,
        profiled_at=now(),
        code=code(),
        packages={name: version(name) for name in PACKAGES},
        hardware=hardware(torch.device("cpu")).model_copy(update={"threads": settings.threads}),
        threads=settings.threads,
        processes=settings.processes,
        timings=settings.timings,
        batch_size=settings.batch,
        networks=networks,
        comparisons=_comparisons({key: [each[key] for each in rounds] for key in files}, networks),
        prices=prices,
        distilling=made,
        break_even={} if made is None else _break_even(made, costs),
        energy="RAPL counters of all processors, while a batch is predicted again and again"
        if any(each.joules_per_thousand is not None for each in networks)
        else NO_COUNTER,
    )
    _write(found, directory / FOLDER)
    return found


Key = tuple[Role, Runtime]


def _predictors(record: Record, opened: OpenedRun) -> dict[Role, Predictor]:
    pair = opened.pair
    found: dict[Role, Predictor] = {"student": Predictor(pair.student, pair.method)}
    if pair.teacher is not None:
        load_teachers(pair.teacher, teachers_of(record, opened.config))
        found["teacher"] = Predictor(pair.teacher)
    return found


def _exported(predictors: dict[Role, Predictor], opened: OpenedRun, folder: Path, say: Say) -> dict[Key, Path]:
    files: dict[Key, Path] = {}
    for role, predictor in predictors.items():
        say(f"exporting the {role}, {predictor.tap.name}")
        program = traced(predictor, opened.pair.spec)
        graph = as_onnx(predictor, program, opened.pair.spec, {})
        contents: dict[Runtime, bytes] = {
            "PyTorch": as_program(program),
            "ONNX": graph,
            "int8": quantized(graph, opened.data),
        }
        for runtime, content in contents.items():
            files[role, runtime] = folder / f"{role}.{RUNTIMES[runtime]}"
            files[role, runtime].write_bytes(content)
    return files


def _round(
    files: dict[Key, Path], image_size: tuple[int, int], settings: Settings, number: int, say: Say
) -> dict[Key, Measured]:
    """Measure all networks in turn in one process, and each one's start in its own; every second round backwards."""
    say(f"measuring, round {number + 1} of {settings.processes}")
    keys = list(files) if number % 2 == 0 else list(files)[::-1]
    job = {"threads": settings.threads, "shape": [3, *image_size], "timings": 0}
    measured_alone = keys if number < settings.starts else []
    alone = {key: _in_a_process({**job, "files": {"one": str(files[key])}}) for key in measured_alone}
    extent = {
        "timings": settings.timings,
        "warm_ups": settings.warm_ups,
        "batch": settings.batch,
        "seconds": settings.seconds,
    }
    together = _in_a_process({**job, **extent, "files": {" ".join(key): str(files[key]) for key in keys}})
    return {
        key: Measured(
            **together["networks"][" ".join(key)],
            cold_start=alone[key]["cold_start"] if key in alone else None,
            peak_memory=alone[key]["peak_memory"] if key in alone else None,
        )
        for key in files
    }


def _in_a_process(job: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "kd_bench.deploy.timing"],
        input=json.dumps({**job, "spawned": time.time()}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise KDBenchError(f"a measuring process failed: {lines[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _network(
    key: Key,
    path: Path,
    measured: Sequence[Measured],
    activations: dict[Role, int],
    prices: Prices,
    settings: Settings,
) -> Network:
    role, runtime = key
    timings = [each for process in measured for each in process.timings_ms]
    p50, p95, p99 = (float(value) for value in np.percentile(timings, (50, 95, 99)))
    rate = float(np.median([each.images_per_second for each in measured]))
    joules, starts, memory = (
        [value for each in measured if (value := getattr(each, name)) is not None]
        for name in ("joules_per_image", "cold_start", "peak_memory")
    )
    return Network(
        role=role,
        runtime=runtime,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        images_per_second=rate,
        cold_start_seconds=float(np.median(starts)),
        peak_memory_bytes=int(np.median(memory)) if memory else None,
        activation_bytes=activations[role] if runtime == "PyTorch" else None,
        file_bytes=path.stat().st_size,
        file_sha256=file_sha256(path),
        cost_per_million=per_million(rate, settings.threads, prices),
        joules_per_thousand=1000 * float(np.median(joules)) if joules else None,
    )


def _comparisons(measured: dict[Key, list[Measured]], networks: Sequence[Network]) -> list[Comparison]:
    """Compare student and teacher in each runtime, and each runtime of the student with PyTorch."""
    sizes: dict[Key, int] = {(each.role, each.runtime): each.file_bytes for each in networks}
    pairs: list[tuple[Key, Key]] = [
        (key, ("teacher", key[1])) for key in measured if key[0] == "student" and ("teacher", key[1]) in measured
    ]
    pairs += [(key, ("student", "PyTorch")) for key in measured if key[0] == "student" and key[1] != "PyTorch"]
    return [
        Comparison(
            of=" ".join(first),
            to=" ".join(second),
            latency=_required(measured[first], measured[second], lambda each: float(np.median(each.timings_ms))),
            throughput=_required(measured[first], measured[second], lambda each: each.images_per_second),
            cold_start=_required(measured[first], measured[second], lambda each: each.cold_start),
            peak_memory=ratio(measured[first], measured[second], lambda each: each.peak_memory),
            file_bytes=sizes[first] / sizes[second],
        )
        for first, second in pairs
    ]


Value = Callable[[Measured], float | None]


def _required(first: Sequence[Measured], second: Sequence[Measured], value: Value) -> Ratio:
    found = ratio(first, second, value)
    assert found is not None  # every profile measures it
    return found


def ratio(first: Sequence[Measured], second: Sequence[Measured], value: Value) -> Ratio | None:
    """Return the geometric mean, over the rounds that measured it, of the ratio of a value.

    The interval is Student's, of the logarithm; None if no round measured the value.
    """
    pairs = [(value(one), value(other)) for one, other in zip(first, second, strict=True)]
    logarithms = [math.log(one / other) for one, other in pairs if one is not None and other is not None]
    if not logarithms:
        return None
    found = estimate(logarithms)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Ratio(mean=math.exp(found.mean), low=low, high=high)


def _break_even(made: Distilling, costs: dict[Key, float]) -> dict[str, BreakEven]:
    return {
        runtime: break_even(made, cost, costs["teacher", runtime])
        for (role, runtime), cost in costs.items()
        if role == "student" and ("teacher", runtime) in costs
    }


def _write(found: Profile, folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise IntegrityError(f"{folder} cannot be written: {error.strerror or error}") from error
    write_atomically(folder / PLOT_FILE, plot(found))
    write_atomically(folder / REPORT_FILE, found.model_dump_json(indent=1) + "\n")
