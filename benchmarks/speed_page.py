"""The page docs/speed.md and its plot, made from the results of training_speed.py."""

from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLOT = DOCS / "images" / "speed.svg"
WIDTH, LEFT, ROW = 720, 260, 22
TITLES = {
    "pairs": ("Training steps", "A step of the hand-written loop in float32 is 1."),
    "small": ("Small runs", "Whole epochs on digits, validation included; an epoch of the hand-written loop is 1."),
    "sweep": (
        "Sweeps",
        "Four methods on logits x two seeds on shared teacher outputs; 8 hand-written loops are 1.",
    ),
}


def write_page(result: dict[str, Any]) -> None:
    """Write the page and the plot."""
    text = [
        "# Speed",
        "",
        "<!-- made by benchmarks/training_speed.py from its JSON; `make bench` makes both anew -->",
        "",
        "Ratios of CPU seconds in one run on one thread: median of turns, with the least and the greatest.",
        "Other machines have others; `kd-bench show TEACHER--STUDENT --speed` measures the levers on yours.",
        "",
        "![ratios of training steps](images/speed.svg)",
    ]
    for part, (title, words) in TITLES.items():
        if part in result:
            text += ["", f"## {title}", "", words, "", *_table(result[part]), "", _about(result[part])]
    (DOCS / "speed.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    if "pairs" in result:
        PLOT.write_text(_plot(result["pairs"]["rows"]), encoding="utf-8")


def _label(row: dict[str, Any]) -> str:
    names = [row.get("pair"), row.get("method"), f"{row['steps']} steps" if "steps" in row else None, row["loop"]]
    return ", ".join(name for name in names if name)


def _table(part: dict[str, Any]) -> list[str]:
    lines = ["| loop | ratio | least to greatest | CPU seconds |", "| --- | --- | --- | --- |"]
    return lines + [
        f"| {_label(row)} | {row['ratio']:.3f} | {row['least']:.3f} to {row['most']:.3f} | {row['cpu_seconds']:.3f} |"
        for row in part["rows"]
    ]


def _about(part: dict[str, Any]) -> str:
    share = f", {part['peak_share']:.0%} of it in the exact step" if "peak_share" in part else ""
    return (
        f"{part['date']}, {part['processor']} ({part['cores']} cores, {part['capability']}), torch {part['torch']}; "
        f"load of the machine {part['load'][0]}; matrix products reach {part['gemm_gflops']} GFLOP/s{share}."
    )


def _plot(rows: list[dict[str, Any]]) -> str:
    most = max(1.1, *(row["most"] for row in rows))
    scale = (WIDTH - LEFT - 60) / most
    height = ROW * (len(rows) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        top, label = (
            number * ROW + 8,
            _label(row).replace("resnet32x4-resnet8x4", "resnet32x4").replace("wrn_40_2-", ""),
        )
        parts += [
            f'<text x="{LEFT - 8}" y="{top + 11}" text-anchor="end">{label}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{scale * row["ratio"]:.1f}" height="14" fill="#4477aa"/>',
            f'<line x1="{LEFT + scale * row["least"]:.1f}" x2="{LEFT + scale * row["most"]:.1f}" y1="{top + 7}" '
            f'y2="{top + 7}" stroke="black"/>',
            f'<text x="{LEFT + scale * row["most"] + 6:.1f}" y="{top + 11}">{row["ratio"]:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
