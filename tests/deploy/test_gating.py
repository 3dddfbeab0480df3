"""The gate: numbers against bounds, evidence, references, waivers, and the outputs."""

import json
import math
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.records import make_record, measured_content, record_content, save, save_records, seeds_of

from kd_bench.cli.main import main
from kd_bench.deploy.gate_report import as_json, as_junit, as_markdown, as_text
from kd_bench.deploy.gating import Report, apply, judge
from kd_bench.deploy.parts import Counts, paired_half_width, part_quantity
from kd_bench.deploy.policy import NamedPolicy, Policy, Rule
from kd_bench.deploy.quantities import quantities
from kd_bench.deploy.subject import Quantity, Subject, find_subject
from kd_bench.errors import ConfigError
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.intervals import Estimate

TODAY = date(2026, 1, 15)
TOP1 = [0.76, 0.77, 0.772]  # of teachers that get 0.8


def gated(folder: Path, name: str = "kd", waivers: tuple[Any, ...] = (), **rule: Any) -> Report:
    policy = Policy.model_validate(
        {"claim": "c", "rules": [{"name": "the rule", "metric": "retention", **rule}], "waivers": waivers}
    )
    return apply(NamedPolicy("p", "0" * 64, policy), find_subject(name, folder), TODAY)


def saved(folder: Path, records: list[Record]) -> Path:
    save_records(records, folder)
    return folder


def test_retention_passes_and_fails_by_the_lower_end_of_its_t_interval(tmp_path):
    runs = saved(tmp_path, seeds_of("kd", TOP1))
    ratios = np.array(TOP1) / 0.8
    low = float(stats.t.interval(0.95, 2, ratios.mean(), stats.sem(ratios))[0])
    assert low < ratios.mean()
    passed, failed = gated(runs, at_least=low - 1e-6), gated(runs, at_least=low + 1e-6)
    assert (passed.outcome, passed.exit_code) == ("pass", 0)
    assert (failed.outcome, failed.exit_code) == ("fail", 1)
    assert passed.verdicts[0].worst.value == pytest.approx(low, abs=1e-12)
    assert "more seeds may decide" in failed.verdicts[0].worst.reason
    assert gated(runs, at_least=low + 1e-6, evidence="point").outcome == "pass"
    assert gated(runs, at_least=0.97, evidence="upper").outcome == "pass"  # the mean is 0.959


@pytest.mark.parametrize("top1", [0.8, 0.1])
def test_one_seed_is_insufficient_evidence_whatever_its_number(tmp_path, top1):
    runs = saved(tmp_path, seeds_of("kd", [top1]))
    run_id = next(tmp_path.iterdir()).name
    for name in ("kd", run_id, str(tmp_path / run_id)):
        report = gated(runs, name, at_least=0.95)
        assert (report.outcome, report.exit_code) == ("insufficient evidence", 3)
        finding = report.verdicts[0].worst
        assert finding.reason == "1 seed, it takes 3"
        assert finding.command.startswith("kd-bench train -m ")
        assert "seed=1,2" in finding.command


def test_equal_seeds_have_an_unknown_spread(tmp_path):
    report = gated(saved(tmp_path, seeds_of("kd", [0.79, 0.79, 0.79])), at_least=0.9)
    assert report.outcome == "insufficient evidence"
    assert "spread" in report.verdicts[0].worst.reason


def test_sizes_need_one_run_and_no_interval(tmp_path):
    runs = saved(tmp_path, seeds_of("kd", [0.7]))
    rule = {"metric": "parameters", "against": "teacher", "compare": "ratio"}
    assert gated(runs, **rule, at_most=1500 / 1_234_000).exit_code == 0
    assert gated(runs, **rule, at_most=1499 / 1_234_000).exit_code == 1
    assert gated(runs, metric="parameters", at_most=1500).exit_code == 0
    assert gated(runs, metric="parameters", at_most=1500, min_seeds=2).exit_code == 3  # where it is asked for


