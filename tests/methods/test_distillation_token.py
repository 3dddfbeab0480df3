"""DeiT with the distillation token: both losses against loops, both heads, and the students that it refuses."""

import pytest
import torch
from golden_rows.given import on_logits, run
from omegaconf import OmegaConf

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.deit_hard import DeiTHard
from kd_bench.methods.deit_soft import DeiTSoft
from kd_bench.models.features import Outputs
from kd_bench.training.pair import build

from .pairs import built
from .slow import cross_entropy, kl, random_labels, random_logits

FIRST, SECOND, TEACHER = (random_logits((6, 5), seed) for seed in range(3))
LABELS = random_labels((6, 5), 3)
STUDENT = Outputs((FIRST + SECOND) / 2, [], FIRST, heads=[FIRST, SECOND])


def test_labels_teach_one_head_and_the_teachers_decision_the_other():
    terms = run(DeiTHard(0.4, 0.6), STUDENT, on_logits(TEACHER), LABELS)
    decisions = [max(range(5), key=row.__getitem__) for row in TEACHER.tolist()]
    assert terms["ce"].item() == pytest.approx(0.4 * cross_entropy(FIRST.tolist(), LABELS.tolist()), rel=1e-9)
    assert terms["hard"].item() == pytest.approx(0.6 * cross_entropy(SECOND.tolist(), decisions), rel=1e-9)


def test_the_soft_term_is_a_mean_over_batch_and_classes():
    terms = run(DeiTSoft(0.4, 0.6, 3.0), STUDENT, on_logits(TEACHER), LABELS)
    wanted = 0.6 * 9 * kl(SECOND.tolist(), TEACHER.tolist(), 3.0) / 5
    assert terms["kd"].item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("choice", ["deit_hard", "deit_soft"])
def test_the_mean_of_both_heads_predicts(compose, choice):
    made = built(compose, choice)
    images = made.batch().images
    heads = made.student(images).heads
    made.module.eval()
    with torch.no_grad():
        network = made.student.network
        final = network.forward_features((images - made.student.mean) / made.student.std)
        wanted = (network.head(final[:, 0]) + network.head_dist(final[:, 1])) / 2
        assert torch.equal(made.method.predict(made.student(images)), wanted)
    assert torch.allclose((heads[0] + heads[1]) / 2, wanted, atol=1e-6)  # no dropout


@pytest.mark.parametrize("choice", ["deit_hard", "deit_soft"])
def test_a_student_without_the_token_is_refused_by_name(compose, choice):
    cfg = compose(f"method={choice}")
    with pytest.raises(ConfigError, match=rf"method={choice} needs a student with a head behind .*: resnet8_cifar has"):
        build(check(cfg))
    OmegaConf.update(cfg, "student.name", "deit_tiny_patch16_224", merge=False)
    OmegaConf.update(cfg, "student.kwargs", {"img_size": 8, "patch_size": 2, "depth": 2}, merge=False)
    with pytest.raises(ConfigError, match=r"deit_tiny_patch16_224 has none"):
        build(check(cfg))
