"""``train``, ``verify`` and ``study`` with a plugin and its choices in a folder far from the working directory."""

import json
import sys
from pathlib import Path

import pytest

from kd_bench.cli.main import main
from kd_bench.results.checking.collection import read_all
from kd_bench.results.records.fingerprint import plugin_hashes
from kd_bench.results.records.record import Record, read_record

FAST = ["recipe.epochs=1", "dataset.train_samples=50", "trainer.threads=1", "trainer.progress=none", "logger=none"]
PAIR = ["teacher.name=resnet8_cifar", "dataset=digits", "recipe=digits"]


@pytest.fixture
def repository(working_directory, tmp_path, capsys, monkeypatch) -> Path:
    """A repository of the user's with the method ``far_kd``, which nothing has imported yet."""
    monkeypatch.setattr("kd_bench.config.composition._FURTHER", [])
    monkeypatch.setattr("kd_bench.config.plugins._FOLDERS", [])
    monkeypatch.delitem(sys.modules, "far_kd", raising=False)
    assert main(["new-method", "far_kd", "--out", str(tmp_path / "repository")]) == 0
    capsys.readouterr()
    return tmp_path / "repository"


@pytest.fixture
def there(repository) -> list[str]:
    return ["--config-dir", str(repository / "my_conf")]


def record_of(runs: Path) -> Record:
    (found,) = [each for each in map(read_record, runs.glob("*/record.json")) if each.method.name == "far_kd"]
    return found


def test_verify_finds_a_plugin_by_its_folder_and_knows_its_source(repository, there, capsys, monkeypatch):
    assert main(["train", *there, "plugins=[far_kd]", "method=far_kd", *PAIR, *FAST]) == 0
    record = record_of(Path("runs"))
    assert record.code.plugins == plugin_hashes(["far_kd"])
    assert main(["check", "runs"]) == 0, "the run's id follows from the hash, without an import"

    capsys.readouterr()
    assert main(["verify", record.run_id, *there]) == 2
    assert "say plugins=[far_kd] if you trust it" in capsys.readouterr().err
    assert main(["verify", record.run_id, *there, "plugins=[far_kd]", "--retrain"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"runs/{record.run_id}: reproduced"

    module = repository / "far_kd.py"
    module.write_text(module.read_text() + "\n# another version\n")
    monkeypatch.delitem(sys.modules, "far_kd")
    assert main(["verify", record.run_id, *there, "plugins=[far_kd]"]) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"kd-bench: code.plugins.far_kd={record.code.plugins['far_kd']}: the module at hand has ")


def test_a_plugin_s_hash_that_does_not_make_the_run_s_id_is_a_problem(there, capsys):
    assert main(["train", *there, "plugins=[far_kd]", "method=far_kd", *PAIR, *FAST]) == 0
    record = record_of(Path("runs"))
    path = Path("runs", record.run_id, "record.json")
    content = json.loads(path.read_text())
    for plugins, problem in (
        (
            {"far_kd": "0" * 64},
            f"run_id={record.run_id}: its configuration, data and teacher weights are those of run ",
        ),
        ({"near_kd": "0" * 64}, "code.plugins: are near_kd, but config.plugins=['far_kd']"),
    ):
        content["code"]["plugins"] = plugins
        path.write_text(json.dumps(content))
        capsys.readouterr()
        assert main(["check", str(path)]) == 4
        assert problem in capsys.readouterr().out
    del content["code"]["plugins"]  # as in records of before
    path.write_text(json.dumps(content))
    assert main(["check", str(path)]) == 0


STUDY = """
defaults:
  - train
  - override method: far_kd
  - _self_
plugins: [far_kd]
teacher: {name: resnet8_cifar}
hydra: {sweeper: {params: {seed: "0,1"}}}
"""


@pytest.mark.slow  # two processes that import torch and train
def test_a_study_finds_a_plugin_by_its_folder(there, tmp_path, capsys):
    """Its runs are trained in processes of their own."""
    folder = tmp_path / "question"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    assert main(["study", str(folder), *PAIR, *FAST]) == 2
    assert "far_kd" in capsys.readouterr().err
    assert main(["study", str(folder), *there, *PAIR, *FAST]) == 0
    assert "all runs are finished" in capsys.readouterr().out
    found = [each.record for each in read_all(Path("runs").glob("*/record.json")) if each.record is not None]
    assert sorted((each.method.name, each.seed) for each in found if each.role == "student") == [
        *(("far_kd", seed) for seed in (0, 1))
    ]
    assert {len(each.code.plugins) for each in found} == {1}
    assert "far_kd" not in sys.modules
