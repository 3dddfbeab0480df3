"""Wide ResNets of depth 6n + 4 (Zagoruyko & Komodakis 2016), as the distillation tables use them: no dropout.

Blocks are pre-activation: stage maps are sums that no batch norm or ReLU has touched, so they can be negative. The
pre-activation of a stage is the output of the next batch norm: that which opens the following stage, or the final one.
It is taken from the pass itself; running the batch norm again would move its statistics twice a step.
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


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; returns the first batch norm's output beside its own."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        # The key of the published weight files.
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        normalised = self.bn1(x)
        activated = relu(normalised)
        shortcut = x if self.convShortcut is None else self.convShortcut(activated)
        out = self.conv2(relu(self.bn2(self.conv1(activated))))
        return normalised, out + shortcut


class Stage(nn.Module):
    """Pre-activation blocks, the first of which may change the shape."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, outputs, stride)
        self.layer = nn.ModuleList([first, *(PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1))])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first batch norm's output (the pre-activation of the stage before) and the stage map."""
        opening: Tensor | None = None
        for block in self.layer:
            normalised, x = block(x)
            opening = normalised if opening is None else opening
        assert opening is not None  # a stage has at least one block
        return opening, x


class WideResNet(CifarNetwork):
    """Stem of 16 channels and three stages of ``(depth - 4) / 6`` blocks at strides 1, 2, 4.

    Args:
        depth: 6n + 4.
        width: factor on the stage widths 16, 32, 64.
        num_classes: 0 leaves out the classifier.
        in_chans: channels of the image.
    """

    def __init__(self, depth: int, width: int, num_classes: int = 100, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        if (depth - 4) % 6:
            raise ValueError(f"depth {depth} is not 6n + 4")
        blocks = (depth - 4) // 6
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, 1, 1, bias=False)
        self.block1 = Stage(channels[0], channels[1], blocks, stride=1)
        self.block2 = Stage(channels[1], channels[2], blocks, stride=2)
        self.block3 = Stage(channels[2], channels[3], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(channels[3])
        self.num_features = channels[3]
        self.feature_info = stage_info(channels, (1, 1, 2, 4), ("conv1", "block1", "block2", "block3"))
        self.fc = self._make_classifier(num_classes)
        initialise_convolutions(self)

    def initialise_classifier(self, linear: nn.Linear) -> None:
        nn.init.zeros_(linear.bias)

    def last_batch_norms(self) -> list[str | None]:
        return [None, "block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"]

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        stages, openings = [self.conv1(x) if entered is None else x], []
        for block in (self.block1, self.block2, self.block3)[entered or 0 :]:
            opening, stage = block(stages[-1])
            openings.append(opening)
            stages.append(stage)
        last = self.bn1(stages[-1])
        before = [stages[0], *[*openings, last][1:]] if pre_activations else None
        return StageOutputs(relu(last), stages, before)


register(
    WideResNet,
    {
        "wrn_16_1_cifar": {"depth": 16, "width": 1},
        "wrn_16_2_cifar": {"depth": 16, "width": 2},
        "wrn_40_1_cifar": {"depth": 40, "width": 1},
        "wrn_40_2_cifar": {"depth": 40, "width": 2},
    },
)
