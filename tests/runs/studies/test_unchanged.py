"""A finished study answers without planning only as long as nothing has changed; here each thing changes in turn."""

import json
import shutil
from pathlib import Path

import pytest

from kd_bench.cli.main import main
from kd_bench.errors import KDBenchError
from kd_bench.runs.studies import scheduling, unchanged
from kd_bench.runs.studies.grid import open_study
from kd_bench.runs.studies.unchanged import hash_of_points

STUDY = """
defaults:
  - train
  - override teacher: none
  - override student: resnet8_cifar
  - override method: scratch
  - override recipe: mine
  - override logger: none
  - _self_

study: tiny
dataset: {train_samples: 60}
recipe: {epochs: 1, batch_size: 60}
trainer: {threads: 1, progress: none}
paths: {runs: runs}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      seed: 0,1
"""


class Planned(KDBenchError):
    """Stands for the plan, which a study that has not changed does without."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a study of two runs that is finished."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny" / "recipe").mkdir(parents=True)
    (folder / "tiny" / "recipe" / "mine.yaml").write_text("defaults: [digits]\n")
    (folder / "tiny" / "study.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["study", "tiny"]) == 0
    return folder


@pytest.fixture
def study(finished, monkeypatch):
    """The finished study, in the folder where it ran; what a test does to it is undone."""
    kept = finished.parent / f"{finished.name}-kept"
    shutil.copytree(finished, kept)
    monkeypatch.chdir(finished)

    def refuse(target: str, *arguments: object) -> None:
        raise Planned(target)

    monkeypatch.setattr(scheduling, "_start", refuse)
    yield finished
    shutil.rmtree(finished)
    kept.rename(finished)


def run(study: Path) -> list[Path]:
    """Return the directories of its runs."""
    return sorted(path.parent for path in study.glob("runs/*/record.json"))


def answers(*overrides: str) -> bool:
    """Tell whether the study answers without a plan."""
    return main(["study", "tiny", *overrides]) == 0


def test_an_unchanged_study_answers_what_its_plan_answered(study, capsys):
    assert main(["study", "tiny"]) == 0
    shown = capsys.readouterr().out.splitlines()
    records = [json.loads((directory / "record.json").read_text()) for directory in run(study)]
    in_order = sorted(records, key=lambda record: record["seed"])
    top1 = {record["seed"]: record["metrics"][record["selection"]]["test"]["top1"] for record in records}
    assert shown[0] == "2 runs, 2 of them finished; 1 at a time"
    assert [f"seed {seed}: test top-1 {100 * top1[seed]:.2f} %" in shown[1 + seed] for seed in (0, 1)] == [True, True]
    assert answers()  # the status that this call wrote serves the next
    assert main(["study", "tiny", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  finished, run ")[1] for line in lines[-3:-1]] == [each["run_id"] for each in in_order]
    assert lines[-1].startswith("2 runs, 0 to do")


def other_seeds(study):
    return ["seed=0,2"]


def other_value(study):
    return ["recipe.epochs=2"]


def edited_study(study):
    path = study / "tiny" / "study.yaml"
    path.write_text(path.read_text().replace("train_samples: 60", "train_samples: 61"))


def edited_choice(study):
    (study / "tiny" / "recipe" / "mine.yaml").write_text("defaults: [digits, _self_]\nlabel_smoothing: 0.1\n")


def deleted_record(study):
    (run(study)[0] / "record.json").unlink()


def damaged_record(study):
    path = run(study)[0] / "record.json"
    path.write_bytes(path.read_bytes()[:-20])


def changed_record(study):
    path = run(study)[1] / "record.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content))  # the same values, other bytes


def deleted_run(study):
    shutil.rmtree(run(study)[1])


def other_state(study):
    path = run(study)[0] / "state.json"
    path.write_text(path.read_text().replace('"completed"', '"preempted"'))


def checkpoint_left(study):
    (run(study)[0] / "checkpoint-0-00001-0123456789abcdef.ckpt").write_bytes(b"")


def deleted_weights(study):
    (run(study)[0] / "student.safetensors").unlink()


def damaged_status(study):
    (path,) = study.glob("runs/studies/*.json")
    path.write_bytes(path.read_bytes()[:-20])


def forged_status(study):
    """A run is taken out of the status: one of two would count as all."""
    (path,) = study.glob("runs/studies/*.json")
    content = json.loads(path.read_text())
    content["tasks"] = content["tasks"][:1]
    path.write_text(json.dumps(content))


CHANGES = [
    *(
        other_seeds,
        other_value,
        edited_study,
        edited_choice,
        deleted_record,
        damaged_record,
        changed_record,
        deleted_run,
        other_state,
    ),
    *(checkpoint_left, deleted_weights, damaged_status, forged_status),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_study_is_planned_again_after_a_change(change, study, capsys):
    assert answers()
    overrides = change(study) or []
    assert not answers(*overrides)
    assert "kd-bench: plan_job" in capsys.readouterr().err


def test_other_code_changes_the_hash(monkeypatch):
    points = open_study("demo", ["method=scratch", "seed=0"]).points
    before = hash_of_points(points)
    assert before == hash_of_points(open_study("demo", ["method=scratch", "seed=0"]).points)
    monkeypatch.setattr(unchanged, "_code", lambda: "another version")
    assert hash_of_points(points) not in (before, None)


def test_files_of_the_data_are_part_of_the_hash(tmp_path):
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for name in files:
        (tmp_path / name).write_bytes(b"1")
    chosen = ["method=scratch", "seed=0", "dataset=fashion_mnist", f"dataset.source.root={tmp_path}"]
    points = open_study("demo", chosen).points
    before = hash_of_points(points)
    assert before is not None
    (tmp_path / files[0]).write_bytes(b"22")
    assert hash_of_points(points) not in (before, None)


@pytest.mark.parametrize(
    "override",
    [
        "plugins=[mine]",
        "student.pretrained=true",
        "teacher.checkpoint=weights.pt",
        "teacher.init=weights.pt",
        "dataset=image_folder",
    ],
)
def test_what_cannot_be_told_at_a_glance_is_always_planned(override, tmp_path):
    more = [f"dataset.source.root={tmp_path}", "dataset.num_classes=2"] if override.startswith("dataset=") else []
    if more:
        for name in ("train/a", "train/b"):
            (tmp_path / name).mkdir(parents=True)
    assert hash_of_points(open_study("demo", ["method=kd", "seed=0", override, *more]).points) is None
