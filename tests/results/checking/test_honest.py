"""Records in which nothing is wrong, however odd they are: neither boards nor ``check`` refuse one of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.trained import train

from kd_bench.config.paths import CHECKOUT
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.results.checking.known import measured_problems
from kd_bench.results.checking.load import load, own_problems
from kd_bench.results.checking.together import contradictions
from kd_bench.results.records.record import Record

from .records import checked, contents

COMMITTED = CHECKOUT / "results" / "records"
DRAWS = 6  # random runs of each size


def measured(content: dict[str, Any], size: int, classes: int, draw: int, with_teacher: bool) -> Record:
    """A record of random logits: some answers certain, some equally likely, some classes without an image."""
    generator = torch.Generator().manual_seed(1000 * size + 10 * draw + classes)

    def logits(samples: int) -> torch.Tensor:
        scale = [0.0, 1.0, 50.0][draw % 3]
        return scale * torch.randn(samples, classes, generator=generator)

    # Labels and teacher are those of the data set, which all draws of a size share.
    shared = torch.Generator().manual_seed(100 * size + classes)
    predictions: dict[str, torch.Tensor] = {}
    for split, samples in (("validation", 3), ("test", size)):
        predictions[f"{split}/targets"] = torch.randint(max(1, classes // 2), (samples,), generator=shared)
        predictions[f"{split}/index"] = torch.arange(samples)
        if with_teacher:
            predictions[f"{split}/teacher"] = torch.randn(samples, classes, generator=shared)
        predictions |= {f"{split}/{rule}": logits(samples) for rule in ("last", "best_on_validation")}
    metrics = metrics_of(predictions, {"last": 2, "best_on_validation": 1})
    content = json.loads(json.dumps(content))
    content["metrics"] = json.loads(metrics.model_dump_json())
    rows = {1: metrics.best_on_validation.validation, 2: metrics.last.validation}
    if (rows[2].top1, -rows[2].nll) > (rows[1].top1, -rows[1].nll):  # then the second epoch is the best one
        content["metrics"]["best_on_validation"] = content["metrics"]["last"]
    content["history"] = [
        {"epoch": float(epoch), "val/top1": row.top1, "val/nll": row.nll} for epoch, row in rows.items()
    ]
    key = f"{size:02x}{classes:02x}{with_teacher:02x}"
    content["dataset"] |= {"num_classes": classes, "class_names": [str(each) for each in range(classes)]}
    content["dataset"] |= {"test_samples": size, "validation_samples": 3, "duplicates": 0}
    content["dataset"]["content_sha256"] = key.ljust(64, "0")
    content["student"]["weights_sha256"] = f"{key}{draw:04x}".ljust(64, "0")
    if with_teacher:
        right = (predictions["test/teacher"].argmax(1) == predictions["test/targets"]).double().mean()
        content["teacher"] |= {"test_top1": float(right), "weights_sha256": key.ljust(64, "f")}
    else:
        content["teacher"] = None
    return Record.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("with_teacher", [True, False], ids=["teacher", "alone"])
def test_measurements_of_tiny_test_sets_are_refused_by_nothing(trained_runs, with_teacher):
    """Test sets of 1 to 7 images, 2 to 11 classes of which only half have any, networks that know nothing or all."""
    content = contents(trained_runs)["kd", 0]
    found = {
        (size, classes, draw): measured(content, size, classes, draw, with_teacher)
        for size in range(1, 8)
        for classes in (2, 5, 6, 11)
        for draw in range(DRAWS)
    }
    own = {key: problems for key, record in found.items() if (problems := own_problems(record))}
    more = {key: problems for key, record in found.items() if (problems := measured_problems(record))}
    assert (len(found), own, more) == (7 * 4 * DRAWS, {}, {})
    assert contradictions(found.items()) == {}


def test_the_committed_records_are_refused_by_nothing():
    """The first of them lack what later ones have."""
    found = checked(COMMITTED)
    assert (len(found), {one.tier for one in found}) == (16, {"local"})
    assert [item for item in load(COMMITTED).rejected if item.path.endswith(".json")] == []


KINDS = {
    "a plain pair": ["method=kd"],
    "another seed": ["method=kd", "seed=1"],
    "a head of its own": ["method=simkd"],
    "several heads": ["method=byot"],
    "a chain": ["method=born_again"],
    "an assistant, which is a teacher with a teacher": ["method=takd", "method.assistants=[resnet14_cifar]"],
    "without a teacher": ["method=scratch", "teacher=none", "teacher.name=null"],
    "another input size of the student": ["method=kd", "student.input_size=[16,16]"],
    "other statistics of the teacher": ["method=kd", "teacher.mean=[0.3,0.3,0.3]"],
    "half precision": ["method=kd", "trainer.precision=bf16-mixed"],
    "another validation split": ["method=kd", "dataset.validation_fraction=0.1"],
    "a split without remainder": ["method=kd", "recipe.batch_size=100"],
    "the best epoch on the test split": ["method=kd", "recipe.selection=best_on_test"],
}


@pytest.fixture(scope="module")
def odd_runs(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("odd") / "runs"
    for overrides in KINDS.values():
        train(runs, *overrides)
    return runs


@pytest.mark.slow  # some twenty runs
def test_real_runs_of_every_kind_are_refused_by_nothing(odd_runs, tmp_path):
    found = checked(odd_runs)
    assert len(found) >= len(KINDS)
    assert {one.path.parent.name: one.problems for one in found if one.problems} == {}
    assert {one.tier for one in found} == {"checked"}
    assert load(odd_runs).rejected == ()


def test_two_studies_may_share_runs_in_other_roles(trained_runs, tmp_path):
    """The teacher of one is trained again by another as a run without a teacher, which boards show."""
    (teacher,) = [each for each in contents(trained_runs).values() if each["role"] == "teacher"]
    again = train(tmp_path / "b", "method=scratch", "teacher.name=null", f"seed={teacher['seed']}")
    assert (again.run_id, again.role) == (teacher["run_id"], "student")
    (tmp_path / "a").symlink_to(trained_runs)
    found = checked(trained_runs, tmp_path / "b")
    assert {one.problems for one in found} == {()}
    for path in trained_runs.rglob("record.json"):
        copy = tmp_path / "both" / "a" / path.parent.name / path.name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "b").rename(tmp_path / "both" / "b")
    collection = load(tmp_path / "both")
    assert collection.rejected == ()
    assert [each.role for each in collection.records if each.run_id == again.run_id] == ["student"]
