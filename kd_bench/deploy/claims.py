"""The claims that adopters of distillation are told, held against records: ``docs/claims.md``, a function of both.

``python -m kd_bench.deploy.claims`` writes the page from the committed records and the shipped policies, and a test
keeps the two equal.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from kd_bench.config.files import write_atomically
from kd_bench.config.paths import CHECKOUT
from kd_bench.deploy.facts import table
from kd_bench.deploy.gate_report import measured
from kd_bench.deploy.gating import Report, Verdict, apply, keeps
from kd_bench.deploy.policy import NamedPolicy, read_policy
from kd_bench.deploy.subject import Subject, subject_of_row
from kd_bench.results.checking.load import Collection, load
from kd_bench.results.leaderboard.board import build_boards
from kd_bench.results.text.escape import for_markdown

RECORDS = Path("results/records")  # in a checkout
PAGE = Path("docs/claims.md")
# Policies in the order of the page, with what is said in the field.
SAID = {
    "retention_90": "a student keeps 90 to 95 % of its teacher (others say 80 to 90, 85 to 95, or 95 to 99 %)",
    "retention_95": "the same at the upper end of what is said most often",
    "size": "a student has a tenth of the size, or less",
    "cost": "a student costs a fifth (others say 10 to 60 % of the teacher's cost)",
    "latency": "a student answers with low latency on a CPU",
    "generalisation": "a student generalises better for having had a teacher",
    "calibration": "a student's confidence can be trusted",
    "harm": "a small student carries no more bias: no class pays for the mean",
}
HOLDS, FAILS, NOT_SHOWN = "holds", "fails", "not shown"
WORDS = (HOLDS, NOT_SHOWN, FAILS, "insufficient evidence", "not measured")
EVER = date(1970, 1, 1)  # shipped policies have no waivers that could expire
OPENING = """# Claims and measurements

Adopters of distillation are told what a student keeps and what it saves, mostly without a protocol. Each claim is a
policy under `conf/policy/`, which `kd-bench gate METHOD --policy NAME` applies to anybody's runs; here it meets every
distilled student of the committed records. `python -m kd_bench.deploy.claims` writes this page, and nobody edits it.

A claim holds where the unfavourable end of the 95 % interval keeps to the bound, over seeds unless something else is
said. It fails where the estimate misses the bound, and is not shown where only that end does; the gate lets neither
pass. Numbers that configuration alone decides, such as parameters, have no interval. With fewer seeds than a policy
asks for, or too few test images of a class, the evidence is insufficient. Intervals over seeds do not cover the choice
of the test images. The verdicts are about these networks and these data, and about nothing else.
"""


def claims_page(records: Path) -> str:
    """Write the page.

    Args:
        records: folder of published records, or of runs.

    Raises:
        ConfigError: there is no such folder.
    """
    collection = load(records)
    subjects = distilled(collection, records)
    policies = [read_policy(name) for name in SAID]
    reports = {policy.name: [apply(policy, subject, EVER) for subject in subjects] for policy in policies}
    lines = [OPENING, *_overview(policies, reports)]
    for policy in policies:
        lines += ["", *_claim(policy, reports[policy.name])]
    return "\n".join([*lines, "", *_assessed()]) + "\n"


def distilled(collection: Collection, folder: Path) -> list[Subject]:
    """Return the rows of all boards whose runs had a teacher, in the order of the boards and rows."""
    boards = build_boards((record for record in collection.records if record.role == "student"), ())
    return [
        subject_of_row(board, row.entry.label, row.entry.runs, collection, folder)
        for board in boards
        for row in board.rows
        if board.teacher is not None and row.entry.name != "scratch" and all(run.teacher for run in row.entry.runs)
    ]


def _overview(policies: Sequence[NamedPolicy], reports: dict[str, list[Report]]) -> list[str]:
    head = ("claim", *WORDS)
    rows = []
    for policy in policies:
        counts = Counter(_overall(report) for report in reports[policy.name])
        rows.append((policy.policy.claim, *(str(counts[word]) for word in WORDS)))
    count = len(next(iter(reports.values())))
    counted = f"Rows of boards (one method on one pair, all of its seeds) by outcome; {count} of them have a teacher."
    return ["## Overview", "", counted, "", *table(head, rows)]


def _overall(report: Report) -> str:
    """Return the word for the rules that decide: the worst of theirs."""
    order = (FAILS, NOT_SHOWN, "not measured", "insufficient evidence", HOLDS)
    return min((_word(verdict) for verdict in report.verdicts if verdict.counts), key=order.index)


def _word(verdict: Verdict) -> str:
    """Return the outcome in words, telling an estimate that misses the bound from an interval that does."""
    if verdict.outcome == "pass":
        return HOLDS
    if verdict.outcome != "fail":
        return verdict.outcome
    found = verdict.worst.quantity.estimate
    return NOT_SHOWN if found is not None and keeps(verdict.rule, found.mean) else FAILS


def _claim(policy: NamedPolicy, reports: Sequence[Report]) -> Iterator[str]:
    yield f"## {for_markdown(policy.policy.claim.rstrip('.'))}"
    yield ""
    yield f"In the field: {SAID[policy.name]}. Policy: `{policy.name}`."
    yield ""
    for rule in policy.policy.rules:
        note = " (a warning, which decides nothing)" if rule.severity == "warning" else ""
        yield f"- {for_markdown(rule.name)}: {for_markdown(rule.text)}{note}"
    yield ""
    head = ("data, pair, recipe", "method", "seeds", *(for_markdown(rule.name) for rule in policy.policy.rules))
    yield from table(head, [_row(report) for report in reports])


def _row(report: Report) -> tuple[str, ...]:
    subject = report.subject
    assert subject.board is not None
    method = subject.title.removesuffix(f" on {subject.board.title}")
    return (subject.board.title, method, str(len(subject.runs)), *(_cell(verdict) for verdict in report.verdicts))


def _cell(verdict: Verdict) -> str:
    word = _word(verdict)
    return word if verdict.worst.quantity.estimate is None else f"{word}: {measured(verdict)}"


def _assessed() -> Iterator[str]:
    yield "## Claims that no committed record measures"
    yield ""
    yield "- Energy: not measured."
    yield "- Bias between groups of people: not assessed. The committed studies have no groups, only classes."
    yield "- Cost in a currency: `kd-bench profile RUN` gives it from a price table; the ratio above needs none."


if __name__ == "__main__":
    write_atomically(CHECKOUT / PAGE, claims_page(CHECKOUT / RECORDS))
