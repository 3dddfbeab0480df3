"""Test samples by group, such as cameras or skin types, as a file of the user's assigns them."""

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from kd_bench.errors import ConfigError
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.evaluation.predictions import predict
from kd_bench.results.records.measured import GroupCounts
from kd_bench.results.records.reading import read_text

COLUMNS = ["index", "group"]


def counts_by_group(run: OpenedRun) -> GroupCounts:
    """Count what student and teacher have right in each group of the test split.

    Raises:
        ConfigError: the file of ``dataset.groups`` does not assign every test sample to one group.
    """
    assert run.config.dataset.groups is not None
    path, data = Path(run.config.dataset.groups).expanduser(), run.data
    groups, sha256 = read_groups(path, len(data.test))
    teacher = run.pair.teacher
    right = run.student_logits(data.evaluation_loader(data.test)).argmax(1) == data.test.targets
    teacher_right = None
    if teacher is not None:
        teacher_right = predict(teacher, data.evaluation_loader(data.test)).argmax(1) == data.test.targets
    return group_counts(groups, sha256, right, teacher_right)


def read_groups(path: Path, samples: int) -> tuple[list[str], str]:
    """Read the group of each test sample, by position in the split, and the sha256 of the file.

    Raises:
        ConfigError: the file is missing or not a CSV with the columns index and group, or a sample is missing or twice.
    """
    if not path.is_file():
        raise ConfigError(f"dataset.groups={path}: no such file")
    text = read_text(path)
    rows = csv.DictReader(io.StringIO(text))
    if sorted(rows.fieldnames or ()) != sorted(COLUMNS):
        raise ConfigError(f"dataset.groups={path}: should have the columns {', '.join(COLUMNS)}, not {rows.fieldnames}")
    groups: dict[str, str] = {}
    for row in rows:
        index, group = str(row["index"] or "").strip(), str(row["group"] or "").strip()
        if not group or index in groups:
            problem = "has no group" if not group else "stands twice"
            raise ConfigError(f"dataset.groups={path}, line {rows.line_num}: sample {index!r} {problem}")
        groups[index] = group
    expected = [str(position) for position in range(samples)]
    if wrong := sorted(groups.keys() ^ set(expected))[:1]:
        problem = "is no position in the test split" if wrong[0] in groups else "has no group"
        raise ConfigError(f"dataset.groups={path}: sample {wrong[0]!r} {problem}, which has {samples} samples")
    return [groups[position] for position in expected], hashlib.sha256(text.encode()).hexdigest()


def group_counts(groups: list[str], sha256: str, right: Tensor, teacher_right: Tensor | None) -> GroupCounts:
    """Count by group, from what student and teacher have right (N,), as booleans. Groups come in alphabetical order."""
    names = sorted(set(groups))
    position = {name: number for number, name in enumerate(names)}
    member = torch.tensor([position[group] for group in groups])
    sizes = Counter(groups)

    def count(chosen: Tensor) -> list[int]:
        return [int(number) for number in torch.bincount(member[chosen], minlength=len(names))]

    return GroupCounts(
        sha256=sha256,
        names=names,
        samples=[sizes[name] for name in names],
        correct=count(right),
        negative_flips=None if teacher_right is None else count(teacher_right & ~right),
        positive_flips=None if teacher_right is None else count(right & ~teacher_right),
    )
