"""CIFAR ResNets of depth 6n + 2 (He et al. 2016, section 4.2) and their x4 variants of the distillation tables.

The x4 networks have stage widths 64, 128, 256 on a stem of only 32, so their first stage projects its shortcut too.
Where the shape changes, the shortcut is a 1x1 convolution with batch norm (the paper pads with zeros).
"""

from torch import Tensor, nn

from kd_bench.models.cifar.network import (
    CifarNetwork,
    StageOutputs,
    initialise_convolutions,
    register,
    relu,
    stage_info,
    through_stages,
)

Widths = tuple[int, int, int, int]
NARROW: Widths = (16, 16, 32, 64)
WIDE_X4: Widths = (32, 64, 128, 256)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns its value before and after the last ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = relu(self.bn1(self.conv1(x)))
        pre_activation = self.bn2(self.conv2(out)) + shortcut
        return pre_activation, relu(pre_activation)


class ResNet(CifarNetwork):
    """Stem and three stages of ``(depth - 2) / 6`` basic blocks at strides 1, 2, 4.

    Args:
        depth: 6n + 2.
        widths: channels of the stem and of the three stages.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    def __init__(self, depth: int, widths: Widths = NARROW, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        if (depth - 2) % 6:
            raise ValueError(f"depth {depth} is not 6n + 2")
        stem, *stages = widths
        self.conv1 = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        blocks = (depth - 2) // 6
        self.layer1 = self._stage(stem, stages[0], blocks, stride=1)
        self.layer2 = self._stage(stages[0], stages[1], blocks, stride=2)
        self.layer3 = self._stage(stages[1], stages[2], blocks, stride=2)
        self.num_features = stages[2]
        self.feature_info = stage_info(widths, (1, 1, 2, 4), ("bn1", "layer1", "layer2", "layer3"))
        self.fc = self._make_classifier(num_classes)
        initialise_convolutions(self)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.ModuleList:
        first = BasicBlock(inputs, outputs, stride)
        return nn.ModuleList([first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))])

    def last_batch_norms(self) -> list[str | None]:
        return [None, *(f"layer{i}.{len(self.layer1) - 1}.bn2" for i in (1, 2, 3))]

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        x = relu(self.bn1(self.conv1(x))) if entered is None else x
        stages = (self.layer1, self.layer2, self.layer3)
        return through_stages(x, stages[entered or 0 :], pre_activations)


register(
    ResNet,
    {
        "resnet8_cifar": {"depth": 8},
        "resnet14_cifar": {"depth": 14},
        "resnet20_cifar": {"depth": 20},
        "resnet32_cifar": {"depth": 32},
        "resnet44_cifar": {"depth": 44},
        "resnet56_cifar": {"depth": 56},
        "resnet110_cifar": {"depth": 110},
        "resnet8x4_cifar": {"depth": 8, "widths": WIDE_X4},
        "resnet32x4_cifar": {"depth": 32, "widths": WIDE_X4},
    },
)
