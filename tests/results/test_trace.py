"""From a cell of a board to its runs, and what is told of each."""

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.config.check import check
from kd_bench.config.composition import quoted
from kd_bench.config.files import file_sha256
from kd_bench.config.overrides import compose_run
from kd_bench.evaluation.machine import code
from kd_bench.results.leaderboard.pages.run_page import run_page
from kd_bench.results.publish import publish
from kd_bench.results.records.command import command
from kd_bench.results.records.record import read_record
from kd_bench.results.statistics.intervals import t_interval
from kd_bench.runs.lineage import locate

OTHER = "another 'study', with = and {}"
CELL = "digits/resnet8_cifar--resnet8_cifar/kd"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two seeds of KD in a study, their teacher, and a variant of another temperature in the same cell."""
    folder = tmp_path_factory.mktemp("traced") / "runs"
    train(folder, "study=why", "method=kd")
    train(folder, "study=why", "method=kd", "seed=1")
    train(folder, "method=kd", "method.temperature=2", f"study={quoted(OTHER)}")
    return folder


@pytest.fixture
def there(runs, tmp_path, monkeypatch) -> Path:
    """A working directory with a copy of these runs in ``runs``."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def traced(capsys, *arguments: str) -> list[dict]:
    assert main(["trace", "--json", *arguments]) == 0
    found: list[dict] = json.loads(capsys.readouterr().out)
    return found


def test_a_cell_is_its_runs_by_seed(there, capsys):
    found = traced(capsys, CELL)
    assert [each["seed"] for each in found] == [0, 0, 1]
    for each in found:
        record = read_record(Path(each["record"]))
        assert each["run_id"] == record.run_id
        assert each["selection"] == {"rule": "last", "epoch": 2, "test_top1": record.metrics.last.test.top1}
        assert each["choices"] == {
            "dataset": "digits",
            "teacher": "resnet8_cifar",
            "student": "resnet8_cifar",
            "method": "kd",
            "recipe": "digits",
        }
        assert each["code"] == code().model_dump()
        assert each["data"]["content_sha256"] == record.dataset.content_sha256
        assert each["teacher"]["run_id"] == record.teacher.run_id
        assert each["teacher"]["weights_sha256"] == record.teacher.weights_sha256
        assert each["environment"]["packages"]["torch"] == record.environment.packages["torch"]
        for name, artifact in each["artifacts"].items():
            assert artifact == {"sha256": file_sha256(Path(each["record"]).parent / name), "beside_the_record": True}


@pytest.mark.parametrize("cell", [f"{CELL}/seed1", f"/{CELL}/seed1/"])
def test_a_seed_may_be_named(there, cell, capsys):
    (found,) = traced(capsys, cell)
    assert found["seed"] == 1
    assert traced(capsys, found["run_id"]) == [found]


def test_the_command_is_that_run_and_no_other(there, capsys):
    """Composed again it has the recorded configuration, and with the data and weights at hand the recorded id."""
    for each in traced(capsys, CELL):
        program, name, *overrides = shlex.split(each["command"])
        assert (program, name) == ("kd-bench", "train")
        record = read_record(Path(each["record"]))
        cfg = compose_run([*overrides, f"paths.runs={quoted(str(there / 'runs'))}"])
        assert check(cfg).recorded() == record.config
        assert locate(cfg) == record.run_id
        assert command(record.model_copy(update={"overrides": None})) == each["command"], "and found for older records"


def test_runs_say_how_they_were_chosen_and_nothing_is_composed_to_trace_them(there, capsys, monkeypatch):
    monkeypatch.setattr("kd_bench.results.records.command.composed_choices", None)
    monkeypatch.setattr("kd_bench.results.records.command._composed", None)
    assert all(read_record(path).overrides for path in Path("runs").glob("*/record.json"))
    assert len(traced(capsys, CELL)) == 3


