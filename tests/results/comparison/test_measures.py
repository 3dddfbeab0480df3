"""Differences, flips, classes and costs against scipy, and numpy formulas written out here."""

import numpy as np
import pytest
import scipy.stats
from support.records import make_record, measured_content, record_content

from kd_bench.errors import IntegrityError
from kd_bench.results.comparison.flips import prediction_files
from kd_bench.results.comparison.measures import Comparison, compare, compare_all
from kd_bench.results.comparison.sides import Side, couples
from kd_bench.results.records.record import Record

from .runs import CLASSES, SAMPLES, TARGETS, guesses, save_run, save_seeds


def of_methods(first: list[Record], second: list[Record], folder=None) -> Comparison:
    sides = [Side(runs[0].method.name, "method", tuple(runs)) for runs in (first, second)]
    (couple,) = couples(*sides, None)
    return compare(couple, prediction_files([folder]) if folder else {})


@pytest.fixture
def five(tmp_path):
    """Predictions of five seeds of two methods, and what comparing them gives."""
    predictions = {
        name: [guesses(100 * number + seed, accuracy) for seed in range(5)]
        for number, (name, accuracy) in enumerate({"kd": 0.7, "dkd": 0.76}.items())
    }
    records = [save_seeds(tmp_path, name, each) for name, each in predictions.items()]
    return predictions, of_methods(*records, tmp_path)


# --- By seed ---


def test_the_difference_is_that_of_a_paired_t_test(five):
    predictions, found = five
    scores = [np.array([np.mean(each == TARGETS) for each in predictions[name]]) for name in ("kd", "dkd")]
    expected = scipy.stats.ttest_rel(scores[1], scores[0])
    interval = expected.confidence_interval(0.95)
    difference = found.difference
    assert (difference.mean, difference.low, difference.high) == pytest.approx(
        (np.mean(scores[1] - scores[0]), interval.low, interval.high), rel=1e-9
    )
    assert (found.p_value, found.adjusted_p_value) == pytest.approx((expected.pvalue, expected.pvalue), rel=1e-9)
    assert [side.mean for side in found.top1] == pytest.approx([each.mean() for each in scores])
    assert (found.names, found.seeds, found.evidence) == (("kd", "dkd"), (0, 1, 2, 3, 4), "ranked")


@pytest.mark.parametrize(
    ("first", "second", "claim"),
    [
        ([0.70, 0.71, 0.72, 0.70, 0.71], [0.75, 0.75, 0.77, 0.75, 0.77], "better"),
        ([0.75, 0.75, 0.77], [0.70, 0.71, 0.72], "worse"),
        ([0.70, 0.71, 0.72, 0.70, 0.71], [0.75, 0.70, 0.73, 0.69, 0.71], "not told apart"),
        ([0.70, 0.71, 0.72], [0.70, 0.71, 0.72], "not told apart"),
        ([0.70, 0.70], [0.80, 0.80], "too few seeds"),
        ([0.70], [0.90], "too few seeds"),
    ],
)
def test_nothing_is_claimed_by_few_seeds_or_an_interval_with_0_in_it(first, second, claim):
    records = [[make_record(name, seed, value) for seed, value in enumerate(values)] for name, values in
               (("kd", first), ("dkd", second))]  # fmt: skip
    found = of_methods(*records)
    assert found.claim == claim
    if claim in ("better", "worse"):
        assert scipy.stats.ttest_rel(second, first).pvalue < 0.05
    if len(first) == 1:
        assert (found.p_value, found.difference.low, found.evidence) == (None, None, "single run")


def test_one_claim_of_many_has_to_stand_by_holms_correction():
    """The same difference is a claim alone, and none among comparisons that show nothing."""
    first, second = [0.70, 0.71, 0.72, 0.70, 0.71], [0.71, 0.712, 0.727, 0.709, 0.712]
    p_value = scipy.stats.ttest_rel(second, first).pvalue
    assert 0.05 / 4 < p_value < 0.05

    def study(name: str, values: list[float]) -> Side:
        sets = [values, *([first] * 3)]
        records = [
            make_record("kd", seed, value, student=f"net{number}")
            for number, each in enumerate(sets)
            for seed, value in enumerate(each)
        ]
        return Side(name, "study", tuple(records))

    found = compare_all(couples(study("a", first), study("b", second), None), {})
    assert [one.p_value for one in found] == pytest.approx([p_value, 1, 1, 1])
    assert [one.adjusted_p_value for one in found] == pytest.approx([4 * p_value, 1, 1, 1])
    assert not found[0].difference.contains_zero
    assert [one.claim for one in found] == ["not told apart"] * 4
    assert of_methods(
        [make_record("kd", seed, value) for seed, value in enumerate(first)],
        [make_record("dkd", seed, value) for seed, value in enumerate(second)],
    ).claim == "better"  # fmt: skip


