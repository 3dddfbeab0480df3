"""Latency: time and memory of single predictions, the student's beside the teacher's.

Timings of one network alone say little: clocks, caches and neighbours differ from minute to minute and from process to
process. So both networks are timed in turn, image by image, in each of several fresh processes, and the ratio of their
medians comes with an interval over the processes. Milliseconds belong to the machine that the record names.

Run as a module, this is one of those processes: a job as JSON on standard input, measurements on standard output.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from kd_bench.config.plugins import load_plugins
from kd_bench.config.schema import RunConfig
from kd_bench.data.datamodule import EVALUATION_PIXELS
from kd_bench.errors import KDBenchError
from kd_bench.evaluation.machine import hardware
from kd_bench.evaluation.memory import peak_activation_bytes
from kd_bench.results.records.measured import Latency, Ratio, Speed
from kd_bench.results.statistics.intervals import estimate
from kd_bench.training.pair import build, load_student, load_teachers
from kd_bench.training.teachers import TeacherWeights

PROCESSES = 3
TIMINGS = 200
WARM_UPS = 10
BATCHES = (1, 4, 16, 64, 256)
THROUGHPUT_SECONDS = 0.3

Prediction = Callable[[Tensor], Tensor]


class Job(BaseModel):
    """The description of a run from which one process builds both networks again.

    Attributes:
        directory: of the run, with the student's weights.
        teacher_files: and ``teacher_sha256``: the weights of the pair's teacher, network by network.
    """

    model_config = ConfigDict(frozen=True)

    config: RunConfig
    directory: Path
    teacher_files: list[Path]
    teacher_sha256: list[str]
    threads: int


class Measured(BaseModel):
    """Measurements of one network in one process."""

    timings_ms: list[float]
    images_per_second: float
    best_batch: int
    activation_bytes: int
    load_seconds: float


def latency(config: RunConfig, directory: Path, teachers: Sequence[TeacherWeights]) -> Latency:
    """Measure the student of a run, and its teacher if it has one, in fresh processes one after the other.

    Raises:
        KDBenchError: a process failed, with its last line.
    """
    job = Job(
        config=config,
        directory=directory,
        teacher_files=[weights.path for weights in teachers],
        teacher_sha256=[weights.sha256 for weights in teachers],
        threads=torch.get_num_threads(),
    )
    processes = [_in_a_process(job) for _ in range(PROCESSES)]
    machine = hardware(device_of(config))
    students = [measured["student"] for measured in processes]
    paired = [measured["teacher"] for measured in processes if "teacher" in measured]
    return Latency(
        batch_size=1,
        threads=job.threads,
        processes=len(processes),
        timings=TIMINGS,
        student=speed(students),
        teacher=speed(paired) if paired else None,
        p50_ratio=ratio(students, paired) if paired else None,
        machine=f"{machine.processor}, {machine.device}",
    )


def speed(processes: Sequence[Measured]) -> Speed:
    """Summarise percentiles over the timings of all processes, and of the rest the median process."""
    timings = [each for process in processes for each in process.timings_ms]
    p50, p95, p99 = (float(value) for value in np.percentile(timings, (50, 95, 99)))
    middle = sorted(processes, key=lambda process: process.images_per_second)[len(processes) // 2]
    return Speed(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        images_per_second=middle.images_per_second,
        best_batch=middle.best_batch,
        activation_bytes=max(process.activation_bytes for process in processes),
        load_seconds=float(np.median([process.load_seconds for process in processes])),
    )


def ratio(students: Sequence[Measured], teachers: Sequence[Measured]) -> Ratio:
    """Return the geometric mean over processes of the ratio of their medians, with the t interval of its logarithm."""
    logarithms = [
        math.log(np.median(student.timings_ms) / np.median(teacher.timings_ms))
        for student, teacher in zip(students, teachers, strict=True)
    ]
    found = estimate(logarithms)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Ratio(mean=math.exp(found.mean), low=low, high=high)


def _in_a_process(job: Job) -> dict[str, Measured]:
    done = subprocess.run(
        [sys.executable, "-m", "kd_bench.evaluation.latency"],
        input=job.model_dump_json(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise KDBenchError(f"a measuring process failed: {lines[-1]}")
    return {name: Measured.model_validate(each) for name, each in json.loads(done.stdout.splitlines()[-1]).items()}


def measure(job: Job) -> dict[str, Measured]:
    """Measure both networks in this process."""
    torch.set_num_threads(job.threads)
    load_plugins(job.config.plugins)
    pair = build(job.config)
    device = device_of(job.config)
    networks: dict[str, tuple[Prediction, float]] = {}
    started = time.perf_counter()
    load_student(pair, job.directory)
    loaded = time.perf_counter() - started
    student, method = pair.student.to(device).eval(), pair.method.to(device).eval()
    networks["student"] = lambda images: method.predict(student(images)), loaded
    if pair.teacher is not None:
        started = time.perf_counter()
        files = zip(job.teacher_files, job.teacher_sha256, strict=True)
        load_teachers(pair.teacher, [TeacherWeights(path, sha256, path.name, None) for path, sha256 in files])
        loaded = time.perf_counter() - started
        teacher = pair.teacher.to(device).eval()
        networks["teacher"] = lambda images: teacher(images).logits, loaded
    with torch.inference_mode():
        return _measured(networks, pair.spec.image_size, device)


def _measured(
    networks: dict[str, tuple[Prediction, float]], size: tuple[int, int], device: torch.device
) -> dict[str, Measured]:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    predictions = {name: prediction for name, (prediction, _) in networks.items()}
    timings = timed_in_turn({name: partial(prediction, image) for name, prediction in predictions.items()}, device)
    measured = {}
    for name, (prediction, load_seconds) in networks.items():
        best_batch, images_per_second = throughput(prediction, image, device)
        measured[name] = Measured(
            timings_ms=timings[name],
            images_per_second=images_per_second,
            best_batch=best_batch,
            activation_bytes=peak_activation_bytes(partial(prediction, image)),
            load_seconds=load_seconds,
        )
    return measured


def timed_in_turn(calls: dict[str, Callable[[], Any]], device: torch.device) -> dict[str, list[float]]:
    """Return milliseconds of each call, ``TIMINGS`` times one after the other, after ``WARM_UPS`` that do not count."""
    timings: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(WARM_UPS + TIMINGS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            _wait(device)
            if round_ >= WARM_UPS:
                timings[name].append(1000 * (time.perf_counter() - started))
    return timings


def throughput(prediction: Prediction, image: Tensor, device: torch.device) -> tuple[int, float]:
    """Return the best of growing batch sizes and its images a second; the search ends at the first that is slower."""
    best = (1, 0.0)
    for batch in BATCHES:
        if batch > 1 and batch * image[0, 0].numel() > EVALUATION_PIXELS:
            break
        images = image.expand(batch, -1, -1, -1).contiguous()
        prediction(images)
        _wait(device)
        started, done = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < THROUGHPUT_SECONDS or not done:
            prediction(images)
            _wait(device)
            done += batch
        if done / elapsed < best[1]:
            break
        best = (batch, done / elapsed)
    return best


def device_of(config: RunConfig) -> torch.device:
    """Return the device that a run is configured for."""
    return torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    found = measure(Job.model_validate_json(sys.stdin.read()))
    print(json.dumps({name: each.model_dump() for name, each in found.items()}))