def test_a_baseline_is_compared_by_shared_seeds(tmp_path):
    scratch = [0.74, 0.765, 0.75, 0.5]
    runs = saved(tmp_path, [*seeds_of("kd", TOP1), *seeds_of("scratch", scratch, teacher=None)])
    report = gated(runs, metric="top1", against="method:scratch", at_least=0.0)
    differences = np.array(TOP1) - np.array(scratch[:3])
    low = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))[0]
    assert report.verdicts[0].worst.value == pytest.approx(low, abs=1e-9)
    none = gated(runs, metric="top1", against="method:fitnet", at_least=0.0)
    assert (none.verdicts[0].outcome, none.exit_code) == ("not measured", 3)


def test_an_earlier_run_is_a_reference(tmp_path):
    earlier = make_record("fitnet", 7, 0.75)
    runs = saved(tmp_path, [*seeds_of("kd", TOP1), earlier])
    report = gated(runs, metric="top1", against=f"run:{earlier.run_id}", at_least=0.01, evidence="point")
    assert report.verdicts[0].worst.value == pytest.approx(np.mean(TOP1) - 0.75)
    assert gated(runs, metric="top1", against="run:0123456789abcdef", at_least=0.0).exit_code == 3


def test_numbers_of_the_teacher_come_from_its_own_record(tmp_path):
    content = record_content("kd", 0, 0.77)
    teacher = record_content("scratch", 1000, 0.8, teacher=None, student="wide", role="teacher")
    for selected in teacher["metrics"].values():
        selected["test"]["ece"] = 0.03
    content["teacher"]["run_id"] = teacher["run_id"]
    rule = {"metric": "ece", "against": "teacher", "at_most": 0.02, "evidence": "point"}
    save(content, tmp_path / content["run_id"] / "record.json")
    assert gated(tmp_path, **rule).verdicts[0].outcome == "not measured"  # its record is not there
    teacher["student"] = {name: content["teacher"][name] for name in teacher["student"]}
    save(teacher, tmp_path / teacher["run_id"] / "record.json")
    report = gated(tmp_path, **rule)
    assert report.verdicts[0].worst.value == pytest.approx(0.04 - 0.03)
    assert report.exit_code == 0


def test_what_is_missing_names_the_command_that_would_bring_it(tmp_path):
    report = gated(saved(tmp_path, seeds_of("kd", TOP1)), metric="corrupted_top1", at_least=0.0)
    finding = report.verdicts[0].worst
    assert (finding.outcome, report.exit_code) == ("not measured", 3)
    assert finding.command.startswith("kd-bench evaluate ")
    assert finding.command.endswith("--full --write evaluation.sections=[corruptions]")


def test_the_latency_of_one_run_has_an_interval_over_processes(tmp_path):
    content = measured_content(record_content("kd", 0, 0.77, samples=400))
    save(content, tmp_path / content["run_id"] / "record.json")
    subject = find_subject(str(tmp_path / content["run_id"]), tmp_path)
    (found,) = quantities("latency_ratio", None, "difference", None, subject)
    assert (found.estimate, found.unit) == (Estimate(0.25, 0.2, 0.3, 3), "processes")


def counted(content: dict[str, Any], negative: list[int], positive: list[int]) -> dict[str, Any]:
    for selected in content["metrics"].values():
        selected["classes"] |= {"negative_flips": negative, "positive_flips": positive}
    return content


def subject_by_class(negative: list[int], positive: list[int]) -> Subject:
    content = counted(measured_content(record_content("kd", 0, 0.77)), negative, positive)
    record = Record.model_validate_json(json.dumps(content))
    return Subject("s", (record,), None, {record.run_id: record}, Path("runs"))


def test_every_class_with_images_is_held_against_the_bound():
    subject = subject_by_class([5, 30, 0, 0], [5, 0, 10, 0])
    found = quantities("top1", "teacher", "difference", "class", subject)
    assert [one.part for one in found] == ["a", "b", "c"]  # d has no test images
    assert [one.estimate.mean for one in found if one.estimate] == pytest.approx([0.0, -0.3, 0.1])
    rule = Rule(name="r", metric="top1", by="class", against="teacher", at_least=-0.1)
    assert [judge(rule, one, subject).outcome for one in found] == ["pass", "fail", "pass"]


