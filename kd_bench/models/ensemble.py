"""Ensembles: several networks as one."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.models.features import Ability, FeatureTap, Outputs

Average = Literal["logits", "probabilities"]


class Ensemble(FeatureTap):
    """The weighted mean of the members' logits or probabilities, as the logits of one network.

    Stages, embedding and classifier are those of the first member; ``Outputs.members`` has everything.

    Args:
        members: at least one; they share the data set.
        weights: one per member, greater than 0; brought to a sum of 1.
        average: what is averaged; the mean of ``probabilities`` is turned into logits by the logarithm.
    """

    def __init__(self, name: str, members: list[FeatureTap], weights: list[float], average: Average) -> None:
        nn.Module.__init__(self)
        first = members[0]
        self.name, self.average = name, average
        self.members = nn.ModuleList(members)
        self.weights = [weight / sum(weights) for weight in weights]
        self.register_buffer("mean", first.mean, persistent=False)
        self.input_size, self.stage_shapes = first.input_size, first.stage_shapes
        self.embedding_size, self.has_pre_activations = first.embedding_size, first.has_pre_activations
        self.network, self.stage_pairs = first.network, None

    def taps(self) -> list[FeatureTap]:
        """Return the members."""
        return [member for member in self.members if isinstance(member, FeatureTap)]

    @property
    def abilities(self) -> frozenset[Ability]:
        """The choice of tokens, if every member has it."""
        shared = frozenset[Ability](["choice of tokens"])
        return shared.intersection(*(member.abilities for member in self.taps()))

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Outputs:
        outputs: list[Outputs] = [member(images, kept) for member in self.members]
        return outputs[0]._replace(logits=self.combine([each.logits for each in outputs]), members=outputs)

    def combine(self, logits: list[Tensor]) -> Tensor:
        """Combine the members' logits (B, K) to those of the ensemble, in float32 as losses are."""
        every = torch.stack(logits).float()
        weights = every.new_tensor(self.weights)[:, None, None]
        if self.average == "logits":
            return (weights * every).sum(dim=0)
        return (weights.log() + F.log_softmax(every, dim=2)).logsumexp(dim=0)


def taps_of(teacher: FeatureTap | None) -> list[FeatureTap]:
    """Return the networks of a teacher: none, one, or the members of an ensemble."""
    if teacher is None:
        return []
    return list(teacher.taps()) if isinstance(teacher, Ensemble) else [teacher]
