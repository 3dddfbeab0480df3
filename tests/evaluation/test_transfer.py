"""Probes against slow versions of the same classifiers, and the images that embeddings are made of."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from support.taps import make_tap

from kd_bench.data.batch import DataSpec
from kd_bench.data.digits import Digits
from kd_bench.data.source import ImageArrays, Split
from kd_bench.evaluation import transfer
from kd_bench.evaluation.predictions import embed


def clusters(samples: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around fixed centres; dimensions of very different scale, and one that never changes."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, samples)
    centres = np.array([[1.0, 0, 0, 0], [0, 100.0, 0, 0], [0, 0, 0.01, 0]])
    noise = random.normal(0, spread, (samples, 4)) * np.array([1, 100, 0.01, 0])
    return centres[targets] + noise + np.array([0, 0, 0, 5.0]), targets


def slow_linear_probe(train, targets, test) -> np.ndarray:
    """Minimises the loss of logistic regression with half the squared norm of the weights, by another optimizer."""
    deviation = train.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    x, y = ((values - train.mean(axis=0)) / scale for values in (train, test))

    def loss(parameters: np.ndarray) -> float:
        weights, bias = parameters[:12].reshape(4, 3), parameters[12:]
        logits = x @ weights + bias
        return (logsumexp(logits, axis=1) - logits[np.arange(len(x)), targets]).sum() + (weights**2).sum() / 2

    found = minimize(loss, np.zeros(15), method="BFGS").x
    return (y @ found[:12].reshape(4, 3) + found[12:]).argmax(axis=1)


def slow_neighbours(train, targets, test) -> np.ndarray:
    """The most frequent class of the five with the largest cosine; of equally frequent ones the lowest."""
    x, y = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (train, test))
    nearest = np.argsort(-(y @ x.T), axis=1)[:, :5]
    return np.array([np.bincount(targets[row]).argmax() for row in nearest])


@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_probes_are_the_slow_classifiers(spread):
    train, targets = clusters(120, spread, 0)
    test, test_targets = clusters(300, spread, 1)
    found = transfer.probe(train, targets, test, test_targets)
    assert found.embedding_size == 4
    linear = (slow_linear_probe(train, targets, test) == test_targets).mean()
    nearest = (slow_neighbours(train, targets, test) == test_targets).mean()
    assert found.linear_probe_top1 == pytest.approx(linear, abs=1.5 / 300)  # a sample may lie on a boundary
    assert found.knn_top1 == pytest.approx(nearest, abs=1e-12)
    assert 0.5 < linear < 1


def test_networks_get_the_other_images_in_their_own_size(monkeypatch):
    monkeypatch.setattr(transfer, "TRAIN_SAMPLES", 100)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (150, 3, 8, 8), dtype=torch.uint8, generator=generator)
    train, test = (
        Split(images[part], torch.arange(len(images[part])) % 4) for part in (slice(0, 120), slice(120, 150))
    )
    seen = []

    def network(batches) -> torch.Tensor:
        seen.append(torch.cat([batch.images for batch in batches]))
        return seen[-1].flatten(1).float()

    found = transfer.transfer(ImageArrays(train, test, list("abcd")), (16, 16), network, None)
    assert (found.classes, found.train_samples, found.test_samples, found.teacher) == (4, 100, 30, None)
    assert [(part.shape, part.dtype) for part in seen] == [
        ((100, 3, 16, 16), torch.uint8),
        ((30, 3, 16, 16), torch.uint8),
    ]
    middle = torch.nn.functional.interpolate(images[120:].double(), (16, 16), mode="bilinear", antialias=True)
    assert (seen[1].double() - middle).abs().max() <= 0.5 + 1e-4


def test_a_random_network_still_has_an_embedding_that_tells_digits_apart():
    tap = make_tap("resnet8_cifar", DataSpec(7, (16, 16), (0.3,) * 3, (0.4,) * 3))
    found = transfer.transfer(Digits(0.4).load(), (16, 16), lambda b: embed(tap, b), lambda b: embed(tap, b))
    assert (found.student.embedding_size, found.train_samples, found.test_samples) == (64, 1078, 719)
    assert found.student == found.teacher
    assert 0.6 < found.student.linear_probe_top1 < 1
    assert 0.6 < found.student.knn_top1 < 1


def test_data_that_are_absent_are_named_with_what_to_do(tmp_path, monkeypatch):
    nowhere = dataclasses.replace(transfer.FASHION_MNIST, ways=(("images.gz",),))
    monkeypatch.setattr(transfer, "FASHION_MNIST", nowhere)
    reason = transfer.load("fashion_mnist", tmp_path)
    assert reason.startswith("absent: place train-images-idx3-ubyte.gz")
    assert str(tmp_path / "fashion_mnist") in reason
    assert len(transfer.load("digits", tmp_path).class_names) == 10
