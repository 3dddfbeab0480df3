"""The networks that ``student=NAME`` and ``teacher=NAME`` choose; any other network is ``student.name=NAME``.

Each choice is what a file ``conf/student/NAME.yaml`` with the defaults of ``_network.yaml`` and this name would be.
"""

from hydra.core.config_store import ConfigStore

GROUPS = ("student", "teacher")
NETWORKS = (
    *("resnet8_cifar", "resnet14_cifar", "resnet20_cifar", "resnet32_cifar", "resnet44_cifar", "resnet56_cifar"),
    *("resnet110_cifar", "resnet8x4_cifar", "resnet32x4_cifar", "wrn_16_1_cifar", "wrn_16_2_cifar", "wrn_40_1_cifar"),
    *("wrn_40_2_cifar", "vgg8_cifar", "vgg11_cifar", "vgg13_cifar", "vgg16_cifar", "vgg19_cifar", "mobilenetv2_cifar"),
    *("shufflenetv1_cifar", "shufflenetv2_cifar", "resnet18_cifar", "resnet50_cifar", "preact_resnet18_cifar"),
    "resnet18",
)


def register() -> None:
    """Add the choices to what Hydra finds."""
    for group in GROUPS:
        for name in NETWORKS:
            ConfigStore.instance().store(name, {"defaults": ["_network"], "name": name}, group=group)
