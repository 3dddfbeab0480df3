"""Transfer of frozen embeddings to another data set: a linear probe and nearest neighbours.

Networks are in eval mode and get the other images at their own data set's size, behind their own normalization.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import EVALUATION_BATCH
from kd_bench.data.digits import Digits
from kd_bench.data.fashion_mnist import FashionMnist
from kd_bench.data.presence import FASHION_MNIST
from kd_bench.data.source import ImageArrays, Split
from kd_bench.data.splits import carve
from kd_bench.results.records.measured import Probe, Transfer

TRAIN_SAMPLES = 10_000
NEIGHBOURS = 5
ITERATIONS = 5_000
DIGITS_TEST_FRACTION = 0.4

# Embeddings (N, D) of one network on batches.
Embedding = Callable[[Iterable[Batch]], Tensor]


def load(name: str, data_root: Path) -> ImageArrays | str:
    """Load a data set to transfer to, or say why there is none.

    Args:
        name: ``digits``, which is always there, or ``fashion_mnist``.
        data_root: folder with a folder a data set, as ``paths.data``.
    """
    if name == "digits":
        return Digits(DIGITS_TEST_FRACTION).load()
    root = data_root / name
    return FashionMnist(str(root)).load() if FASHION_MNIST.find(root) else f"absent: {FASHION_MNIST.advice(root)}"


SOURCES = {"digits": "kd_bench.data.digits.Digits", "fashion_mnist": "kd_bench.data.fashion_mnist.FashionMnist"}


def transfer(arrays: ImageArrays, size: tuple[int, int], student: Embedding, teacher: Embedding | None) -> Transfer:
    """Probe both networks on the same images.

    At most 10,000 training images are used, stratified and drawn by the fixed hash, and all test images.

    Args:
        size: height and width that the networks get their images in.
    """
    chosen, _ = carve(arrays.train.targets, TRAIN_SAMPLES, "transfer")
    train, test = arrays.train.subset(chosen), arrays.test

    def probed(embed: Embedding) -> Probe:
        return probe(
            embed(_batches(train, size)).double().numpy(),
            train.targets.numpy(),
            embed(_batches(test, size)).double().numpy(),
            test.targets.numpy(),
        )

    return Transfer(
        classes=len(arrays.class_names),
        train_samples=len(train),
        test_samples=len(test),
        student=probed(student),
        teacher=probed(teacher) if teacher else None,
    )


def probe(
    train: NDArray[np.float64], targets: NDArray[np.int64], test: NDArray[np.float64], test_targets: NDArray[np.int64]
) -> Probe:
    """Return the test accuracy of two classifiers on embeddings (N, D).

    Multinomial logistic regression with an L2 penalty (C = 1) on standardized features, and the vote of the 5 nearest
    neighbours by cosine. Neither has anything tuned: the same recipe judges all networks.
    """
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    nearest = make_pipeline(Normalizer(), KNeighborsClassifier(NEIGHBOURS))
    return Probe(
        embedding_size=train.shape[1],
        linear_probe_top1=float(linear.fit(train, targets).score(test, test_targets)),
        knn_top1=float(nearest.fit(train, targets).score(test, test_targets)),
    )


def _batches(split: Split, size: tuple[int, int]) -> Iterable[Batch]:
    """Yield images in memory, resized (bilinearly, antialiased) where they are of another size."""
    assert isinstance(split.images, Tensor)
    for index in torch.split(torch.arange(len(split)), EVALUATION_BATCH):
        images = split.images[index]
        if images.shape[2:] != size:
            resized = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
            images = resized.round().clamp(0, 255).to(images.dtype)
        yield Batch(images, split.targets[index], index)
