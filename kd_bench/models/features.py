"""The tap: one pass through any network gives logits, stage maps and the embedding.

Shapes: ``B`` batch, ``K`` classes, ``C, H, W`` map, ``D`` embedding.
"""

from collections.abc import Sequence
from inspect import signature
from typing import Literal, NamedTuple

import torch
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.models.cifar.network import CifarNetwork
from kd_bench.models.entry import forward_behind, running_statistics_kept
from kd_bench.models.tokens import can_drop_tokens, class_attention, forward_kept, has_class_attention

Shape = tuple[int, int, int]  # (C, H, W) of a stage
Ability = Literal["two heads", "class attention", "choice of tokens", "entry"]
ABILITIES: dict[Ability, str] = {
    "two heads": "a head behind a distillation token beside its own, as timm's deit_*_distilled_* have",
    "class attention": "a class token whose attention to the patches can be read, as timm's vit_* and deit_* have",
    "choice of tokens": "patch tokens of which some can be left out, as timm's vit_* and deit_* have",
    "entry": "stages behind which it can be entered, as networks ending in _cifar and timm's resnet* have",
}


class Outputs(NamedTuple):
    """Results of one pass. ``logits`` (B, K); ``stages``: list of (B, C, H, W), shallow to deep; ``embedding`` (B, D).

    ``pre_activation``: as ``stages`` before the last ReLU, or None where the network has none. ``members``: the outputs
    of each network of an ensemble, whose logits are their mean and everything else the first one's. ``final``: the
    input of the network's head, for transformers the tokens of the last stage after the final norm, else mostly the
    last stage itself. ``prefix``: the tokens (B, P, C) before those of the patches after each stage, the class
    token first, or None where the network has no class token or timm does not give it. ``heads``: in train mode, the
    logits (B, K) of the class token and of the distillation token of a network with two heads, whose mean is
    ``logits``.
    """

    logits: Tensor
    stages: list[Tensor]
    embedding: Tensor
    pre_activation: list[Tensor] | None = None
    members: list["Outputs"] | None = None
    final: Tensor | None = None
    prefix: list[Tensor] | None = None
    heads: list[Tensor] | None = None

    def normalized_last_stage(self) -> Tensor:
        """Return the last stage (B, C, H, W) after the network's final norm, or as it is where no such norm follows it.

        Tokens become a map, without class and distillation tokens. A head that begins with another width than the last
        stage's, by a convolution for example, is no norm.
        """
        stage, final = self.stages[-1], self.final
        batch, channels, height, width = stage.shape
        if final is None or final.shape == stage.shape:
            return stage if final is None else final
        if final.shape == (batch, height, width, channels):
            return final.permute(0, 3, 1, 2)
        if final.dim() == 3 and final.shape[1] >= height * width and final.shape[2] == channels:
            return final[:, -height * width :].mT.reshape(stage.shape)
        return stage


