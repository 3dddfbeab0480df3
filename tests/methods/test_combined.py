"""Combinations of methods, from YAML alone."""

import pytest
import torch
from golden_rows.given import adapt, outputs, run
from torch import Tensor

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.at import AT
from kd_bench.methods.base import Progress
from kd_bench.methods.born_again import BornAgain
from kd_bench.methods.byot import BYOT
from kd_bench.methods.combined import Combined
from kd_bench.methods.fitnet_two_stage import FitNetTwoStage
from kd_bench.methods.kd import KD
from kd_bench.methods.label_smoothing import LabelSmoothing
from kd_bench.methods.scratch import Scratch
from kd_bench.training.pair import build

from .pairs import built


def kd() -> KD:
    return KD(ce_weight=0.5, kd_weight=2.0, temperature=4.0)


def at() -> AT:
    return AT(ce_weight=0.25, at_weight=3.0, power=2, skip_stages=0)


def byot() -> BYOT:
    return BYOT(0.1, 1e-6, 3.0, skip_stages=1, ensemble=True)


def two_stage() -> FitNetTwoStage:
    return FitNetTwoStage(2, 3, ce_weight=1.0, kd_weight=4.0, kd_weight_end=1.0, temperature=3.0)


def random_stages(channels: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, channels, 4, 4, generator=generator) for _ in range(2)]


def test_terms_are_those_of_the_parts_and_equal_names_are_added_up():
    own, other = random_stages(3, 0), random_stages(5, 1)
    student = outputs(own)._replace(logits=torch.randn(4, 7, generator=torch.Generator().manual_seed(2)))
    teacher = outputs(other)._replace(logits=torch.randn(4, 7, generator=torch.Generator().manual_seed(3)))
    labels = torch.tensor([0, 3, 6, 2])
    whole, attention = Combined({"kd": kd(), "at": at()}), at()
    adapt(whole, own, other)
    adapt(attention, own, other)
    terms = run(whole, student, teacher, labels=labels)
    first, second = (run(part, student, teacher, labels=labels) for part in (kd(), attention))
    assert list(terms) == ["ce", "kd", "at"]
    assert torch.equal(terms["kd"], first["kd"])
    assert torch.equal(terms["at"], second["at"])
    torch.testing.assert_close(terms["ce"], first["ce"] + second["ce"])


def test_kd_at_is_kd_and_at_with_the_labels_counted_once(compose):
    made = built(compose, "kd_at")
    parts = made.config.method["terms"]
    assert (parts["kd"]["ce_weight"], parts["kd"]["kd_weight"], parts["kd"]["temperature"]) == (1.0, 1.0, 4.0)
    assert (parts["at"]["ce_weight"], parts["at"]["at_weight"], parts["at"]["skip_stages"]) == (0.0, 1000.0, 1)
    batch = made.batch()
    student, teacher = made.outputs(batch)
    terms = made.method(student, teacher, batch, Progress(0, 1, 0, 1))
    alone = KD(1.0, 1.0, 4.0)(student, teacher, batch, Progress(0, 1, 0, 1))
    attention = built(compose, "at").method(student, teacher, batch, Progress(0, 1, 0, 1))
    torch.testing.assert_close(terms["ce"], alone["ce"])
    torch.testing.assert_close(terms["kd"], alone["kd"])
    torch.testing.assert_close(terms["at"], attention["at"])


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({}, r"method.terms=\[\]: a combination needs at least two methods"),
        ({"kd": kd()}, r"method.terms=\['kd'\]: a combination needs at least two methods"),
        ({"kd": kd(), "ban": BornAgain(1.0, 0.0)}, r"different teachers .* \['frozen', 'own'\]"),
        (
            {"one": byot(), "two": byot()},
            "at most one method may pretrain, one change the prediction, one make its teacher, and",
        ),
        ({"one": two_stage(), "two": two_stage()}, "at most one method may pretrain"),
    ],
)
def test_what_cannot_be_combined_is_refused(terms, reason):
    with pytest.raises(ConfigError, match=reason):
        Combined(terms)


def test_a_refusal_reaches_the_user_in_its_own_words(compose):
    cfg = compose("method=kd_at", "~method.terms.at")
    with pytest.raises(ConfigError, match=r"^method.terms=\['kd'\]: a combination needs at least two methods$"):
        build(check(cfg))


def test_requirements_are_those_of_all_parts():
    assert Combined({"ls": LabelSmoothing(0.1), "kd": kd()}).requires.teacher == "frozen"
    assert Combined({"ban": BornAgain(1.0, 1.0), "ls": LabelSmoothing(0.1)}).requires.teacher == "own"
    assert Combined({"ls": LabelSmoothing(0.1), "scratch": Scratch()}).requires.teacher == "none"


def test_papers_are_listed_once_each():
    assert Combined({"a": kd(), "b": at(), "c": kd()}).paper == f"{KD.paper}; {AT.paper}"


def test_a_part_that_pretrains_or_predicts_does_so_for_all(compose):
    cfg = compose("method=fitnet_two_stage")
    stages = dict(cfg.method)
    cfg = compose("method=kd_at")
    cfg.method.terms = {"kd": dict(cfg.method.terms.kd), "hints": stages}
    pair = build(check(cfg))
    method = pair.method
    assert method.pretrain_epochs == 20
    names = {id(p) for p in method.pretrain_parameters(pair.student)}
    assert names == {id(p) for p in (*pair.student.parameters(), *method.parameters())}
    together = Combined({"kd": kd(), "exits": byot()})
    assert together.predicting == [together.terms["exits"]]


def test_the_ensemble_of_a_part_predicts_and_is_counted(compose):
    made = built(compose, "byot")
    made.method.ensemble = True
    whole = Combined({"ls": LabelSmoothing(0.1), "exits": made.method}).eval()
    student = made.student.eval()(made.batch().images)
    assert torch.equal(whole.predict(student), made.method.predict(student))
    assert whole.test_time_modules() == [made.method.exits]
