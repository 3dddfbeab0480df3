"""What holds for every method: found in ``conf/method`` and tried on three pairs of networks."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kd_bench.training.module import in_float32
from kd_bench.training.teachers import FrozenTeacher

from .pairs import CHOICES, PAIRS, Built, built, optimizer_of, same, state_of

every_method = pytest.mark.parametrize("choice", CHOICES)
every_pair = pytest.mark.parametrize("pair", PAIRS)
HUGE = 1e4
MOST_STEPS = 20


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def check_terms(made: Built, pretraining: bool) -> None:
    """Finite scalars, each of which, unless it is zero, has a gradient for what it is to teach."""
    taught = made.method.pretrain_parameters(made.student) if pretraining else made.student.parameters()
    along = made.teacher.parameters() if made.method.requires.teacher == "trained" else ()
    parameters, batch = [*taught, *along], made.batch()
    terms = made.terms(pretraining, *made.outputs(batch), batch)
    assert terms
    for name, value in terms.items():
        assert value.shape == (), name
        assert value.dtype == torch.float32, name
        assert value.isfinite(), name
        own = gradients(value, parameters)
        assert value == 0 or any(gradient.any() for gradient in own), f"{name} teaches nothing"


@every_method
@every_pair
def test_training_reaches_the_student_and_the_adapters_and_leaves_the_teacher_alone(compose, choice, pair):
    made = built(compose, choice, pair)
    check_prediction(made)
    frozen = state_of(made.teacher) if isinstance(made.teacher, FrozenTeacher) else None
    reached: set[Tensor] = set()
    for pretraining in made.stages():
        check_terms(made, pretraining)
        made.module.pretraining = pretraining
        optimizer, own = optimizer_of(made.module), state_of(made.student)
        for step in range(MOST_STEPS):
            if step > 1 and reached >= {p for p in made.method.parameters() if p.requires_grad}:
                break  # a method that draws what it trains has had its turns
            made.module.train()
            optimizer.zero_grad()
            made.module.training_step(made.batch(seed=step), step).backward()
            reached |= {parameter for parameter in made.module.parameters() if parameter.grad is not None}
            optimizer.step()
        assert pretraining or not same(own, state_of(made.student))
    assert reached == {p for p in made.module.parameters() if p.requires_grad}, "parameters that no stage trains"
    if frozen is not None:
        assert same(frozen, state_of(made.teacher)), "the teacher has changed"
        assert all(p.grad is None and not p.requires_grad for p in made.teacher.parameters())
        by_batch = made.method.requires.batch_statistics
        assert by_batch or not any(part.training for part in made.teacher.tap.modules())


def check_prediction(made: Built) -> None:
    """One finite logit for each class and sample."""
    made.module.eval()
    with torch.no_grad():
        predicted = made.method.predict(made.student(torch.rand(6, 3, *made.pair.spec.image_size)))
    made.module.train()
    assert predicted.shape == (6, 10)
    assert predicted.isfinite().all()


@every_method
@every_pair
def test_two_classes_and_two_samples_are_enough(compose, choice, pair):
    made = built(compose, choice, pair, classes=2)
    for pretraining in made.stages():
        made.module.pretraining = pretraining
        loss = made.module.training_step(made.batch(2), 0)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in made.module.parameters())


@every_method
def test_the_student_and_the_adapters_alone_are_optimized_and_checkpointed(compose, choice):
    made = built(compose, choice)
    along = made.teacher if made.method.requires.teacher in ("trained", "moving_average") else torch.nn.Module()
    expected = {p for part in (made.student, made.method, along) for p in part.parameters() if p.requires_grad}
    for pretraining in made.stages():
        made.module.pretraining = pretraining
        optimized = {p for group in optimizer_of(made.module).param_groups for p in group["params"]}
        assert optimized <= expected if pretraining else optimized == expected
    parts = (made.student, made.method, along)
    assert len(made.module.state_dict()) == sum(len(part.state_dict()) for part in parts)


@every_method
def test_huge_logits_give_finite_terms_and_gradients(compose, choice):
    made = built(compose, choice)
    batch = made.batch()
    student, teacher = made.outputs(batch)
    rows = len(student.logits)  # views and rotations stand one after the other
    right = HUGE * (2 * torch.nn.functional.one_hot(batch.targets.repeat(rows // len(batch.targets)), 10).float() - 1)
    scattered = HUGE * torch.randn(rows, 10, generator=torch.Generator().manual_seed(1)).sign()
    for logits in (right, -right, scattered):
        own = student._replace(logits=logits.clone().requires_grad_())
        other = None if teacher is None else teacher._replace(logits=right)
        for pretraining in made.stages():
            terms = made.terms(pretraining, own, other, batch)
            assert all(value.isfinite() for value in terms.values()), terms
            loss = torch.stack(list(terms.values())).sum()
            assert all(g.isfinite().all() for g in gradients(loss, [own.logits, *made.module.parameters()]))
        assert made.method.predict(own).isfinite().all()


@every_method
def test_bfloat16_changes_the_loss_little(compose, choice):
    """Logits in bfloat16 alone, then a whole step under autocast; losses are computed in float32 either way."""
    made = built(compose, choice)
    before = copy.deepcopy(made.method.state_dict())

    def anew(evaluate: Callable[..., Any], *arguments: Any) -> Any:
        """An evaluation that may draw random numbers and move memories, from where the first one started."""
        made.method.load_state_dict(before)
        torch.manual_seed(0)
        return evaluate(*arguments)

    batch = made.batch(8)
    student, teacher = made.outputs(batch)
    rounded = in_float32(student._replace(logits=student.logits.bfloat16()))
    taught = None if teacher is None else in_float32(teacher._replace(logits=teacher.logits.bfloat16()))
    for pretraining in made.stages():
        made.module.pretraining = pretraining
        exact = anew(made.terms, pretraining, student, teacher, batch)
        for name, value in anew(made.terms, pretraining, rounded, taught, batch).items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(exact[name].item(), rel=0.02, abs=1e-3), name
        whole = anew(made.module.training_step, batch, 0)  # withholds what the method does not say it reads
        assert whole.item() == pytest.approx(torch.stack(list(exact.values())).sum().item(), rel=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = anew(made.module.training_step, batch, 0)
        assert mixed.item() == pytest.approx(torch.stack(list(exact.values())).sum().item(), rel=0.02)
        mixed.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in made.module.parameters())
