"""Several networks as one teacher: against means in plain Python, and in whole runs on scikit-learn's digits."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score
from support.taps import make_tap
from torch import Tensor

from kd_bench.config.check import check
from kd_bench.data.batch import DataSpec
from kd_bench.errors import IntegrityError
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.features import FeatureTap
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run
from kd_bench.training.teachers import FrozenTeacher

SPEC = DataSpec(10, (8, 8), (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
NETWORKS = Path(__file__).parent.parent / "golden" / "networks"


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def members() -> list[FeatureTap]:
    return [make_tap("resnet8_cifar", SPEC, 1), make_tap("wrn_16_1_cifar", SPEC, 2), make_tap("resnet8_cifar", SPEC, 3)]


def slow_logits(logits: list[list[float]], weights: list[float]) -> list[float]:
    """Of one sample: the weighted mean, class by class."""
    return [
        sum(w * row[k] for w, row in zip(weights, logits, strict=True)) / sum(weights) for k in range(len(logits[0]))
    ]


def slow_probabilities(logits: list[list[float]], weights: list[float]) -> list[float]:
    probabilities = [[math.exp(value) / sum(map(math.exp, row)) for value in row] for row in logits]
    return [math.log(mean) for mean in slow_logits(probabilities, weights)]


SLOW = {"logits": slow_logits, "probabilities": slow_probabilities}


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [3.0, 0.5, 1.5]])
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_logits_are_the_weighted_mean_of_the_members(average, weights):
    taps = members()
    ensemble = Ensemble("three", taps, weights, average).eval()
    with torch.no_grad():
        outputs = ensemble(images())
        alone = [tap.eval()(images()) for tap in taps]
    for sample in range(4):
        rows = [each.logits[sample].double().tolist() for each in alone]
        assert outputs.logits[sample].tolist() == pytest.approx(SLOW[average](rows, weights), rel=1e-5, abs=1e-5)
    assert torch.equal(outputs.logits, ensemble.combine([each.logits for each in alone]))


def test_probabilities_that_are_averaged_sum_to_one_and_differ_from_averaged_logits():
    logits = [torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])]
    probabilities = Ensemble("two", members()[:2], [1.0, 1.0], "probabilities").combine(logits).exp()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-6)
    # e^4 / (e^4 + 2) = 0.96466, e^2 / (e^2 + 2) = 0.78699
    first = (0.964664 + (1 - 0.786986) / 2) / 2
    assert float(probabilities[0, 0]) == pytest.approx(first, abs=1e-5)
    mean = Ensemble("two", members()[:2], [1.0, 1.0], "logits").combine(logits)
    assert mean.tolist() == [[2.0, 1.0, 0.0]]


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_only_the_ratio_of_weights_matters(average):
    logits = [torch.randn(5, 10, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    one = Ensemble("two", members()[:2], [1.0, 3.0], average).combine(logits)
    other = Ensemble("two", members()[:2], [0.02, 0.06], average).combine(logits)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_extreme_logits_stay_finite_with_the_right_values(average):
    high, low = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    combined = Ensemble("two", members()[:2], [1.0, 1.0], average).combine([high, low])
    assert combined.isfinite().all()
    # Each is sure of another class: half and half. The third has probability e^-10000.
    half = math.log(0.5)
    expected = [0.0, 0.0, 0.0] if average == "logits" else [half, half, -1e4]
    assert combined[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_mean_is_taken_in_float32_whatever_the_networks_ran_in():
    logits = [torch.tensor([[256.0]]), torch.tensor([[258.0]]), torch.tensor([[258.0]])]
    combined = Ensemble("three", members(), [1.0, 1.0, 1.0], "logits").combine([each.bfloat16() for each in logits])
    assert combined.dtype == torch.float32
    assert float(combined) == pytest.approx(772 / 3, abs=1e-4)  # bfloat16 has 256, 258, 260


def test_stages_and_embedding_are_those_of_the_first_member_and_members_have_all():
    taps = members()
    ensemble = Ensemble("three", taps, [1.0, 2.0, 3.0], "logits").eval()
    with torch.no_grad():
        outputs = ensemble(images())
        alone = [tap(images()) for tap in taps]
    assert torch.equal(outputs.embedding, alone[0].embedding)
    for ours, theirs in (
        (outputs.stages, alone[0].stages),
        (outputs.pre_activation, alone[0].pre_activation),
        *((each.stages, other.stages) for each, other in zip(outputs.members, alone, strict=True)),
    ):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    for ours, theirs in zip(outputs.members, alone, strict=True):
        assert torch.equal(ours.logits, theirs.logits)
        assert torch.equal(ours.embedding, theirs.embedding)
    first = taps[0]
    assert (ensemble.stage_shapes, ensemble.embedding_size) == (first.stage_shapes, first.embedding_size)
    assert (ensemble.input_size, ensemble.has_pre_activations) == (first.input_size, True)
    assert ensemble.classifier is first.classifier
    assert ensemble.taps() == taps


def test_as_a_frozen_teacher_all_members_stay_as_they_are():
    teacher = FrozenTeacher(Ensemble("three", members(), [1.0, 1.0, 1.0], "logits")).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    x = images().requires_grad_()
    outputs = teacher(x)
    for each in (outputs, *outputs.members):
        assert not each.logits.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    ids = {id(p) for tap in teacher.tap.taps() for p in tap.parameters()}
    assert {id(p) for p in teacher.parameters()} == ids


# Whole runs.

ENSEMBLE = [
    "teacher=ensemble",
    "teacher.members.first.name=resnet8_cifar",
    "teacher.members.second.name=resnet14_cifar",
    "teacher.members.second.weight=3",
]
FAST = [
    *("method=kd", "student=resnet8_cifar", "recipe.epochs=1", "recipe.batch_size=32", "dataset.train_samples=300"),
    *("logger=none", "trainer.progress=none", "trainer.threads=1"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(compose, runs) -> Record:
    """Of a student of the ensemble; trained by the first test that asks for it."""
    return run(compose(*ENSEMBLE, *FAST, f"paths.runs={runs}"))


def member_records(runs: Path, record: Record) -> list[Record]:
    return [read_record(runs / run_id / RECORD_FILE) for run_id in record.teacher.source.split(", ")]


def parameters_of(name: str) -> int:
    """With 10 classes; the published networks have 100, each with 64 weights and a bias."""
    return json.loads((NETWORKS / f"{name}.json").read_text())["parameters"] - 90 * 65


def test_the_record_names_both_runs_and_sums_their_costs(trained, runs):
    first, second = member_records(runs, trained)
    assert [each.student.name for each in (first, second)] == ["resnet8_cifar", "resnet14_cifar"]
    assert [(each.seed, each.role, each.method.name) for each in (first, second)] == [
        (1000, "teacher", "scratch"),
        (1001, "teacher", "scratch"),
    ]
    teacher = trained.teacher
    assert (teacher.name, teacher.run_id, teacher.input_size) == ("ensemble", None, [8, 8])
    assert teacher.parameters == parameters_of("resnet8") + parameters_of("resnet14")
    assert teacher.macs == first.student.macs + second.student.macs
    assert trained.times.teacher_train_seconds == pytest.approx(first.times.train_seconds + second.times.train_seconds)


def test_the_recorded_accuracy_is_that_of_the_stored_mean_of_the_members_predictions(trained, runs):
    stored = load_file(runs / trained.run_id / PREDICTIONS_FILE)
    alone = [load_file(runs / each.run_id / PREDICTIONS_FILE) for each in member_records(runs, trained)]
    for split in ("validation", "test"):
        expected = (alone[0][f"{split}/last"].double() + 3 * alone[1][f"{split}/last"].double()) / 4
        torch.testing.assert_close(stored[f"{split}/teacher"].double(), expected, rtol=1e-4, atol=1e-4)
    correct = accuracy_score(stored["test/targets"].numpy(), stored["test/teacher"].argmax(1).numpy())
    assert trained.teacher.test_top1 == pytest.approx(correct, abs=1e-12)
    agreement = (stored["test/teacher"].argmax(1) == stored["test/last"].argmax(1)).double().mean()
    assert trained.metrics.last.test.teacher_agreement == pytest.approx(float(agreement), abs=1e-12)


@pytest.mark.parametrize("number", [0, 1])
def test_a_member_below_its_record_is_refused(trained, runs, compose, tmp_path, number):
    """Whatever the other one and the mean are like."""
    records = member_records(runs, trained)
    for each in records:
        shutil.copytree(runs / each.run_id, tmp_path / each.run_id)
    path = tmp_path / records[number].run_id / RECORD_FILE
    content = json.loads(path.read_text())
    content["metrics"]["last"]["validation"]["top1"] += 0.02
    path.write_text(json.dumps(content))
    name = records[number].student.name
    with pytest.raises(IntegrityError, match=rf"^teacher {name}: top-1 on the validation split is ") as caught:
        run(compose(*ENSEMBLE, *FAST, f"paths.runs={tmp_path}"))
    measured = 100 * records[number].metrics.last.validation.top1
    assert f"is {measured:.2f} %, {measured + 2:.2f} % expected" in str(caught.value)
    assert read_state(tmp_path / trained.run_id).state == "failed"
    assert not (tmp_path / trained.run_id / RECORD_FILE).exists()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("teacher.members.first.weight=2", False),
        ("teacher.average=probabilities", False),
        ("teacher.name=mine", False),
        ("+teacher.members.first.input_size=[16,16]", False),
        ("teacher.members.second.weight=3.0", True),
        ("+teacher.members.first.overrides={recipe.epochs: 1}", True),  # what came of it is in the hash of the weights
    ],
)
def test_what_makes_another_teacher_of_the_same_weights_is_another_run(compose, trained, runs, change, same):
    config = check(compose(*ENSEMBLE, *FAST, change))
    hashes = [[each.student.weights_sha256 for each in member_records(runs, trained)], []]
    run_id = fingerprint(config, trained.dataset.content_sha256, hashes, 0)
    assert (run_id == trained.run_id) is same
