"""``kd-bench compare`` as a user meets it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from support.records import make_record, save_records, seeds_of

from kd_bench.cli.main import main
from kd_bench.results.text.formats import points

from .runs import TARGETS, guesses, save_run, save_seeds


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    code = main(["compare", *arguments])
    printed = capsys.readouterr()
    assert (code == 0) == (printed.err == "")
    return code, printed.out + printed.err


def test_the_text_has_difference_interval_claim_flips_classes_and_cost(folder, capsys):
    first = [guesses(seed, 0.6) for seed in range(5)]
    second = [guesses(10 + seed, 0.8) for seed in range(5)]
    save_seeds(folder / "runs", "kd", first, seconds=10)
    save_seeds(folder / "runs", "dkd", second, seconds=15)
    code, shown = compare(capsys, "kd", "dkd")
    assert code == 0
    lines = shown.splitlines()
    scores = [[np.mean(each == TARGETS) for each in predictions] for predictions in (first, second)]
    expected = scipy.stats.ttest_rel(scores[1], scores[0])
    low, high = expected.confidence_interval(0.95)
    assert lines[0] == "shapes wide--narrow: dkd against kd"
    assert lines[1] == "  seeds:    0, 1, 2, 3, 4; last epoch"
    assert lines[2] == (
        f"  top-1:    {100 * np.mean(scores[0]):.2f} % → {100 * np.mean(scores[1]):.2f} %: "
        f"{points(np.mean(scores[1]) - np.mean(scores[0]))} points [{points(low)}, {points(high)}], "
        "p < 0.001 (simultaneous over the 2 methods of the board)"
    )
    assert lines[3] == "  verdict:  dkd is better"
    lost = 100 * np.mean([(a == TARGETS) & (b != TARGETS) for a, b in zip(first, second, strict=True)])
    assert lines[4].startswith(f"  flips:    {lost:.2f} % of the images lost, ")
    assert lines[4].endswith("; McNemar p < 0.001 for these networks")
    assert lines[5].startswith("  classes:  4 of 4 differ (McNemar, false discovery rate 5 %): ")
    assert lines[6] == "  cost:     parameters × 1, MACs × 1, training time × 1.5"
    assert len(lines) == 7


def test_json_has_the_same_numbers_in_full(folder, capsys):
    first, second = guesses(1, 0.6), guesses(2, 0.8)
    runs = [save_run(folder / "runs", name, 0, each) for name, each in (("kd", first), ("dkd", second))]
    code, shown = compare(capsys, *(run.run_id for run in runs), "--json")
    (found,) = json.loads(shown)["comparisons"]
    assert code == 0
    assert set(found) == {
        "title", "names", "seeds", "left_out", "selection", "evidence", "differing", "top1", "board_methods",
        "difference", "p_value", "adjusted_p_value", "flips", "classes", "cost", "claim",
    }  # fmt: skip
    assert found["difference"]["mean"] == pytest.approx(np.mean(second == TARGETS) - np.mean(first == TARGETS))
    assert found["flips"]["lost"] == np.mean((first == TARGETS) & (second != TARGETS))
    assert (found["evidence"], found["claim"], found["difference"]["low"]) == ("single run", "too few seeds", None)


def test_one_seed_and_zero_in_the_interval_claim_nothing(folder, capsys):
    save_records([make_record("kd", 0, 0.7), make_record("dkd", 0, 0.9)], folder / "runs")
    shown = compare(capsys, "kd", "dkd")[1]
    assert "seeds:    0; single run; last epoch" in shown
    assert "+20.00 points (one seed: no interval)\n" in shown
    assert "verdict:  no difference can be shown with 1 seed; it takes 3" in shown
    assert "flips:    – (not all runs have their predictions here)" in shown
    save_records(seeds_of("nst", [0.75, 0.76, 0.77]) + seeds_of("pkt", [0.80, 0.81, 0.82]), folder / "alike")
    shown = compare(capsys, "nst", "pkt", "--records", "alike")[1]
    assert "+5.00 points (all seeds differ alike: no interval)\n" in shown
    assert "verdict:  no difference shown with 3 seeds" in shown
    save_records([*seeds_of("at", [0.7, 0.72, 0.74]), *seeds_of("rkd", [0.74, 0.71, 0.75])], folder / "more")
    shown = compare(capsys, "at", "rkd", "--records", "more")[1]
    assert "verdict:  no difference shown with 3 seeds" in shown
    save_records(seeds_of("sp", [0.80, 0.83, 0.84]), folder / "more")
    shown = compare(capsys, "at", "sp", "--records", "more")[1]
    assert "verdict:  sp is better (preliminary: 3 seeds)" in shown


def test_two_folders_are_two_studies_and_what_differs_is_told(folder, capsys):
    save_seeds(folder / "short", "kd", [guesses(seed, 0.6) for seed in range(3)], study="short")
    longer = {"recipe_options": {"epochs": 60}, "selection": "best_on_test", "best": guesses(50, 0.9)}
    save_seeds(folder / "long", "kd", [guesses(20 + seed, 0.8) for seed in range(3)], study="long", **longer)
    code, shown = compare(capsys, "short", "long/")
    assert code == 0
    assert shown.startswith("shapes wide--narrow kd: long/ against short\n")
    assert "  differ:   epochs 30 → 60\n" in shown
    assert "preliminary; last epoch" in shown  # although one of them selected on the test split


def test_several_comparisons_are_corrected_for_their_number(folder, capsys):
    for name, gain in (("a", 0.0), ("b", 0.05)):
        for student in ("narrow", "thin"):
            values = [0.70 + gain, 0.71 + gain, 0.715 + 0.8 * gain]
            records = [make_record("kd", s, v, student=student, recipe=name) for s, v in enumerate(values)]
            save_records(records, folder / name)
    shown = compare(capsys, "a", "b")[1]
    assert shown.count(" against ") == 2
    p_value = scipy.stats.ttest_rel([0.75, 0.76, 0.755], [0.70, 0.71, 0.715]).pvalue
    assert f"p = {p_value:.3f} (paired t, without a board), {2 * p_value:.3f} for all" in shown


def test_hostile_names_are_shown_in_one_line(folder, capsys):
    save_records([make_record("kd\n\x1b[31m", 0), make_record("dkd", 0)], folder / "runs")
    code, shown = compare(capsys, "kd\n\x1b[31m", "dkd")
    assert code == 0
    assert "\x1b" not in shown
    assert shown.splitlines()[0] == "shapes wide--narrow: dkd against kd\\n\\u001b[31m"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["kdd", "dkd"], 2, "'kdd': no path, run, study or method among the records; did you mean 'kd', 'dkd'"),
        (["kd", "other_data"], 3, "nothing in common"),
        (["kd", "other_teacher"], 2, "runs with different teachers cannot be compared"),
        (["kd", "late"], 3, "no seed in common"),
        (["kd", "dkd", "--pair", "wide--other"], 3, "no finished run on the pair"),
        (["kd", "dkd", "--records", "nowhere"], 2, "nowhere is not a directory"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder, capsys, arguments, code, expected):
    save_records(
        [
            *seeds_of("kd", [0.7, 0.8]),
            *seeds_of("dkd", [0.7, 0.8]),
            *seeds_of("other_data", [0.7, 0.8], data=1, dataset="pictures"),
            *seeds_of("other_teacher", [0.7, 0.8], teacher_weights=1),
            make_record("late", 7),
        ],
        folder / "runs",
    )
    found, shown = compare(capsys, *arguments)
    assert (found, shown.count("\n")) == (code, 1)
    assert expected in shown


def test_damaged_predictions_are_exit_code_4(folder, capsys):
    for name in ("kd", "dkd"):
        run = save_run(folder / "runs", name, 0, guesses(len(name), 0.7))
    path = folder / "runs" / run.run_id / "predictions.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    code, shown = compare(capsys, "kd", "dkd")
    assert (code, shown.count("\n")) == (4, 1)
    assert f"{path.relative_to(folder)} is not the file of its record: its content has changed" in shown


def test_comparing_needs_no_torch(folder):
    for name in ("kd", "dkd"):
        save_run(folder / "runs", name, 0, guesses(len(name), 0.7))
    script = (
        "import sys; from kd_bench.cli.main import main; main(['compare', 'kd', 'dkd']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
