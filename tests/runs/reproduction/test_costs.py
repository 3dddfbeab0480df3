"""What a dry run says a table would cost, with a measured step of known length."""

import pytest

from kd_bench.results.text.formats import duration
from kd_bench.runs.reproduction.cells import composed_cells
from kd_bench.runs.reproduction.estimate import cost_lines

from .runs import cell_of, runs_of

STEPS = 780  # of an epoch: 49,900 images in batches of 64, the last one with what is left
PAIR = "resnet56--resnet20"


@pytest.fixture
def lines(monkeypatch):
    """The lines for some cells where a step of each run takes 10 ms."""
    monkeypatch.setattr("kd_bench.runs.reproduction.estimate.step_cost", lambda config, pair: {"seconds": 0.01})

    def of(*methods: str, seeds=None, records=(), jobs=1, teachers=None) -> list[str]:
        cells = [cell_of("crd_table1", method, PAIR) for method in methods]
        return list(cost_lines(cells, composed_cells(cells, [], teachers), seeds, records, jobs))

    return of


def hours(epochs: int, runs: int = 1) -> str:
    return duration(0.01 * STEPS * epochs * runs)


def test_steps_of_all_epochs_and_seeds_and_of_the_teacher_are_counted_once(lines):
    shown = lines("KD", "AB")
    assert shown == [
        f"{'teacher resnet56_cifar':<44}1 run, about 31 min",
        f"{'KD resnet56--resnet20':<44}5 runs, about 31 min each",
        f"{'AB resnet56--resnet20':<44}5 runs, about 35 min each",  # 30 epochs of pretraining more
        f"11 runs, 11 to do: about {hours(240 * 6 + 270 * 5)}, one run at a time "
        "(counted; calibrated by a few steps on this CPU)",
    ]
    assert round(0.01 * STEPS * 240 / 60) == 31


def test_what_is_finished_costs_nothing(lines):
    cell = cell_of("crd_table1", "KD", PAIR)
    records = [*runs_of(cell, [0.7, 0.7]), *runs_of(cell, [0.7] * 5, "recipe.epochs=30")]
    shown = lines("KD", records=records)
    assert shown[1] == f"{'KD resnet56--resnet20':<44}5 runs, 2 finished, about 31 min each"
    assert shown[2].startswith(f"6 runs, 4 to do: about {hours(240, 4)}, one run")


def test_seeds_jobs_and_teachers_from_files_change_the_sum(lines, tmp_path):
    (tmp_path / "resnet56.pth").write_bytes(b"")
    shown = lines("KD", seeds=3, jobs=2, teachers=tmp_path)
    assert shown == [
        f"{'KD resnet56--resnet20':<44}3 runs, about 31 min each",
        "3 runs, 3 to do: about 94 min, one run at a time, at best 47 min with --jobs 2 "
        "(counted; calibrated by a few steps on this CPU)",
    ]


def test_few_steps_are_measured_and_the_rest_is_in_proportion(monkeypatch):
    """A method costs the same multiple of another one on every pair; scratch is measured for every student."""
    own = {"kd": 0.01, "at": 0.03, "scratch": 0.02}
    asked = []

    def measured(config, pair):
        asked.append((config.teacher.name, config.student.name, config.names.method))
        return {"seconds": own[config.names.method] * (2 if "vgg" in config.student.name else 1)}

    monkeypatch.setattr("kd_bench.runs.reproduction.estimate.step_cost", measured)
    pairs = ("resnet56--resnet20", "vgg13--vgg8")
    cells = [cell_of("crd_table1", method, pair) for pair in pairs for method in ("KD", "AT", "scratch")]
    shown = list(cost_lines(cells, composed_cells(cells, [], None), 1, (), 1))
    students = [line for line in shown if "--" in line]
    expected = [own[method] * factor for factor in (1, 2) for method in ("kd", "at", "scratch")]
    assert [line.split("about ")[1] for line in students] == [duration(STEPS * 240 * each) for each in expected]
    assert ("vgg13_cifar", "vgg8_cifar", "at") not in asked
    assert len(asked) == 2 + 5  # both teachers
