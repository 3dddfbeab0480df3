"""Monitoring of a trained student: a brightness shift trips it, resamples of the test images do not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.data.augmentation import as_float
from kd_bench.deploy.drift import drift_tests
from kd_bench.deploy.monitoring import reference_of
from kd_bench.deploy.policy import read_policy
from kd_bench.deploy.reference import REFERENCE_FILE
from kd_bench.deploy.scores import Scores, read_scores
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.evaluation.predictions import embed
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.record import RECORD_FILE, read_record
from kd_bench.runs.restore import restore


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two students of one teacher, of different methods and seeds."""
    runs = tmp_path_factory.mktemp("runs")
    first = train(runs, "recipe.epochs=8", "dataset.train_samples=300", "method=kd")
    second = train(runs, "recipe.epochs=8", "dataset.train_samples=300", "method=scratch", "seed=1")
    return runs / first.run_id, runs / second.run_id


@pytest.fixture(scope="module")
def opened(students: tuple[Path, Path]) -> OpenedRun:
    return restore(read_record(students[0] / RECORD_FILE), students[0])


def predictions(run: OpenedRun, path: Path, brightness: float = 0.0) -> Path:
    """Predictions and embeddings of the test images, made brighter by so much of the range."""
    batches = [
        batch._replace(images=((as_float(batch.images) + brightness).clamp(0, 1) * 255).round().to(torch.uint8))
        for batch in run.data.evaluation_loader(run.data.test)
    ]
    save_file({"logits": run.student_logits(batches), "embeddings": embed(run.pair.student, batches)}, path)
    return path


def test_brighter_images_trip_the_monitor_and_the_same_images_do_not(students, opened, tmp_path, capsys):
    run = str(students[0])
    same = predictions(opened, tmp_path / "same.safetensors")
    brighter = predictions(opened, tmp_path / "brighter.safetensors", 0.3)
    assert main(["monitor", run, "--against", str(same)]) == 0
    assert "0 of 6 tests show drift" in capsys.readouterr().out
    assert main(["monitor", run, "--against", str(brighter), "--json"]) == 1
    tests = json.loads(capsys.readouterr().out)["drift"]
    assert any(test["drifted"] for test in tests)
    assert main(["monitor", run, "--against", str(students[0] / PREDICTIONS_FILE)]) == 0  # of a run, without embeddings


def test_resamples_of_the_test_images_raise_at_most_5_alarms_in_100(students, opened, tmp_path):
    monitored = reference_of(students[0], [])
    bounds = read_policy("drift").policy.drift
    assert bounds is not None
    names = monitored.record.dataset.class_names
    scores = read_scores(predictions(opened, tmp_path / "same.safetensors"), names, "last")
    assert scores.embeddings is not None
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        chosen = random.integers(len(scores), size=200)
        sample = Scores(scores.probabilities[chosen], scores.embeddings[chosen])
        alarms += any(test.drifted for test in drift_tests(monitored.reference, sample, bounds, names))
    assert alarms <= 5


def test_the_reference_is_what_the_predictions_of_the_run_say(students):
    reference = reference_of(students[0], []).reference
    saved = load_file(students[0] / PREDICTIONS_FILE)
    logits, teacher = saved["test/last"], saved["test/teacher"]
    confidence = logits.double().softmax(1).max(1).values
    assert reference.samples["confidence"] == pytest.approx(confidence.sort().values.numpy())
    assert reference.prior.tolist() == torch.bincount(logits.argmax(1), minlength=10).tolist()
    assert reference.agreement == pytest.approx((logits.argmax(1) == teacher.argmax(1)).double().mean().item())
    assert (students[0] / REFERENCE_FILE).is_file()


def test_flips_since_an_earlier_student_are_counted_image_by_image(students, tmp_path, capsys):
    first, second = students
    assert main(["monitor", str(second), "--since", str(first), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["since"]
    before, after = (load_file(run / PREDICTIONS_FILE) for run in (first, second))
    targets = before["test/targets"]
    right = [(each["test/last"].argmax(1) == targets) for each in (before, after)]
    assert found["flips"]["lost"] == pytest.approx((right[0] & ~right[1]).double().mean().item())
    assert found["flips"]["gained"] == pytest.approx((right[1] & ~right[0]).double().mean().item())
    three = targets == 3
    change = (right[1].double() - right[0].double())[three].mean().item()
    assert found["classes"][3]["difference"] == pytest.approx(change)
    policy = tmp_path / "policy.yaml"
    policy.write_text("claim: c\ndrift: {lost: 0.0}\n")
    expected = 1 if (right[0] & ~right[1]).any() else 0
    assert main(["monitor", str(second), "--since", str(first), "--policy", str(policy)]) == expected


def test_unhappy_paths_are_one_line(students, tmp_path, working_directory, capsys):
    assert main(["monitor", "nowhere"]) == 2
    assert main(["monitor", str(students[0]), "--policy", "size"]) == 2
    assert "has no bounds of drift" in capsys.readouterr().err
    assert main(["monitor", str(students[0]), "--against", "none.csv"]) == 2
    assert main(["monitor", str(students[0]), "--since", "nowhere"]) == 2
    few = tmp_path / "few.safetensors"
    save_file({"logits": torch.zeros(3, 10)}, few)
    assert main(["monitor", str(students[0]), "--against", str(few)]) == 3
    assert "it takes 100" in capsys.readouterr().err
