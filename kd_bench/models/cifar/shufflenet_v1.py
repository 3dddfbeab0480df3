"""ShuffleNet (Zhang et al. 2018) with 3 groups, as the distillation tables use it.

It differs from the paper in its stem, a 1x1 convolution without stride or pooling; in a ReLU after the depthwise
convolution; and in the first unit, whose ungrouped first convolution is not shuffled. In a unit of stride 2 the
convolved channels come before the pooled ones.

Evidence: layers, widths, groups and order come from the published state dictionary; the strides from the feature shapes
and the multiply-accumulates; the ReLU after the depthwise convolution, the order of the concatenation and the missing
shuffle, which leave no trace in these, from a reading of RepDistiller's ``models/ShuffleNetv1.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.models.cifar.network import (
    CifarNetwork,
    StageOutputs,
    register,
    relu,
    stage_info,
    through_stages,
)

STEM = 24
WIDTHS = (240, 480, 960)
UNITS = (4, 8, 4)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the ``groups`` of channels of (B, C, H, W): the first of each group, then the second of each."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)


class Unit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 depthwise and grouped 1x1; returns its value before and after the last ReLU.

    Args:
        stride: 1 adds the input; 2 concatenates the average-pooled input, which is part of ``outputs``.
        first_groups: groups of the first convolution; ``groups`` are those of the last.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        convolved = outputs - inputs if stride == 2 else outputs
        middle = convolved // 4
        self.stride, self.first_groups = stride, first_groups
        self.conv1 = nn.Conv2d(inputs, middle, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, convolved, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(convolved)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = channel_shuffle(relu(self.bn1(self.conv1(x))), self.first_groups)
        out = self.bn3(self.conv3(relu(self.bn2(self.conv2(out)))))
        pre_activation = torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], dim=1) if self.stride == 2 else out + x
        return pre_activation, relu(pre_activation)


class ShuffleNetV1(CifarNetwork):
    """Stem and three stages, each of which opens with a unit of stride 2.

    Args:
        groups: groups of the 1x1 convolutions.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    classifier_key = "linear"

    def __init__(self, groups: int, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        self.conv1 = nn.Conv2d(in_chans, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = self._stage(STEM, WIDTHS[0], UNITS[0], groups, first_groups=1)
        self.layer2 = self._stage(WIDTHS[0], WIDTHS[1], UNITS[1], groups, first_groups=groups)
        self.layer3 = self._stage(WIDTHS[1], WIDTHS[2], UNITS[2], groups, first_groups=groups)
        self.num_features = WIDTHS[-1]
        self.feature_info = stage_info((STEM, *WIDTHS), (1, 2, 4, 8), ("bn1", "layer1", "layer2", "layer3"))
        self.linear = self._make_classifier(num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, units: int, groups: int, first_groups: int) -> nn.ModuleList:
        first = Unit(inputs, outputs, 2, groups, first_groups)
        return nn.ModuleList([first, *(Unit(outputs, outputs, 1, groups, groups) for _ in range(units - 1))])

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        x = relu(self.bn1(self.conv1(x))) if entered is None else x
        stages = (self.layer1, self.layer2, self.layer3)
        return through_stages(x, stages[entered or 0 :], pre_activations)


register(ShuffleNetV1, {"shufflenetv1_cifar": {"groups": 3}})