def test_only_shared_seeds_count_and_the_others_are_told_of():
    first = [make_record("kd", seed, 0.7 + seed / 100) for seed in (0, 1, 2)]
    second = [make_record("dkd", seed, 0.8 + seed / 100) for seed in (1, 2, 3, 4)]
    found = of_methods(first, second)
    assert (found.seeds, found.left_out) == ((1, 2), 3)
    assert [side.mean for side in found.top1] == pytest.approx([0.715, 0.815])


def test_runs_of_two_selection_rules_are_compared_by_the_last_epoch(tmp_path):
    last, best, other = guesses(1, 0.6), guesses(2, 0.9), guesses(3, 0.7)
    first = save_run(tmp_path, "kd", 0, last, best=best, selection="best_on_test")
    second = save_run(tmp_path, "dkd", 0, other)
    third = save_run(tmp_path, "dkd", 0, other, best=guesses(4, 0.8), selection="best_on_test", run_id=16 * "3")

    def accuracies(*records: Record) -> list[float]:
        (couple,) = couples(*(Side(record.run_id, "run", (record,)) for record in records), None)
        found = compare(couple, prediction_files([tmp_path]))
        assert found.flips is not None
        return [found.selection, *(side.mean for side in found.top1), found.flips.lost]

    lost = np.mean((last == TARGETS) & (other != TARGETS))
    assert accuracies(first, second) == ["last", np.mean(last == TARGETS), np.mean(other == TARGETS), lost]
    lost = np.mean((best == TARGETS) & (guesses(4, 0.8) != TARGETS))
    assert accuracies(first, third)[::3] == ["best_on_test", lost]


# --- By sample and class ---


def test_flips_of_one_seed_are_those_of_mcnemars_exact_test(tmp_path):
    before, after = guesses(7, 0.7), guesses(8, 0.8)
    records = [[save_run(tmp_path, "kd", 0, before)], [save_run(tmp_path, "dkd", 0, after)]]
    flips = of_methods(*records, tmp_path).flips
    lost = int(((before == TARGETS) & (after != TARGETS)).sum())
    gained = int(((before != TARGETS) & (after == TARGETS)).sum())
    assert (flips.lost, flips.gained) == (lost / SAMPLES, gained / SAMPLES)
    assert flips.changed == np.mean(before != after)
    assert flips.p_value == pytest.approx(scipy.stats.binomtest(lost, lost + gained).pvalue)
    assert 0 < flips.p_value < 0.05


def test_flips_of_several_seeds_count_every_sample_once(five):
    predictions, found = five
    right = {name: np.stack([each == TARGETS for each in predictions[name]]).astype(int) for name in predictions}
    changes = right["dkd"] - right["kd"]
    assert found.flips.lost == pytest.approx((changes == -1).mean())
    assert found.flips.gained == pytest.approx((changes == 1).mean())
    assert found.flips.changed == pytest.approx(
        np.mean([a != b for a, b in zip(predictions["kd"], predictions["dkd"], strict=True)])
    )
    assert found.flips.gained - found.flips.lost == pytest.approx(found.difference.mean)
    votes = changes.sum(axis=0)
    up, down = int((votes > 0).sum()), int((votes < 0).sum())
    assert up + down <= SAMPLES
    assert found.flips.p_value == pytest.approx(scipy.stats.binomtest(up, up + down).pvalue)