def test_a_class_whose_interval_alone_misses_the_bound_has_too_few_images():
    subject = subject_by_class([4, 0, 0, 0], [0, 0, 0, 0])
    rule = Rule(name="r", metric="top1", by="class", against="teacher", at_least=-0.05)
    found = quantities("top1", "teacher", "difference", "class", subject)
    outcomes = [judge(rule, one, subject).outcome for one in found]
    assert outcomes == ["insufficient evidence", "pass", "pass"]


def test_the_interval_of_paired_differences_covers_them():
    """It holds the true difference in about 95 % of simulated test splits, also with hardly any flips."""
    random = np.random.default_rng(0)
    for negative, positive, samples in ((0.05, 0.02, 100), (0.1, 0.1, 50), (0.02, 0.0, 200)):
        flips = random.multinomial(samples, [negative, positive, 1 - negative - positive], size=20_000)
        halves = np.array([paired_half_width(int(n), int(p), samples) for n, p, _ in flips])
        error = (flips[:, 1] - flips[:, 0]) / samples - (positive - negative)
        assert 0.93 <= (np.abs(error) <= halves).mean() <= 0.995


def test_seeds_do_not_shrink_the_noise_of_the_images():
    one = part_quantity("a", [Counts(100, 90, 5, 3)], True).estimate
    five = part_quantity("a", [Counts(100, 90, 5, 3)] * 5, True).estimate
    assert one is not None
    assert five is not None
    assert one.low == pytest.approx(five.low)


def test_groups_are_not_assessed_without_labels(tmp_path):
    report = gated(saved(tmp_path, seeds_of("kd", TOP1)), metric="top1", by="group", at_least=0.5)
    assert report.verdicts[0].outcome == "not measured"
    assert "not assessed" in report.verdicts[0].worst.reason


def test_waivers_expire_and_stay_visible(tmp_path):
    runs = saved(tmp_path, seeds_of("kd", TOP1))
    waiver = {"rule": "the rule", "reason": "<agreed> with *everybody*"}
    open_, expired = (
        gated(runs, at_least=0.99, waivers=({**waiver, "until": until},)) for until in ("2026-01-15", "2026-01-14")
    )
    assert (open_.exit_code, open_.verdicts[0].outcome, open_.verdicts[0].waived) == (0, "fail", True)
    assert (expired.exit_code, expired.verdicts[0].waived) == (1, False)
    assert "fail (waived)" in as_text(open_)
    assert "waiver until 2026-01-15: <agreed> with *everybody*" in as_text(open_)
    assert "&lt;agreed&gt; with \\*everybody\\*" in as_markdown(open_)
    assert "waiver expired 2026-01-14" in as_text(expired)
    assert as_json(open_)["rules"][0]["waiver"]["expired"] is False


def test_a_warning_decides_nothing(tmp_path):
    report = gated(saved(tmp_path, seeds_of("kd", TOP1)), at_least=0.99, severity="warning")
    assert (report.exit_code, report.verdicts[0].outcome) == (0, "fail")
    assert "fail (warning)" in as_text(report)


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@given(
    mean=numbers,
    low=numbers,
    high=numbers,
    n=st.integers(1, 6),
    end=st.sampled_from(["point", "lower", "upper"]),
    at_least=st.booleans(),
    bound=st.floats(allow_nan=False, allow_infinity=False),
    fixed=st.booleans(),
)
def test_nothing_passes_without_a_finite_number_on_the_right_side(mean, low, high, n, end, at_least, bound, fixed):
    rule = Rule(name="r", metric="ece", evidence=end, **{"at_least" if at_least else "at_most": bound})
    quantity = Quantity(None if mean is None else Estimate(mean, low, high, n), fixed=fixed)
    record = make_record()
    outcome = judge(rule, quantity, Subject("s", (record,), None, {}, Path("runs"))).outcome
    value = {"point": mean, "lower": low, "upper": high}[end]
    known = mean is not None and value is not None and math.isfinite(value)
    if outcome == "pass":
        assert known
        assert fixed or end == "point" or n >= 3
        assert value >= bound if at_least else value <= bound
    if mean is None:
        assert outcome == "not measured"
    if known and outcome == "fail":
        assert value < bound if at_least else value > bound


