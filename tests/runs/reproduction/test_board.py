"""The verdicts of a board: two one-sided tests by scipy, at their boundaries; what counts as a run of a cell."""

from collections.abc import Callable

import pytest
import scipy.stats
from scipy.optimize import brentq
from support.records import state_content

from kd_bench.results.checking.load import Collection
from kd_bench.results.records.record import Record
from kd_bench.results.records.states import RunState
from kd_bench.runs.reproduction.cells import Cell
from kd_bench.runs.reproduction.verdicts import Board, Line, build_board

from .runs import cell_of, composed_once, runs_of, with_top1

MARGIN = 0.005
SPREAD = [0.003, -0.002, 0.0005, -0.0025, 0.001]  # of five seeds, mean 0
PAIR = "resnet56--resnet20"


def board_of(cell: Cell, records: list[Record], states: list[RunState] | None = None, margin: float = MARGIN) -> Board:
    return build_board(cell.table, [cell], Collection(tuple(records), tuple(states or ()), ()), margin)


def line_of(cell: Cell, records: list[Record], **kwargs) -> Line:
    (line,) = board_of(cell, records, **kwargs).lines
    return line


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("kd_bench.runs.reproduction.verdicts.composed_cells", composed_once)


@pytest.fixture(scope="module")
def kd() -> tuple[Cell, list[Record]]:
    cell = cell_of("crd_table1", "KD", PAIR)
    return cell, runs_of(cell, [cell.published.value + each for each in SPREAD])


# --- Verdicts ---


def one_sided(values: list[float], cell: Cell, bound: float, alternative: str) -> float:
    """p value of: our mean is greater (or less) than the published one by ``bound``."""
    published = cell.published
    if published.std is None:
        return scipy.stats.ttest_1samp(values, published.value + bound, alternative=alternative).pvalue
    described = scipy.stats.describe(values)
    return scipy.stats.ttest_ind_from_stats(
        described.mean,
        described.variance**0.5,
        len(values),
        published.value + bound,
        published.std,
        published.n_seeds,
        equal_var=False,
        alternative=alternative,
    ).pvalue


def expected_verdict(values: list[float], cell: Cell) -> str:
    if max(one_sided(values, cell, -MARGIN, "greater"), one_sided(values, cell, MARGIN, "less")) < 0.05:
        return "reproduced"
    if one_sided(values, cell, -MARGIN, "less") < 0.05:
        return "below"
    return "above" if one_sided(values, cell, MARGIN, "greater") < 0.05 else "inconclusive"


@pytest.mark.parametrize("names", [("KD", PAIR), ("scratch", PAIR)], ids=["spread known", "spread unknown"])
def test_verdicts_change_where_scipys_tests_do(names):
    cell = cell_of("crd_table1", *names)
    assert (cell.published.std is None) == (names[0] == "scratch")
    records = runs_of(cell, [0.5] * 5)

    def shifted(shift: float) -> list[float]:
        return [cell.published.value + each + shift for each in SPREAD]

    def boundary(bound: float, alternative: str) -> float:
        return brentq(lambda shift: one_sided(shifted(shift), cell, bound, alternative) - 0.05, -0.02, 0.02, xtol=1e-12)

    bounds = [(-MARGIN, "less"), (-MARGIN, "greater"), (MARGIN, "less"), (MARGIN, "greater")]
    boundaries = [boundary(*each) for each in bounds]
    assert boundaries == sorted(boundaries)
    found = []
    for shift in (each + side for each in boundaries for side in (-1e-8, 1e-8)):
        line = line_of(cell, with_top1(records, shifted(shift)))
        assert line.verdict == expected_verdict(shifted(shift), cell)
        found.append(line.verdict)
    assert found == ["below", *["inconclusive"] * 2, *["reproduced"] * 2, *["inconclusive"] * 2, "above"]


