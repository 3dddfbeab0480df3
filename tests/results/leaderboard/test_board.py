import pytest
import yaml
from scipy import stats
from support.records import make_record, measured_content, record_content, seeds_of, state_content

from kd_bench.config.paths import CONF
from kd_bench.results.checking.load import Collection
from kd_bench.results.leaderboard.building import build
from kd_bench.results.leaderboard.columns import COLUMNS, columns_of
from kd_bench.results.records.record import Record
from kd_bench.results.records.states import RunState
from kd_bench.results.statistics.simultaneous import Comparison, compare_all

SCRATCH = (0.70, 0.71, 0.72, 0.71, 0.70)
KD = (0.73, 0.74, 0.75, 0.74, 0.735)


def boards_of(*groups, states=()):
    records = tuple(sorted((record for group in groups for record in group), key=lambda record: record.run_id))
    validated = tuple(RunState.model_validate(state) for state in states)
    return build(Collection(records, validated, ())).boards


def board_of(*groups, states=()):
    (board,) = boards_of(*groups, states=states)
    return board


def rows_of(*groups, states=()):
    return {row.entry.label: row for row in board_of(*groups, states=states).rows}


def test_means_intervals_and_differences_are_scipys():
    row = rows_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD))["kd"]
    interval = stats.t.interval(0.95, 4, loc=sum(KD) / 5, scale=stats.sem(KD))
    difference = stats.ttest_rel(KD, SCRATCH)  # which two methods are compared by
    assert row.top1.mean == pytest.approx(0.739)
    assert (row.top1.low, row.top1.high) == pytest.approx(interval)
    assert row.versus_scratch.difference == pytest.approx(0.031)
    ends = difference.confidence_interval(0.95)
    assert (row.versus_scratch.low, row.versus_scratch.high) == pytest.approx((ends.low, ends.high))
    assert row.versus_scratch.p_value == pytest.approx(difference.pvalue)
    assert (row.versus_scratch.seeds, row.versus_scratch.claim) == (5, "better")
    assert row.retention == pytest.approx(0.739 / 0.8)
    assert row.gap_closed == pytest.approx((0.739 - 0.708) / (0.8 - 0.708))
    assert row.retention_over_chance == pytest.approx((0.739 - 0.25) / (0.8 - 0.25))
    means = {key: value.mean for key, value in row.metrics.items() if value is not None}
    assert means.items() >= {"ece": 0.04, "nll": 0.75}.items()
    assert (means["negative_flips"], means["teacher_agreement"]) == pytest.approx((0.8 - 0.739 + 0.02, 0.739 + 0.16))
    assert means.items() >= {"parameters": 1500, "macs": 250_000, "train_seconds": 12.5}.items()
    assert row.floors == {"ece": 0.01, "scaled_ece": None}


def test_a_baseline_has_no_difference_to_itself():
    rows = rows_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD))
    assert rows["scratch"].versus_scratch is None
    assert rows["scratch"].gap_closed is None
    assert rows["scratch"].versus_kd.difference == pytest.approx(-0.031)
    assert rows["kd"].versus_kd is None


def test_all_claims_come_from_one_family():
    """Ranks, differences, p values and bold are those of all pairs of the ranked rows."""
    groups = [seeds_of("scratch", SCRATCH), seeds_of("kd", KD), seeds_of("at", (0.72, 0.75, 0.73, 0.74, 0.75))]
    board = board_of(*groups, seeds_of("few", (0.9, 0.91)))
    family = compare_all({row.entry.key: row.entry.scores for row in board.rows if row.entry.name != "few"})
    assert board.family == family
    for row in board.rows[:-1]:
        assert row.rank == family.rank(row.entry.key)
        for reference, found in ((board.kd, row.versus_kd), (board.scratch, row.versus_scratch)):
            expected = None if row is reference else family.compare(row.entry.key, reference.entry.key)
            assert found == expected
    few = board.rows[-1]
    assert (few.entry.name, few.rank, few.best) == ("few", None, False)
    assert few.versus_kd == Comparison(pytest.approx(0.17), 2, None, None, None, "not separated")


