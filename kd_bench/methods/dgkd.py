"""DGKD: the teacher and all teacher assistants guide the student together."""

import torch
from torch import Tensor

from kd_bench.config.ranges import Count, NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def staying(teachers: int, dropped: int) -> list[int]:
    """Draw the positions of the ``teachers`` that stay for a step when ``dropped`` go: in order, and at least one.

    They are drawn from torch's generator of the CPU.
    """
    return sorted(torch.randperm(teachers)[: max(1, teachers - dropped)].tolist())


class DGKD(Method):
    """``ce_weight * CE + kd_weight * sum of T^2 * KL`` over the teacher and the assistants that stay in a step.

    Each assistant is a run of its own, trained by this method from the teacher and the assistants before it. In every
    step some of the teachers, drawn at random, are left out (the paper's stochastic learning). The paper tunes weights
    and temperature; its code averages the KL over the classes too, which makes it K times smaller.

    Args:
        assistants: networks between teacher and student, from large to small.
        dropped: teachers left out in a step; at least one stays.
    """

    paper = "Son et al. 2021, arXiv:2009.08825"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(teacher="assistants")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        assistants: list[str],
        dropped: Count,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.assistants, self.dropped = assistants, dropped

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        members = teacher.members
        assert members is not None  # an ensemble of teacher and assistants, whatever their number
        chosen = [members[i].logits for i in staying(len(members), self.dropped)]
        kd = torch.stack([kd_loss(student.logits, each, self.temperature) for each in chosen]).sum()
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets), "kd": self.kd_weight * kd}
