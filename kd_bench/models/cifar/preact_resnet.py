"""Pre-activation ResNet-18 (He et al. 2016, "Identity mappings"), as CS-KD and PS-KD use it on CIFAR.

CS-KD is Yun et al. 2020, PS-KD is Kim et al. 2021. It differs from the paper in three ways. The stem is a 3x3
convolution with batch norm and ReLU. Every shortcut starts from the activated input, where the paper's identity carries
the raw sum. No batch norm and no ReLU come before the pooling, so stage maps and the embedding can be negative.

Evidence: 11,217,444 parameters with 100 classes fix the batch norms (2 in each of the 8 blocks and 1 in the stem, none
in the shortcuts or at the end); 555,468,800 multiply-accumulates and the stage shapes fix the strides; keys, shortcuts
and the framework's default initialisation come from a reading of CS-KD's ``models/resnet.py``, with which PS-KD's
``models/preact_resnet.py`` agrees. There is no published pre-activation list, and nothing to put in it after the last
stage: the network gives none.
"""

from torch import Tensor, nn

from kd_bench.models.cifar.network import CifarNetwork, StageOutputs, register, relu, stage_info

WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice, and a shortcut from the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        activated = relu(self.bn1(x))
        out: Tensor = self.conv2(relu(self.bn2(self.conv1(activated)))) + self.shortcut(activated)
        return out


class PreActivationResNet(CifarNetwork):
    """Stem of 64 channels and four stages at strides 1, 2, 4, 8.

    Args:
        blocks: number of blocks of each stage.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    classifier_key = "linear"

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        self.conv1 = nn.Conv2d(in_chans, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            self._stage(*shape) for shape in zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, blocks, STRIDES, strict=True)
        )
        self.num_features = WIDTHS[-1]
        self.feature_info = stage_info(
            (WIDTHS[0], *WIDTHS), (1, 1, 2, 4, 8), ("bn1", "layer1", "layer2", "layer3", "layer4")
        )
        self.linear = self._make_classifier(num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = PreActivationBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        stages = [relu(self.bn1(self.conv1(x))) if entered is None else x]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4)[entered or 0 :]:
            stages.append(stage(stages[-1]))
        return StageOutputs(stages[-1], stages, None)


register(PreActivationResNet, {"preact_resnet18_cifar": {"blocks": (2, 2, 2, 2)}})