def test_rows_that_are_separated_one_by_one_but_not_all_together_claim_nothing():
    """Each of the two others is told from the first by a paired t test at 5 %, which two of 3 pairs may be by luck."""
    first = (0.80, 0.81, 0.82, 0.83, 0.84)
    other = [value - gap for value, gap in zip(first, (0.0105, 0.0035, 0.0165, 0.0035, 0.0185), strict=True)]
    assert 0.05 / 2 < stats.ttest_rel(first, other).pvalue < 0.05
    board = board_of(seeds_of("a", first), seeds_of("b", other), seeds_of("c", other))
    assert [row.rank for row in board.rows] == [(1, 3)] * 3
    assert not any(row.best for row in board.rows)
    assert board_of(seeds_of("a", first), seeds_of("b", other)).rows[0].best


def test_only_shared_seeds_are_paired():
    rows = rows_of(seeds_of("scratch", SCRATCH[:3]), seeds_of("kd", KD))
    assert rows["kd"].versus_scratch.seeds == 3
    assert rows["kd"].versus_scratch.difference == pytest.approx(0.03)


def test_missing_baselines_leave_differences_missing_and_are_noted():
    board = board_of(seeds_of("dkd", KD))
    (row,) = board.rows
    assert row.versus_scratch is row.versus_kd is row.gap_closed is None
    assert board.notes == (
        "No finished run of scratch as it ships: differences to scratch are missing.",
        "No finished run of kd as it ships: differences to kd are missing.",
    )


def test_rows_that_are_not_separated_share_ranks_and_the_worse_method_does_not():
    near = tuple(value + 0.001 * (-1) ** seed for seed, value in enumerate(KD))
    rows = rows_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD), seeds_of("at", near))
    assert rows["kd"].rank == rows["at"].rank == (1, 2)
    assert rows["scratch"].rank == (3, 3)
    assert not any(row.best for row in rows.values())


def test_intervals_end_where_the_quantity_does():
    """The t interval of 0.99, 0.995 and 1 reaches beyond 1, and that of its complement below 0."""
    row = rows_of(seeds_of("kd", (0.99, 0.995, 1.0)))["kd"]
    low, high = stats.t.interval(0.95, 2, loc=0.995, scale=stats.sem([0.99, 0.995, 1.0]))
    assert high > 1
    assert (row.top1.low, row.top1.high) == (pytest.approx(low), 1.0)
    column = next(column for column in COLUMNS if column.key == "top1")
    assert column.cell(row).note == f"[{100 * low:.2f}, 100.00]"


def test_equal_means_are_ordered_by_name():
    labels = [row.entry.label for row in board_of(seeds_of("b", KD), seeds_of("a", KD), seeds_of("c", KD)).rows]
    assert labels == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("n", "evidence", "ranked"),
    [(1, "single run", False), (2, "too few runs", False), (3, "preliminary", True), (5, "ranked", True)],
)
def test_evidence_decides_about_ranks(n, evidence, ranked):
    rows = rows_of(seeds_of("kd", KD), seeds_of("other", [0.99 + 0.001 * seed for seed in range(n)]))
    assert rows["other"].evidence == evidence
    assert (rows["other"].rank is not None) is ranked
    assert rows["kd"].rank == ((2, 2) if ranked else (1, 1))


def test_rows_without_a_rank_come_last_however_good():
    board = board_of(seeds_of("kd", KD), seeds_of("lucky", [0.99]))
    assert [row.entry.label for row in board.rows] == ["kd", "lucky"]
    assert board.rows[1].top1.low is None


def test_best_needs_a_claim_and_a_difference_to_every_ranked_row():
    clear = tuple(value + 0.02 + 0.001 * seed for seed, value in enumerate(KD))
    assert [row.best for row in board_of(seeds_of("kd", KD), seeds_of("clear", clear)).rows] == [True, False]
    constant = tuple(value + 0.02 for value in KD)  # whose spread is unknown
    assert not any(row.best for row in board_of(seeds_of("kd", KD), seeds_of("constant", constant)).rows)
    assert not any(row.best for row in board_of(seeds_of("kd", KD), seeds_of("clear", clear[:4])).rows)
    assert not any(row.best for row in board_of(seeds_of("clear", clear)).rows)
    noisy = (0.5, 0.95, 0.6, 0.8, 0.75)  # worse on average, but so noisy that nothing is shown
    board = board_of(seeds_of("clear", clear), seeds_of("kd", KD), seeds_of("noisy", noisy))
    assert not any(row.best for row in board.rows)


