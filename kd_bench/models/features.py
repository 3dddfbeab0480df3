"""The tap: one pass through any network gives logits, stage maps and the embedding.

Shapes: ``B`` batch, ``K`` classes, ``C, H, W`` map, ``D`` embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.models.cifar.network import CifarNetwork

Shape = tuple[int, int, int]  # (C, H, W) of a stage


class Outputs(NamedTuple):
    """Results of one pass. ``logits`` (B, K); ``stages``: list of (B, C, H, W), shallow to deep; ``embedding`` (B, D).

    ``pre_activation``: as ``stages`` before the last ReLU, or None where the network has none. ``members``: the outputs
    of each network of an ensemble, whose logits are their mean and everything else the first one's.
    """

    logits: Tensor
    stages: list[Tensor]
    embedding: Tensor
    pre_activation: list[Tensor] | None = None
    members: list["Outputs"] | None = None


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
        classifier: nn.Module = self.network.get_classifier()  # type: ignore[operator]
        return classifier

    def forward(self, images: Tensor) -> Outputs:
        """Run the network on ``images`` (B, 3, H, W), float in [0, 1]."""
        x = (self._resized(images) - self.mean) / self.std
        final, stages, before = self._body(x)
        embedding: Tensor = self.network.forward_head(final, pre_logits=True)  # type: ignore[operator]
        if self._classifies_embedding:
            logits: Tensor = self.classifier(embedding)
        else:
            logits = self.network.forward_head(final)  # type: ignore[operator]
        return Outputs(logits, stages, embedding.flatten(1), before)

    def _resized(self, images: Tensor) -> Tensor:
        if images.shape[2:] == self.input_size:
            return images
        resized = F.interpolate(images, self.input_size, mode="bilinear", align_corners=False, antialias=True)
        return resized.clamp(0, 1)

    def _body(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor] | None]:
        if isinstance(self.network, CifarNetwork):
            outputs = self.network.forward_stages(x, pre_activations=True)
            return outputs.final, outputs.stages, outputs.pre_activations
        final, stages = self.network.forward_intermediates(x)  # type: ignore[operator]
        return final, list(stages), None


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
