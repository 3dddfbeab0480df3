"""Comparisons as a few lines for a terminal."""

from kd_bench.results.comparison.measures import FALSE_DISCOVERY_RATE, Claim, Comparison, CostRatio
from kd_bench.results.leaderboard.columns import SELECTION_MARKS
from kd_bench.results.text.escape import visible
from kd_bench.results.text.formats import MISSING, p_value, percent, points, points_interval, significant

CLASSES_SHOWN = 5
SETTINGS_SHOWN = 8
ROW = 10
CLAIMS: dict[Claim, str] = {
    "better": "{} is better",
    "worse": "{} is worse",
    "not told apart": "no difference shown",
    "too few seeds": "no difference can be shown",
}


def as_text(comparison: Comparison) -> str:
    """Return the title, then a line for each of seeds, accuracy, verdict, settings, flips, classes and cost."""
    first, second = (visible(name) for name in comparison.names)
    seeds = ", ".join(map(str, comparison.seeds))
    others = f"; {comparison.left_out} other seeds have no partner" if comparison.left_out else ""
    grade = "" if comparison.evidence == "ranked" else f"; {comparison.evidence}"
    epoch = SELECTION_MARKS[comparison.selection] or "last epoch"
    lines = [
        f"{visible(comparison.title)}: {second} against {first}",
        f"  {'seeds:':<{ROW}}{seeds}{others}{grade}; {epoch}",
        f"  {'top-1:':<{ROW}}{_accuracy(comparison)}",
        f"  {'verdict:':<{ROW}}{_verdict(comparison, second)}",
        *([f"  {'differ:':<{ROW}}{_settings(comparison)}"] if comparison.differing else []),
        f"  {'flips:':<{ROW}}{_flips(comparison)}",
        f"  {'classes:':<{ROW}}{_classes(comparison)}",
        f"  {'cost:':<{ROW}}{_cost(comparison.cost)}",
    ]
    return "\n".join(lines)


def _accuracy(comparison: Comparison) -> str:
    before, after = (percent(side.mean) for side in comparison.top1)
    reason = "one seed" if comparison.difference.n == 1 else "all seeds differ alike"
    interval = points_interval(comparison.difference) or f"({reason}: no interval)"
    return f"{before} % → {after} %: {points(comparison.difference.mean)} points {interval}{_test(comparison)}"


def _test(comparison: Comparison) -> str:
    if comparison.p_value is None or comparison.adjusted_p_value is None:
        return ""
    if comparison.board_methods is not None:
        family = f"simultaneous over the {comparison.board_methods} methods of the board"
        return f", p {_compared(comparison.p_value)} ({family})"
    test = f", p {_compared(comparison.p_value)} (paired t, without a board)"
    if comparison.adjusted_p_value == comparison.p_value:
        return test
    return f"{test}, {p_value(comparison.adjusted_p_value)} for all comparisons here (Holm)"


def _verdict(comparison: Comparison, second: str) -> str:
    seeds = f"{len(comparison.seeds)} seed{'s' * (len(comparison.seeds) > 1)}"
    verdict = CLAIMS[comparison.claim].format(second)
    if comparison.claim not in ("better", "worse"):
        return f"{verdict} with {seeds}{'; it takes 3' if comparison.claim == 'too few seeds' else ''}"
    return verdict if comparison.evidence == "ranked" else f"{verdict} (preliminary: {seeds})"


def _settings(comparison: Comparison) -> str:
    texts = [f"{visible(one.key)} {visible(one.first)} → {visible(one.second)}" for one in comparison.differing]
    return _first(texts, SETTINGS_SHOWN)


def _first(texts: list[str], shown: int) -> str:
    return ", ".join([*texts[:shown], *([f"{len(texts) - shown} more"] if len(texts) > shown else [])])


def _compared(value: float) -> str:
    text = p_value(value)
    return text if text.startswith(("<", "≤")) else f"= {text}"


def _flips(comparison: Comparison) -> str:
    flips = comparison.flips
    if flips is None:
        return f"{MISSING} (not all runs have their predictions here)"
    shares = f"{percent(flips.lost)} % of the images lost, {percent(flips.gained)} % gained"
    changed = f"{percent(flips.changed)} % get another class"
    return f"{shares}, {changed}; McNemar p {_compared(flips.p_value)} for these networks"


def _classes(comparison: Comparison) -> str:
    ordered = sorted(comparison.classes, key=lambda change: -abs(change.difference))
    if not ordered:
        return MISSING
    rate = f"{100 * FALSE_DISCOVERY_RATE:g} %"
    if comparison.flips is None:
        opening, shown = "largest changes by class (not tested)", ordered
    else:
        shown = [change for change in ordered if change.p_value is not None and change.p_value <= FALSE_DISCOVERY_RATE]
        opening = f"{len(shown)} of {len(ordered)} differ (McNemar, false discovery rate {rate})"
    texts = [f"class {visible(change.name)}: {points(change.difference)} points" for change in shown]
    return f"{opening}: {_first(texts, CLASSES_SHOWN)}" if texts else opening


def _cost(cost: CostRatio) -> str:
    ratios = {"parameters": cost.parameters, "MACs": cost.macs, "training time": cost.train_seconds}
    texts = [f"{name} × {MISSING if value is None else significant(value)}" for name, value in ratios.items()]
    return ", ".join(texts) + ("" if cost.same_machine else " (other machines or settings of them)")
