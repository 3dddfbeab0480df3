"""The command line of a run, as far as its record alone gives it."""

import re
import shlex

from kd_bench.leaderboard.entries import configuration
from kd_bench.leaderboard.escape import visible
from kd_bench.runs.record import Record

_WORD = re.compile(r"[\w./-]+", re.ASCII)


def reproduce_command(record: Record) -> str:
    """``kd-bench train`` with the run's choices, its seed and the values of its method, quoted for a shell.

    What a study overrides beside them is in the recorded configuration. The line for all of it (``kd-bench trace``)
    follows only from composing configurations: that takes a tenth of a second a run and needs more than the record.
    """
    teacher = record.teacher.name if record.teacher else None
    chosen = {
        "dataset": record.dataset.name,
        "teacher.name": teacher,
        "student.name": record.student.name,
        "method": record.method.name,
        "recipe": record.recipe,
        "seed": str(record.seed),
    }
    overrides = [f"{key}={_quoted(value)}" for key, value in chosen.items() if value is not None]
    values = configuration(record, ("method",))
    overrides += [f"method.{key}={value}" for key, value in sorted(values.items()) if not key.endswith("_target_")]
    return shlex.join(["kd-bench", "train", *map(visible, overrides)])


def _quoted(text: str) -> str:
    """A value in the grammar of Hydra's overrides."""
    return text if _WORD.fullmatch(text) else "'" + text.replace("'", "\\'") + "'"
