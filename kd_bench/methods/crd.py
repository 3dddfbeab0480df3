"""Contrastive representation distillation: a memory of the whole training set to tell a sample's own row from others.

Shapes: ``B`` batch, ``N`` training samples, ``D`` projection, ``M`` negatives of a sample.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Fraction, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements, TrainingSet, check_memory
from kd_bench.methods.losses import cross_entropy, inner_products
from kd_bench.models.features import FeatureTap, Outputs

SMALLEST = 1e-7  # added to denominators, as in the authors' code
WHOLE_MEMORY_UP_TO = 32  # times the drawn rows; see benchmarks/method_cost.py: equally fast at about 45


def nce_loss(scores: Tensor, samples: int) -> Tensor:
    """``-(log h(positive) + sum over negatives of log(1 - h))`` with ``h(s) = s / (s + M / N)``, mean over the batch.

    Tian et al. 2020, section 3. The probability of a negative is taken as 1 / N although it is of another class. The
    1e-7 in the denominators is the code's.

    Args:
        scores: (B, 1 + M), > 0, the positive first.
        samples: N.
    """
    noise = (scores.shape[1] - 1) / samples
    positive = (1 + (noise + SMALLEST) / scores[:, 0]).log()
    negatives = (1 + (scores[:, 1:] + SMALLEST) / noise).log()  # log1p is 20 times slower on a CPU
    return (positive + negatives.sum(dim=1)).mean()


def drawn_products(vectors: Tensor, memory: Tensor, drawn: Tensor) -> Tensor:
    """Inner products (B, 1 + M) of ``vectors`` (B, D) with the rows ``drawn`` (B, 1 + M) of ``memory`` (N, D).

    A product with the whole memory moves N * D numbers; collecting the rows first moves B * (1 + M) * D. So the whole
    memory is faster unless very few of its rows are drawn.
    """
    if len(memory) <= WHOLE_MEMORY_UP_TO * drawn.shape[1]:
        return products_with_all(vectors, memory).gather(1, drawn)
    return products_with_drawn(vectors, memory, drawn)


def products_with_all(vectors: Tensor, memory: Tensor) -> Tensor:
    """Inner products (B, N) of ``vectors`` (B, D) with all rows of ``memory`` (N, D)."""
    # A copy, since backward reads the rows after the memory has been updated in place.
    return inner_products(vectors, memory.clone())


def products_with_drawn(vectors: Tensor, memory: Tensor, drawn: Tensor) -> Tensor:
    """``drawn_products`` from the drawn rows alone, collected first."""
    return inner_products(vectors[:, None], memory[drawn])[:, 0]


def random_below(limits: Tensor, count: int) -> Tensor:
    """``count`` integers in [0, limit) for each row of ``limits`` (B, 1): (B, count)."""
    uniform = torch.rand(len(limits), count, device=limits.device, dtype=torch.float64)
    return (uniform * limits).long()


class CRD(Method):
    """``CE + crd_weight * (loss of the student's vectors + loss of the teacher's)``, each against the other's memory.

    Embeddings of both networks are projected and normalised; the two memories hold a row for each training sample.
    Scores are ``exp(product / temperature) / Z``; Z is set on the first batch, to N times the mean of its exponentials,
    and stays. The rows of a batch are updated after their scores were taken.

    Negatives are images of other classes, all equally likely, without replacement where there are enough for every
    class (RepDistiller's mode "exact"). RepDistiller draws them for each sample anew. Here the samples of a step share
    one random set of positions on the circle of their candidates, and each turns it by a random amount of its own:
    with classes of one size that is the same distribution for each sample, at a third of the cost. Scores are computed
    in float32 even under autocast: bfloat16 would change the loss by several per cent.

    Args:
        momentum: share of the old row that an update keeps.
        temperature: 0.07 in the code for all data sets; the paper (section 4.5) has 0.1 on CIFAR-100.
    """

    paper = "Tian et al. 2020, arXiv:1910.10699"
    family = "contrastive"
    reads = ("logits", "embedding")
    requires = Requirements(memory=True)
    memory_student: Tensor
    memory_teacher: Tensor
    normaliser_student: Tensor
    normaliser_teacher: Tensor
    by_class: Tensor
    class_starts: Tensor
    class_sizes: Tensor

    def __init__(
        self,
        ce_weight: NonNegative,
        crd_weight: NonNegative,
        projection_size: PositiveInt,
        negatives: PositiveInt,
        temperature: Positive,
        momentum: Fraction,
    ) -> None:
        super().__init__()
        self.ce_weight, self.crd_weight, self.projection_size = ce_weight, crd_weight, projection_size
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.student_projection = nn.Linear(student.embedding_size, self.projection_size)
        self.teacher_projection = nn.Linear(teacher.embedding_size, self.projection_size)

    def prepare(self, training_set: TrainingSet) -> None:
        targets = training_set.targets
        check_memory("crd", 2, len(targets), self.projection_size)
        bound = (3 / self.projection_size) ** 0.5  # as the code's: rows of length about 1
        for name in ("student", "teacher"):
            rows = bound * (2 * torch.rand(len(targets), self.projection_size) - 1)
            self.register_buffer(f"memory_{name}", rows)
            self.register_buffer(f"normaliser_{name}", torch.full((1,), -1.0))  # negative: not set yet
        sizes = targets.bincount(minlength=training_set.num_classes)
        self.fewest = len(targets) - int(sizes.max())
        if not self.fewest:
            raise ConfigError("method=crd: all training samples are of one class, so none has negatives")
        # Made anew from the training set on resume.
        self.register_buffer("by_class", targets.argsort(stable=True), persistent=False)
        self.register_buffer("class_sizes", sizes, persistent=False)
        self.register_buffer("class_starts", sizes.cumsum(0) - sizes, persistent=False)

    def draw_negatives(self, targets: Tensor) -> Tensor:
        """Draw the indices (B, M) of training samples of other classes than ``targets`` (B,)."""
        starts, sizes = self.class_starts[targets][:, None], self.class_sizes[targets][:, None]
        candidates = len(self.by_class) - sizes
        if self.negatives > self.fewest:
            position = random_below(candidates, self.negatives)
        else:
            turn = random_below(candidates, 1)
            position = turn + torch.randperm(self.fewest, device=targets.device)[: self.negatives]
            position = torch.where(position < candidates, position, position - candidates)
        return self.by_class[position + sizes * (position >= starts)]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        drawn = torch.cat([batch.index[:, None], self.draw_negatives(batch.targets)], dim=1)
        with torch.autocast(student.embedding.device.type, enabled=False):
            student_rows = F.normalize(self.student_projection(student.embedding), dim=1)
            teacher_rows = F.normalize(self.teacher_projection(teacher.embedding), dim=1)
            crd = self.contrast(student_rows, self.memory_teacher, self.normaliser_student, drawn)
            crd = crd + self.contrast(teacher_rows, self.memory_student, self.normaliser_teacher, drawn)
        self.remember(self.memory_student, student_rows, batch.index)
        self.remember(self.memory_teacher, teacher_rows, batch.index)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets), "crd": self.crd_weight * crd}

    def contrast(self, vectors: Tensor, memory: Tensor, normaliser: Tensor, drawn: Tensor) -> Tensor:
        """Return the loss of ``vectors`` (B, D) against the drawn rows; sets the normaliser (1,) on the first call."""
        exponentials = (drawn_products(vectors, memory, drawn) / self.temperature).exp()
        first = exponentials.detach().mean() * len(memory)
        normaliser.copy_(torch.where(normaliser < 0, first, normaliser))  # on the device: asking would wait for it
        return nce_loss(exponentials / normaliser.clone(), len(memory))

    @torch.no_grad()
    def remember(self, memory: Tensor, vectors: Tensor, index: Tensor) -> None:
        """Move the rows ``index`` (B,) of a memory towards ``vectors`` (B, D), at length 1."""
        moved = self.momentum * memory[index] + (1 - self.momentum) * vectors
        memory[index] = F.normalize(moved, dim=1)
