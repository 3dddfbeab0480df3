"""Choices of ``conf/method``, and what a run of small networks on digits needs for those that ask for a transformer."""

from kd_bench.config.paths import CONF

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
_TINY = "{img_size: 8, patch_size: 2, depth: 2}"
_DISTILLED = ["student.name=deit_tiny_distilled_patch16_224", f"+student.kwargs={_TINY}"]
_VIT_TEACHER = ["teacher.name=deit_tiny_patch16_224", f"+teacher.kwargs={_TINY}"]


def networks_for(method: str) -> list[str]:
    """Overrides of the networks, which come after those of a test's own pair; mostly none."""
    if method in ("deit_hard", "deit_soft"):
        return _DISTILLED
    return [*_DISTILLED, *_VIT_TEACHER] if method == "maskedkd" else []
