"""Cost of a network at test time."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kd_bench.data.batch import DataSpec
from kd_bench.methods.base import Method
from kd_bench.models.ensemble import taps_of
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.weights import as_bytes


def parameters(tap: FeatureTap, method: Method | None = None, trainable: bool = False) -> int:
    """Count the parameters that a prediction needs: those of the network and of what the method adds at test time.

    What a method turned off in the student, as one does that puts another head in place of its own, is not needed.

    Args:
        trainable: only those that training may change.
    """
    network = [p for p in tap.parameters() if method is None or p.requires_grad]
    added = [p for module in (method.test_time_modules() if method else []) for p in module.parameters()]
    return sum(parameter.numel() for parameter in {*network, *added} if parameter.requires_grad or not trainable)


def file_bytes(tap: FeatureTap, method: Method | None = None) -> int:
    """Return the size of the weights as safetensors files: buffers and headers included."""
    taps = taps_of(tap)
    heads = method.test_time_modules() if method else []
    files = [*(each.network for each in taps), *([nn.ModuleList(heads)] if heads else [])]
    return sum(len(as_bytes(module.state_dict())) for module in files)


def adapter_parameters(method: Method) -> int:
    """Count the parameters that are trained beside the student and thrown away after training."""
    kept = {p for module in method.test_time_modules() for p in module.parameters()}
    return sum(parameter.numel() for parameter in set(method.parameters()) - kept)


def teacher_macs(teacher: FeatureTap, spec: DataSpec, student: FeatureTap, method: Method) -> int:
    """Count the multiply-accumulates of the teacher for one image, as the method shows it to the teacher."""
    modes = student.training, teacher.training
    student.eval()
    teacher.eval()
    counter = FlopCounterMode(display=False)

    def counted(images: Tensor, *more: Tensor) -> Outputs:
        with counter, sdpa_kernel(SDPBackend.MATH):
            outputs: Outputs = teacher(images, *more)
        return outputs

    with torch.no_grad():
        method.observe(student, counted, spec.example(1).to(student.mean.device))
    student.train(modes[0])
    teacher.train(modes[1])
    return int(counter.get_total_flops()) // 2


def macs(tap: FeatureTap, spec: DataSpec, method: Method | None = None) -> int:
    """Count the multiply-accumulates of one image: half of torch's FLOP count (convolutions and matrix products).

    A classifier that the method turned off, as one does that puts another in its place, is left out. Attention is
    computed as its two products: the counter knows the fused one of some devices only.
    """
    training = tap.training
    tap.eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        outputs = tap(spec.example(1).to(tap.mean.device))
        if method is not None:
            method.eval().predict(outputs)
    flops = int(counter.get_total_flops())
    if method is not None and not any(p.requires_grad for p in tap.classifier.parameters()):
        with FlopCounterMode(display=False) as unused, torch.no_grad():
            tap.classifier(outputs.embedding)
        flops -= int(unused.get_total_flops())
    tap.train(training)
    return flops // 2
