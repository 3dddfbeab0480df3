"""``kd-bench new-method``: what it writes works, and what it cannot write leaves nothing behind."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kd_bench.cli import scaffold
from kd_bench.cli.main import main
from kd_bench.config.paths import CHECKOUT
from kd_bench.results.records.record import read_record

LONGEST = "a_method_of_28_letters_or_so"
FILES = ["conf/method/{}.yaml", "kd_bench/methods/{}.py", "tests/golden_rows/{}.py", "tests/methods/test_{}.py"]
COPIED = ("kd_bench", "conf", "experiments", "tests", "pyproject.toml")


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """An empty one, which is the working directory too."""
    (tmp_path / "tests" / "golden_rows").mkdir(parents=True)
    monkeypatch.setattr(scaffold, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_method_is_written_in_its_places(checkout, capsys):
    paper = 'Author & "Other" et al. 2026, arXiv:2601.00001'
    assert main(["new-method", "my_kd", "--family", "features", "--paper", paper]) == 0
    assert files(checkout) == [name.format("my_kd") for name in FILES]
    assert sorted(capsys.readouterr().out.splitlines()[:4]) == files(checkout)
    choice = yaml.safe_load((checkout / "conf/method/my_kd.yaml").read_text())
    assert choice == {"_target_": "kd_bench.methods.my_kd.MyKd", "ce_weight": 1.0, "distillation_weight": 1.0}
    module: dict = {}
    exec((checkout / "kd_bench/methods/my_kd.py").read_text(), module)  # noqa: S102 - our own template
    assert (module["MyKd"].paper, module["MyKd"].family) == (paper, "features")
    rows: dict = {}
    exec((checkout / "tests/golden_rows/my_kd.py").read_text(), rows)  # noqa: S102 - our own template
    path, _, test = rows["ORACLES"]["my_kd"].partition("::")
    assert f"def {test}()" in (checkout / path).read_text()


@pytest.mark.parametrize("name", ["x", "b2", LONGEST])
def test_what_is_written_has_the_style_of_the_project(checkout, name):
    assert main(["new-method", name]) == 0
    shutil.copy(CHECKOUT / "pyproject.toml", checkout)
    ours = 'lint.isort.known-first-party=["kd_bench"]'  # whose modules are not here to be recognised
    for arguments in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--config", ours, "."]
        done = subprocess.run(ruff, capture_output=True, text=True, cwd=checkout)
        assert done.returncode == 0, done.stdout


def test_every_family_can_be_asked_for():
    written = "\n".join(path.read_text() for path in (CHECKOUT / "kd_bench" / "methods").glob("*.py"))
    families = set(re.findall(r'^    family = "(.+)"', written, re.MULTILINE))
    assert families == {*scaffold.FAMILIES, "combination"}


NAMES = {
    "class": "the name, or its class Class, means something else already",
    "none": "the name, or its class None, means something else already",
    "null": "the name, or its class Null, means something else already",
    "method": "the name, or its class Method, means something else already",
    "my-kd": "'my-kd': should be up to 28 of a-z, 0-9 and _, a letter first",
    "MyKD": "should be up to 28 of a-z",
    "_kd": "should be up to 28 of a-z",
    "2kd": "should be up to 28 of a-z",
    "../kd": "should be up to 28 of a-z",
    f"{LONGEST}s": "should be up to 28 of a-z",
    "": "should be up to 28 of a-z",
}


def refused(capsys, *arguments: str) -> str:
    """The one line that says why."""
    assert main(["new-method", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (reason,) = printed.err.splitlines()
    return reason


@pytest.mark.parametrize("plugin", [[], ["--out", "plugin"]], ids=["method", "plugin"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_cannot_be_one_is_refused(checkout, capsys, name, plugin):
    assert NAMES[name] in refused(capsys, name, *plugin)
    assert files(checkout) == []


@pytest.mark.parametrize(
    "paper", ["Author 2026", "Author 2026, arXiv:26", f"{'A' * 90} 2026, CVPR", "A\n2026, CVPR", ""]
)
def test_a_paper_without_a_source_is_refused(checkout, capsys, paper):
    assert "'Author et al. 2026, arXiv:2601.00001'" in refused(capsys, "my_kd", "--paper", paper)
    assert files(checkout) == []


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_written_over(checkout, capsys, file):
    taken = checkout / file.format("my_kd")
    taken.parent.mkdir(parents=True, exist_ok=True)
    taken.write_text("mine")
    assert refused(capsys, "my_kd").endswith(f"{taken} exists already; nothing was written")
    assert files(checkout) == [file.format("my_kd")]
    assert taken.read_text() == "mine"


def test_all_files_are_written_or_none(checkout, capsys):
    (checkout / "tests" / "methods").write_text("a file where a folder goes")
    assert "tests/methods is in the way; nothing was written" in refused(capsys, "my_kd")
    assert files(checkout) == ["tests/methods"]


def test_outside_of_a_checkout_there_are_plugins(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaffold, "CHECKOUT", tmp_path)
    reason = refused(capsys, "my_kd")
    assert f"kd_bench runs from {tmp_path}, which is no checkout" in reason
    assert "--out DIR" in reason


@pytest.mark.parametrize("name", ["kd", "json"])
def test_a_plugin_takes_no_name_that_would_find_something_else(tmp_path, capsys, name):
    assert f"new-method {name}: the name is taken by a m" in refused(capsys, name, "--out", str(tmp_path))
    assert files(tmp_path) == []


def test_a_plugin_trains_with_the_command_that_is_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["kd-bench"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr("kd_bench.config.composition._FURTHER", [])
    assert main(["new-method", "plugged_kd", "--out", "my own"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [
        "my own/plugged_kd.py",
        "my own/test_plugged_kd.py",
        "my own/my_conf/method/plugged_kd.yaml",
    ]
    (command,) = [shlex.split(line) for line in printed if "kd-bench train" in line]
    fast = ["recipe.epochs=2", "teacher.name=resnet8_cifar", "dataset.train_samples=100", "trainer.threads=1"]
    assert main([*command[1:], *fast, "logger=none", "trainer.progress=none"]) == 0
    records = [read_record(path) for path in tmp_path.glob("runs/*/record.json")]
    assert {record.method.name for record in records} == {"plugged_kd", "scratch"}

    (run_id,) = [record.run_id for record in records if record.method.name == "plugged_kd"]
    capsys.readouterr()
    assert main(["trace", run_id, "--config-dir", "my own/my_conf", "--json"]) == 0
    traced = shlex.split(json.loads(capsys.readouterr().out)[0]["command"])
    assert traced[:4] == ["kd-bench", "train", "--config-dir", "my own/my_conf"]
    assert main([*traced[1:], "logger=none", "trainer.progress=lines"]) == 0
    said = capsys.readouterr().out
    assert "done before" in said
    assert run_id in said


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True, cwd=folder
    )


def test_a_plugin_passes_its_test_in_its_own_repository_and_fails_once_it_is_wrong(tmp_path, capsys):
    assert main(["new-method", "my_kd", "--out", str(tmp_path)]) == 0
    assert "2 passed" in run_pytest(tmp_path).stdout
    module = tmp_path / "my_kd.py"
    module.write_text(module.read_text().replace(".pow(2)", ".abs()"))
    assert "FAILED test_my_kd.py::test_the_loss_is_its_formula" in run_pytest(tmp_path).stdout


def test_commands_find_a_plugin_by_its_folder(tmp_path, capsys, monkeypatch):
    """The folder is nowhere near the working directory."""
    monkeypatch.setattr("kd_bench.config.composition._FURTHER", [])
    monkeypatch.setattr("kd_bench.config.plugins._FOLDERS", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    folder = tmp_path / "repository"
    assert main(["new-method", "found_kd", "--out", str(folder)]) == 0
    there = ["--config-dir", str(folder / "my_conf")]
    capsys.readouterr()
    assert main(["list", "methods", "--like", "found_kd", *there]) == 2
    assert "a module of your own goes into plugins=[...]" in capsys.readouterr().err
    assert "found_kd" not in sys.modules
    assert main(["list", "methods", "--like", "found_kd", *there, "plugins=[found_kd]"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["found_kd", "logits", "unpublished;"]
    assert main(["list", "methods", "found_kd", *there, "plugins=[found_kd]"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert f"kd-bench train --config-dir {folder / 'my_conf'} plugins=[found_kd] method=found_kd" in page
    assert "method.distillation_weight=1.0, number ≥ 0" in page
    pair = ["show", "resnet14_cifar--resnet8_cifar", *there, "method=found_kd", "--json"]
    assert main(pair) == 2
    assert "a module of your own goes into plugins=[...]" in capsys.readouterr().err
    assert main([*pair, "plugins=[found_kd]"]) == 0


STUDY = """
defaults:
  - train
  - override method: scratch
  - override teacher: none
  - _self_
