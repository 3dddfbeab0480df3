"""Chains of teacher assistants: TAKD and DGKD."""

import pytest
import torch
from golden_rows.given import on_logits, run

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Requirements
from kd_bench.methods.dgkd import DGKD, staying
from kd_bench.methods.takd import TAKD
from kd_bench.models.ensemble import Ensemble
from kd_bench.runs.lineage import assistant_run
from kd_bench.training.pair import build

from . import slow
from .pairs import built
from .slow import random_labels, random_logits

CHAIN = ["resnet20_cifar", "resnet14_cifar"]


def test_takd_is_kd_from_the_last_assistant(compose):
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    terms = run(TAKD(0.1, 0.9, 4.0, CHAIN), on_logits(student), on_logits(teacher), labels=labels)
    assert terms["ce"].item() == pytest.approx(0.1 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["kd"].item() == pytest.approx(0.9 * 16 * slow.kl(student.tolist(), teacher.tolist(), 4.0))
    made = built(compose, "takd")
    assert made.teacher.tap is made.pair.previous[-1]
    assert made.teacher.tap.name == "resnet14_cifar"


@pytest.mark.parametrize(("standardize", "classes"), [(False, 2), (True, 3)])
def test_takd_keeps_what_kd_requires(standardize, classes):
    requires = TAKD(0.1, 0.9, 4.0, CHAIN, standardize_logits=standardize).requires
    assert requires == Requirements(teacher="assistant", min_classes=classes, soft_targets=True)


@pytest.mark.parametrize("method", ["takd", "dgkd"])
def test_each_assistant_learns_from_those_before_it(compose, method):
    cfg = compose(f"method={method}", f"method.assistants=[{','.join(CHAIN)}]")
    derived = [assistant_run(cfg, number) for number in range(2)]
    assert [run_.student.name for run_ in derived] == CHAIN
    assert [list(run_.method.assistants) for run_ in derived] == [[], CHAIN[:1]]


@pytest.mark.parametrize("method", ["takd", "dgkd"])
def test_an_assistant_that_does_not_exist_is_refused_by_its_key(compose, method):
    cfg = compose(f"method={method}", "method.assistants=[resnet15_cifar]")
    with pytest.raises(ConfigError, match=r"method\.assistants"):
        build(check(cfg))


def test_dgkd_is_the_sum_of_kl_over_the_teachers_that_stay():
    student, labels = random_logits((4, 5), 0), random_labels((4, 5), 1)
    members = [on_logits(random_logits((4, 5), seed)) for seed in (2, 3, 4)]
    every = [slow.kl(student.tolist(), member.logits.tolist(), 4.0) for member in members]
    teacher = members[0]._replace(members=members)
    for dropped in range(4):
        method = DGKD(ce_weight=0.1, kd_weight=0.9, temperature=4.0, assistants=CHAIN, dropped=dropped)
        torch.manual_seed(dropped)
        terms = run(method, on_logits(student), teacher, labels=labels)
        torch.manual_seed(dropped)
        stayed = staying(3, dropped)
        assert len(stayed) == max(1, 3 - dropped)
        assert terms["kd"].item() == pytest.approx(0.9 * 16 * sum(every[i] for i in stayed))
        assert terms["ce"].item() == pytest.approx(0.1 * slow.cross_entropy(student.tolist(), labels.tolist()))


def test_every_teacher_of_dgkd_is_left_out_as_often():
    torch.manual_seed(0)
    draws = [staying(3, 1) for _ in range(3000)]
    assert all(len(set(draw)) == 2 for draw in draws)
    for teacher in range(3):
        assert sum(teacher not in draw for draw in draws) == pytest.approx(1000, abs=100)


def test_the_members_of_dgkd_are_the_teacher_and_the_assistants(compose):
    made = built(compose, "dgkd")
    assert isinstance(made.teacher.tap, Ensemble)
    assert [tap.name for tap in made.teacher.tap.taps()] == ["resnet20_cifar", "resnet14_cifar"]
    _, teacher = made.outputs(made.batch())
    assert teacher is not None
    assert teacher.members is not None
    assert len(teacher.members) == 2