def test_junit_is_xml_whatever_the_names_hold(tmp_path):
    content = record_content("kd", 0, 0.7)
    content["dataset"]["name"] = 'shapes\u0007 "<&>"'
    save(content, tmp_path / content["run_id"] / "record.json")
    policy = Policy.model_validate(
        {
            "claim": "c",
            "rules": [
                {"name": "<a & b>", "metric": "top1", "at_least": 0.9, "evidence": "point"},
                {"name": "none", "metric": "retention", "at_least": 0.9},
                {"name": "soft", "metric": "top1", "at_least": 0.9, "evidence": "point", "severity": "warning"},
                {"name": "kept", "metric": "top1", "at_least": 0.6, "evidence": "point"},
            ],
        }
    )
    report = apply(NamedPolicy("p", "0" * 64, policy), find_subject("kd", tmp_path), TODAY)
    suite = ElementTree.fromstring(as_junit(report))[0]  # noqa: S314 - written here
    assert suite.attrib | {"name": ""} == {"name": "", "tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    assert [case.attrib["name"] for case in suite] == ["<a & b>", "none", "soft", "kept"]
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["error"], ["skipped"], []]
    assert report.exit_code == 1  # a failure goes before lacking evidence


def test_a_policy_of_drift_alone_is_no_gate(tmp_path):
    policy = Policy.model_validate({"claim": "c", "drift": {}})
    subject = find_subject("kd", saved(tmp_path, seeds_of("kd", TOP1)))
    with pytest.raises(ConfigError, match="has no rules"):
        apply(NamedPolicy("p", "0" * 64, policy), subject, TODAY)


def test_the_command_prints_writes_and_exits(tmp_path, working_directory, capsys):
    runs = saved(tmp_path / "runs", seeds_of("kd", TOP1))
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    common = ["gate", "kd", "--records", str(runs)]
    assert main([*common, "--policy", "retention_90", "--junit", str(junit), "--markdown", str(markdown)]) == 0
    assert "pass: retention: lower end of retention >= 0.9" in capsys.readouterr().out
    assert ElementTree.parse(junit).getroot()[0].attrib["failures"] == "0"  # noqa: S314 - written here
    assert "| retention | lower end" in markdown.read_text(encoding="utf-8")
    assert main([*common, "--policy", "retention_95", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["outcome"], content["policy"]["name"], len(content["runs"])) == ("fail", "retention_95", 3)
    assert main([*common, "--policy", "cost"]) == 3


def test_unhappy_paths_are_one_line(tmp_path, working_directory, capsys):
    runs = saved(tmp_path / "runs", seeds_of("kd", TOP1))
    record = next(runs.glob("*/record.json"))
    assert main(["gate", "kdd", "--policy", "size", "--records", str(runs)]) == 2
    assert "did you mean 'kd'" in capsys.readouterr().err
    assert main(["gate", "kd", "--policy", "sizes", "--records", str(runs)]) == 2
    assert "did you mean 'size'" in capsys.readouterr().err
    record.write_text(record.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    assert main(["gate", record.parent.name, "--policy", "size", "--records", str(runs)]) == 4
    error = capsys.readouterr().err
    assert "is not a valid record" in error
    assert error.count("\n") == 1


def test_a_method_on_two_pairs_needs_the_pair(tmp_path):
    runs = saved(tmp_path, [*seeds_of("kd", TOP1), *seeds_of("kd", TOP1, teacher="wider")])
    with pytest.raises(ConfigError, match="stands for 2 rows"):
        find_subject("kd", runs)
    assert find_subject("kd", runs, "wider--narrow").runs[0].teacher.name == "wider"
