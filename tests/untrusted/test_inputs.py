"""Files, configurations, names and records of others, through the commands that read them. Nothing in them runs.

What single readers refuse is tested with them: tests/models (weights), tests/runs (checkpoints), tests/data (archives,
pickles), tests/config/test_check.py (targets), tests/leaderboard (escaping), tests/checking (records).
"""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hostile import Call
from support.records import record_content, save, state_content
from support.trained import SETTINGS, train

from kd_bench.cli.main import main
from kd_bench.config.composition import quoted
from kd_bench.config.files import file_sha256
from kd_bench.config.overrides import compose_run
from kd_bench.models.weights import read_weights, weights_sha256
from kd_bench.results.publish import publish
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE
from kd_bench.results.records.states import now
from kd_bench.results.write import read_leaderboard, write_leaderboard
from kd_bench.runs.lineage import locate
from kd_bench.runs.studies.grid import Study
from kd_bench.runs.studies.progress import StudyStatus, TaskStatus

SCRATCH = ["method=scratch", "teacher=none", "recipe.epochs=1", *SETTINGS[2:]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("untrusted") / "runs"
    train(runs, "method=kd")
    return runs


@pytest.fixture
def folder(working_directory) -> Path:
    return working_directory


@pytest.fixture
def canary(folder) -> Iterator[Path]:
    """A folder that every payload makes. It must never be there."""
    path = folder / "canary"
    yield path
    assert not path.exists()


def refusal(capsys, code: int, *arguments: str) -> str:
    assert main(list(arguments)) == code, capsys.readouterr().err
    error = capsys.readouterr().err
    assert error.startswith("kd-bench: ")
    assert error.count("\n") == 1
    assert error.rstrip("\n").isprintable()
    return error


def test_the_payload_of_these_tests_works(tmp_path):
    path = tmp_path / "seen"
    pickle.loads(pickle.dumps(Call(os.mkdir, str(path))))  # noqa: S301 - our own
    assert path.is_dir()


# --- U1: pickles where weights, checkpoints and predictions belong ---


def torch_file(path: Path, payload: Call) -> None:
    torch.save({"state_dict": {"fc.weight": torch.zeros(2), "evil": payload}}, path)


def pickle_file(path: Path, payload: Call) -> None:
    path.write_bytes(pickle.dumps(payload, protocol=2))


WEIGHT_FILES = {"weights.pth": torch_file, "old.pth": pickle_file, "named.safetensors": pickle_file}
READERS = {
    "train": lambda file: ["train", "method=kd", *SETTINGS, f"teacher.checkpoint={file}"],
    "import": lambda file: ["import", file, "--model", "resnet8_cifar", "trainer.progress=none"],
    "convert": lambda file: ["convert", file, "--out", "out.safetensors"],
}


@pytest.mark.parametrize("name", WEIGHT_FILES)
@pytest.mark.parametrize("command", READERS)
def test_no_command_runs_a_weight_file(folder, canary, capsys, command, name):
    WEIGHT_FILES[name](folder / name, Call(os.mkdir, str(canary)))
    error = refusal(capsys, 4, *READERS[command](name))
    assert f"{name} is refused: " in error
    assert "mkdir" in error or name == "named.safetensors"  # what the file wanted is named
    assert "weights_only" not in error  # and nobody is told to trust it


@pytest.mark.parametrize("argument", ["checkpoint_path: old.pth", "pretrained_cfg_overlay: {file: old.pth}"])
@pytest.mark.parametrize("network", ["student", "teacher"])
def test_no_argument_of_a_network_reads_a_file(folder, canary, capsys, network, argument):
    pickle_file(folder / "old.pth", Call(os.mkdir, str(canary)))
    settings = [f"{network}.name=resnet18", f"{network}.pretrained=true", f"+{network}.kwargs={{{argument}}}"]
    assert "is not allowed here; weights come by " in refusal(capsys, 2, "train", *settings)


@pytest.mark.parametrize("place", ["optimizer_states", "state_dict", "kd_bench", "loops"])
def test_a_run_does_not_resume_from_a_foreign_checkpoint(folder, canary, capsys, place):
    """Its name carries the right hash, as an attacker would see to."""
    settings = [*SCRATCH, "paths.runs=runs"]
    directory = folder / "runs" / str(locate(compose_run(settings)))
    directory.mkdir(parents=True)
    content = {"epoch": 1, "state_dict": {}, "optimizer_states": [], "loops": {}, "kd_bench": {}}
    torch.save({**content, place: [{"state": {0: Call(os.mkdir, str(canary))}}]}, directory / "file")
    digest = file_sha256(directory / "file")[:16]
    (directory / "file").rename(directory / f"checkpoint-1-00001-{digest}.ckpt")
    assert "mkdir" in refusal(capsys, 4, "train", *settings)


@pytest.mark.parametrize("name", [PREDICTIONS_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("command", ["check", "verify"])
def test_a_pickle_in_place_of_a_runs_files_is_refused(finished, folder, canary, capsys, name, command):
    """Even with the right hash in the record."""
    shutil.copytree(finished, folder / "runs")
    (run,) = [path.parent for path in (folder / "runs").glob("*/record.json") if '"name": "kd"' in path.read_text()]
    pickle_file(run / name, Call(os.mkdir, str(canary)))
    record = json.loads((run / RECORD_FILE).read_text())
    record["artifacts"][name] = file_sha256(run / name)
    (run / RECORD_FILE).write_text(json.dumps(record))
    expected = 0 if (command, name) == ("check", WEIGHTS_FILE) else 4  # `check` reads no weights
    assert main([command, str(run)]) == expected
    shown = capsys.readouterr()
    assert (name in shown.out + shown.err) == (expected == 4)


# --- U2: something to be called, in configurations, records and metadata ---


def evil_node(canary: Path) -> dict[str, str]:
    return {"_target_": "os.mkdir", "path": str(canary)}


def text_of(node: dict[str, str]) -> str:
    return "{" + ",".join(f"{key}:{value}" for key, value in node.items()) + "}"


TARGETS: dict[str, Callable[[str], list[str]]] = {
    "method": lambda evil: ["method._target_=os.mkdir", f"+method.evil={evil}"],
    "a term": lambda evil: ["method=kd_at", f"+method.terms.evil={evil}"],
    "a hyperparameter": lambda evil: [f"method.temperature={evil}"],
    "partial": lambda evil: [f"method.temperature={evil[:-1]},_partial_:true}}"],
    "data set": lambda evil: ["~dataset.source", f"+dataset.source={evil}"],
    "below the data set": lambda evil: [f"+dataset.source.deep={evil}"],
    "optimizer": lambda evil: ["~recipe.optimizer", f"+recipe.optimizer={evil}"],
    "scheduler": lambda evil: ["~recipe.scheduler", f"+recipe.scheduler={evil}"],
    "logger": lambda evil: ["~logger", f"+logger={evil}"],
    "network": lambda evil: [f"+student.kwargs.deep=[{evil}]"],
    "teacher's training": lambda evil: [f"+teacher.overrides={{method:{evil}}}"],
    "teacher's training, by its key": lambda evil: ["+teacher.overrides={method._target_:os.mkdir}"],
    "elsewhere": lambda evil: [f"+stash={evil}"],
    "Hydra's callbacks": lambda evil: [f"+hydra.callbacks.evil={evil}"],
    "Hydra's callbacks, from elsewhere": lambda evil: [f"+stash={evil}", "+hydra.callbacks.evil=${stash}"],
    "Hydra's sweeper": lambda evil: ["-m", f"+hydra.sweeper.evil={evil}"],
    "Hydra's launcher": lambda evil: ["-m", f"+hydra.launcher.evil={evil}"],
}


@pytest.mark.parametrize("place", TARGETS)
def test_a_target_of_others_is_refused_wherever_it_stands(folder, canary, capsys, place):
    error = refusal(capsys, 2, "train", *TARGETS[place](text_of(evil_node(canary))), *SCRATCH)
    assert "os.mkdir" in error or "should be a valid number" in error or "unknown key" in error, error


def test_torch_load_is_no_target(folder, canary, capsys):
    pickle_file(folder / "old.pth", Call(os.mkdir, str(canary)))
    for place in ("method", "dataset.source", "recipe.optimizer", "recipe.scheduler", "logger"):
        node = [f"{place}._target_=torch.load", f"+{place}.f=old.pth", f"+{place}.weights_only=false"]
        error = refusal(capsys, 2, "train", *SCRATCH, *node)
        assert f"{place}._target_='torch.load': is not allowed here; allowed: " in error


@pytest.mark.parametrize("slot", ["method", "dataset.source"])
def test_a_module_of_pythons_own_is_no_plugin_of_ours(folder, canary, capsys, slot):
    """``logging.FileHandler`` would make a file. A class that does not belong into its slot is not made at all."""
    node = [f"{slot}._target_=logging.FileHandler", f"+{slot}.filename='{canary}'"]
    error = refusal(capsys, 2, "train", *SCRATCH, "plugins=[logging]", *node)
    assert f"{slot}._target_='logging.FileHandler': is no" in error


FOREIGN_FILES = {
    "method/evil.yaml": ("_target_: os.mkdir\npath: {canary}\n", ["method=evil"]),
    "recipe/evil.yaml": ("# @package _global_\nhydra: {{callbacks: {{x: {node}}}}}\n", ["+recipe@_global_=evil"]),
    "evil.yaml": (
        "defaults: [train, _self_]\nhydra:\n  callbacks: {{x: {node}}}\n",
        ["--config-name", "evil"],
    ),
    "log.yaml": (
        "defaults: [train, _self_, override hydra/job_logging: none]\n"
        "hydra:\n  job_logging:\n    version: 1\n    root: {{level: INFO}}\n"
        "    formatters: {{x: {{(): os.mkdir, path: {canary}}}}}\n",
        ["--config-name", "log"],
    ),
}


@pytest.mark.parametrize("name", FOREIGN_FILES)
def test_a_folder_of_configurations_runs_nothing_by_a_target(folder, canary, capsys, name):
    text, arguments = FOREIGN_FILES[name]
    path = folder / "theirs" / name
    path.parent.mkdir(parents=True)
    path.write_text(text.format(canary=canary, node=json.dumps(evil_node(canary))))
    error = refusal(capsys, 2, "train", "--config-dir", "theirs", *arguments, *SCRATCH[1:])
    assert "is not allowed here" in error
    assert "='os.mkdir'" in error or name == "log.yaml"


def test_a_study_runs_nothing_by_a_target(folder, canary, capsys):
    path = folder / "theirs" / "study.yaml"
    path.parent.mkdir()
    path.write_text(
        f"defaults: [train, _self_]\nmethod: {json.dumps(evil_node(canary))}\n"
        f"hydra: {{callbacks: {{x: {json.dumps(evil_node(canary))}}}, sweeper: {{params: {{seed: '0,1'}}}}}}\n"
    )
    assert main(["study", "theirs", "paths.runs=runs"]) == 2
    assert "os.mkdir" in capsys.readouterr().err


def test_a_pickled_job_of_hydra_is_not_run_again(folder, canary, capsys):
    pickle_file(folder / "config.pickle", Call(os.mkdir, str(canary)))
    assert "reads a pickle" in refusal(capsys, 2, "train", "--experimental-rerun", "config.pickle")


@pytest.mark.parametrize("place", ["method", "dataset/source", "student/kwargs", "recipe/optimizer"])
@pytest.mark.parametrize("command", ["check", "trace", "verify", "leaderboard"])
def test_a_target_in_a_record_is_data(finished, folder, canary, capsys, command, place):
    shutil.copytree(finished, folder / "runs")
    (path,) = [path for path in (folder / "runs").glob("*/record.json") if '"name": "kd"' in path.read_text()]
    record = json.loads(path.read_text())
    node = record["config"]
    for part in place.split("/"):
        node = node[part]
    node |= evil_node(canary)
    path.write_text(json.dumps(record))
    arguments = {"check": [str(path)], "trace": [record["run_id"]], "verify": [str(path.parent)], "leaderboard": []}
    assert main([command, *arguments[command]]) == (0 if command == "leaderboard" else 4)
    shown = capsys.readouterr()
    assert "os.mkdir" in shown.out + shown.err or command == "leaderboard"


def test_a_target_in_the_metadata_of_a_weight_file_is_data(finished, folder, canary):
    (weights,) = [
        path / WEIGHTS_FILE for path in finished.iterdir() if '"teacher": null' in (path / RECORD_FILE).read_text()
    ]
    save_file(load_file(weights), folder / "weights.safetensors", {"config": json.dumps(evil_node(canary))})
    assert weights_sha256(read_weights(folder / "weights.safetensors")) == weights_sha256(read_weights(weights))


# --- U3: names ---

NAMES = {
    "html": "<script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)',
    "latex": r"\input{/etc/passwd} _%&#$^~{}",
    "markdown": "a|b **bold** [x](javascript:alert(1)) `code`",
    "formula": '=HYPERLINK("http://e.invalid")',
    "traversal": "../../../../../../tmp/x",
    "absolute": "/etc/passwd",
    "windows": "C:\\x\\..\\y",
    "hidden file": ".ssh",
    "dots": "..",
    "control": "a\x1b[2J\r\nb\x00c",
    "right to left": "abc\u202edef\u200b",
    "long": "x" * 10_000,
    "empty": "",
    "letters": "日本語",
}


def named(name: str, seed: int = 0) -> dict:
    content = record_content(name, seed, teacher=name, student=name, dataset=name, recipe=name, family=name, paper=name)
    content["study"] = content["code"]["version"] = content["hardware"]["host"] = name
    content["dataset"]["class_names"] = [name] * 4
    return content


@pytest.mark.parametrize("kind", NAMES)
def test_published_files_stay_in_their_folder(tmp_path, kind):
    name = NAMES[kind]
    save(named(name), tmp_path / "deep" / "er" / "runs" / "a" / "record.json")
    before = set(tmp_path.rglob("*"))
    results = tmp_path / "deep" / "er" / "results"
    publish([name], tmp_path / "deep" / "er" / "runs", results)
    made = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(results) for path in made)
    (record,) = (results / "records").rglob("seed0.json")
    parts = record.relative_to(results / "records").parts
    assert len(parts) == 4
    assert all(part.isascii() and part.isprintable() and len(part) <= 203 and part[0] != "." for part in parts)
    assert not {"/", "\\", ":", "<", " "} & set("".join(parts))


@pytest.mark.parametrize("kind", NAMES)
def test_no_page_and_no_line_shows_a_name_as_anything_but_text(folder, capsys, kind):
    name = NAMES[kind]
    for seed in range(3):
        save(named(name, seed), folder / "runs" / str(seed) / "record.json")
    failed = state_content(name, cause=name, dataset=name, student=name, recipe=name, study=name)
    save(failed, folder / "runs" / "failed" / "state.json")
    write_leaderboard(folder / "runs", folder / "board")
    pages = {path: path.read_text(encoding="utf-8") for path in (folder / "board").rglob("*.*")}
    assert any(path.suffix == ".html" for path in pages)
    for path, text in pages.items():
        if path.suffix == ".json":
            json.loads(text)  # for programs, which need the names as they are
            continue
        assert not {"\x1b", "\x00", "\r", "\u202e", "\u200b"} & set(text), path
        if path.suffix in (".html", ".md"):
            assert "<script>alert" not in text, path
            assert '" onmouseover="alert' not in text or path.suffix == ".md", path
    assert main(["check", "runs"]) == 4  # the factory's records are no real ones
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_the_status_of_a_study_shows_names_and_causes_as_text(folder, capsys):
    tasks = [
        TaskStatus(
            key=str(number),
            label=name,
            role="student",
            run_id=None,
            state="failed",
            cause=name,
            top1=None,
            seconds=1.0,
            epoch=0,
            epochs=1,
        )
        for number, name in enumerate(NAMES.values())
    ]
    status = StudyStatus(study="demo", host="elsewhere.invalid", pid=1, started_at=now(), updated_at=now(), tasks=tasks)
    path = Study("demo", folder / "runs", list).status_file
    path.parent.mkdir(parents=True)
    path.write_text(status.model_dump_json())
    assert main(["status", "demo", "paths.runs=runs"]) in (0, 5)
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../../x"])
def test_a_study_of_any_name_keeps_its_files_in_its_folder(folder, name):
    status_file = Study(name, folder, list).status_file
    assert status_file.parent == folder / "studies"
    assert re.fullmatch(r"x(-[0-9a-f]{8})?\.json", status_file.name)


@pytest.mark.parametrize("kind", ["control", "right to left", "long"])
@pytest.mark.parametrize("key", ["names.method", "names.dataset", "names.recipe", "study"])
def test_a_run_cannot_be_named_so_that_nobody_could_read_it(folder, capsys, key, kind):
    name = NAMES[kind].replace("\x00", "")  # which no command line can hold
    error = refusal(capsys, 2, "train", *SCRATCH, f"{key}={quoted(name)}")
    assert "should be one line of at most 200 characters that can all be seen" in error or "mismatched" in error


# --- U5: records ---


def forged(content: dict, text: str = "", **changes: object) -> str:
    changed = deepcopy(content)
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = changed
        for part in parents:
            node = node[part]
        node[last] = value
    return json.dumps(changed).replace("TEXT", text)


RECORDS = {
    "top-1 of 170 %": lambda c: forged(c, metrics__last__test__top1=1.7),
    "number as text": lambda c: forged(c, metrics__last__test__top1="0.93"),
    "nan": lambda c: forged(c, metrics__last__test__top1=float("nan")),
    "infinity": lambda c: forged(c, metrics__last__test__nll=float("inf")),
    "missing hash": lambda c: forged(c, student__weights_sha256=""),
    "declared verified": lambda c: forged(c, verified=True),
    "a key twice": lambda c: forged(c).replace('"role":', '"role": "student", "role":'),
    "a number twice": lambda c: forged(c).replace('"top1":', '"top1": 0.99, "top1":', 1),
    "too deep": lambda c: forged(c, "x", study="TEXT").replace('"x"', "[" * 100_000 + "]" * 100_000),
    "too large a number": lambda c: forged(c, student__parameters=10**400),
    "too long a number": lambda c: forged(c).replace('"threads": ', '"threads": 1' + "0" * 5000, 1),
    "another schema": lambda c: forged(c, schema_version=99),
    "no text": lambda c: "\ufffe\x00",
    "nothing": lambda c: "",
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_forged_record_is_on_no_board_and_fails_the_check(folder, capsys, kind):
    save(RECORDS[kind](record_content(seed=1)), folder / "records" / "bad" / "record.json")
    save(record_content(), folder / "records" / "good" / "record.json")
    found = read_leaderboard(folder / "records").collection
    assert [record.seed for record in found.records] == [0]
    assert [item.path for item in found.rejected] == ["bad/record.json"]
    assert main(["check", "--json", "records/bad"]) == 4
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["tier"] == "damaged"
    assert entry["problems"]


def test_numbers_of_any_size_break_no_board(folder):
    """Those that are allowed; larger ones are no numbers of a record."""
    largest = record_content(seconds=1e38, seed=10**400)
    for part, key in (
        ("student", "parameters"),
        ("student", "macs"),
        ("teacher", "macs"),
        ("dataset", "train_samples"),
    ):
        largest[part][key] = 2**63 - 1
    save(largest, folder / "records" / "a" / "record.json")
    too_large = record_content()
    too_large["student"]["parameters"] = 2**63
    save(too_large, folder / "records" / "b" / "record.json")
    summary = write_leaderboard(folder / "records", folder / "board")
    assert (summary.records, summary.rejected) == (1, 1)


def test_a_record_of_many_megabytes_is_read_in_time(folder):
    """Its history is long, which nothing forbids; it is read, and found to contradict the number of epochs."""
    content = record_content()
    content["history"] = [{"epoch": float(epoch), "train/loss": 1.0, "val/top1": 0.5} for epoch in range(100_000)]
    path = save(content, folder / "record.json")
    assert path.stat().st_size > 5_000_000
    assert main(["check", str(path)]) == 4
