"""Timings: in turn, summarised by hand, and measured for real in a process of its own."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kd_bench.config.check import check
from kd_bench.errors import IntegrityError, KDBenchError
from kd_bench.evaluation import latency
from kd_bench.evaluation.latency import Job, Measured, measure, ratio, speed, throughput, timed_in_turn
from kd_bench.results.records.record import RECORD_FILE, read_record
from kd_bench.runs.run import run
from kd_bench.training.teachers import from_record

CPU = torch.device("cpu")


def measured(timings: list[float], images_per_second: float = 100.0, **changes) -> Measured:
    content = {"best_batch": 16, "activation_bytes": 1000, "load_seconds": 0.1, **changes}
    return Measured(timings_ms=timings, images_per_second=images_per_second, **content)


class Clock:
    """Time that passes only where a test says so, in milliseconds."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now / 1000)

    def passes(self, milliseconds: float) -> None:
        self.now += milliseconds


def test_networks_are_timed_in_turn_after_warm_ups_that_do_not_count(monkeypatch):
    monkeypatch.setattr(latency, "WARM_UPS", 2)
    monkeypatch.setattr(latency, "TIMINGS", 3)
    clock, calls = Clock(monkeypatch), []

    def call(name: str, milliseconds: float) -> None:
        calls.append(name)
        clock.passes(milliseconds + len(calls))

    timings = timed_in_turn({"first": lambda: call("first", 0.0), "second": lambda: call("second", 100.0)}, CPU)
    assert calls == ["first", "second"] * 5
    assert timings["first"] == pytest.approx([5, 7, 9])
    assert timings["second"] == pytest.approx([106, 108, 110])


def test_percentiles_are_numpys_over_all_processes():
    random = np.random.default_rng(0)
    parts = [random.exponential(1, 200).tolist() for _ in range(3)]
    found = speed([measured(part, rate, load_seconds=rate) for part, rate in zip(parts, (3.0, 1.0, 2.0), strict=True)])
    together = np.concatenate(parts)
    assert [found.p50_ms, found.p95_ms, found.p99_ms] == pytest.approx(np.percentile(together, [50, 95, 99]))
    assert (found.images_per_second, found.load_seconds) == (2.0, 2.0)


def test_ratio_is_that_of_medians_with_the_interval_of_its_logarithm():
    students = [measured([1.0, 2.0, 9.0]), measured([2.0, 2.2, 2.4]), measured([1.8, 1.8, 30.0])]
    teachers = [measured([4.0, 4.0, 4.0]), measured([5.0, 5.0, 1.0]), measured([3.0, 4.5, 6.0])]
    ratios = np.log([2.0 / 4.0, 2.2 / 5.0, 1.8 / 4.5])
    low, high = stats.t.interval(0.95, 2, loc=ratios.mean(), scale=stats.sem(ratios))
    found = ratio(students, teachers)
    assert found.mean == pytest.approx(stats.gmean([0.5, 0.44, 0.4]))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    alone = ratio(students[:1], teachers[:1])
    assert (alone.mean, alone.low, alone.high) == (pytest.approx(0.5), None, None)


@pytest.mark.parametrize(
    ("milliseconds", "best", "rate"),
    [
        (lambda batch: 4 + 0.25 * batch, 256, 256 / 0.068),
        (lambda batch: 2 * batch**1.5, 1, 1 / 0.002),
        (lambda batch: 8 if batch <= 16 else 3 * batch, 16, 16 / 0.008),  # as where a cache is too small
    ],
)
def test_the_best_batch_is_the_last_that_is_not_slower_than_the_one_before(monkeypatch, milliseconds, best, rate):
    clock = Clock(monkeypatch)
    sizes = []

    def prediction(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        clock.passes(milliseconds(len(images)))
        return images

    assert throughput(prediction, torch.zeros(1, 3, 8, 8), CPU) == (best, pytest.approx(rate))
    assert max(sizes) == min(4 * best, 256)


def test_large_images_end_the_search():
    sizes = []
    throughput(lambda images: sizes.append(len(images)), torch.zeros(1, 3, 1100, 1100), CPU)
    assert set(sizes) <= {1, 4}


FAST = ["recipe.epochs=1", "dataset.train_samples=100", "logger=none", "trainer.progress=none", "trainer.threads=1"]


@pytest.fixture
def job(compose, tmp_path) -> Job:
    """Of a method with a head of its own, so that it is timed too."""
    cfg = compose(*FAST, "method=simkd", "teacher.name=resnet20_cifar", f"paths.runs={tmp_path}")
    record = run(cfg)
    config = check(cfg)
    teacher = from_record(read_record(tmp_path / record.teacher.run_id / RECORD_FILE), tmp_path)
    files = {"teacher_files": [teacher.path], "teacher_sha256": [teacher.sha256]}
    return Job(config=config, directory=tmp_path / record.run_id, threads=1, **files)


def test_a_process_measures_both_networks_with_their_weights(job, monkeypatch):
    monkeypatch.setattr(latency, "TIMINGS", 20)
    monkeypatch.setattr(latency, "THROUGHPUT_SECONDS", 0.01)
    found = measure(Job.model_validate_json(job.model_dump_json()))
    assert list(found) == ["student", "teacher"]
    for each in found.values():
        assert len(each.timings_ms) == 20
        assert min(each.timings_ms) > 0
        assert each.images_per_second > 0
        assert each.activation_bytes > 4 * 16 * 8 * 8  # more than one stage map
    changed = job.model_copy(update={"teacher_sha256": ["0" * 64]})
    with pytest.raises(IntegrityError, match="is not the file of its record"):
        measure(changed)


def test_a_process_that_fails_says_why(job):
    (job.directory / "student.safetensors").write_bytes(b"no weights")
    with pytest.raises(KDBenchError, match=r"a measuring process failed: .*student\.safetensors is refused"):
        latency.latency(job.config, job.directory, [])


@pytest.mark.slow
def test_three_processes_make_a_latency_with_an_interval(compose, tmp_path):
    cfg = compose(
        *FAST,
        "method=kd",
        "teacher.name=resnet56_cifar",
        "evaluation=full",
        "evaluation.sections=[latency]",
        f"paths.runs={tmp_path}",
    )
    found = run(cfg).full.latency
    assert (found.processes, found.timings, found.batch_size, found.threads) == (3, 200, 1, 1)
    assert found.student.p50_ms <= found.student.p95_ms <= found.student.p99_ms
    assert found.p50_ratio.low <= found.p50_ratio.mean <= found.p50_ratio.high
    assert found.p50_ratio.mean < 0.5  # 8 layers and 56
