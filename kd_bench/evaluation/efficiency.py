"""What a network costs at test time."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kd_bench.data.batch import DataSpec
from kd_bench.methods.base import Method
from kd_bench.models.features import FeatureTap


def parameters(tap: FeatureTap, method: Method | None = None) -> int:
    """Parameters that a prediction needs: the network and what the method adds at test time, each counted once."""
    modules: list[nn.Module] = [tap, *(method.test_time_modules() if method else [])]
    return sum(parameter.numel() for parameter in {p for module in modules for p in module.parameters()})


def adapter_parameters(method: Method) -> int:
    """Parameters that are trained beside the student and thrown away after training."""
    kept = {p for module in method.test_time_modules() for p in module.parameters()}
    return sum(parameter.numel() for parameter in set(method.parameters()) - kept)


def macs(tap: FeatureTap, spec: DataSpec, method: Method | None = None) -> int:
    """Multiply-accumulates of one image: half of torch's FLOP count (convolutions and matrix products)."""
    training = tap.training
    tap.eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        outputs = tap(spec.example(1).to(tap.mean.device))
        if method is not None:
            method.eval().predict(outputs)
    tap.train(training)
    return int(counter.get_total_flops()) // 2
