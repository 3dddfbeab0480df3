"""``kd-bench profile``: each number against a formula, the command on a run, and what the machine cannot give."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy import stats
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.deploy import timing
from kd_bench.deploy.prices import SHIPPED, Distilling, Prices, break_even, distilling, per_million, read_prices
from kd_bench.deploy.profile_plot import plot
from kd_bench.deploy.profile_report import Profile, as_text
from kd_bench.deploy.profiling import FOLDER, REPORT_FILE, Measured, ratio
from kd_bench.errors import ConfigError
from kd_bench.results.records.record import read_record

PRICES = Prices(currency="EUR", core_hour=0.36, gpu_hour=2.0)


def test_cost_of_a_million_predictions_by_hand():
    """1,000 images a second are a million in 1,000 s; two cores at 0.0001 a second each cost 0.2."""
    assert per_million(1000.0, 2, PRICES) == pytest.approx(1000 * 2 * 0.0001)


def test_break_even_is_where_both_bills_are_equal():
    made = Distilling(student=3.0, teacher=5.0, basis="")
    student, teacher = 0.2, 1.4  # a million predictions
    found = break_even(made, student, teacher)
    for volume, fixed in ((found.predictions, 3.0), (found.with_teacher, 8.0)):
        assert fixed + volume / 1e6 * student == pytest.approx(volume / 1e6 * teacher)
    never = break_even(made, 1.4, 1.4)
    assert (never.predictions, never.with_teacher) == (None, None)
    assert break_even(made.model_copy(update={"teacher": None}), student, teacher).with_teacher is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return runs / train(runs, "method=kd").run_id


def test_distilling_costs_what_the_record_says_it_took(run):
    record = read_record(run / "record.json")
    found = distilling(record, PRICES)
    assert found.student == pytest.approx(record.times.train_seconds / 3600 * 0.36 * record.hardware.threads)
    assert found.teacher == pytest.approx(record.times.teacher_train_seconds / 3600 * 0.36 * record.hardware.threads)
    on_gpus = record.model_copy(
        update={
            "hardware": record.hardware.model_copy(update={"device": "H100"}),
            "config": {"trainer": {"devices": 4}},
        }
    )
    found = distilling(on_gpus, PRICES)
    assert (found.student, found.basis) == (pytest.approx(record.times.train_seconds / 3600 * 8.0), "4 GPUs")
    elsewhere = record.model_copy(update={"times": record.times.model_copy(update={"train_seconds": None})})
    assert distilling(elsewhere, PRICES) is None


def test_the_shipped_prices_are_a_table():
    assert read_prices(SHIPPED).currency == "USD"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("core_hour: 1\ngpu_hour: 1", "currency: Field required"),
        ("currency: EUR\ncore_hour: free\ngpu_hour: 1", "core_hour: Input should be a valid number"),
        ("currency: EUR\ncore_hour: 0\ngpu_hour: 1", "core_hour: Input should be greater than 0"),
        ("currency: EUR\ncore_hour: 1\ngpu_hour: nan", "gpu_hour: Input should be a finite number"),
        ("currency: EUR\ncore_hour: 1\ngpu_hour: 1\ntpu_hour: 1", "tpu_hour: Extra inputs are not permitted"),
        ("- 1", "holds no table; allowed keys: currency, core_hour, gpu_hour"),
    ],
)
def test_bad_prices_are_named(text, words, tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_prices(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_ratios_are_geometric_means_with_the_interval_of_the_logarithm():
    def measured(rate: float, cold: float | None) -> Measured:
        return Measured([1.0], rate, None, cold, None)

    first = [measured(4.0, 1.0), measured(5.0, None), measured(9.0, 3.0)]
    second = [measured(2.0, 2.0), measured(2.0, None), measured(3.0, 3.0)]
    logarithms = np.log([2.0, 2.5, 3.0])
    low, high = stats.t.interval(0.95, 2, loc=logarithms.mean(), scale=stats.sem(logarithms))
    found = ratio(first, second, lambda each: each.images_per_second)
    assert (found.mean, found.low, found.high) == pytest.approx((stats.gmean([2, 2.5, 3]), np.exp(low), np.exp(high)))
    assert ratio(first, second, lambda each: each.cold_start).mean == pytest.approx(stats.gmean([0.5, 1.0]))
    assert ratio(first, second, lambda each: each.peak_memory) is None


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_networks_are_timed_in_turn_after_warm_ups(monkeypatch):
    clock, calls = Clock(monkeypatch), []

    def network(name: str, milliseconds: float):
        def predict(images: np.ndarray) -> None:
            calls.append(name)
            clock.passes((milliseconds + len(calls)) / 1000)

        return predict

    found = timing.in_turn({"a": network("a", 0), "b": network("b", 100)}, np.zeros(1), timings=2, warm_ups=1)
    assert calls == ["a", "b"] * 3
    assert found == {"a": pytest.approx([3, 5]), "b": pytest.approx([104, 106])}


def test_throughput_counts_images_and_energy_by_the_image(monkeypatch):
    clock = Clock(monkeypatch)
    readings = iter([{"intel-rapl:0": (10, 1000)}, {"intel-rapl:0": (4_000_010, 1000)}])
    monkeypatch.setattr(timing, "energy", lambda: next(readings))
    rate, joules = timing.throughput(lambda images: clock.passes(0.1), np.zeros((8, 3)), seconds=0.35)
    assert rate == pytest.approx(80.0)
    assert joules == pytest.approx(4.0 / 32)


def test_energy_is_that_of_whole_processors_across_the_end_of_their_counters(tmp_path):
    def counter(name: str, value: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "energy_uj").write_text(value)
        (tmp_path / name / "max_energy_range_uj").write_text("10000000")

    counter("intel-rapl:0", "9000000\n")
    counter("intel-rapl:1", "1000000\n")
    counter("intel-rapl:0:0", "5\n")  # the cores of the first: part of it
    before = timing.energy(tmp_path)
    counter("intel-rapl:0", "500000\n")
    counter("intel-rapl:1", "3000000\n")
    assert timing.spent(before, timing.energy(tmp_path)) == pytest.approx(1.5 + 2.0)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("unreadable")
    assert timing.spent(before, timing.energy(tmp_path)) is None
    assert timing.spent({}, {}) is None


def test_peak_memory_is_that_of_the_process_alone():
    """A child of a large process does not begin with its parent's peak."""
    large = np.ones(60_000_000)  # 480 MB
    child = "from kd_bench.deploy.timing import peak_memory; print(peak_memory())"
    found = int(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout)
    assert 5e6 < found < large.nbytes / 2