def test_a_line_has_our_mean_with_95_percent_and_the_difference_with_90(kd):
    cell, records = kd
    line = line_of(cell, records)
    values = [run.metrics.last.test.top1 for run in records]
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (line.ours.mean, line.ours.low, line.ours.high, line.ours.n) == pytest.approx(
        (sum(values) / 5, low, high, 5)
    )
    ours = scipy.stats.describe(values)
    error = (ours.variance / 5 + cell.published.std**2 / cell.published.n_seeds) ** 0.5
    parts = (
        (ours.variance / 5) ** 2 / 4,
        (cell.published.std**2 / cell.published.n_seeds) ** 2 / (cell.published.n_seeds - 1),
    )
    half = scipy.stats.t.ppf(0.95, error**4 / sum(parts)) * error
    mean = sum(values) / 5 - cell.published.value
    assert (line.difference.low, line.difference.high) == pytest.approx((mean - half, mean + half), rel=1e-6)
    assert (line.verdict, line.preliminary, line.notes) == ("reproduced", False, ())
    assert (line.teacher_top1, [run.seed for run in line.runs]) == (pytest.approx(0.7234), [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("seeds", "shift", "verdict"),
    [
        (1, 0.0, "inconclusive"),
        (1, 0.2, "inconclusive"),
        (2, 0.0, "inconclusive"),
        (2, 0.2, "inconclusive"),
        (3, 0.0, "reproduced"),
        (4, 0.2, "above"),
        (5, -0.2, "below"),
    ],
)
def test_fewer_than_three_seeds_reproduce_nothing_and_refute_nothing(kd, seeds, shift, verdict):
    cell, records = kd
    values = [cell.published.value + shift + each / 1000 for each in SPREAD[:seeds]]  # seeds that agree
    line = line_of(cell, with_top1(records[:seeds], values))
    assert (line.verdict, line.preliminary) == (verdict, seeds in (3, 4))
    if seeds == 2:
        assert expected_verdict(values, cell) in ("reproduced", "above")


def test_seeds_without_any_spread_reproduce_nothing(kd):
    cell, records = kd
    line = line_of(cell, with_top1(records, [cell.published.value] * 5))
    assert line.verdict == "inconclusive"
    assert line.notes == ("all seeds agree to the last image, so that nothing is known of their spread",)


def test_the_margin_is_a_choice(kd):
    cell, records = kd
    assert [line_of(cell, records, margin=margin).verdict for margin in (0.001, 0.004, 0.05)] == [
        "inconclusive",
        "reproduced",
        "reproduced",
    ]


def test_a_table_counts_its_verdicts(kd):
    cell, records = kd
    others = [cell_of("crd_table1", name, PAIR) for name in ("AT", "SP", "CRD")]
    found = [*records, *runs_of(others[0], [others[0].published.value + each for each in SPREAD[:3]])]
    board = build_board("crd_table1", [cell, *others], Collection(tuple(found), (), ()), MARGIN)
    assert [line.verdict for line in board.lines] == ["reproduced", "reproduced", "not run", "not run"]
    assert board.counts == "4 cells: 2 reproduced (1 preliminary), 2 not run"
    assert board_of(cell, []).counts == "1 cell: 1 not run"


# --- What counts ---


@pytest.mark.parametrize(
    ("override", "note"),
    [
        ("recipe.epochs=239", "recipe.epochs=239 instead of 240"),
        ("recipe.selection=best_on_test", "recipe.selection=best_on_test instead of last"),
        ("recipe.optimizer.lr=0.1", "recipe.optimizer.lr=0.1 instead of 0.05"),
        ("recipe.augmentation.horizontal_flip=false", "recipe.augmentation.horizontal_flip=False instead of True"),
        ("method.temperature=2", "method.temperature=2.0 instead of 4.0"),
        ("dataset.validation_fraction=0.1", "dataset.validation_fraction=0.1 instead of 0.002"),
        ("dataset.train_samples=1000", "dataset.train_samples=1000 instead of None"),
        ("dataset.source.verify=false", "dataset.source.verify=False instead of True"),
        ("trainer.precision=bf16-mixed", "trainer.precision=bf16-mixed instead of 32-true"),
        ("stage_pairs=[[0,0]]", "stage_pairs[0][0]=0 instead of None, stage_pairs[0][1]=0 instead of None"),
        ("trainer.devices=2", "trainer.devices=2 instead of 1"),
        ("student.pretrained=true", "student.pretrained=True instead of False"),
    ],
)
def test_runs_by_another_protocol_never_count_and_are_noted(kd, override, note):
    cell, records = kd
    others = runs_of(cell, [cell.published.value] * 5, override)
    line = line_of(cell, others)
    assert (line.verdict, line.runs, line.ours) == ("not run", (), None)
    assert line.notes == (f"not counted, of another protocol: {note}",)
    together = line_of(cell, [*others, *records[:3]])
    assert ([run.run_id for run in together.runs], together.notes) == (
        [run.run_id for run in records[:3]],
        line.notes,
    )


@pytest.mark.parametrize(
    "override",
    ["paths.data=elsewhere", "logger=none", "trainer=gpu", "trainer.threads=1", "evaluation=full", "study=another"],
)
def test_what_changes_no_number_changes_no_protocol(kd, override):
    cell, _ = kd
    assert len(line_of(cell, runs_of(cell, [0.7, 0.71, 0.72], override)).runs) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar10"},
        {"student": "resnet32_cifar"},
        {"teacher": "resnet110_cifar"},
        {"role": "teacher"},
        {"generation": 1},
    ],
)
def test_runs_of_other_names_are_not_even_noted(kd, change):
    cell, _ = kd
    line = line_of(cell, runs_of(cell, [cell.published.value] * 3, **change))
    assert (line.verdict, line.notes) == ("not run", ())


