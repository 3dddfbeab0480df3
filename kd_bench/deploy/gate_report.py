"""The report of a gate for people and for programs: text, JSON, JUnit XML and Markdown. All names are escaped."""

import re
from typing import Any
from xml.etree import ElementTree

from kd_bench.deploy.gating import Finding, Report, Verdict, broken
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.statistics.ranking import evidence
from kd_bench.results.text.escape import for_markdown, visible
from kd_bench.results.text.formats import MISSING

SHOWN = 5  # classes or groups by name
# Characters that XML 1.0 has no way to write.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(report: Report) -> str:
    """Write a line for each rule, with reason, command and waiver below it."""
    named = report.policy
    lines = [f"{report.subject.title}: {report.outcome}", f"policy {named.name} ({named.sha256[:10]}): {grade(report)}"]
    for verdict in report.verdicts:
        lines.append(f"  {mark(verdict)}: {verdict.rule.name}: {verdict.rule.text}; {measured(verdict)}")
        lines += [f"    {detail}" for detail in details(verdict)]
    return "\n".join(visible(line, 600) for line in lines)


def as_markdown(report: Report) -> str:
    """Write the report as a Markdown table, for a summary of a CI job or a model card."""
    named = report.policy
    lines = [
        f"**{for_markdown(report.outcome)}**: {for_markdown(report.subject.title)}; policy {for_markdown(named.name)} "
        f"(sha256 {named.sha256[:10]}); {grade(report)}; {report.on.isoformat()}",
        "",
        "| rule | bound | measured | outcome | reason |",
        "| --- | --- | --- | --- | --- |",
    ]
    for verdict in report.verdicts:
        cells = (verdict.rule.name, verdict.rule.text, measured(verdict), mark(verdict), "; ".join(details(verdict)))
        lines.append(f"| {' | '.join(for_markdown(cell, 600) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON values; it names the policy and every record by hash or id."""
    return {
        "outcome": report.outcome,
        "exit_code": report.exit_code,
        "subject": report.subject.title,
        "runs": [run.run_id for run in report.subject.runs],
        "policy": {"name": report.policy.name, "sha256": report.policy.sha256, "claim": report.policy.policy.claim},
        "date": report.on.isoformat(),
        "rules": [_rule(verdict) for verdict in report.verdicts],
    }


def _rule(verdict: Verdict) -> dict[str, Any]:
    waiver = verdict.waiver
    return {
        **verdict.rule.model_dump(exclude_none=True),
        "evidence": verdict.rule.end,
        "outcome": verdict.outcome,
        "waived": verdict.waived,
        "waiver": waiver and {**waiver.model_dump(mode="json"), "expired": verdict.expired},
        "findings": [_finding(finding) for finding in verdict.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    found = finding.quantity.estimate
    numbers = found and {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
    return {
        "outcome": finding.outcome,
        "part": finding.quantity.part,
        "estimate": numbers,
        "of": finding.quantity.unit,
        "value": finding.value,
        "reason": finding.reason,
        "command": finding.command,
    }


def as_junit(report: Report) -> str:
    """Write JUnit XML, which CI systems show: a test case a rule.

    A rule that fails is a failure, one without evidence an error. Warnings and waived rules are skipped.
    """
    count = {"failure": 0, "error": 0, "skipped": 0}
    cases = []
    for verdict in report.verdicts:
        case = ElementTree.Element("testcase", classname=_xml(report.policy.name), name=_xml(verdict.rule.name))
        if verdict.outcome != "pass":
            kind = "skipped" if not verdict.counts else "failure" if verdict.outcome == "fail" else "error"
            count[kind] += 1
            message = f"{mark(verdict)}: {verdict.rule.text}; {measured(verdict)}"
            child = ElementTree.SubElement(case, kind, message=_xml(message))
            child.text = _xml("\n".join(details(verdict)))
        cases.append(case)
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"kd-bench gate {report.policy.name}: {report.subject.title}"),
        tests=str(len(cases)),
        failures=str(count["failure"]),
        errors=str(count["error"]),
        skipped=str(count["skipped"]),
    )
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)


def mark(verdict: Verdict) -> str:
    """Return the outcome, with what softens it: ``fail (waived)``, ``fail (warning)``."""
    if verdict.waived:
        return f"{verdict.outcome} (waived)"
    soft = verdict.rule.severity == "warning" and verdict.outcome != "pass"
    return f"{verdict.outcome} (warning)" if soft else verdict.outcome


def measured(verdict: Verdict) -> str:
    """Return the estimate that decides, such as ``0.9712 [0.9634, 0.979], n = 3 seeds``."""
    finding = verdict.worst
    if finding.quantity.estimate is None:
        return MISSING
    part = f"{finding.quantity.part}: " if finding.quantity.part else ""
    unit = "" if finding.quantity.fixed else f", n = {finding.quantity.estimate.n} {finding.quantity.unit}"
    return f"{part}{interval(finding.quantity.estimate)}{unit}"


def interval(value: Estimate) -> str:
    """Return an estimate with the ends of its interval, four digits each."""
    if value.low is None or value.high is None or value.low == value.high:
        return f"{value.mean:.4g}"
    return f"{value.mean:.4g} [{value.low:.4g}, {value.high:.4g}]"


def details(verdict: Verdict) -> list[str]:
    """List the reasons, the commands that would bring evidence, and the waiver."""
    found = broken(verdict)
    lines = []
    for finding in found[:SHOWN]:
        part = f"{finding.quantity.part}: " if finding.quantity.part else ""
        lines.append(f"{part}{finding.reason}")
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more")
    lines += list(dict.fromkeys(f"evidence: {finding.command}" for finding in found if finding.command))
    if verdict.waiver is not None:
        state = "expired" if verdict.expired else "until"
        lines.append(f"waiver {state} {verdict.waiver.until.isoformat()}: {verdict.waiver.reason}")
    return lines


def grade(report: Report) -> str:
    """Say how many seeds there are and what they can carry."""
    seeds = len(report.subject.runs)
    return f"{seeds} {'seed' if seeds == 1 else 'seeds'}, {evidence(seeds)}"
