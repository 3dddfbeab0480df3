"""The CIFAR networks of the published distillation tables, in timm's registry under the suffix ``_cifar``.

Parameter counts, state-dict keys and logits are those of RepDistiller and mdistiller: their weight files load
unchanged.
"""

from kd_bench.models.cifar.resnet import ResNet
from kd_bench.models.cifar.wide_resnet import WideResNet

__all__ = ["ResNet", "WideResNet"]
