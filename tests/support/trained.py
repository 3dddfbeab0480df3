"""Runs of a second each, on scikit-learn's digits, as the command line would make them."""

import warnings
from pathlib import Path

from kd_bench.config.composition import quoted
from kd_bench.config.overrides import compose_run
from kd_bench.results.records.record import Record
from kd_bench.runs.run import run

SETTINGS = [
    "recipe.epochs=2",
    "teacher.name=resnet8_cifar",
    "dataset.train_samples=100",
    "logger=none",
    "trainer.progress=none",
    "trainer.threads=1",
]


def train(runs: Path, *overrides: str) -> Record:
    """A finished run in ``runs``, whose teacher is trained there once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(compose_run([*SETTINGS, f"paths.runs={quoted(str(runs))}", *overrides]))