def test_the_best_epoch_is_compared_with_the_best_and_the_last_with_the_last():
    """In ``runs_of`` the last epoch of runs that select on the test split is at 50 %."""
    for method, epoch in (("DKD", "best_on_test"), ("KD", "last")):
        cell = cell_of("dkd_cifar100", method, PAIR)
        assert cell.protocol.epoch == epoch
        line = line_of(cell, runs_of(cell, [cell.published.value + each for each in SPREAD]))
        assert (line.verdict, line.ours.mean) == ("reproduced", pytest.approx(cell.published.value))


def test_runs_of_one_table_do_not_count_in_one_of_another_epoch():
    best, last = (cell_of("dkd_cifar100", "DKD", PAIR), cell_of("crd_table1", "KD", PAIR))
    kd_selected_on_test = runs_of(last, [last.published.value] * 5, "recipe=mdistiller")
    assert line_of(last, kd_selected_on_test).verdict == "not run"
    dkd_last = runs_of(best, [best.published.value] * 5, "recipe=crd")
    assert line_of(best, dkd_last).verdict == "not run"


def test_one_seed_counts_once_and_the_later_run_of_it(kd):
    cell, records = kd
    later = runs_of(cell, [0.9], finished="2025-02-01T10:00:00Z")
    line = line_of(cell, [*later, *records])
    assert [run.seed for run in line.runs] == [0, 1, 2, 3, 4]
    assert line.runs[0].run_id == later[0].run_id


def test_runs_of_two_teachers_are_not_averaged(kd):
    cell, records = kd
    others = runs_of(cell, [0.6] * 3, teacher_weights="another")
    line = line_of(cell, [*records, *others])
    assert [run.run_id for run in line.runs] == [run.run_id for run in records]
    assert line.notes == ("of 2 teachers, the one with the most seeds counts",)


@pytest.mark.parametrize(("change", "noted"), [(0.0099, False), (-0.0099, False), (0.0101, True), (-0.0101, True)])
def test_a_teacher_that_is_not_the_published_one_is_noted(kd, change, noted):
    cell, _ = kd
    line = line_of(
        cell,
        runs_of(cell, [cell.published.value + each for each in SPREAD[:3]], teacher_top1=cell.teacher_top1 + change),
    )
    assert any("the teacher is not the published one" in note for note in line.notes) == noted


def test_failed_seeds_are_noted_unless_they_finished_later(kd):
    cell, records = kd
    teacher, student = cell.networks

    def states(*found: tuple[int, str], **changes) -> list[RunState]:
        names = {"dataset": "cifar100", "teacher": teacher, "student": student, "recipe": "crd", **changes}
        return [RunState.model_validate(state_content("kd", state, seed=seed, **names), strict=False)
                for seed, state in found]  # fmt: skip

    failed = states((1, "failed"), (3, "diverged"), (7, "oom"), (8, "running"))
    assert line_of(cell, records[:2], states=failed).notes == ("failed: seed 3 (diverged), 7 (oom)",)
    assert line_of(cell, [], states=failed).notes == ("failed: seed 1 (failed), 3 (diverged), 7 (oom)",)
    assert line_of(cell, [], states=states((1, "failed"), student="resnet8_cifar")).notes == ()


def test_a_student_trained_without_a_teacher_is_the_scratch_of_all_its_pairs():
    cells = [cell_of("crd_table1", "scratch", pair) for pair in (PAIR, "resnet110--resnet20")]
    alone = runs_of(cells[0], [0.69] * 3, teacher=None)
    board = build_board("crd_table1", cells, Collection(tuple(alone), (), ()), MARGIN)
    assert [len(line.runs) for line in board.lines] == [3, 3]


@pytest.mark.parametrize("change", [lambda cells: cells, lambda cells: cells[::-1]])
def test_the_order_of_records_changes_nothing(kd, change: Callable):
    cell, records = kd
    others = runs_of(cell, [0.6] * 3, "recipe.epochs=30")
    assert line_of(cell, change([*records, *others])) == line_of(cell, [*records, *others])
