"""VGG with batch norm (Simonyan & Zisserman 2015) for small images, as the distillation tables use it.

It differs from the paper in batch norm, in one linear layer instead of three after global pooling, and in the pooling
between the five blocks: it follows the first three only, so that the last two blocks work at the same size. Images of
height 64 (Tiny ImageNet) are pooled after the fourth block too. Convolutions keep their bias.

Evidence: layers, widths and order come from the published state dictionaries; the places of the pooling from the
feature shapes and the multiply-accumulates; the activations from the list of batch norms that feed a block's last ReLU.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.models.cifar.network import (
    CifarNetwork,
    StageOutputs,
    initialise_convolutions,
    register,
    relu,
    stage_info,
)

WIDTHS = (64, 128, 256, 512, 512)
POOLED_LATE = 64  # the image height at which the fourth block is pooled as well


class VGG(CifarNetwork):
    """Five blocks of 3x3 convolutions.

    There is no stem: the first block is the first stage. A block ends before its last ReLU, so its output is the
    pre-activation of the stage, except that the published lists hold the first one rectified.

    Args:
        layers: number of convolutions of each block.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    first_conv_key = "block0.0"
    classifier_key = "classifier"

    def __init__(self, layers: tuple[int, int, int, int, int], num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        inputs = (in_chans, *WIDTHS[:-1])
        blocks = [self._block(*shape) for shape in zip(inputs, WIDTHS, layers, strict=True)]
        self.block0, self.block1, self.block2, self.block3, self.block4 = blocks
        self.num_features = WIDTHS[-1]
        self.feature_info = stage_info(WIDTHS, (1, 2, 4, 8, 8), [f"block{i}" for i in range(5)])
        self.classifier = self._make_classifier(num_classes)
        initialise_convolutions(self)

    @staticmethod
    def _block(inputs: int, outputs: int, layers: int) -> nn.Sequential:
        modules: list[nn.Module] = []
        for i in range(layers):
            convolution = nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, 1, 1)
            modules += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*modules[:-1])

    def initialise_classifier(self, linear: nn.Linear) -> None:
        nn.init.normal_(linear.weight, 0.0, 0.01)
        nn.init.zeros_(linear.bias)

    def last_batch_norms(self) -> list[str | None]:
        # The published pre-activation of the first stage is rectified, so that it has none.
        blocks = (self.block1, self.block2, self.block3, self.block4)
        return [None, *(f"block{i}.{len(block) - 1}" for i, block in enumerate(blocks, start=1))]

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        first = entered or 0
        late = x.shape[2] << min(first, 3) == POOLED_LATE
        stages: list[Tensor] = []
        before: list[Tensor] = []
        blocks = (self.block0, self.block1, self.block2, self.block3, self.block4)
        for i, block in enumerate(blocks[first:], start=first):
            pre_activation = x if i == entered else block(x)
            stages.append(relu(pre_activation))
            before.append(pre_activation if i else stages[0])
            x = F.max_pool2d(stages[-1], 2) if i < 3 or (i == 3 and late) else stages[-1]
        return StageOutputs(x, stages, before if pre_activations else None)


register(
    VGG,
    {
        "vgg8_cifar": {"layers": (1, 1, 1, 1, 1)},
        "vgg11_cifar": {"layers": (1, 1, 2, 2, 2)},
        "vgg13_cifar": {"layers": (2, 2, 2, 2, 2)},
        "vgg16_cifar": {"layers": (2, 2, 3, 3, 3)},
        "vgg19_cifar": {"layers": (2, 2, 4, 4, 4)},
    },
)
