"""One record forged in every known way: ``leaderboard``, ``check`` and ``verify`` as whole commands.

The table of docs/provenance.md says which of them names the forged record; what is said there is what is found here.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.config.paths import CHECKOUT

from .records import changed, contents, folder_of, save, with_predictions

DOCS = CHECKOUT / "docs" / "provenance.md"
Forge = Callable[[Path], Path]  # changes what lies in a folder of runs; returns the folder of the forged record


@dataclass(frozen=True)
class Forgery:
    """``board``, ``check`` and ``verify`` are the words that name it; empty where the command cannot see it."""

    forge: Forge
    board: str
    check: str
    verify: str
    verify_code: int = 4


def values(method: str = "kd", seed: int = 1, /, **changes: object) -> Forge:
    """Other values at ``a__b`` in the record of a run."""

    def forge(runs: Path) -> Path:
        folder = folder_of(runs, method, seed)
        content = contents(runs)[method, seed]
        for key, value in changes.items():
            changed(content, key.replace("__", "/"), value)
        save(content, folder / "record.json")
        return folder

    return forge


def predictions(change: Callable[[dict[str, Any]], object], method: str = "kd", seed: int = 1) -> Forge:
    """Other predictions, with metrics, hashes and the teacher's accuracy that follow from them."""

    def forge(runs: Path) -> Path:
        return runs / str(with_predictions(runs, method, seed, change)["run_id"])

    return forge


def wrong_answers(whose: str) -> Callable[[dict[str, Any]], object]:
    """Every second row of logits on the test split negated: of the ``teacher``, or of the ``student``."""
    names = ["test/teacher"] if whose == "teacher" else ["test/last", "test/best_on_validation"]

    def change(arrays: dict[str, Any]) -> None:
        for name in names:
            arrays[name][::2] *= -1

    return change


def class_counts(runs: Path) -> Path:
    """One test image less of class 0 and one more of class 1, with statistics of the classes that fit."""
    content = contents(runs)["kd", 1]
    for selected in content["metrics"].values():
        if selected is None or selected["classes"] is None:
            continue
        classes = selected["classes"]
        samples, correct = classes["samples"], classes["correct"]
        samples[0], samples[1] = samples[0] - 1, samples[1] + 1
        shares = [right / size for right, size in zip(correct, samples, strict=True)]
        selected["test"]["macro_top1"] = sum(shares) / len(shares)
        classes["worst_top1"] = min(shares)
    return save(content, folder_of(runs, "kd", 1) / "record.json").parent


def classes(runs: Path) -> Path:
    """An eleventh class, in the configuration as well."""
    names = [*contents(runs)["kd", 1]["dataset"]["class_names"], "eleven"]
    counts = {"dataset__num_classes": 11, "config__dataset__num_classes": 11, "dataset__class_names": names}
    return values(**counts)(runs)


def size(runs: Path) -> Path:
    """Twice as many test images: every share is a whole number of them, too."""
    return values(dataset__test_samples=2 * 719)(runs)


def second_result(runs: Path) -> Path:
    """A copy of a run with another accuracy."""
    first, second = folder_of(runs, "kd", 1), runs / "again"
    shutil.copytree(first, second / first.name)
    content = with_predictions(second, "kd", 1, wrong_answers("student"))
    return second / str(content["run_id"])


def second_seed(runs: Path) -> Path:
    """Seed 0 again as seed 1."""
    first, folder = contents(runs)["kd", 0], folder_of(runs, "kd", 1)
    other = contents(runs)["kd", 1]
    shutil.rmtree(folder)
    shutil.copytree(folder_of(runs, "kd", 0), folder)
    first["run_id"], first["seed"] = other["run_id"], 1
    first["config"], first["overrides"] = other["config"], other["overrides"]
    return save(first, folder / "record.json").parent


def untuned(runs: Path) -> Path:
    """A run of a search that claims to be none."""
    record = train(
        runs, "method=kd", "seed=2", "tuning.trials=20", "+tuning.space={method.temperature: 'interval(1,8)'}"
    )
    content = json.loads((runs / record.run_id / "record.json").read_text())
    content["config"]["tuning"] = {"trials": 0, "space": None}
    content["overrides"] = [each for each in content["overrides"] if "tuning." not in each]
    return save(content, runs / record.run_id / "record.json").parent


def file(make: Callable[[Path], object]) -> Forge:
    """Something else than a file under the name of a record."""

    def forge(runs: Path) -> Path:
        folder = runs / ("0" * 16)
        folder.mkdir()
        make(folder / "record.json")
        return folder

    return forge


def gigantic(path: Path) -> None:
    with path.open("wb") as opened:
        opened.truncate(2**40)  # sparse


NO_FILE = ("cannot be read: it is no regular file", "cannot be read: it is no regular file", "no finished run there", 2)
LARGE = "cannot be read: it holds more than"
SIZES = "the networks and data at hand give"
LAST = "metrics__last__test__"

