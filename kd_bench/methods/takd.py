"""TAKD: teacher assistants between a large teacher and a small student."""

from dataclasses import replace

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.methods.kd import KD


class TAKD(KD):
    """KD from the last of a chain of assistants: ``ce_weight * CE + kd_weight * T^2 * KL`` (equation 3).

    Each assistant is a run of its own, trained by this method from those before it: the first learns from the pair's
    teacher. Without assistants this is KD. The paper tunes weights and temperature for each run; its code averages the
    KL over the classes too, which makes it K times smaller.

    Args:
        assistants: networks between teacher and student, from large to small.
        standardize_logits: as in KD.
    """

    paper = "Mirzadeh et al. 2020, arXiv:1902.03393"
    family = "logits"
    reads = ("logits",)

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        assistants: list[str],
        standardize_logits: bool = False,
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature, standardize_logits)
        self.assistants = assistants
        self.requires = replace(self.requires, teacher="assistant")
