"""SemCKD: the pairs of its stages, the size of its batch."""

import pytest
import torch
from golden_rows.embeddings import SPEC, Given

from kd_bench.errors import ConfigError
from kd_bench.methods.semckd import SemCKD, attention, semckd_loss

from .pairs import built


def made_with(batch_size: int = 4, skip_stages: int = 0) -> SemCKD:
    return SemCKD(1.0, 1.0, 4.0, 400.0, 1.0, skip_stages, batch_size)


def stages(size: int, *shapes: tuple[int, int, int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, *shape, generator=generator) for shape in shapes]


def test_every_student_stage_but_the_stem_meets_every_teacher_stage(compose):
    made = built(compose, "semckd", "timm")
    assert len(made.method.queries) == len(made.method.regressors) == len(made.student.stage_shapes) - 1
    assert {len(row) for row in made.method.regressors} == {len(made.teacher.tap.stage_shapes) - 1}


def test_the_batch_size_is_the_recipes(compose):
    made = built(compose, "semckd")
    assert made.method.batch_size == made.config.recipe.batch_size
    assert made.method.queries[0].layers[0].in_features == made.config.recipe.batch_size


def test_a_smaller_batch_is_filled_up_and_a_larger_one_refused():
    own, other = stages(4, (3, 4, 4), (5, 2, 2)), stages(4, (3, 4, 4), seed=1)
    method = made_with(batch_size=4)
    method.build_adapters(Given(own), Given(other), SPEC)
    few = [[stage[:3] for stage in both] for both in (own, other)]
    assert method.attention(*few).shape == method.distances(*few).shape == (3, 2, 1)
    rows = method._similarities(few[0][0])
    assert torch.allclose(rows[:, :3], few[0][0].flatten(1) @ few[0][0].flatten(1).T, atol=1e-5)
    assert not rows[:, 3].any()
    with pytest.raises(ConfigError, match=r"method.batch_size=4: a batch has 8 samples"):
        method.attention([torch.cat([stage, stage]) for stage in own], other)


def test_attention_is_a_distribution_over_teacher_stages_and_weighs_their_distances():
    weights = attention(torch.randn(2, 3, 5), torch.randn(2, 4, 5), 0.5)
    assert torch.allclose(weights.sum(dim=2), torch.ones(2, 3))
    assert semckd_loss(torch.full((2, 3, 4), 7.0), weights).item() == pytest.approx(7)


def test_leaving_out_every_stage_is_refused():
    network = Given(stages(2, (3, 4, 4)))
    with pytest.raises(ConfigError, match=r"method.skip_stages=1 leaves no stage; .*\(3, 4, 4\)"):
        made_with(skip_stages=1).build_adapters(network, network, SPEC)
