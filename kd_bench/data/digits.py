"""scikit-learn's digits: 1,797 real handwritten digits of 8x8 pixels, shipped with scikit-learn.

They are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998). They come without
an official split, so a test split is carved by the fixed hash.
"""

import torch

from kd_bench.config.ranges import OpenFraction
from kd_bench.data.source import DataSource, ImageArrays, Split
from kd_bench.data.splits import carve


class Digits(DataSource):
    """The digits with grey values of 0 to 16 scaled to 0 to 255, repeated to 3 channels.

    Args:
        test_fraction: share of the 1,797 images that becomes the test split.
    """

    def __init__(self, test_fraction: OpenFraction) -> None:
        self.test_fraction = test_fraction

    def load(self) -> ImageArrays:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        grey = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)
        everything = Split(grey[:, None].expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(bunch.target).long())
        test, train = carve(everything.targets, round(self.test_fraction * len(everything)), "digits/test")
        return ImageArrays(everything.subset(train), everything.subset(test), [str(n) for n in bunch.target_names])
