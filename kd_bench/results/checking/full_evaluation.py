"""Contradictions of a full evaluation to itself or to its record. Needs no torch."""

import math
from collections.abc import Iterator, Mapping, Sequence

from kd_bench.results.checking.measurements import MACHINES_APART, ROUNDING
from kd_bench.results.records.measured import Corruptions, FullEvaluation, Latency, Ratio, Speed, Transfer
from kd_bench.results.records.record import Record

Table = Mapping[str, Sequence[float]]


def full_problems(record: Record) -> list[str]:
    """List impossible values and combinations in what was measured beyond predictions, if anything was."""
    if record.full is None:
        return []
    return [f"full.{problem}" for problem in _problems(record, record.full)]


def _problems(record: Record, full: FullEvaluation) -> Iterator[str]:
    for name in ("corruptions", "cifar_c"):
        found: Corruptions | None = getattr(full, name)
        if found is not None:
            yield from (f"{name}.{problem}" for problem in _corruption_problems(record, found))
    if full.train_fidelity is not None:
        yield from (f"train_fidelity.{problem}" for problem in _train_problems(record, full))
    for dataset, transfer in full.transfer.items():
        yield from (f"transfer.{dataset}.{problem}" for problem in _transfer_problems(transfer))
    if full.latency is not None:
        yield from (f"latency.{problem}" for problem in _latency_problems(full.latency))
    if record.teacher is None and (of_teacher := _of_teacher(full)):
        yield f"{of_teacher[0]}: is measured with a teacher; the record has none"


def _corruption_problems(record: Record, found: Corruptions) -> Iterator[str]:
    """Check that the means follow from the table, and that images without corruption are those of the test split."""
    tables = {"top1": found.top1, "teacher_top1": found.teacher_top1}
    for name, table in tables.items():
        if table is None:
            continue
        if table.keys() != found.top1.keys() or {len(row) for row in table.values()} != {len(found.severities)}:
            yield f"{name}: should have {len(found.severities)} severities of each of {sorted(found.top1)}"
            return
        for kind, row in table.items():
            shares = {f"{name}.{kind}[{place}]": top1 for place, top1 in enumerate(row)}
            yield from _share_problems(shares, found.samples)
    mean = _mean(found.top1)
    expected = {
        "mean_top1": mean,
        "relative_top1": mean / found.clean_top1 if found.clean_top1 else None,
        "teacher_mean_top1": _mean(found.teacher_top1) if found.teacher_top1 else None,
        "mce": _mean_corruption_error(found.top1, found.teacher_top1) if found.teacher_top1 else None,
    }
    for name, value in expected.items():
        said = getattr(found, name)
        if (said is None) != (value is None) or not math.isclose(said or 0, value or 0, rel_tol=ROUNDING):
            yield f"{name}={said}: by its table it is {value}"
    if found.samples > record.dataset.test_samples:
        yield f"samples={found.samples}: there are {record.dataset.test_samples} test images"
    top1 = record.headline().test.top1
    if found.samples == record.dataset.test_samples and abs(found.clean_top1 - top1) > MACHINES_APART:
        yield f"clean_top1={found.clean_top1}: of the same images the record has {top1}"


def _mean(table: Table) -> float:
    values = [value for row in table.values() for value in row]
    return math.fsum(values) / len(values)


def _mean_corruption_error(student: Table, teacher: Table) -> float | None:
    errors = {kind: (sum(1 - v for v in student[kind]), sum(1 - v for v in teacher[kind])) for kind in student}
    if not all(theirs for _, theirs in errors.values()):
        return None
    return math.fsum(ours / theirs for ours, theirs in errors.values()) / len(errors)


def _share_problems(shares: Mapping[str, float], samples: int) -> Iterator[str]:
    for name, share in shares.items():
        if abs(share * samples - round(share * samples)) > ROUNDING * samples:
            yield f"{name}={share}: is no whole number of {samples} samples"


def _train_problems(record: Record, full: FullEvaluation) -> Iterator[str]:
    found = full.train_fidelity
    assert found is not None
    if found.samples > record.dataset.train_samples:
        yield f"samples={found.samples}: there are {record.dataset.train_samples} training images"
    for images, values in (("clean", found.clean), ("augmented", found.augmented)):
        names = ("top1", "teacher_top1", "teacher_agreement")
        yield from _share_problems({f"{images}.{name}": getattr(values, name) for name in names}, found.samples)


def _transfer_problems(found: Transfer) -> Iterator[str]:
    for who, probe in (("student", found.student), ("teacher", found.teacher)):
        if probe is not None:
            shares = {f"{who}.{name}": getattr(probe, name) for name in ("linear_probe_top1", "knn_top1")}
            yield from _share_problems(shares, found.test_samples)


def _latency_problems(found: Latency) -> Iterator[str]:
    for who, speed in (("student", found.student), ("teacher", found.teacher)):
        if speed is not None and not _ascending(speed):
            yield f"{who}: p50, p95 and p99 should not fall: {speed.p50_ms}, {speed.p95_ms}, {speed.p99_ms} ms"
    if (found.teacher is None) != (found.p50_ratio is None):
        yield "p50_ratio: is that of two networks"
    if found.p50_ratio is not None and not _within(found.p50_ratio):
        yield f"p50_ratio.mean={found.p50_ratio.mean}: lies outside of its interval"


def _ascending(speed: Speed) -> bool:
    return speed.p50_ms <= speed.p95_ms <= speed.p99_ms


def _within(ratio: Ratio) -> bool:
    return ratio.low is None or ratio.high is None or ratio.low <= ratio.mean <= ratio.high


def _of_teacher(full: FullEvaluation) -> list[str]:
    """List the names of what cannot be without a teacher."""
    corruptions = {f"{name}.teacher_top1": getattr(full, name) for name in ("corruptions", "cifar_c")}
    found = {
        "embedding_cka": full.embedding_cka,
        "train_fidelity": full.train_fidelity,
        "latency.teacher": full.latency and full.latency.teacher,
        **{name: each and each.teacher_top1 for name, each in corruptions.items()},
        **{f"transfer.{name}.teacher": each.teacher for name, each in full.transfer.items()},
    }
    return [name for name, value in found.items() if value is not None]