def test_a_measuring_process_starts_without_what_it_does_not_need():
    """An ONNX file must not wait for torch, nor either for the rest of the package."""
    code = "import sys, kd_bench.deploy.timing; print(sorted({'torch', 'onnxruntime', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_student_and_teacher_are_profiled(run, tmp_path, capsys):
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\ncore_hour: 0.36\ngpu_hour: 2.0\n")
    assert main(["profile", str(run), "--quick", "--batch", "16", "--prices", str(prices)]) == 0
    shown = capsys.readouterr().out
    found = Profile.model_validate_json((run / FOLDER / REPORT_FILE).read_text())
    assert as_text(found) in shown
    named = {f"{each.role} {each.runtime}": each for each in found.networks}
    assert named.keys() == {f"{role} {name}" for role in ("student", "teacher") for name in ("PyTorch", "ONNX", "int8")}
    for each in found.networks:
        assert 0 < each.p50_ms <= each.p95_ms <= each.p99_ms
        assert each.cost_per_million == pytest.approx(1e6 / each.images_per_second * 0.36 / 3600)
        assert (each.activation_bytes is None) == (each.runtime != "PyTorch")
    assert named["student ONNX"].cold_start_seconds < named["student PyTorch"].cold_start_seconds
    assert named["student int8"].file_bytes < named["student ONNX"].file_bytes
    assert {(each.of, each.to) for each in found.comparisons} == {
        *((f"student {name}", f"teacher {name}") for name in ("PyTorch", "ONNX", "int8")),
        *((f"student {name}", "student PyTorch") for name in ("ONNX", "int8")),
    }
    assert found.break_even.keys() == {"PyTorch", "ONNX", "int8"}
    drawn = ElementTree.fromstring(plot(found))  # noqa: S314 - our own
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == 6


@pytest.mark.parametrize("option", [["--batch", "0"], ["--threads", "-1"]])
def test_extents_have_limits(run, option, capsys):
    assert main(["profile", str(run), *option]) == 2
    assert f"{option[0]}={option[1]}: should be between 1 and 4096" in capsys.readouterr().err


def test_a_missing_price_table_is_named(run, capsys):
    assert main(["profile", str(run), "--prices", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: cannot be read: No such file or directory" in capsys.readouterr().err


def test_the_measuring_process_answers_for_an_onnx_file(run):
    """The module as a process of its own, on a file of the export."""
    assert main(["export", str(run)]) == 0
    job = {
        "files": {"student": str(run / "export" / "student.onnx")},
        "threads": 1,
        "shape": [3, 8, 8],
        "spawned": 0.0,
        "timings": 3,
        "warm_ups": 1,
        "batch": 4,
        "seconds": 0.01,
    }
    done = subprocess.run(
        [sys.executable, "-m", "kd_bench.deploy.timing"], input=json.dumps(job), capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert len(found["networks"]["student"]["timings_ms"]) == 3
    assert found["networks"]["student"]["images_per_second"] > 0
    assert found["peak_memory"] > 1e7
