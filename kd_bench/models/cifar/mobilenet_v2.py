"""MobileNetV2 (Sandler et al. 2018) of half width, as the distillation tables use it.

It differs from the paper in ReLU instead of ReLU6, in a stride of 1 for the second stage (the stem keeps its 2, so a
32x32 image ends at 2x2), in widths that are halved without rounding to multiples of 8, and in the first block, which
has its 1x1 expansion although it does not expand.

Evidence: layers, widths and order come from the published state dictionary; the strides from the feature shapes and the
multiply-accumulates; the activations from the paper and, that they are ReLU, from the notes of the reference data; that
stage maps are linear bottleneck outputs from the batch norms that give them.
"""

from torch import Tensor, nn

from kd_bench.models.cifar.network import (
    CifarNetwork,
    StageOutputs,
    initialise_convolutions,
    register,
    relu,
    stage_info,
)

# Groups of blocks: expansion, channels at full width, blocks, stride of the first.
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, LAST = 32, 1280  # channels at full width; the last layer is never narrower
STAGE_ENDS = (1, 2, 4, 6)  # the groups whose output is a stage


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise and 1x1 linear convolution; a residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileNetV2(CifarNetwork):
    """Stem, seven groups of inverted residuals and a 1x1 convolution before the pooling.

    Stages are the stem and the outputs of groups 2, 3, 5 and 7. All but the stem are linear, no ReLU follows: the
    published pre-activation list is the list of the stages. (One of the two published code bases gives none.)

    Args:
        width: factor on all widths but the last layer's.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    first_conv_key = "conv1.0"
    classifier_key = "classifier.0"

    def __init__(self, width: float, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        stem, *channels = (int(count * width) for count in (STEM, *(count for _, count, _, _ in GROUPS)))
        self.conv1 = nn.Sequential(nn.Conv2d(in_chans, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem))
        self.blocks = nn.ModuleList(
            self._group(inputs, outputs, expansion, blocks, stride)
            for inputs, outputs, (expansion, _, blocks, stride) in zip(
                (stem, *channels[:-1]), channels, GROUPS, strict=True
            )
        )
        self.conv2 = nn.Sequential(nn.Conv2d(channels[-1], LAST, 1, bias=False), nn.BatchNorm2d(LAST))
        self.num_features = LAST
        self.feature_info = stage_info(
            (stem, *(channels[i] for i in STAGE_ENDS)),
            (2, 2, 4, 8, 16),
            ("conv1", *(f"blocks.{i}" for i in STAGE_ENDS)),
        )
        self.classifier = nn.Sequential(self._make_classifier(num_classes))
        initialise_convolutions(self)

    @staticmethod
    def _group(inputs: int, outputs: int, expansion: int, blocks: int, stride: int) -> nn.Sequential:
        first = InvertedResidual(inputs, outputs, expansion, stride)
        return nn.Sequential(first, *(InvertedResidual(outputs, outputs, expansion, 1) for _ in range(blocks - 1)))

    def initialise_classifier(self, linear: nn.Linear) -> None:
        nn.init.normal_(linear.weight, 0.0, 0.01)
        nn.init.zeros_(linear.bias)

    def last_batch_norms(self) -> list[str | None]:
        # No ReLU follows them, nor the stages.
        return [None, *(f"blocks.{i}.{GROUPS[i][2] - 1}.conv.7" for i in STAGE_ENDS)]

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        x = relu(self.conv1(x)) if entered is None else x
        stages = [x]
        passed = STAGE_ENDS[entered - 1] + 1 if entered else 0  # groups before the place of entry
        for i, group in enumerate(list(self.blocks)[passed:], start=passed):
            x = group(x)
            if i in STAGE_ENDS:
                stages.append(x)
        return StageOutputs(relu(self.conv2(x)), stages, list(stages) if pre_activations else None)


register(MobileNetV2, {"mobilenetv2_cifar": {"width": 0.5}})