class FeatureTap(nn.Module):
    """A network behind its own input size and normalization, with its intermediate results.

    Uses timm's ``forward_intermediates`` and ``forward_head``: no hooks, no tables of layers. Token maps of
    transformers come as (B, C, H, W).

    Args:
        network: any timm network with a classifier.
        spec: image size and number of classes, for one dry pass that fixes the shapes.
        mean, std: channel statistics of the images (in [0, 1]) that the network expects.
        input_size: height and width that images are resized to (bilinear, antialiased); None takes them as they are.

    Attributes:
        stage_pairs: the pairing of a student's stages that the configuration asks for instead of the automatic one.

    Raises:
        ConfigError: the network cannot take images of this size, or gives another number of logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        network: nn.Module,
        spec: DataSpec,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.network = name, network
        self.input_size = input_size or spec.image_size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.stage_pairs: list[tuple[int, int]] | None = None
        self._classifies_embedding = False
        self._gives_prefix = _gives_prefix(network)
        self._two_heads = "two heads" in self.abilities
        outputs = self._dry_pass(spec)
        self.stage_shapes = [(m.shape[1], m.shape[2], m.shape[3]) for m in outputs.stages]
        self.embedding_size = outputs.embedding.shape[1]
        self.has_pre_activations = outputs.pre_activation is not None

    @torch.no_grad()
    def _dry_pass(self, spec: DataSpec) -> Outputs:
        training = self.training
        self.eval()
        height, width = self.input_size
        try:
            outputs: Outputs = self(spec.example())
            # Most networks classify exactly the embedding: then the head need not run twice.
            if isinstance(self.classifier, nn.Linear):
                self._classifies_embedding = torch.equal(self.classifier(outputs.embedding), outputs.logits)
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError(f"{self.name} cannot take {height}x{width} images: {reason}") from error
        self.train(training)
        if outputs.logits.shape[1] != spec.num_classes:
            raise ConfigError(f"{self.name} gives {outputs.logits.shape[1]} logits for {spec.num_classes} classes")
        return outputs

    @property
    def classifier(self) -> nn.Module:
        """The last layers, (B, D) to (B, K). A method that borrows a teacher's classifier does not register it."""
        classifier: nn.Module | tuple[nn.Module, ...] = self.network.get_classifier()  # type: ignore[operator]
        return MeanOfHeads(classifier) if isinstance(classifier, tuple) else classifier

    @property
    def abilities(self) -> frozenset[Ability]:
        """The entries of ``ABILITIES`` that the network has."""
        network = self.network
        found: dict[Ability, bool] = {
            "two heads": hasattr(network, "set_distilled_training"),
            "class attention": has_class_attention(network),
            "choice of tokens": can_drop_tokens(network),
            "entry": isinstance(network, CifarNetwork | ResNet),
        }
        return frozenset(ability for ability, there in found.items() if there)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Outputs:
        """Run the network on ``images`` (B, 3, H, W), float in [0, 1].

        Args:
            kept: (B, N) positions of the patch tokens that the network sees, for one with the ability ``choice of
                tokens``. The outputs have no stages then, since such tokens have no place in a map.
        """
        x = (self._resized(images) - self.mean) / self.std
        if kept is not None:
            assert isinstance(self.network, VisionTransformer)  # the ability
            return self._headed(forward_kept(self.network, x, kept), [])
        final, stages, before, prefix = self._body(x)
        return self._headed(final, stages)._replace(pre_activation=before, prefix=prefix)

    def resume(self, stage: int, stage_map: Tensor) -> Outputs:
        """Run the network behind a stage, in place of whose map (B, C, H, W) it gets ``stage_map``.

        The outputs have the stages behind it alone. Batch norms in train mode normalise with the statistics of the
        batch; their running ones stay as they are.

        Args:
            stage: position in ``stage_shapes``, of a network with the ability ``entry``.
        """
        with running_statistics_kept(self.network):
            final, stages = forward_behind(self.network, stage, stage_map)
        return self._headed(final, stages)

    def class_attention(self, outputs: Outputs) -> Tensor:
        """Return the attention (B, heads, N) of the last block from the class token to the N patches, without gradient.

        Args:
            outputs: of a pass of this network, which has the ability ``class attention``.
        """
        assert isinstance(self.network, VisionTransformer)  # the ability
        assert outputs.prefix is not None
        patches = outputs.stages[-2].flatten(2).mT
        return class_attention(self.network, torch.cat([outputs.prefix[-2], patches], dim=1))

    def _logits(self, final: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Run the head; a network with two gives both in train mode, where timm is told so, else their mean."""
        if self._two_heads:
            self.network.set_distilled_training(True)  # type: ignore[operator]
        logits: Tensor | tuple[Tensor, Tensor] = self.network.forward_head(final)  # type: ignore[operator]
        if self._two_heads:
            self.network.set_distilled_training(False)  # type: ignore[operator]
        return logits

    def _headed(self, final: Tensor, stages: list[Tensor]) -> Outputs:
        """Run the head of the network on what it takes."""
        embedding: Tensor = self.network.forward_head(final, pre_logits=True)  # type: ignore[operator]
        if self._classifies_embedding:
            logits: Tensor | tuple[Tensor, Tensor] = self.classifier(embedding)
        else:
            logits = self._logits(final)
        # A head that takes the maps of several scales has no single input.
        outputs = Outputs(_mean(logits), stages, embedding.flatten(1), final=final if torch.is_tensor(final) else None)
        return outputs._replace(heads=list(logits)) if isinstance(logits, tuple) else outputs

    def _resized(self, images: Tensor) -> Tensor:
        if images.shape[2:] == self.input_size:
            return images
        resized = F.interpolate(images, self.input_size, mode="bilinear", align_corners=False, antialias=True)
        return resized.clamp(0, 1)

    def _body(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor] | None, list[Tensor] | None]:
        if isinstance(self.network, CifarNetwork):
            outputs = self.network.forward_stages(x, pre_activations=True)
            return outputs.final, outputs.stages, outputs.pre_activations, None
        asked = {"return_prefix_tokens": True} if self._gives_prefix else {}
        final, stages = self.network.forward_intermediates(x, **asked)  # type: ignore[operator]
        if not self._gives_prefix:
            return final, list(stages), None, None
        return final, [stage for stage, _ in stages], None, [prefix for _, prefix in stages]


class MeanOfHeads(nn.ModuleList):
    """The heads of a network that has several, as one classifier: the mean of what they make of an embedding."""

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.stack([head(embedding) for head in self]).mean(dim=0)


def _mean(logits: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return (logits[0] + logits[1]) / 2 if isinstance(logits, tuple) else logits


def _gives_prefix(network: nn.Module) -> bool:
    """Whether a network has a class token and its ``forward_intermediates`` can give it."""
    forward = getattr(network, "forward_intermediates", None)
    known = forward is not None and "return_prefix_tokens" in signature(forward).parameters
    return known and getattr(network, "cls_token", None) is not None


def paired_stages(student: FeatureTap, teacher: FeatureTap) -> list[tuple[int, int]]:
    """Pair student stages with the teacher stages they learn from: as configured, else by ``pair_stages``."""
    return student.stage_pairs or pair_stages(student.stage_shapes, teacher.stage_shapes)


def pair_stages(student_shapes: list[Shape], teacher_shapes: list[Shape]) -> list[tuple[int, int]]:
    """Pair each student stage with the teacher stage it learns from, as indices, shallow to deep.

    Networks with as many stages are paired one to one. Where one of them keeps its resolution, as a ViT does, stages
    are paired by relative depth, the deepest with the deepest. Otherwise each student stage takes the deepest teacher
    stage of the closest height (on a logarithmic scale), and of several student stages with one teacher stage the
    deepest stays.
    """
    students, teachers = len(student_shapes), len(teacher_shapes)
    if students == teachers:
        return [(i, i) for i in range(students)]
    if _keeps_resolution(student_shapes) or _keeps_resolution(teacher_shapes):
        count = min(students, teachers)
        return [(-(-step * students // count) - 1, -(-step * teachers // count) - 1) for step in range(1, count + 1)]
    taken: dict[int, int] = {}
    for i, (_, height, _) in enumerate(student_shapes):
        distance = [max(height, h) / min(height, h) for _, h, _ in teacher_shapes]
        closest = max(j for j, d in enumerate(distance) if d == min(distance))
        taken[closest] = i
    pairs = sorted((i, j) for j, i in taken.items())
    return [pair for k, pair in enumerate(pairs) if all(pair[1] > earlier[1] for earlier in pairs[:k])]


def _keeps_resolution(shapes: list[Shape]) -> bool:
    return len({shape[1:] for shape in shapes}) == 1
