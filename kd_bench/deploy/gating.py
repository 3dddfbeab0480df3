"""The gate: the rules of a policy applied to a student, a function of records and the day."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from kd_bench.deploy.policy import Evidence, NamedPolicy, Rule, Waiver
from kd_bench.deploy.quantities import quantities
from kd_bench.deploy.subject import Quantity, Subject
from kd_bench.errors import ConfigError
from kd_bench.results.statistics.intervals import Estimate

Outcome = Literal["pass", "fail", "insufficient evidence", "not measured"]
WORST_FIRST: tuple[Outcome, ...] = ("fail", "not measured", "insufficient evidence", "pass")
FEWEST_IMAGES = 10  # of a class or group, below which its interval says nothing


@dataclass(frozen=True)
class Finding:
    """The outcome of a rule on one quantity. ``value`` is the number that was held against the bound."""

    outcome: Outcome
    quantity: Quantity
    value: float | None
    reason: str
    command: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of a rule, which is its worst finding's, and the waiver that covers it."""

    rule: Rule
    findings: tuple[Finding, ...]
    waiver: Waiver | None
    expired: bool

    @property
    def worst(self) -> Finding:
        """The finding that decides."""
        return min(self.findings, key=lambda one: (WORST_FIRST.index(one.outcome), _margin(self.rule, one)))

    @property
    def outcome(self) -> Outcome:
        """The outcome by the numbers, whatever is waived."""
        return self.worst.outcome

    @property
    def waived(self) -> bool:
        """Whether a waiver that has not expired lets the rule be broken."""
        return self.waiver is not None and not self.expired and self.outcome != "pass"

    @property
    def counts(self) -> bool:
        """Whether the outcome decides the gate: an error that nobody waived."""
        return self.rule.severity == "error" and not self.waived


@dataclass(frozen=True)
class Report:
    """A policy applied to a subject on a day."""

    policy: NamedPolicy
    subject: Subject
    on: date
    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome among the rules that decide; to lack evidence is to lack it, measured or not."""
        deciding = [verdict.outcome for verdict in self.verdicts if verdict.counts]
        worst: Outcome = min(deciding, key=WORST_FIRST.index, default="pass")
        return "insufficient evidence" if worst == "not measured" else worst

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 not enough evidence."""
        return {"pass": 0, "fail": 1}.get(self.outcome, 3)


def apply(policy: NamedPolicy, subject: Subject, on: date) -> Report:
    """Apply every rule of a policy.

    Args:
        on: the day, which decides whether waivers have expired.

    Raises:
        ConfigError: the policy has no rules.
    """
    if not policy.policy.rules:
        raise ConfigError(f"policy {policy.name}: has no rules, only bounds of drift; kd-bench monitor takes it")
    return Report(policy, subject, on, tuple(_verdict(rule, policy, subject, on) for rule in policy.policy.rules))


def _verdict(rule: Rule, policy: NamedPolicy, subject: Subject, on: date) -> Verdict:
    found = quantities(rule.metric, rule.against, rule.compare, rule.by, subject)
    waiver = max(
        (one for one in policy.policy.waivers if one.rule == rule.name), key=lambda one: one.until, default=None
    )
    findings = tuple(judge(rule, quantity, subject) for quantity in found)
    return Verdict(rule, findings, waiver, waiver is not None and waiver.until < on)


def judge(rule: Rule, quantity: Quantity, subject: Subject) -> Finding:
    """Hold one quantity against the bound. Nothing passes without a finite number and the evidence for it."""
    if quantity.estimate is None:
        return Finding("not measured", quantity, None, quantity.reason, quantity.command)
    lacking, command = _lacking(rule, quantity, subject)
    if lacking:
        return Finding("insufficient evidence", quantity, None, lacking, command)
    value = end_of(quantity.estimate, rule.end)
    if value is None:
        text = "all seeds give the same number, whose spread is therefore unknown"
        return Finding("insufficient evidence", quantity, None, text, subject.more_seeds(len(subject.runs) + 1))
    if not math.isfinite(value):
        return Finding("not measured", quantity, None, f"{rule.metric} is not a finite number", quantity.command)
    if keeps(rule, value):
        return Finding("pass", quantity, value, "", "")
    return _failed(rule, quantity, value, subject)


def _failed(rule: Rule, quantity: Quantity, value: float, subject: Subject) -> Finding:
    """Tell a bound that is missed by all of the interval from one that lies within it, where more runs may decide.

    The number of test images of a class is given, and no run adds to it: a class whose estimate keeps to the bound and
    whose interval does not lacks evidence.
    """
    assert quantity.estimate is not None
    low, high = quantity.estimate.low, quantity.estimate.high
    undecided = rule.end != "point" and low is not None and high is not None and keeps(rule, low) != keeps(rule, high)
    reason = f"{value:.4g} misses the bound"
    if not undecided:
        return Finding("fail", quantity, value, reason, "")
    if quantity.unit == "images" and keeps(rule, quantity.estimate.mean):
        text = f"{quantity.estimate.n} test images are too few to tell: {reason}, and the estimate keeps to it"
        return Finding("insufficient evidence", quantity, value, text, "")
    if quantity.unit != "seeds":
        return Finding("fail", quantity, value, f"{reason}, which lies within the interval", "")
    command = subject.more_seeds(len(subject.runs) + 2)
    return Finding("fail", quantity, value, f"{reason}, which lies within the interval: more seeds may decide", command)


def _lacking(rule: Rule, quantity: Quantity, subject: Subject) -> tuple[str, str]:
    """Say what evidence is lacking, and the command that would bring it; empty texts where nothing is."""
    assert quantity.estimate is not None
    n = quantity.estimate.n
    if quantity.unit == "images" and n < FEWEST_IMAGES:
        return f"{n} test images, it takes {FEWEST_IMAGES}", ""
    asked = rule.min_seeds if quantity.fixed or quantity.unit != "seeds" else rule.seeds
    seeds = n if quantity.unit == "seeds" else len(subject.runs)
    if asked is not None and seeds < asked:
        return f"{seeds} {'seed' if seeds == 1 else 'seeds'}, it takes {asked}", subject.more_seeds(asked)
    return "", ""


def end_of(estimate: Estimate, end: Evidence) -> float | None:
    """Return the estimate or an end of its interval; None where there is no interval."""
    return {"point": estimate.mean, "lower": estimate.low, "upper": estimate.high}[end]


def keeps(rule: Rule, value: float) -> bool:
    """Whether a number keeps to the bound of a rule."""
    if rule.at_least is not None:
        return value >= rule.at_least
    return rule.at_most is not None and value <= rule.at_most


def _margin(rule: Rule, finding: Finding) -> float:
    """Return how far a finding is on the right side of the bound; the least is the worst."""
    if finding.value is None:
        return 0.0
    if rule.at_least is not None:
        return finding.value - rule.at_least
    return (rule.at_most or 0.0) - finding.value


def broken(verdict: Verdict) -> Sequence[Finding]:
    """Return the findings that do not pass, worst first."""
    found = [one for one in verdict.findings if one.outcome != "pass"]
    return sorted(found, key=lambda one: (WORST_FIRST.index(one.outcome), _margin(verdict.rule, one)))
