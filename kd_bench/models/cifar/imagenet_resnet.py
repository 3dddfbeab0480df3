"""The ImageNet ResNets (He et al. 2016, table 1) on a CIFAR stem.

ResNet-50 is a teacher of the distillation tables, ResNet-18 the network of the self-distillation papers. They differ
from the paper in their stem, a 3x3 convolution without stride or pooling, and in the bottleneck's stride, which is at
the 3x3 convolution. The last batch norm of a block starts at 1, not 0.

Evidence: layers, widths and order come from the published state dictionaries; the strides from the feature shapes and
the multiply-accumulates; the last ReLU of a stage from the list of batch norms that feed it.
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

WIDTHS = (64, 128, 256, 512)  # of the inner convolutions
STRIDES = (1, 2, 2, 2)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Make the identity, or a 1x1 convolution with batch norm where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns its value before and after the last ReLU."""

    expansion, last_norm = 1, "bn2"

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = relu(self.bn1(self.conv1(x)))
        pre_activation = self.bn2(self.conv2(out)) + self.shortcut(x)
        return pre_activation, relu(pre_activation)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut; returns its value before and after the last ReLU."""

    expansion, last_norm = 4, "bn3"

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        pre_activation = self.bn3(self.conv3(out)) + self.shortcut(x)
        return pre_activation, relu(pre_activation)


class ImageNetResNet(CifarNetwork):
    """Stem of 64 channels and four stages at strides 1, 2, 4, 8.

    Args:
        block: kind of block, the same in all stages.
        blocks: number of blocks of each stage.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    classifier_key = "linear"

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: tuple[int, int, int, int],
        num_classes: int = 100,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        stem = WIDTHS[0]
        outputs = [block.expansion * width for width in WIDTHS]
        self.conv1 = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.ModuleList([block(inputs, width, stride), *(block(output, width, 1) for _ in range(count - 1))])
            for inputs, width, output, count, stride in zip(
                (stem, *outputs[:-1]), WIDTHS, outputs, blocks, STRIDES, strict=True
            )
        )
        self.num_features, self.last_norm = outputs[-1], block.last_norm
        self.feature_info = stage_info(
            (stem, *outputs), (1, 1, 2, 4, 8), ("bn1", "layer1", "layer2", "layer3", "layer4")
        )
        self.linear = self._make_classifier(num_classes)
        initialise_convolutions(self)

    def last_batch_norms(self) -> list[str | None]:
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [None, *(f"layer{i}.{len(stage) - 1}.{self.last_norm}" for i, stage in enumerate(stages, start=1))]

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        x = relu(self.bn1(self.conv1(x))) if entered is None else x
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return through_stages(x, stages[entered or 0 :], pre_activations)


register(
    ImageNetResNet,
    {
        "resnet18_cifar": {"block": BasicBlock, "blocks": (2, 2, 2, 2)},
        "resnet50_cifar": {"block": Bottleneck, "blocks": (3, 4, 6, 3)},
    },
)