def test_hyperparameters_are_never_averaged_and_name_the_rows():
    shared = {"kd_weight": 0.9, "stages": [1, 2], "inner": {"momentum": 0.5}}
    one = seeds_of("kd", KD, options={**shared, "temperature": 4})
    other = seeds_of("kd", KD[:3], options={**shared, "temperature": 8.5, "mode": "warm"})
    rows = rows_of(one, other)
    assert set(rows) == {"kd [mode=unset, temperature=4]", "kd [mode=warm, temperature=8.5]"}
    assert rows["kd [mode=unset, temperature=4]"].top1.n == 5
    assert rows["kd [mode=warm, temperature=8.5]"].top1.n == 3


def test_nested_hyperparameters_are_named_by_their_path():
    rows = rows_of(
        seeds_of("kd_at", KD, options={"terms": {"kd": {"weight": 1}, "at": {"weight": 2}}}),
        seeds_of("kd_at", KD, options={"terms": {"kd": {"weight": 1}, "at": {"weight": 3}}}),
    )
    assert set(rows) == {"kd_at [terms.at.weight=2]", "kd_at [terms.at.weight=3]"}


def test_a_seed_within_the_configuration_does_not_split_a_row():
    records = [make_record("kd", seed, 0.7 + 0.01 * seed, options={"noise": {"seed": seed}}) for seed in range(3)]
    assert rows_of(records)["kd"].top1.n == 3


def test_the_kd_baseline_is_the_shipped_configuration_whatever_has_more_seeds():
    shipped = yaml.safe_load((CONF / "method" / "kd.yaml").read_text())
    ours = seeds_of("kd", KD[:3], options=shipped)
    hot = seeds_of("kd", [0.9] * 6, options={"temperature": 50.0})
    later = seeds_of("kd", [0.8] * 5, generation=1)
    tuned = with_trials(seeds_of("kd", [0.85] * 5), 16)
    board = board_of(ours, hot, later, tuned, seeds_of("dkd", [0.75] * 3))
    rows = {row.entry.label: row for row in board.rows}
    assert rows["dkd"].versus_kd.difference == pytest.approx(0.75 - 0.74)
    assert board.kd.entry.label == "kd [temperature=4.0, tuning.trials=0]"
    assert "kd (generation 1)" in rows
    assert "Differences to kd refer to kd [temperature=4.0, tuning.trials=0]." in board.notes


def test_without_the_shipped_configuration_there_is_no_baseline():
    board = board_of(seeds_of("kd", KD, options={"temperature": 50.0}), seeds_of("dkd", KD))
    assert board.kd is None
    assert {row.versus_kd for row in board.rows} == {None}
    assert "No finished run of kd as it ships: differences to kd are missing." in board.notes


def with_trials(records, trials, **config):
    """The same as found by a search of so many trials, with run ids of their own."""
    for record in records:
        changed = {**record.config, "tuning": {"trials": trials, "space": {}}, **config}
        yield record.model_copy(update={"config": changed, "run_id": f"{record.run_id[:12]}{trials:04x}"})


def test_tuned_runs_are_a_row_of_their_own_with_the_same_values():
    board = board_of(seeds_of("dkd", KD), with_trials(seeds_of("dkd", SCRATCH), 16))
    rows = {row.entry.label: row for row in board.rows}
    assert set(rows) == {"dkd [tuning.trials=0]", "dkd [tuning.trials=16]"}
    assert rows["dkd [tuning.trials=0]"].entry.scores == dict(enumerate(KD))
    assert [column.key for column in columns_of(board.rows) if column.shown][-1] == "tuning_trials"
    assert "tuning_trials" not in [column.key for column in columns_of(rows_of(seeds_of("kd", KD)).values())]


