"""CAT-KD: class activation maps as attention that is transferred."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.heads import linear_classifier


def class_activation_maps(stage: Tensor, classifier: nn.Linear) -> Tensor:
    """The classifier applied at each position of the last map: (B, D, H, W) to (B, K, H, W).

    Their spatial mean is the logits.
    """
    return F.conv2d(stage, classifier.weight[:, :, None, None], classifier.bias)


def binarized(maps: Tensor) -> Tensor:
    """1 where class activation maps (B, K, H, W) exceed the mean absolute value of their positions, else 0."""
    return (maps > maps.abs().mean(dim=(2, 3), keepdim=True)).to(maps.dtype)


def cat_loss(
    student_maps: Tensor, teacher_maps: Tensor, resolution: int, normalize: bool, binarize: bool = False
) -> Tensor:
    """Mean squared difference of class activation maps (B, K, H, W) over all elements (Guo et al. 2023).

    Args:
        student_maps, teacher_maps: sizes may differ; both are average-pooled to ``resolution`` in height and width.
        normalize: bring each class's pooled map to L2 norm 1, as the paper does. The configurations that came with the
            authors' code do not when they train with labels, which is why their weight is so much smaller.
        binarize: take the teacher's maps ``binarized``, before the pooling.
    """
    if binarize:
        teacher_maps = binarized(full_precision(teacher_maps))
    pooled = [
        F.adaptive_avg_pool2d(full_precision(maps), resolution).flatten(2) for maps in (student_maps, teacher_maps)
    ]
    student, teacher = [F.normalize(maps, dim=2) for maps in pooled] if normalize else pooled
    return F.mse_loss(student, teacher)


class CATKD(Method):
    """``CE + cat_weight * cat_loss``; maps of both networks come from their classifiers and last stages.

    Class activation maps exist where logits are a linear layer of the pooled last stage: other networks, such as ViTs
    that classify a class token, are refused. ``ce_weight=0`` with ``normalize=true`` and ``cat_weight=50`` is the
    paper's CAT, training by attention alone. With ``binarize`` the teacher's maps are ones and zeros: the paper's
    experiment on what the maps carry.

    Args:
        resolution: height and width that maps are pooled to.
        normalize: each class's pooled map has norm 1.
        binarize: the teacher's maps are 1 where they exceed their own mean absolute value, else 0.
    """

    paper = "Guo et al. 2023, arXiv:2304.12777"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        cat_weight: NonNegative,
        resolution: PositiveInt,
        normalize: bool,
        binarize: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.cat_weight, self.resolution = ce_weight, cat_weight, resolution
        self.normalize, self.binarize = normalize, binarize

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        # A tuple hides them: neither the student's classifier nor the teacher's belongs to the method.
        self._classifiers = tuple(linear_classifier(tap, "pooled last stage", data) for tap in (student, teacher))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_maps, teacher_maps = (
            class_activation_maps(outputs.stages[-1], classifier)
            for outputs, classifier in zip((student, teacher), self._classifiers, strict=True)
        )
        cat = cat_loss(student_maps, teacher_maps, self.resolution, self.normalize, self.binarize)
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "cat": self.cat_weight * cat}
