"""``trainer=fast``: what bfloat16 and channels_last make of losses and gradients, and where they are shown."""

import pytest
import torch
from support.choices import METHODS, networks_for
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.check import check
from kd_bench.methods.base import Progress, given_teacher
from kd_bench.models.features import Outputs
from kd_bench.results.leaderboard.entries import SETTING_PARTS
from kd_bench.results.records.fingerprint import determining
from kd_bench.runs.levers import EXACT, FAST, _Step
from kd_bench.runs.lineage import completed
from kd_bench.runs.preview import TrialStep
from kd_bench.training.module import flat, in_float32
from kd_bench.training.pair import build

SMALL = ["teacher=resnet20_cifar", "student=resnet8_cifar", "recipe.batch_size=32", "logger=none", "trainer.threads=1"]
# Adapters run in bfloat16 as the networks do; the gradients that pass through theirs are rounded with them.
ADAPTERS = ("fcfd", "fitnet", "fitnet_kd", "semckd", "simkd", "wkd_f")
EXCEPTIONS = dict.fromkeys(ADAPTERS, 0.997) | {"ft": 0.98, "ft_kd": 0.98}  # a translator of three convolutions
every_method = pytest.mark.parametrize("method", METHODS)


def composed(compose, method, *options):
    return completed(compose(*SMALL, f"method={method}", *networks_for(method), *options))


def rounded(outputs: Outputs | None) -> Outputs | None:
    """Outputs as networks under autocast give them."""
    if outputs is None:
        return None
    lower = lambda maps: maps and [each.bfloat16() for each in maps]  # noqa: E731
    members = outputs.members and [rounded(each) for each in outputs.members]
    return outputs._replace(stages=lower(outputs.stages), pre_activation=lower(outputs.pre_activation), members=members)


def leaves(outputs: Outputs) -> tuple[Outputs, list[Tensor]]:
    """Outputs that start a graph of their own, and the tensors that get gradients."""
    fresh = {}

    def leaf(tensor: Tensor) -> Tensor:
        return fresh.setdefault(id(tensor), tensor.detach().clone().requires_grad_())

    made = outputs._replace(
        logits=leaf(outputs.logits),
        embedding=leaf(outputs.embedding),
        stages=[leaf(each) for each in outputs.stages],
        pre_activation=outputs.pre_activation and [leaf(each) for each in outputs.pre_activation],
        heads=outputs.heads and [leaf(each) for each in outputs.heads],
    )
    return made, list(fresh.values())


def gradient_of_terms(config, mixed: bool) -> Tensor:
    """Gradient of a method's terms in the student's outputs, which are those of networks in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trial = TrialStep(config, build(config))
        module, batch = trial.module, trial._batch
        module._taught = None
        seen, taught = module.method.observe(
            module.student, module.teacher and module.teacher.forward, flat(batch.images)
        )
        student, tensors = leaves(in_float32(seen))
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            pair = (rounded(student), rounded(taught)) if mixed else (student, taught)
            terms = module.method(pair[0], given_teacher(module.method, pair[1]), batch, Progress(1, 2, 1, 2))
        torch.stack(list(terms.values())).sum().backward()
    return torch.cat([t.grad.flatten().double() for t in tensors if t.grad is not None])


@pytest.mark.slow  # 100 s in all
@every_method
def test_mixed_precision_changes_loss_and_gradient_little(compose, method):
    config = composed(compose, method)
    exact, fast = (_Step(config, EXACT | keys).result() for keys in ({}, FAST))
    assert fast[0] == pytest.approx(exact[0], rel=0.01)
    cosine = F.cosine_similarity(gradient_of_terms(config, False), gradient_of_terms(config, True), dim=0)
    assert float(cosine) >= EXCEPTIONS.get(method, 0.999)


def test_fast_is_a_part_of_fingerprints_and_boards(compose):
    exact = determining(check(compose("method=kd")))["trainer"]
    fast = determining(check(compose("method=kd", "trainer=fast")))["trainer"]
    assert exact == {"precision": "32-true", "channels_last": False}
    assert fast == {"precision": "bf16-mixed", "channels_last": True}
    assert {"trainer.precision", "trainer.channels_last", "trainer.compile"} <= set(SETTING_PARTS)


def test_compiling_is_a_part_of_fingerprints_where_it_is_used(compose):
    assert "compile" not in check(compose("method=kd")).recorded()["trainer"]
    compiled = check(compose("method=kd", "trainer.compile=both"))
    assert determining(compiled)["trainer"]["compile"] == "both"