def test_runs_with_other_plugins_are_a_row_of_their_own():
    board = board_of(seeds_of("dkd", KD), with_trials(seeds_of("dkd", SCRATCH), 0, plugins=["mine"]))
    assert {row.entry.label for row in board.rows} == {"dkd [plugins=[]]", 'dkd [plugins=["mine"]]'}


def test_selection_rules_are_not_mixed():
    chosen = seeds_of("kd", KD, best=0.9, selection="best_on_validation")
    rows = rows_of(seeds_of("kd", KD, best=0.9), chosen)
    assert rows["kd [selection=last]"].top1.mean == pytest.approx(0.739)
    assert rows["kd [selection=best_on_validation]"].top1.mean == pytest.approx(0.9)
    assert all(row.metrics["best_on_validation"].mean == pytest.approx(0.9) for row in rows.values())


def test_a_seed_that_was_run_again_counts_once_with_its_latest_run():
    old = make_record("kd", 0, 0.1, finished="2025-01-01T12:30:00+02:00")  # 10:30 UTC
    new = make_record("kd", 0, 0.7, finished="2025-01-01T11:00:00Z")
    naive = make_record("kd", 0, 0.2, finished="2025-01-01T09:00:00")
    board = board_of([old, new, naive], seeds_of("kd", KD)[1:])
    (row,) = board.rows
    assert row.entry.scores == {0: 0.7, 1: 0.74, 2: 0.75, 3: 0.74, 4: 0.735}
    assert row.entry.left_out == 2
    assert "kd: 2 further runs of the same seeds left out; the latest counts." in board.notes


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "letters"},
        {"data": "other content"},
        {"student": "slim"},
        {"recipe": "long"},
        {"recipe_options": {"epochs": 60}},
        {"teacher": "deep"},
        {"teacher_weights": "other weights"},
    ],
)
def test_what_must_not_be_compared_is_on_another_board(changes):
    boards = boards_of(seeds_of("kd", KD), seeds_of("kd", KD, **changes))
    assert [len(board.rows) for board in boards] == [1, 1]
    assert boards[0].identifier != boards[1].identifier


def test_split_sizes_and_number_switches_make_another_board():
    subset, other_precision = make_record("kd", 1), make_record("kd", 2)
    smaller = subset.dataset.model_copy(update={"train_samples": 90})
    subset = subset.model_copy(update={"dataset": smaller})
    config = {**other_precision.config, "trainer": {"precision": "bf16-mixed", "threads": 4}}
    other_precision = other_precision.model_copy(update={"config": config})
    boards = boards_of([make_record("kd", 0)], [subset], [other_precision])
    assert len(boards) == 3
    assert any("trainer.precision=bf16-mixed" in board.title for board in boards)


def test_threads_and_paths_do_not_make_another_board():
    records = seeds_of("kd", KD)
    changed = [
        record.model_copy(
            update={"config": {**record.config, "trainer": {"threads": record.seed}, "paths": record.seed}}
        )
        for record in records
    ]
    assert board_of(changed).rows[0].top1.n == 5


def test_boards_of_the_same_names_are_told_apart_by_their_recipe():
    long = seeds_of("kd", KD, recipe_options={"epochs": 60, "optimizer": {"lr": 0.1}})
    short = seeds_of("kd", KD, recipe_options={"epochs": 30, "optimizer": {"lr": 0.1}})
    titles = {board.title for board in boards_of(long, short)}
    assert titles == {f"shapes · wide → narrow · short [epochs={epochs}]" for epochs in (30, 60)}


def test_runs_without_a_teacher_are_on_every_board_of_their_setting():
    scratch = seeds_of("scratch", SCRATCH, teacher=None)
    boards = boards_of(scratch, seeds_of("kd", KD), seeds_of("kd", KD, teacher="deep", teacher_top1=0.9))
    assert [board.teacher.name for board in boards] == ["deep", "wide"]
    for board, teacher_top1 in zip(boards, (0.9, 0.8), strict=True):
        rows = {row.entry.label: row for row in board.rows}
        assert rows["kd"].versus_scratch.difference == pytest.approx(0.031)
        assert rows["scratch"].retention == pytest.approx(0.708 / teacher_top1)
        assert rows["scratch"].metrics["teacher_agreement"] is None


