"""Golden rows of networks or branches that learn together, and of chains of networks."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress
from kd_bench.methods.dml import DML
from kd_bench.methods.kd import peer_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.one import ONE, ensemble_loss
from kd_bench.models.features import Outputs

from .embeddings import called, renamed
from .given import Arrays, Case, Row, on_logits, only, run, total


def dml(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "temperature", 1.0)
    student, peer, labels = arrays["student_logits"], arrays["peer_logits"], arrays["labels"]
    method = DML(settings["ce_weight"], settings["loss_weight"], settings["temperature"])
    terms = run(method, on_logits(student), on_logits(peer), labels)
    own, other = peer_loss(student, peer, 1.0), peer_loss(peer, student, 1.0)
    return {
        "loss": own + other,
        "loss_student": own,
        "loss_peer": other,
        "loss_weighted": terms["mutual"] + terms["peer_mutual"],
        "loss_ce": cross_entropy(student, labels),
        "loss_ce_peer": cross_entropy(peer, labels),
        "loss_total": total(terms),
    }


class GivenLogits(nn.Module):
    """Stands for a branch whose logits the case gives."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, stage: Tensor) -> tuple[Tensor]:
        return (self.logits,)


def one(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    temperature, eps = settings["temperature"], settings["probability_eps"]
    shared, labels = arrays["shared_embedding"], arrays["labels"]
    logits = [arrays[f"branch_logits_{i}"] for i in range(len(arrays["gate_linear_bias"]))]
    weights, ramp = (settings["ce_weight"], settings["loss_weight"]), settings["rampup_epochs"]
    method = ONE(len(logits) - 1, *weights, temperature, ramp, False, eps)
    method.branches = nn.ModuleList(GivenLogits(each) for each in logits[1:])
    method.gate = nn.Sequential(nn.Linear(shared.shape[1], len(logits)), nn.BatchNorm1d(len(logits)), nn.ReLU())
    method.to(shared.dtype)
    names = {"linear": "0", "bn": "1"}
    gate = renamed(arrays, "gate_", lambda name: f"gate.{names[name.split('_')[0]]}.{name.split('_')[1]}")
    student = Outputs(logits[0], [shared[:, :, None, None], shared[:, :, None, None]], shared)
    batch = Batch(torch.zeros(len(labels), 3, 1, 1), labels, torch.arange(len(labels)))
    terms = functional_call(method, gate, (student, None, batch, Progress(settings["epoch"], 300, 0, 1)))
    ensemble = called(method, gate, lambda given: given._branches(student)[1])
    branches = torch.stack([cross_entropy(each, labels) for each in logits]).sum()
    return {
        "loss": torch.stack([ensemble_loss(each, ensemble, temperature, eps) for each in logits]).sum(),
        "loss_weighted": terms["kd"],
        "loss_ce_branches": branches,
        "loss_ce_ensemble": cross_entropy(ensemble, labels),
        "loss_ce": branches + cross_entropy(ensemble, labels),
        "loss_total": total(terms),
        "ensemble_logits": ensemble,
    }


ROWS: dict[str, Row] = {
    "dml": dml,
    "one": one,
}

ORACLES: dict[str, str] = {
    "dgkd": "tests/methods/test_assistants.py::test_dgkd_is_the_sum_of_kl_over_the_teachers_that_stay",
    "kdcl": "tests/methods/test_online.py::test_kdcl_learns_from_the_smaller_logits",
    "takd": "tests/methods/test_assistants.py::test_takd_is_kd_from_the_last_assistant",
}
