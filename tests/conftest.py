"""What all tests share: no network, two threads, and configurations composed as the command line composes them."""

import copy
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.disks import disk  # noqa: F401, a fixture

if TYPE_CHECKING:
    from omegaconf import DictConfig

os.environ["WANDB_MODE"] = "offline"
# Threads that spin while they wait slow tiny networks down a hundredfold where processes share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_finish() -> None:
    """Tests that need no torch are not made to import it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(2)


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; what ``main`` changes of the process is put back."""
    empty = tmp_path / "working-directory"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(sys, "argv", ["kd-bench"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return empty


@pytest.fixture
def compose() -> "Iterator[Callable[..., DictConfig]]":
    """``compose("method=at", "seed=1")``: what ``kd-bench train method=at seed=1`` hands to its task.

    ``names.*`` interpolate Hydra's choices, which are those of the configuration composed last: check or resolve one
    before composing the next.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    yield _compose
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def _compose(*overrides: str) -> "DictConfig":
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    whole = _composed(overrides)
    HydraConfig.instance().set_config(whole)
    cfg = copy.deepcopy(whole)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


@cache
def _composed(overrides: tuple[str, ...]) -> "DictConfig":
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from kd_bench.config.composition import CONF  # which also makes the names of networks known

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", list(overrides), return_hydra_config=True)
