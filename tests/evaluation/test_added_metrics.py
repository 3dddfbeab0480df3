"""Metrics of torchmetrics in a run: their values against scikit-learn, what is refused, and how they are added."""

import json

import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef, recall_score, roc_auc_score

from kd_bench.errors import ConfigError
from kd_bench.evaluation.added_metrics import added_metrics, check_metrics
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.evaluation.recomputed import prediction_problems
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.results.records.supplement import with_supplement
from kd_bench.runs.remeasure import evaluate, write
from kd_bench.runs.run import run

PLACE = "torchmetrics.classification."
FAST = ["recipe.epochs=1", "dataset.train_samples=100", "logger=none", "trainer.progress=none", "trainer.threads=1"]
ALONE = ["teacher=none", "method=scratch"]


def test_a_run_has_the_numbers_of_scikit_learn_and_the_id_that_it_has_without(compose, tmp_path):
    record = run(compose(*FAST, *ALONE, "metrics=classification", f"paths.runs={tmp_path / 'with'}"))
    predictions = load_predictions(tmp_path / "with" / record.run_id / "predictions.safetensors")
    targets, logits = predictions["test/targets"], predictions["test/last"]
    labels, found = logits.argmax(1), record.full.metrics
    assert found["f1"].value == pytest.approx(f1_score(targets, labels, average="macro"), abs=1e-6)
    assert found["mcc"].value == pytest.approx(matthews_corrcoef(targets, labels), abs=1e-6)
    expected = roc_auc_score(targets, logits.double().softmax(1), multi_class="ovr", average="macro")
    assert found["auroc"].value == pytest.approx(expected, abs=1e-6)
    assert found["recall"].by_class == pytest.approx(recall_score(targets, labels, average=None), abs=1e-6)
    assert found["recall"].value == pytest.approx(recall_score(targets, labels, average="macro"), abs=1e-6)
    assert "metrics" not in record.config
    plain = run(compose(*FAST, *ALONE, f"paths.runs={tmp_path / 'without'}"))
    assert plain.run_id == record.run_id
    assert plain.full is None


def test_metrics_are_added_to_a_finished_run_and_recomputed(compose, tmp_path):
    cfg = [*FAST, *ALONE, f"paths.runs={tmp_path}"]
    record = run(compose(*cfg))
    directory = tmp_path / record.run_id
    f2 = f"+metrics.f2={{_target_: {PLACE}MulticlassFBetaScore, beta: 2.0}}"
    write(evaluate(directory, True, [f2, "evaluation.sections=[]"]), directory)
    run(compose(*cfg, "metrics=classification"))  # a run that is done gets what it lacks
    complete = with_supplement(directory / RECORD_FILE, record)
    assert sorted(complete.full.metrics) == ["auroc", "f1", "f2", "mcc", "recall"]
    assert prediction_problems(complete, directory / "predictions.safetensors") == []

    forged = json.loads(complete.model_dump_json())
    forged["full"]["metrics"]["f2"]["value"] = 0.99
    problems = prediction_problems(
        Record.model_validate_json(json.dumps(forged)), directory / "predictions.safetensors"
    )
    assert len(problems) == 1
    assert problems[0].startswith("full.metrics.f2.value=0.99: the predictions give 0.")
    forged["full"]["metrics"]["f2"]["target"] = "os.system"
    problems = prediction_problems(
        Record.model_validate_json(json.dumps(forged)), directory / "predictions.safetensors"
    )
    assert problems == [
        "predictions.safetensors: metrics.f2._target_='os.system': is not allowed here; allowed: "
        "torchmetrics.classification.*"
    ]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (f"{{_target_: {PLACE}F2}}", r"metrics\.x\._target_='.*F2': there is no such class"),
        (f"{{_target_: {PLACE}MulticlassF1Score, averag: macro}}", r"metrics\.x\.averag: unknown key; did you mean"),
        (f"{{_target_: {PLACE}MulticlassF1Score, num_classes: 3}}", r"metrics\.x\.num_classes: unknown key"),
        (f"{{_target_: {PLACE}BinaryFairness}}", "is no metric of one label out of several classes"),
        (f"{{_target_: {PLACE}MulticlassROC}}", "gives neither one number nor one for each class"),
        (f"{{_target_: {PLACE}MulticlassFBetaScore, beta: -1.0}}", r"metrics\.x: .* cannot be computed: .*beta"),
        ("{_target_: os.system}", r"allowed: torchmetrics\.classification\.\*"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(compose, tmp_path, node, message):
    with pytest.raises(ConfigError, match=message) as caught:
        run(compose(*FAST, *ALONE, f"+metrics.x={node}", f"paths.runs={tmp_path}"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*/record.json"))


def test_an_undefined_class_is_left_out_of_the_mean():
    node = {"_target_": f"{PLACE}MulticlassAccuracy", "average": "none"}
    targets = torch.tensor([0, 0, 1])
    found = added_metrics({"a": node}, torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]), targets)["a"]
    assert (found.value, found.by_class) == (0.75, [0.5, 1.0])
    check_metrics({"a": node}, 2)
