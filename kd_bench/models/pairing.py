"""The pairs of stages that a method on feature maps compares."""

from kd_bench.errors import ConfigError
from kd_bench.models.features import FeatureTap, paired_stages


def compared_stages(
    student: FeatureTap, teacher: FeatureTap, skip_stages: int, at_least: int = 1
) -> list[tuple[int, int]]:
    """Return the paired stages (of student and teacher) without the first ``skip_stages``.

    Raises:
        ConfigError: fewer than ``at_least`` pairs are left; the message lists all stages.
    """
    pairs = paired_stages(student, teacher)
    if len(pairs) - skip_stages < at_least:
        raise ConfigError(
            f"method.skip_stages={skip_stages} leaves {max(len(pairs) - skip_stages, 0)} of {len(pairs)} pairs of "
            f"stages, needed: {at_least}; {stages_of(student, teacher)}"
        )
    return pairs[skip_stages:]


def stages_of(student: FeatureTap, teacher: FeatureTap) -> str:
    """List the stages of both networks, for error messages."""
    return f"stages of {student.name}: {student.stage_shapes}, of {teacher.name}: {teacher.stage_shapes}"
