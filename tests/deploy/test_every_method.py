"""Every method's student as files: what ``predict`` uses is in them, and what only trains is not."""

import copy

import pytest
import torch
from methods.pairs import CHOICES, PAIRS, Built, built

from kd_bench.data.augmentation import as_float
from kd_bench.data.batch import Batch
from kd_bench.deploy.graph import Predictor, as_onnx, as_program, as_weights, traced
from kd_bench.deploy.parity import compared, onnx_logits, program_logits
from kd_bench.methods.base import Method

OTHER_STUDENTS = {
    "vit": PAIRS["vit"],
    "mobilenetv3": {"student.name": "mobilenetv3_small_050", "teacher.name": "resnet18"},
}
IMAGES = 33


def batches(made: Built) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 3, *made.pair.spec.image_size), generator=generator, dtype=torch.uint8)
    index = torch.arange(IMAGES)
    return [Batch(images[rows], rows, rows) for rows in index.split(16)]


def settled(made: Built) -> Built:
    """Give batch norms statistics of their own, so that what normalises is not the identity."""
    made.pair.method.train()
    with torch.no_grad():
        outputs = made.student.train()(as_float(batches(made)[0].images))
        made.method.predict(outputs)
    return made


def assert_parity(made: Built) -> None:
    tap, method = settled(made).student, made.method
    predictor = Predictor(tap, method)
    with torch.inference_mode():
        reference = torch.cat([method.eval().predict(tap(as_float(each.images))) for each in batches(made)])
    program = traced(predictor, made.pair.spec)
    content = as_onnx(predictor, program, made.pair.spec, {"key": "value"})
    for threads in (1, 2):
        found = compared("f", "onnxruntime", threads, reference, onnx_logits(content, batches(made), threads))
        assert found.passed, found
        assert (found.largest_difference or 0) <= 1e-4 * float(reference.abs().max()), found
    found = compared("f", "torch.export", None, reference, program_logits(as_program(program), batches(made)))
    assert found.passed, found
    assert as_weights(predictor, {})[8:9] == b"{"  # after the length of its header


@pytest.mark.parametrize("choice", ["kd", "simkd", "byot"])
def test_what_predict_uses_is_exported(compose, choice):
    assert_parity(built(compose, choice))


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_every_students_files_agree_with_pytorch(compose, choice):
    assert_parity(built(compose, choice))


@pytest.mark.slow
@pytest.mark.parametrize("student", OTHER_STUDENTS)
def test_other_networks_agree_too(compose, student, monkeypatch):
    monkeypatch.setitem(PAIRS, student, OTHER_STUDENTS[student])
    assert_parity(built(compose, "kd", student))


def test_the_heads_of_the_method_count_and_its_adapters_do_not(compose):
    """FitNet's regressors only train; SimKD's projector and classifier predict."""
    names = {}
    for choice in ("fitnet", "simkd"):
        made = built(compose, choice)
        predictor = Predictor(made.student, made.method)
        names[choice] = {name.split(".")[0] for name in predictor.state_dict()}
        exported = traced(predictor, made.pair.spec).state_dict
        assert {name.split(".")[0] for name in exported} == names[choice]
    assert names == {"fitnet": {"tap"}, "simkd": {"tap", "heads"}}


def test_a_prediction_that_is_changed_is_found(compose):
    """The comparison is not of a thing with itself: another head in PyTorch is another prediction."""
    made = settled(built(compose, "kd"))
    predictor = Predictor(made.student, made.method)
    content = as_onnx(predictor, traced(predictor, made.pair.spec), made.pair.spec, {})
    changed = copy.deepcopy(made.student.eval())
    with torch.no_grad():
        changed.classifier.bias[3] += 0.01
        reference = torch.cat([changed(as_float(each.images)).logits for each in batches(made)])
    found = compared("student.onnx", "onnxruntime", 1, reference, onnx_logits(content, batches(made), 1))
    assert not found.passed
    assert found.largest_difference == pytest.approx(0.01, rel=1e-2)
    assert isinstance(made.method, Method)
