"""Maps from the names that other projects give their layers to the names of our networks.

A file is recognised by its keys, never by its name. RepDistiller's and mdistiller's CIFAR networks and mdistiller's
ImageNet ResNets have the keys of ours, so no map is needed for them. A network with other keys is mapped where it
computes the same, and refused with the reason where it does not.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kd_bench.errors import IntegrityError

Renaming = Callable[[str], str]


@dataclass(frozen=True)
class ForeignNetwork:
    """A network as another project names its layers.

    Attributes:
        description: name of the weights, for people.
        marks: keys that together tell it from all others.
        architectures: networks of timm that compute the same, of several sizes.
        renaming: makes the map from its keys to those of such a network.
        obstacle: says why a network of the architecture cannot take the weights all the same; empty if it can.
    """

    description: str
    marks: frozenset[str]
    architectures: tuple[str, ...]
    renaming: Callable[[Collection[str], nn.Module], Renaming]
    obstacle: Callable[[nn.Module], str] | None = None

    def problem(self, network: nn.Module) -> str:
        """Say why ``network`` cannot take these weights; empty if it can."""
        name = architecture(network)
        if name not in self.architectures:
            return f"the network for it is {' or '.join(self.architectures)}, not {name}"
        return self.obstacle(network) if self.obstacle else ""


def architecture(network: nn.Module) -> str:
    """Return the name under which timm built ``network``, or that of its class."""
    described = getattr(network, "pretrained_cfg", None) or {}
    return str(described.get("architecture") or type(network).__name__)


def in_own_names(state: Mapping[str, Tensor], network: nn.Module, origin: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return ``state`` under the names of ``network``, and what was done for that.

    Raises:
        IntegrityError: the weights are those of another network.
    """
    for marks, reason in WITHOUT_MAP.items():
        if marks <= state.keys() and not marks <= network.state_dict().keys():
            raise IntegrityError(f"{origin} holds weights of {reason}")
    known = next((foreign for foreign in FOREIGN if foreign.marks <= state.keys()), None)
    if known is None or known.marks <= network.state_dict().keys():
        return dict(state), []
    if problem := known.problem(network):
        raise IntegrityError(f"{origin} holds weights of {known.description}: {problem}")
    renamed = known.renaming(state.keys(), network)
    mapped = {renamed(name): tensor for name, tensor in state.items()}
    if len(mapped) != len(state):
        raise IntegrityError(f"{origin} holds weights of {known.description}, and others under their new names")
    return mapped, [f"{origin} holds {known.description}; its layers are renamed"]


def student_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the student's part of a file that holds a whole distillation, as mdistiller's ``latest`` and ``best`` do.

    Beside ``student.*`` these hold ``teacher.*`` and the method's own layers. Anything else is returned as it is.
    """
    student = {name.removeprefix("student."): tensor for name, tensor in state.items() if name.startswith("student.")}
    whole = len(student) == len(state) or any(name.startswith("teacher.") for name in state)
    return student if student and whole else dict(state)


def _flat_blocks(network: nn.Module) -> list[str]:
    """Name timm's blocks in order: timm numbers them within stages, others number them through."""
    stages: list[nn.Module] = list(network.blocks)  # type: ignore[arg-type]
    return [f"blocks.{i}.{j}" for i, stage in enumerate(stages) for j in range(len(stage))]  # type: ignore[arg-type]


def _by_layer(layers: Mapping[str, str]) -> Renaming:
    """Replace the layer's part of ``layer.weight``; what is not in ``layers`` stays, to be listed as unexpected."""

    def renamed(name: str) -> str:
        layer, _, entry = name.rpartition(".")
        return f"{layers[layer]}.{entry}" if layer in layers else name

    return renamed


# EfficientNet-Lite: layers within a block without and with expansion.
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _efficientnet_lite(keys: Collection[str], network: nn.Module) -> Renaming:
    layers = dict(_ENDS)
    for i, block in enumerate(_flat_blocks(network)):
        inner = _INVERTED if f"_blocks.{i}._expand_conv.weight" in keys else _SEPARABLE
        layers |= {f"_blocks.{i}.{foreign}": f"{block}.{name}" for foreign, name in inner.items()}
    return _by_layer(layers)


# mdistiller's MobileNet V1 for ImageNet: a Sequential of Sequentials, whose activations have a number too.
_MOBILENET_BLOCK = {0: "conv_dw", 1: "bn1", 3: "conv_pw", 4: "bn2"}


def _mobilenet_v1(keys: Collection[str], network: nn.Module) -> Renaming:
    layers = {"model.0.0": "conv_stem", "model.0.1": "bn1", "fc": "classifier"}
    for i, block in enumerate(_flat_blocks(network), start=1):
        layers |= {f"model.{i}.{foreign}": f"{block}.{name}" for foreign, name in _MOBILENET_BLOCK.items()}
    return _by_layer(layers)


def _clips_at_six(network: nn.Module) -> str:
    clipped = any(isinstance(module, nn.ReLU6) for module in network.modules())
    return "it was trained with ReLU, not ReLU6: +teacher.kwargs.act_layer=relu" if clipped else ""


def _marks(*keys: str) -> frozenset[str]:
    return frozenset(keys)


FOREIGN = (
    ForeignNetwork(
        "an EfficientNet-Lite in the names of efficientnet_pytorch",
        _marks("_conv_stem.weight", "_blocks.0._depthwise_conv.weight", "_blocks.1._expand_conv.weight", "_fc.weight"),
        tuple(f"tf_efficientnet_lite{size}" for size in range(5)),
        _efficientnet_lite,
    ),
    ForeignNetwork(
        "mdistiller's MobileNet V1 for ImageNet",
        _marks("model.0.0.weight", "model.1.3.weight", "model.13.4.weight", "fc.weight"),
        ("mobilenetv1_100",),
        _mobilenet_v1,
        _clips_at_six,
    ),
)
# Networks, by their marks, that are recognised only to say why they are refused.
WITHOUT_MAP = {
    _marks("_conv_stem.weight", "_blocks.0._se_reduce.weight"): (
        "an EfficientNet with squeeze and excitation: of the names of efficientnet_pytorch only those of the Lite "
        "networks, which have none, are mapped"
    ),
    _marks("pre.0.bias", "stage1.residual.0.bias"): (
        "the MobileNet V2 that mdistiller has for Tiny ImageNet: its convolutions have biases and its stem is 1x1, "
        "which no network of timm or kd_bench has"
    ),
}
