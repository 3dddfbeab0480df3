"""WKD-L: moving the student's probabilities of other classes to the teacher's costs more between unlike classes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements, TrainingSet
from kd_bench.methods.losses import cosine_decay, cross_entropy, inner_products
from kd_bench.methods.nkd import soft_target_loss
from kd_bench.models.features import FeatureTap, Outputs

EPSILON = 1e-8  # beside each denominator of the iteration, and on each cost, as in the authors' code
BLOCK = 64  # rows of kernel matrices that are held at a time


def class_similarities(features: Tensor) -> Tensor:
    """Linear CKA of each pair of classes: N features of each class (K, N, D) to (K, K), in [0, 1].

    Lv et al. 2024, section 3.1: ``<G_a, G_b> / (|G_a| |G_b|)``, where G are the inner products (N, N) of a class's
    centered features. The n-th sample of one class stands beside the n-th of the other. A class whose features are all
    alike resembles none.
    """
    centered = features - features.mean(dim=1, keepdim=True)
    products = centered.new_zeros(len(features), len(features))
    for rows in torch.split(centered, BLOCK, dim=1):
        kernels = inner_products(rows, centered).flatten(1)
        products += kernels @ kernels.T
    norms = products.diagonal().sqrt()
    return products / torch.outer(norms, norms).clamp_min(torch.finfo(products.dtype).tiny)


def transport_costs(class_distances: Tensor, sharpening: float) -> Tensor:
    """``1 - exp(-sharpening * distance)``, or the distance itself at sharpening 0, at least 0, plus 1e-8: (K, K).

    They are constants of the gradient.
    """
    distances = class_distances.detach()
    costs = 1 - torch.exp(-sharpening * distances) if sharpening else distances
    return costs.clamp_min(0) + EPSILON


def transport_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    costs: Tensor,
    temperature: float,
    regularisation: float,
    iterations: int,
) -> Tensor:
    """Cost of the entropic transport plan between both distributions over the other classes, mean over the batch.

    Lv et al. 2024, section 3.1; the plan is Sinkhorn's after ``iterations``, through which the gradient runs, and its
    entropy does not count. The label has no probability, so that its row and column of ``costs`` do not matter. There
    is no T^2.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
        costs: (K, K).
    """
    label = F.one_hot(targets, student_logits.shape[1]).bool()
    student, teacher = (
        F.softmax((logits / temperature).masked_fill(label, -torch.inf), dim=1)
        for logits in (student_logits, teacher_logits)
    )
    kernel = torch.exp(-costs / regularisation)
    left = (~label).to(student) / (student.shape[1] - 1)
    right = teacher
    for _ in range(iterations):
        right = teacher / (inner_products(left, kernel.T) + EPSILON)
        left = student / (inner_products(right, kernel) + EPSILON)
    return (inner_products(left, (kernel * costs).T) * right).sum(dim=1).mean()


class WKDL(Method):
    """``ce_weight * CE + target_weight * soft target + decay * transport_weight * transport``.

    The soft target is NKD's. The costs come from the teacher's embeddings of the training samples, not augmented,
    before the training; as in the authors' code each class takes part with as many samples as the smallest class has.
    All embeddings are in memory at that moment: 10 GB for ResNet-50 on ImageNet. The decay multiplies the transport
    alone. Costs by the classifier's weights, an option of the authors' code, are left out, and so is the sum with
    WKD-F, which is a combination.

    Args:
        transport_weight: the paper's lambda.
        temperature: that of the transport; the soft target has none.
        sharpening: of class distances, see ``transport_costs``.
        regularisation: the weight of the plan's entropy.
        iterations: Sinkhorn's, a fixed number.
        decay_start_epoch: the epoch after which the transport's weight falls to 0 along a cosine; 0 from the first on.
            A run that ends earlier keeps the whole weight.
    """

    paper = "Lv et al. 2024, arXiv:2412.08139"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(min_classes=3)
    class_distances: Tensor

    def __init__(
        self,
        ce_weight: NonNegative,
        target_weight: NonNegative,
        transport_weight: NonNegative,
        temperature: Positive,
        sharpening: NonNegative,
        regularisation: Positive,
        iterations: PositiveInt,
        decay_start_epoch: Count,
    ) -> None:
        super().__init__()
        self.ce_weight, self.target_weight, self.transport_weight = ce_weight, target_weight, transport_weight
        self.temperature, self.sharpening, self.regularisation = temperature, sharpening, regularisation
        self.iterations, self.decay_start_epoch = iterations, decay_start_epoch

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.register_buffer("class_distances", torch.zeros(data.num_classes, data.num_classes))

    def prepare(self, training_set: TrainingSet) -> None:
        counts = torch.bincount(training_set.targets, minlength=training_set.num_classes)
        smallest = int(counts.min())
        if smallest < 2:
            raise ConfigError(
                f"method=wkd_l compares classes by at least 2 training samples of each; class {int(counts.argmin())} "
                f"has {smallest}"
            )
        embeddings = torch.cat([outputs.embedding for _, outputs in training_set.teacher_outputs()])
        targets = training_set.targets.to(embeddings.device)
        features = [embeddings[targets == label][:smallest] for label in range(training_set.num_classes)]
        self.class_distances.copy_((1 - class_similarities(torch.stack(features))).fill_diagonal_(0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = student.logits, teacher.logits
        costs = transport_costs(self.class_distances, self.sharpening)
        transport = transport_loss(
            *logits, batch.targets, costs, self.temperature, self.regularisation, self.iterations
        )
        decay = cosine_decay(progress.epoch, progress.epochs, self.decay_start_epoch)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "soft_target": self.target_weight * soft_target_loss(*logits, batch.targets),
            "transport": decay * self.transport_weight * transport,
        }
