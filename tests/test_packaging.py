"""What ships: the wheel holds the configurations, the pages' files and the schema, and nothing of the tests."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from kd_bench import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    directory = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"])
    assert Path(built).name == f"kd_bench-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("folder", ["conf", "experiments"])
def test_wheel_holds_every_configuration(wheel_names: set[str], folder: str) -> None:
    expected = {f"kd_bench/{path.relative_to(ROOT)}" for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert expected
    assert expected == {name for name in wheel_names if name.startswith(f"kd_bench/{folder}/")}


def test_wheel_holds_the_package_with_its_data_files(wheel_names: set[str]) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "kd_bench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {
        "kd_bench/py.typed",
        "kd_bench/results/leaderboard/pages/base.css",
        "kd_bench/results/records/record.schema.json",
    } <= expected
    assert expected <= wheel_names


def test_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel_names} == {"kd_bench", f"kd_bench-{__version__}.dist-info"}