def test_the_page_of_a_run_shows_the_same_command(there, capsys):
    """Also where a text in it means something to the shell, to Hydra and to HTML."""
    found = traced(capsys, CELL)
    assert any(OTHER.split("'")[1] in each["command"] for each in found)
    for each in found:
        page = run_page(read_record(Path(each["record"])))
        (line,) = re.findall("<pre><code>(.*?)</code></pre>", page, re.DOTALL)
        assert html.unescape(line) == each["command"]


def test_of_an_imported_network_the_command_imports_it(there, capsys):
    teacher = traced(capsys, CELL)[0]["teacher"]["run_id"]
    weights = there / "the best.safetensors"
    shutil.copy(there / "runs" / teacher / "student.safetensors", weights)
    settings = ["dataset.train_samples=100", "recipe.augmentation.crop_padding=0", "trainer.progress=none"]
    assert main(["import", str(weights), "--model", "resnet8_cifar", "--expected-top1", "0.01", *settings]) == 0
    run_id = capsys.readouterr().out.split()[-1].removeprefix("teacher.checkpoint=")
    (found,) = traced(capsys, run_id)
    assert shlex.split(found["command"]) == [
        *("kd-bench", "import", "the best.safetensors", "--model", "resnet8_cifar", "dataset=digits", "trainer=cpu"),
        *("dataset.train_samples=100", "recipe.augmentation.crop_padding=0", "trainer.progress=none"),
    ]


def test_what_runs_share_is_said_once(there, capsys):
    assert main(["trace", CELL]) == 0
    lines = capsys.readouterr().out.splitlines()
    records = [read_record(path) for path in Path("runs").glob("*/record.json")]
    scores = [r.metrics.last.test.top1 for r in records if r.method.name == "kd" and r.study == "why"]
    low, high = t_interval(scores)
    mean, half = 100 * sum(scores) / 2, 100 * (high - low) / 2
    assert f"{CELL}: 2 runs, test top-1 {mean:.2f} ± {half:.2f} %" in lines
    assert len([line for line in lines if line.startswith(f"{CELL}: 1 run, test top-1 ")]) == 1
    assert len([line for line in lines if line.startswith("run ")]) == 3
    assert len([line for line in lines if line.split()[0:1] == ["teacher.weights_sha256"]]) == 2  # of two groups
    assert len([line for line in lines if line.split()[0:1] == ["command"]]) == 3


def test_published_records_are_traced_where_there_are_no_runs(there, capsys):
    publish(["why"], Path("runs"), Path("results"))
    (first, *_) = (each for each in traced(capsys, CELL) if each["study"] == "why")
    (published, *_) = traced(capsys, CELL, "--records", "results/records")
    for name, artifact in first["artifacts"].items():
        assert published["artifacts"][name] == {**artifact, "beside_the_record": False}
    shutil.rmtree("runs")
    assert [each["record"] for each in traced(capsys, CELL)] == [
        f"results/records/{CELL}/seed{seed}.json" for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([CELL.replace("/kd", "/dkd")], f"did you mean '{CELL}'"),
        ([f"{CELL}/seed7"], f"did you mean '{CELL}'"),
        (["0" * 16], "no such run in runs"),
        (["../../etc/passwd"], "no such run in runs"),
        ([CELL, "--records", "nowhere"], "record 'nowhere': no such file or folder"),
    ],
)
def test_no_such_cell_is_one_line_and_exit_code_2(there, arguments, reason, capsys):
    assert main(["trace", *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_a_damaged_record_is_exit_code_4(there, capsys):
    path = Path(traced(capsys, f"{CELL}/seed1")[0]["record"])
    path.write_text(path.read_text().replace('"recipe": "digits",\n "selection"', '"recipe": "x",\n "selection"'))
    assert main(["trace", f"{CELL}/seed1"]) == 4
    error = capsys.readouterr().err
    assert f"{path} is damaged (recipe='x': but config.names.recipe='digits'); kd-bench check {path} says all" in error


def test_tracing_needs_no_torch(there):
    script = f"import sys; from kd_bench.cli.main import main; print(main(['trace', '{CELL}']), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
