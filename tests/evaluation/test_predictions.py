"""Predictions are made in eval mode, saved once, and are enough to recompute every metric of a record."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from support.taps import make_tap

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import Diverged, IntegrityError
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.evaluation.predictions import load_predictions, predict
from kd_bench.methods.byot import BYOT
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.runs.run import run

SPEC = DataSpec(10, (8, 8), (0.3,) * 3, (0.4,) * 3)


@pytest.fixture
def tap():
    return make_tap("resnet8_cifar", SPEC, seed=0)


def batches(sizes: list[int]) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sum(sizes), 3, 8, 8), dtype=torch.uint8, generator=generator)
    parts = zip(images.split(sizes), torch.arange(sum(sizes)).split(sizes), strict=True)
    return [Batch(part, index % 10, index) for part, index in parts]


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_those_of_eval_mode_and_the_mode_is_kept(tap, training):
    given = batches([5, 1, 4])
    images = torch.cat([batch.images for batch in given])
    with torch.no_grad():
        expected = tap.eval().network((images / 255.0 - 0.3) / 0.4)
    tap.train(training)
    before = {name: value.clone() for name, value in tap.state_dict().items()}
    logits = predict(tap, given)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert logits.dtype == torch.float32
    assert logits.shape == (10, 10)
    assert all(module.training is training for module in tap.modules())
    assert all(torch.equal(before[name], value) for name, value in tap.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_a_method_with_its_own_head_predicts_through_it(tap, training):
    method = BYOT(distillation_weight=0.1, feature_weight=1e-6, temperature=3.0, skip_stages=1, ensemble=True)
    method.build_adapters(tap, None, SPEC)
    given = batches([6, 6])
    method.train(training)
    logits = predict(tap, given, method)
    assert method.training is training
    method.eval()
    with torch.no_grad():
        outputs = tap.eval()(torch.cat([batch.images for batch in given]) / 255.0)
        exits = [exit_(outputs.stages[stage])[0] for stage, exit_ in zip((1, 2), method.exits, strict=True)]
        mean = torch.stack([part.softmax(1) for part in (outputs.logits, *exits)]).mean(0)
    assert torch.allclose(logits.softmax(1), mean, atol=1e-5)


def test_logits_that_are_not_finite_are_refused(tap):
    with torch.no_grad():
        tap.network.fc.bias[3] = float("nan")
    with pytest.raises(Diverged, match=r"^resnet8_cifar gives logits that are not finite$"):
        predict(tap, batches([4]))


def test_a_damaged_file_is_an_integrity_error(tmp_path):
    path = tmp_path / PREDICTIONS_FILE
    for content in (b"", b"nonsense", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="cannot be read"):
            load_predictions(path)
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_predictions(tmp_path / "nothing.safetensors")


def test_a_saved_file_is_read_back(tmp_path):
    save_file({"test/targets": torch.arange(3)}, tmp_path / "p.safetensors")
    assert torch.equal(load_predictions(tmp_path / "p.safetensors")["test/targets"], torch.arange(3))


def test_a_record_is_recomputed_from_its_predictions(compose, tmp_path):
    """By this program bit for bit, and by scikit-learn."""
    settings = ["recipe.epochs=2", "teacher.name=resnet8_cifar", "dataset.train_samples=100", "trainer.threads=1"]
    settings += ["method=kd", "logger=none", "trainer.progress=none", f"paths.runs={tmp_path}"]
    record = run(compose(*settings))
    predictions = load_predictions(tmp_path / record.run_id / PREDICTIONS_FILE)

    rules = ("last", "best_on_validation")
    epochs = {rule: getattr(record.metrics, rule).epoch for rule in rules}
    assert metrics_of(predictions, epochs) == record.metrics

    assert set(predictions) == {
        f"{split}/{name}" for split in ("validation", "test") for name in (*rules, "targets", "index", "teacher")
    }
    for split, samples in (("validation", 216), ("test", 719)):
        targets = predictions[f"{split}/targets"].numpy()
        assert predictions[f"{split}/index"].tolist() == list(range(samples))
        teacher_right = predictions[f"{split}/teacher"].numpy().argmax(1) == targets
        for rule in rules:
            logits = predictions[f"{split}/{rule}"].numpy()
            assert logits.shape == (samples, 10)
            assert logits.dtype == np.float32
            metrics = getattr(getattr(record.metrics, rule), split)
            right = logits.argmax(1) == targets
            probabilities = np.exp(log_softmax(logits.astype(np.float64), axis=1))
            assert metrics.top1 == accuracy_score(targets, logits.argmax(1))
            assert metrics.top5 == pytest.approx(top_k_accuracy_score(targets, logits, k=5))
            assert metrics.nll == pytest.approx(log_loss(targets, probabilities))
            assert metrics.negative_flips == np.mean(teacher_right & ~right)
            assert metrics.positive_flips == np.mean(~teacher_right & right)
