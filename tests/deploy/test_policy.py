"""Policies: the shipped ones are valid, and a bad one is refused with one line that names the key."""

import hashlib
from datetime import date

import pytest

from kd_bench.deploy.policy import POLICIES, read_policy, shipped_policies
from kd_bench.errors import ConfigError

RULE = "claim: c\nrules:\n  - {name: kept, metric: retention, at_least: 0.9}\n"
REFUSED = {
    "claim: c\nrules:\n  - {name: a, metric: retentoin, at_least: 1}": "metric 'retentoin' .* did you mean 'retention'",
    "claim: c\nrules:\n  - {name: a, metric: ece}": "give either at_least or at_most",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: 1, at_least: 0}": "give either at_least or at_most",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: .nan}": "rules.0.at_most: Input should be a finite number",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: .inf}": "finite number",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: '1'}": "valid number",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: 1, againts: teacher}": "againts: Extra inputs",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: 1, against: teachr}": "did you mean 'teacher'",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: 1, against: 'method:'}": "neither teacher nor method:NAME",
    "claim: c\nrules:\n  - {name: a, metric: ece, at_most: 1, by: class}": "by: class is for metric top1",
    "claim: c\nrules:\n  - {name: a, metric: top1, at_least: 0, by: class, compare: ratio}": "compares by difference",
    RULE + "  - {name: kept, metric: ece, at_most: 1}": "two rules have the name 'kept'",
    RULE + "waivers: [{rule: kpet, reason: r, until: 2030-01-01}]": "no such rule; did you mean 'kept'",
    RULE + "waivers: [{rule: kept, reason: '', until: 2030-01-01}]": "waivers.0.reason",
    RULE + "waivers: [{rule: kept, reason: r}]": "waivers.0.until",
    RULE + "claim: d": "duplicate|twice|found",
    "claim: c": "neither rules nor drift",
    "claim: [": "is no YAML",
    "[1, 2]": "policy",
    "": "policy",
    "a: &a [x, x]\nb: &b [*a, *a]\nclaim: ${oc.env:HOME}\nrules: *b": "policy",
}


def test_every_shipped_policy_is_valid_and_named_by_its_hash():
    names = shipped_policies()
    assert {"retention_90", "retention_95", "size", "cost", "latency", "calibration", "harm", "drift"} <= set(names)
    for name in names:
        content = (POLICIES / f"{name}.yaml").read_bytes()
        assert read_policy(name).sha256 == hashlib.sha256(content).hexdigest()
        assert read_policy(str(POLICIES / f"{name}.yaml")).policy == read_policy(name).policy


@pytest.mark.parametrize("text", REFUSED)
def test_a_bad_policy_is_refused_with_exit_code_2(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=REFUSED[text]) as caught:
        read_policy(str(path))
    assert caught.value.exit_code == 2
    assert "policy.yaml" in str(caught.value)


def test_an_unknown_name_has_near_matches():
    with pytest.raises(ConfigError, match=r"retention_59: no such file; did you mean .*'retention_95'"):
        read_policy("retention_59")


def test_the_unfavourable_end_of_the_interval_counts_unless_said(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(
        RULE + "  - {name: error, metric: ece, at_most: 0.1}\n"
        "  - {name: mean, metric: ece, at_most: 0.1, evidence: point}\n"
        "waivers: [{rule: kept, reason: a reason, until: 2030-01-31}]\n"
    )
    policy = read_policy(str(path)).policy
    assert [(rule.end, rule.seeds) for rule in policy.rules] == [("lower", 3), ("upper", 3), ("point", 1)]
    assert policy.waivers[0].until == date(2030, 1, 31)
