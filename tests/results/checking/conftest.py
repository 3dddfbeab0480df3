import shutil
from pathlib import Path

import pytest
from support.trained import train

from .records import contents


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory) -> Path:
    """A teacher, two seeds of KD, and Born-Again after its scratch run. Tests copy what they change."""
    runs = tmp_path_factory.mktemp("checked") / "runs"
    train(runs, "method=kd")
    train(runs, "method=kd", "seed=1")
    train(runs, "method=born_again")
    return runs


@pytest.fixture
def runs(trained_runs, tmp_path) -> Path:
    shutil.copytree(trained_runs, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def content(trained_runs) -> dict:
    """The record of KD with seed 0."""
    return contents(trained_runs)["kd", 0]
