"""Kinds of teacher: what each asks of a configuration, and that a row is all that a new kind takes."""

from types import SimpleNamespace
from typing import get_args

import pytest

from kd_bench.cli.method_pages.catalogue import requirements
from kd_bench.config.check import check
from kd_bench.config.schema import MemberConfig, TeacherConfig
from kd_bench.errors import ConfigError
from kd_bench.methods import base
from kd_bench.methods.at import AT
from kd_bench.methods.base import Requirements
from kd_bench.models.ensemble import Ensemble
from kd_bench.training.pair import build, make_module
from kd_bench.training.teacher_kinds import TEACHER_KINDS, TeacherKind
from kd_bench.training.teachers import FrozenTeacher


def test_every_kind_that_a_method_may_ask_for_has_its_row():
    assert set(TEACHER_KINDS) == set(get_args(base.TeacherKind))


def refused(kind: TeacherKind, name: str | None = "resnet20_cifar", members: int = 0, generation: int = 0) -> bool:
    """Whether a kind refuses a teacher."""
    networks = {f"member{number}": MemberConfig(name="resnet8_cifar") for number in range(members)}
    try:
        kind.check("mine", TeacherConfig(name=name, members=networks), generation)
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "no_teacher", "an_ensemble", "a_generation"),
    [
        ("none", False, False, True),
        ("frozen", True, False, False),
        ("own", False, False, False),
        ("assistant", True, False, True),
        ("assistants", True, False, True),
        ("trained", True, True, True),
        ("moving_average", False, False, True),
    ],
)
def test_what_each_kind_refuses(kind, no_teacher, an_ensemble, a_generation):
    row = TEACHER_KINDS[kind]
    assert not refused(row, generation=row.first_generation)
    assert refused(row, name=None, generation=row.first_generation) is no_teacher
    assert refused(row, members=2, generation=row.first_generation) is an_ensemble
    assert refused(row, generation=2) is a_generation
    assert refused(row, name=None, generation=2) is a_generation  # which takes the teacher's place


class Counting(FrozenTeacher):
    changes = True
    steps = 0

    def after_step(self, student, method, progress) -> None:
        self.steps += progress.steps


def test_a_row_is_all_that_a_new_kind_takes(compose, monkeypatch):
    def two(networks) -> Ensemble:
        return Ensemble("two", [networks.fresh(), networks.student], [1.0, 1.0], "logits")

    row = TeacherKind("a stranger and the student", two, lambda tap, requires: Counting(tap), takes_ensemble=False)
    monkeypatch.setitem(TEACHER_KINDS, "crowd", row)
    monkeypatch.setattr(AT, "requires", Requirements(teacher="crowd"))
    config = check(compose("method=at"))
    pair = build(config)
    assert [tap.name for tap in pair.source.taps()] == ["resnet20_cifar", "resnet8_cifar"]
    module = make_module(config, pair)
    assert module.teacher.tap is pair.source
    assert any(name.startswith("companion.") for name in module.state_dict())
    module.trainer = SimpleNamespace(max_epochs=2, num_training_batches=3, current_epoch=0, global_step=1)
    module.on_train_batch_end(None, None, 0)
    assert module.teacher.steps == 6
    assert requirements(pair.method) == ["a stranger and the student"]
    with pytest.raises(ConfigError, match=r"^method=at needs a teacher"):
        build(check(compose("method=at", "teacher=none")))