FORGERIES = {
    "top-1 that is no whole number of images": Forgery(
        values(**{f"{LAST}top1": 0.5}), *["metrics.last.test.top1=0.5: is no whole number of 719 samples"] * 3
    ),
    "flips that do not lead from teacher to student": Forgery(
        values(**{f"{LAST}negative_flips": 0.0}), *["metrics.last.test.negative_flips=0.0, positive_flips="] * 3
    ),
    "labels made of the answers, for 100 %": Forgery(
        predictions(lambda arrays: arrays.update({"test/targets": arrays["test/last"].argmax(1)})),
        *["classes.samples=", "predictions: test/targets are"],
        "classes.samples=",
    ),
    "accuracy of the teacher": Forgery(values(teacher__test_top1=700 / 719), *["metrics.last.test.retention="] * 3),
    "logits of the teacher, with metrics that follow: the gap closed moves": Forgery(
        predictions(wrong_answers("teacher")), *["teacher.test_top1="] * 3
    ),
    "logits of the student, with metrics that follow: the gap closed moves": Forgery(
        predictions(wrong_answers("student"), "scratch", 0), "", "", "predictions.safetensors test/last: differs by"
    ),
    "test images of single classes": Forgery(class_counts, *["classes.samples="] * 3),
    "number of classes": Forgery(classes, *["dataset.num_classes=11, test_samples=719"] * 2, "metrics.last.classes."),
    "number of test images": Forgery(size, *["dataset.num_classes=10, test_samples=1438"] * 2, "metrics.last.classes."),
    "role: a student hidden among the teachers": Forgery(
        values(role="teacher"), "", *["role='teacher': but it learned from 'resnet8_cifar'"] * 2
    ),
    "name of the teacher": Forgery(
        values(teacher__name="resnet110_cifar"), *["teacher.name=resnet110_cifar: the run of"], *["teacher.name="] * 2
    ),
    **{
        f"teacher's {words}": Forgery(
            values(**{f"teacher__{name}": 1000}), *[f"teacher.{name}=1000: the run of the teacher itself"] * 3
        )
        for name, words in (("parameters", "parameters"), ("macs", "MACs"), ("file_bytes", "bytes"))
    },
    **{
        f"student's {words}": Forgery(
            values(**{f"student__{name}": value}), *["student.parameters="] * 2, f"student.{name}={value}: {SIZES}"
        )
        for name, words, value in (
            ("parameters", "parameters", 1000),
            ("macs", "MACs", 1000),
            ("input_size", "input size", [4, 4]),
            ("file_bytes", "bytes", 1000),
        )
    },
    "teacher's input size": Forgery(
        values(teacher__input_size=[4, 4]), *["teacher.input_size=[4, 4]: the run of the teacher itself"] * 3
    ),
    "device": Forgery(values(hardware__device="NVIDIA H100"), "", *["hardware.device='NVIDIA H100': but config"] * 2),
    "second record of a run, with other numbers": Forgery(
        second_result, "is also that of another record", "is also that of another record", "predictions.safetensors"
    ),
    "one run as two seeds": Forgery(second_seed, *["student.weights_sha256: of seed 1: another record"] * 2, ""),
    "run of a search that claims to be none": Forgery(untuned, "", *["run_id="] * 2),
    "FIFO under the name of a record": Forgery(file(os.mkfifo), *NO_FILE),
    "link to a device": Forgery(file(lambda path: path.symlink_to("/dev/zero")), *NO_FILE),
    "folder under the name of a record": Forgery(file(Path.mkdir), *NO_FILE),
    "file of a terabyte": Forgery(file(gigantic), *[LARGE] * 3),
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main([*arguments])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


@pytest.mark.parametrize("way", FORGERIES)
def test_a_forged_record_is_named_where_the_table_says(way, runs, tmp_path, capsys):
    forgery = FORGERIES[way]
    folder = forgery.forge(runs)

    code, shown = run(capsys, "leaderboard", "--records", str(runs), "--out", str(tmp_path / "board"))
    assert code == 0
    place = (folder / "record.json").relative_to(runs).as_posix()
    rejected = json.loads((tmp_path / "board" / "leaderboard.json").read_text())["rejected"]
    reasons = [each["reason"] for each in rejected if each["path"] == place]
    assert f"{len(rejected)} rejected" in shown
    assert any(forgery.board in reason for reason in reasons) if forgery.board else not rejected, rejected

    code, shown = run(capsys, "check", "--json", str(runs))
    problems = {each["path"]: each["problems"] for each in json.loads(shown)}
    of_it = problems[str(folder / "record.json")]
    assert code == (4 if forgery.check else 0)
    assert any(forgery.check in each for each in of_it) if forgery.check else not any(problems.values()), problems

    code, shown = run(capsys, "verify", str(folder))
    assert code == (forgery.verify_code if forgery.verify else 0)
    assert forgery.verify in shown.splitlines()[-1]


def test_the_table_of_the_documentation_says_the_same():
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    start = lines.index("| forged | `leaderboard` | `check` | `verify` |") + 2
    rows = [line.strip("| ").split(" | ") for line in lines[start : lines.index("", start)]]
    said = {way: tuple(cell == "named" for cell in cells) for way, *cells in rows}
    assert said == {way: tuple(map(bool, (each.board, each.check, each.verify))) for way, each in FORGERIES.items()}
