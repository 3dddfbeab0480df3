"""The contract: who is given a teacher, and what a method need not write itself."""

import pytest
from golden_rows.given import on_logits
from torch import nn

from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, given_teacher, teacher_outputs
from kd_bench.methods.kd import KD
from kd_bench.methods.scratch import Scratch

from .pairs import built
from .slow import random_logits


def kd() -> KD:
    return KD(ce_weight=1.0, kd_weight=1.0, temperature=4.0)


def test_a_method_is_given_the_teacher_that_it_asks_for():
    teacher = on_logits(random_logits((4, 5), 0))
    assert given_teacher(kd(), teacher) is teacher
    assert given_teacher(Scratch(), None) is None


def test_a_method_without_the_teacher_that_it_asks_for_is_an_error_with_its_name():
    with pytest.raises(ConfigError, match=r"^KD asks for a teacher \(requires\.teacher='frozen'\) and gets none$"):
        given_teacher(kd(), None)


def test_a_step_without_the_teacher_is_that_error(compose):
    made = built(compose, "kd")
    made.module._teacher = (None,)
    with pytest.raises(ConfigError, match="KD asks for a teacher"):
        made.module.training_step(made.batch(), 0)


def test_a_plugin_written_before_the_contract_gave_teachers_gets_its_outputs(compose):
    class Older(KD):
        def forward(self, student, teacher, batch, progress):
            return super().forward(student, teacher_outputs(teacher), batch, progress)

    made = built(compose, "kd")
    batch = made.batch()
    expected = made.module.training_step(batch, 0)
    made.module.method = Older(made.method.ce_weight, made.method.kd_weight, made.method.temperature)
    assert made.module.training_step(batch, 0).equal(expected)
    with pytest.raises(AssertionError):
        teacher_outputs(None)


def test_a_first_stage_trains_the_student_and_the_adapters_unless_the_method_says_otherwise():
    class Adapted(Method):
        def __init__(self):
            super().__init__()
            self.adapter = nn.Linear(3, 2)

    student, method = nn.Linear(4, 3), Adapted()
    expected = [student.weight, student.bias, method.adapter.weight, method.adapter.bias]
    trained = list(method.pretrain_parameters(student))
    assert [id(parameter) for parameter in trained] == [id(parameter) for parameter in expected]
