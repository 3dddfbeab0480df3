"""The CIFAR networks of the published distillation tables, in timm's registry under the suffix ``_cifar``.

Parameter counts, state-dict keys and logits are those of RepDistiller and mdistiller: their weight files load
unchanged. (The pre-activation ResNet-18 is that of CS-KD and PS-KD.)
"""

from kd_bench.models.cifar.imagenet_resnet import ImageNetResNet
from kd_bench.models.cifar.mobilenet_v2 import MobileNetV2
from kd_bench.models.cifar.preact_resnet import PreActivationResNet
from kd_bench.models.cifar.resnet import ResNet
from kd_bench.models.cifar.shufflenet_v1 import ShuffleNetV1
from kd_bench.models.cifar.shufflenet_v2 import ShuffleNetV2
from kd_bench.models.cifar.vgg import VGG
from kd_bench.models.cifar.wide_resnet import WideResNet

__all__ = [
    "VGG",
    "ImageNetResNet",
    "MobileNetV2",
    "PreActivationResNet",
    "ResNet",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "WideResNet",
]