plugins: [beside_kd]
names: {method: beside_kd}
method:
  _target_: beside_kd.BesideKd
  ce_weight: 1.0
  distillation_weight: 1.0
teacher: {name: resnet8_cifar}
hydra:
  sweeper:
    params:
      method.ce_weight: 1,2
"""


def test_a_study_finds_the_plugin_beside_it_if_it_names_it(tmp_path, capsys, monkeypatch):
    """Its runs are planned in a process of their own."""
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    monkeypatch.setattr("kd_bench.config.plugins._FOLDERS", [])
    folder = tmp_path / "question"
    assert main(["new-method", "beside_kd", "--out", str(folder)]) == 0
    shutil.rmtree(folder / "my_conf")
    (folder / "study.yaml").write_text(STUDY)
    capsys.readouterr()
    assert main(["study", str(folder), "--dry-run"]) == 0
    assert "3 runs, 3 to do" in capsys.readouterr().out
    assert "beside_kd" not in sys.modules
    assert main(["study", str(folder), "--dry-run", "plugins=[]"]) == 2
    assert "a module of your own goes into plugins=[...]" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list", "methods"], ["show", "a--b"], ["study", "demo"], ["trace", "0" * 16]])
def test_a_folder_that_is_none_is_refused(capsys, command):
    assert main([*command, "--config-dir", "nowhere"]) == 2
    assert "--config-dir=nowhere: there is no such folder" in capsys.readouterr().err


@pytest.mark.slow  # a process that imports torch, another that trains on three pairs
def test_a_new_method_passes_the_tests_of_all_methods(tmp_path):
    copy = tmp_path / "checkout"
    left_out = [path.name for path in CHECKOUT.iterdir() if path.name not in COPIED]
    shutil.copytree(CHECKOUT, copy, ignore=lambda folder, _: left_out if Path(folder) == CHECKOUT else ["__pycache__"])

    def run(*arguments: str) -> str:
        whole = [sys.executable, "-m", *arguments]
        done = subprocess.run(whole, capture_output=True, text=True, cwd=copy, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    printed = run("kd_bench", "new-method", "my_kd", "--paper", "Author et al. 2026, arXiv:2601.00001")
    (command,) = [shlex.split(line) for line in printed.splitlines() if "pytest" in line]
    assert command[:2] == ["python", "-m"]
    said = run(*command[2:], "-v", "-p", "no:cacheprovider", "-o", "addopts=")
    passed = {line.split()[0].partition("::")[2] for line in said.splitlines() if " PASSED" in line}
    assert {
        "test_a_method_has_its_choice_and_its_row[my_kd]",
        "test_an_oracle_exists[my_kd]",
        "test_a_choice_composes_passes_the_check_and_builds[my_kd]",
        "test_huge_logits_give_finite_terms_and_gradients[my_kd]",
        "test_the_loss_is_its_formula",
    } <= passed
    assert len([name for name in passed if "reaches_the_student_and_the_adapters" in name]) == 3