def test_runs_without_any_teacher_have_their_own_board():
    board = board_of(seeds_of("scratch", SCRATCH, teacher=None))
    assert board.teacher is None
    assert board.title == "shapes · narrow, no teacher · short"
    assert board.rows[0].retention is None


def test_teachers_are_listed_and_not_ranked():
    collection = Collection((make_record("scratch", role="teacher", student="wide", teacher=None),), (), ())
    leaderboard = build(collection)
    assert leaderboard.boards == ()
    assert [record.student.name for record in leaderboard.teachers] == ["wide"]


def test_failed_and_unfinished_runs_are_counted_by_name():
    states = [
        state_content("kd", "failed"),
        state_content("kd", "oom", seed=1),
        state_content("kd", "preempted", seed=2),
        state_content("kd", "failed", seed=3, teacher="deep"),
        state_content("kd", "failed", seed=4, recipe="long"),
        state_content("kd", "failed", seed=5, role="teacher"),
        state_content("scratch", "running", teacher=None),
    ]
    rows = rows_of(seeds_of("kd", KD), seeds_of("scratch", SCRATCH), states=states)
    assert (rows["kd"].failed, rows["kd"].unfinished) == (2, 1)
    assert (rows["scratch"].failed, rows["scratch"].unfinished) == (0, 1)


def test_a_method_of_which_nothing_finished_is_noted_on_the_board():
    states = [state_content("dkd", "failed", seed=seed) for seed in range(3)]
    board = board_of(seeds_of("kd", KD), states=[*states, state_content("dkd", "running", seed=3)])
    assert "No finished run of dkd: 3 failed, 1 unfinished." in board.notes
    assert len(board.rows) == 1


def test_a_metric_that_one_seed_lacks_is_missing():
    records = seeds_of("kd", KD)
    last = records[0].metrics.last
    test = last.test.model_copy(update={"teacher_agreement": None})
    metrics = records[0].metrics.model_copy(update={"last": last.model_copy(update={"test": test})})
    records[0] = records[0].model_copy(update={"metrics": metrics})
    (row,) = board_of(records).rows
    assert row.metrics["teacher_agreement"] is None
    assert row.metrics["negative_flips"].mean == pytest.approx(0.8 - 0.739 + 0.02)


def test_board_identifiers_are_stable():
    """A link to a board outlives new records: the identifier depends on what is compared, not on the rows."""
    one, other = board_of(seeds_of("kd", KD)), board_of(seeds_of("dkd", KD), seeds_of("kd", KD))
    assert one.identifier == other.identifier


def measured(seed, method="kd"):
    return Record.model_validate(measured_content(record_content(method, seed)), strict=False)


def test_a_board_says_of_which_rows_not_all_seeds_are_measured_in_full():
    """Their numbers would be missing without a word."""
    board = board_of([measured(0), measured(1), *seeds_of("kd", KD)[2:]], [measured(0, "at"), measured(1, "at")])
    note = "Not all seeds have a full evaluation, and its numbers are missing until they do: kd 2 of 5."
    assert note in board.notes
    rows = {row.entry.name: row for row in board.rows}
    assert rows["kd"].metrics["embedding_cka"] is None
    assert rows["at"].metrics["embedding_cka"].mean == 0.8


@pytest.mark.parametrize(
    ("values", "note", "unclear"),
    [
        (KD[:1], "[1 pair]", True),
        ([value + 0.02 for value in SCRATCH], "[no spread]", True),
        ([SCRATCH[0] + 0.020, SCRATCH[1] + 0.021], "[2 pairs]", True),  # two seeds are no evidence
        ([value + 0.02 + 0.001 * seed for seed, value in enumerate(SCRATCH)], "[+2.00, +2.40]", False),
    ],
)
def test_a_difference_stands_out_only_with_three_seeds_and_an_interval_without_zero(values, note, unclear):
    row = rows_of(seeds_of("scratch", SCRATCH), seeds_of("other", values))["other"]
    column = next(column for column in COLUMNS if column.key == "scratch_difference")
    cell = column.cell(row)
    assert (cell.note, cell.unclear) == (note, unclear)
    assert (cell.mark, cell.meaning) == (("", "") if unclear else ("▲", "better than scratch"))
