"""Hard-label distillation: the teacher's decision is a label like any other."""

import pytest
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.methods.hard_label_kd import HardLabelKD

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible


@reproducible
@given(SHAPES, st.integers(0, 1000))
def test_the_teachers_decision_is_the_label(shape, seed):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    decisions = [row.index(max(row)) for row in teacher.tolist()]
    terms = run(HardLabelKD(0.25, 0.75), on_logits(student), on_logits(teacher), labels=labels)
    assert terms["ce"].item() == pytest.approx(0.25 * slow.cross_entropy(student.tolist(), labels.tolist()), rel=1e-9)
    assert terms["hard"].item() == pytest.approx(0.75 * slow.cross_entropy(student.tolist(), decisions), rel=1e-9)


def test_a_teacher_that_is_right_about_all_labels_teaches_nothing_more():
    student, teacher = random_logits((5, 4), 0), random_logits((5, 4), 1)
    terms = run(HardLabelKD(0.5, 0.5), on_logits(student), on_logits(teacher), labels=teacher.argmax(dim=1))
    assert terms["hard"].item() == terms["ce"].item()
