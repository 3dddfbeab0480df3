"""The report of a profile, ``profile.json``, and the same as text for a terminal. Needs no torch."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.deploy.prices import BreakEven, Distilling, Prices
from kd_bench.results.records.measured import Ratio, Strict
from kd_bench.results.records.record import CodeInfo, Hardware, RunId, Sha256, Time
from kd_bench.results.text.formats import MISSING, count, significant, size

Role = Literal["student", "teacher"]
Runtime = Literal["PyTorch", "ONNX", "int8"]


class Network(Strict):
    """A network in one runtime. Percentiles are over the timings of all processes; the rest is the median process."""

    role: Role
    runtime: Runtime
    p50_ms: Positive
    p95_ms: Positive
    p99_ms: Positive
    images_per_second: Positive
    cold_start_seconds: Annotated[Positive, Field(description="from the start of a process to its first prediction")]
    peak_memory_bytes: Annotated[Count | None, Field(description="resident, of a process that predicts single images")]
    activation_bytes: Annotated[Count | None, Field(description="most alive at once for one image; of PyTorch alone")]
    file_bytes: Count
    file_sha256: Sha256
    cost_per_million: NonNegative
    joules_per_thousand: Annotated[NonNegative | None, Field(description="of the whole machine's processors")]


class Comparison(Strict):
    """Ratios of two networks: the first's over the second's, geometric means over processes with 95 % t intervals."""

    of: str
    to: str
    latency: Annotated[Ratio, Field(description="of medians at batch 1: below 1 is faster")]
    throughput: Annotated[Ratio, Field(description="above 1 is faster; the cost per prediction is its inverse")]
    cold_start: Ratio
    peak_memory: Ratio | None
    file_bytes: Positive


class Profile(Strict):
    """The content of ``profile.json``."""

    schema_version: Literal[1] = 1
    run_id: RunId
    profiled_at: Time
    code: CodeInfo
    packages: dict[str, str]
    hardware: Hardware
    threads: PositiveInt
    processes: PositiveInt
    timings: PositiveInt
    batch_size: PositiveInt
    networks: list[Network]
    comparisons: list[Comparison]
    prices: Prices
    distilling: Annotated[Distilling | None, Field(description="null where the record does not say how long it took")]
    break_even: Annotated[dict[str, BreakEven], Field(description="by runtime, of student and teacher in it")]
    energy: Annotated[str, Field(description="how it was measured, or why not")]


def as_text(profile: Profile) -> str:
    """Write the measurements, the ratios with their intervals, and what distilling cost."""
    machine = f"{profile.hardware.processor}, {profile.threads} thread{'s' if profile.threads > 1 else ''}"
    extent = f"{profile.processes} rounds of fresh processes, {profile.timings} single images each"
    rows: list[tuple[str, ...]] = [
        ("", "p50 ms", "p95 ms", "p99 ms", "images/s", "cold start s", "memory", "file", *_last_names(profile))
    ]
    rows += [_row(each) for each in profile.networks]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    lines = [f"{machine}; {extent}; images/s at batch {profile.batch_size}", "", *table, ""]
    return "\n".join([*lines, *map(_compared, profile.comparisons), *_paid(profile), f"energy: {profile.energy}"])


def _justified(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _last_names(profile: Profile) -> tuple[str, str]:
    return f"{profile.prices.currency} per million", "J per thousand"


def _row(each: Network) -> tuple[str, ...]:
    memory, joules = each.peak_memory_bytes, each.joules_per_thousand
    return (
        f"{each.role}, {each.runtime}",
        *(f"{value:.3g}" for value in (each.p50_ms, each.p95_ms, each.p99_ms)),
        significant(each.images_per_second),
        f"{each.cold_start_seconds:.2f}",
        MISSING if memory is None else size(memory),
        size(each.file_bytes),
        f"{each.cost_per_million:.3g}",
        MISSING if joules is None else f"{joules:.3g}",
    )


def _compared(each: Comparison) -> str:
    memory = "" if each.peak_memory is None else f", memory {_interval(each.peak_memory)}"
    return (
        f"{each.of} / {each.to}: latency {_interval(each.latency)}, throughput {_interval(each.throughput)}, "
        f"cold start {_interval(each.cold_start)}{memory}, file {each.file_bytes:.3g}"
    )


def _interval(ratio: Ratio) -> str:
    ends = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.3g}, {ratio.high:.3g}]"
    return f"{ratio.mean:.3g}{ends}"


def _paid(profile: Profile) -> Iterator[str]:
    made, currency = profile.distilling, profile.prices.currency
    if made is None:
        yield "distilling: its cost is not known, because the network was trained elsewhere"
        return
    teacher = "not known" if made.teacher is None else f"{made.teacher:.3g} {currency}"
    yield f"distilling: {made.student:.3g} {currency} on {made.basis}; its teacher's training: {teacher}"
    for runtime, volume in profile.break_even.items():
        if volume.predictions is None:
            yield f"break-even in {runtime}: never, because the student costs no less than the teacher"
            continue
        both = "" if volume.with_teacher is None else f"; {count(volume.with_teacher)} with its teacher's training"
        yield f"break-even in {runtime}: after {count(volume.predictions)} predictions{both}"
