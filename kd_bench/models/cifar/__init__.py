"""The CIFAR networks of the published distillation tables, in timm's registry with the suffix ``_cifar``.

Parameter counts, state-dict keys and logits are those of RepDistiller and mdistiller: their weight files load
unchanged. (The pre-activation ResNet-18 is that of CS-KD and PS-KD.)
"""

from kd_bench.models.cifar import (  # noqa: F401 - each registers its networks
    imagenet_resnet,
    mobilenet_v2,
    preact_resnet,
    resnet,
    shufflenet_v1,
    shufflenet_v2,
    vgg,
    wide_resnet,
)
