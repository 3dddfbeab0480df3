"""``kd-bench new-method``: what it writes works, and what it cannot write leaves nothing behind."""

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
    assert main(["new-method", "plugged_kd", "--out", "my own"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["my own/plugged_kd.py", "my own/my_conf/method/plugged_kd.yaml"]
    (command,) = [shlex.split(line) for line in printed if "kd-bench train" in line]
    fast = ["recipe.epochs=2", "teacher.name=resnet8_cifar", "dataset.train_samples=100", "trainer.threads=1"]
    assert main([*command[1:], *fast, "logger=none", "trainer.progress=none"]) == 0
    records = [read_record(path) for path in tmp_path.glob("runs/*/record.json")]
    assert {record.method.name for record in records} == {"plugged_kd", "scratch"}


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
