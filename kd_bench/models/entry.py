"""Entry into a network behind one of its stages.

Shapes: ``B`` batch, ``C, H, W`` map.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from timm.models.resnet import ResNet
from torch import Tensor, nn

from kd_bench.models.cifar.network import CifarNetwork


def forward_behind(network: nn.Module, stage: int, stage_map: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run a body behind ``stage``, whose map (B, C, H, W) is given; return the head's input and the later stages."""
    if isinstance(network, CifarNetwork):
        outputs = network.forward_stages(stage_map, entered=stage)
        return outputs.final, outputs.stages[1:]
    assert isinstance(network, ResNet)  # no other network is said to be able to
    x, stages = network.maxpool(stage_map) if stage == 0 else stage_map, []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4)[stage:]:
        x = layer(x)
        stages.append(x)
    return x, stages


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let batch norms in train mode use the statistics of a batch without moving their running ones."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [norm.track_running_stats for norm in norms]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.track_running_stats = tracked