def test_changes_by_class_are_tested_and_corrected_for_their_number(five):
    predictions, found = five
    changes = np.stack(
        [
            (after == TARGETS).astype(int) - (before == TARGETS)
            for before, after in zip(predictions["kd"], predictions["dkd"], strict=True)
        ]
    )
    votes = changes.sum(axis=0)
    p_values = []
    for number in range(CLASSES):
        own = votes[number == TARGETS]
        p_values.append(scipy.stats.binomtest(int((own > 0).sum()), int((own != 0).sum())).pvalue)
    adjusted = scipy.stats.false_discovery_control(p_values)
    assert [change.name for change in found.classes] == ["a", "b", "c", "d"]
    assert [change.samples for change in found.classes] == [100] * CLASSES
    assert [change.difference for change in found.classes] == pytest.approx(
        [changes[:, number == TARGETS].mean() for number in range(CLASSES)]
    )
    assert [change.p_value for change in found.classes] == pytest.approx(list(adjusted))


def test_without_all_predictions_there_are_no_flips_and_classes_come_from_the_records_untested():
    def run(method: str, correct: list[int]) -> Record:
        content = measured_content(record_content(method))
        content["metrics"]["last"]["classes"]["correct"] = correct
        return Record.model_validate(content, strict=False)

    found = of_methods([run("kd", [90, 60, 80, 0])], [run("dkd", [80, 70, 80, 0])])
    assert found.flips is None
    shown = [(change.name, change.difference, change.p_value) for change in found.classes]
    assert shown == [("a", -0.1, None), ("b", 0.1, None), ("c", 0.0, None)]  # "d" has no test sample
    assert of_methods([make_record("kd")], [make_record("dkd")]).classes == ()


def test_predictions_of_some_seeds_only_show_no_flips(tmp_path):
    first = save_seeds(tmp_path, "kd", [guesses(1, 0.7), guesses(2, 0.7)])
    second = save_seeds(tmp_path, "dkd", [guesses(3, 0.7), guesses(4, 0.7)])
    (tmp_path / second[1].run_id / "predictions.safetensors").unlink()
    assert of_methods(first, second, tmp_path).flips is None


@pytest.mark.parametrize("hashed", [True, False])
def test_predictions_of_another_run_are_refused(tmp_path, hashed):
    first = save_run(tmp_path, "kd", 0, guesses(1, 0.7), hashed)
    second = save_run(tmp_path, "dkd", 0, guesses(2, 0.8), hashed)
    path = tmp_path / second.run_id / "predictions.safetensors"
    path.write_bytes((tmp_path / first.run_id / path.name).read_bytes())
    with pytest.raises(IntegrityError, match=r"is not the file of its record: its (content|accuracy)"):
        of_methods([first], [second], tmp_path)


def test_predictions_of_another_shape_are_refused(tmp_path):
    from safetensors.numpy import save_file

    records = [save_run(tmp_path, name, 0, guesses(1, 0.7), hashed=False) for name in ("kd", "dkd")]
    path = tmp_path / records[1].run_id / "predictions.safetensors"
    save_file({"test/last": np.zeros(SAMPLES, np.float32), "test/targets": TARGETS}, path)
    with pytest.raises(IntegrityError, match=r"logits of shape \(400,\) and targets of \(400,\), not \(400, 4\)"):
        of_methods([records[0]], [records[1]], tmp_path)
    save_file({"test/targets": TARGETS}, path)
    with pytest.raises(IntegrityError, match="cannot be read"):
        of_methods([records[0]], [records[1]], tmp_path)


# --- Cost ---


def test_costs_are_ratios_of_sums():
    first = [make_record("kd", seed, seconds=10.0 + seed) for seed in range(3)]
    second = [make_record("dkd", seed, seconds=20.0 + seed) for seed in range(3)]
    cost = of_methods(first, second).cost
    assert cost.train_seconds == pytest.approx((20 + 21 + 22) / (10 + 11 + 12))
    assert (cost.parameters, cost.macs, cost.same_machine) == (1.0, 1.0, True)


def test_costs_on_another_machine_are_marked_and_unknown_ones_missing():
    content = record_content("dkd", seconds=25.0)
    content["hardware"]["threads"] = 8
    content["student"]["macs"] = 500_000
    other = Record.model_validate(content, strict=False)
    found = of_methods([make_record("kd")], [other]).cost
    assert (found.train_seconds, found.macs, found.same_machine) == (2.0, 2.0, False)
    assert of_methods([make_record("kd", seconds=0.0)], [other]).cost.train_seconds is None
