"""ShuffleNetV2 (Ma et al. 2018) of size 1x, as the distillation tables use it.

It differs from the paper in its stem, a 1x1 convolution without stride or pooling. Stages are shuffled, their
pre-activations are not: these are [untouched half, other half before its ReLU], so their channels are in another order.

Evidence: layers, widths and order come from the published state dictionary; the strides from the feature shapes and the
multiply-accumulates; the pre-activations from the notes of the reference data; activations, split and shuffle from the
paper, whose units torchvision has too (RepDistiller's ``models/ShuffleNetv2.py`` agrees).
"""

import torch
from torch import Tensor, nn

from kd_bench.models.cifar.network import CifarNetwork, StageOutputs, register, relu, stage_info
from kd_bench.models.cifar.shufflenet_v1 import channel_shuffle

STEM, LAST = 24, 1024
UNITS = (4, 8, 4)  # the first of each stage halves the size


class DownUnit(nn.Module):
    """A unit of two branches that see the whole input and halve its size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(relu(self.bn3(self.conv3(x)))))
        right = relu(self.bn5(self.conv5(right)))
        return channel_shuffle(torch.cat([left, right], dim=1), 2)


class Unit(nn.Module):
    """A unit that convolves the second half of the channels and leaves the first alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the untouched half and the convolved half before its last ReLU."""
        untouched, convolved = x.chunk(2, dim=1)
        convolved = self.bn2(self.conv2(relu(self.bn1(self.conv1(convolved)))))
        return untouched, self.bn3(self.conv3(convolved))

    def forward(self, x: Tensor) -> Tensor:
        return join(*self.halves(x))


def join(untouched: Tensor, convolved: Tensor) -> Tensor:
    """Rectify the convolved half and shuffle the channels of both."""
    return channel_shuffle(torch.cat([untouched, relu(convolved)], dim=1), 2)


class ShuffleNetV2(CifarNetwork):
    """Stem, three stages and a 1x1 convolution before the pooling.

    Args:
        widths: channels of the stages.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    classifier_key = "linear"

    def __init__(self, widths: tuple[int, int, int], num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        self.conv1 = nn.Conv2d(in_chans, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = self._stage(STEM, widths[0], UNITS[0])
        self.layer2 = self._stage(widths[0], widths[1], UNITS[1])
        self.layer3 = self._stage(widths[1], widths[2], UNITS[2])
        self.conv2 = nn.Conv2d(widths[2], LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.num_features = LAST
        self.feature_info = stage_info((STEM, *widths), (1, 2, 4, 8), ("bn1", "layer1", "layer2", "layer3"))
        self.linear = self._make_classifier(num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
        return nn.Sequential(DownUnit(inputs, outputs), *(Unit(outputs) for _ in range(units - 1)))

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        x = relu(self.bn1(self.conv1(x))) if entered is None else x
        stages, before = [x], [x]  # as in the ResNets, the first pre-activation is the rectified stem
        for stage in (self.layer1, self.layer2, self.layer3)[entered or 0 :]:
            *units, last = stage
            for unit in units:
                x = unit(x)
            assert isinstance(last, Unit)
            halves = last.halves(x)
            x = join(*halves)
            stages.append(x)
            if pre_activations:
                before.append(torch.cat(halves, dim=1))
        final = relu(self.bn2(self.conv2(x)))
        return StageOutputs(final, stages, before if pre_activations else None)


register(ShuffleNetV2, {"shufflenetv2_cifar": {"widths": (116, 232, 464)}})
