"""Weights of finished runs, back into the networks of a pair."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from kd_bench.building import Pair
from kd_bench.models.checkpoints import load_strictly, read_weights
from kd_bench.models.ensemble import taps_of
from kd_bench.models.features import FeatureTap
from kd_bench.runs.directory import HEAD_FILE, WEIGHTS_FILE
from kd_bench.teachers import TeacherWeights


def load_student(pair: Pair, directory: Path) -> None:
    """Load the headline weights of a run, those of the method's head included.

    Raises:
        IntegrityError: a file is missing or does not fit.
    """
    path = directory / WEIGHTS_FILE
    load_strictly(pair.student.network, read_weights(path), str(path))
    if heads := pair.method.test_time_modules():
        path = directory / HEAD_FILE
        load_strictly(nn.ModuleList(heads), read_weights(path), str(path))


def load_teachers(teacher: FeatureTap, weights: Sequence[TeacherWeights]) -> None:
    """Load the weights of a pair's teacher, network by network.

    Raises:
        IntegrityError: a file is missing, has changed or does not fit.
    """
    for tap, own in zip(taps_of(teacher), weights, strict=True):
        own.load(tap)
