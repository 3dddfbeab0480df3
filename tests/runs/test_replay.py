"""A run that diverged leaves its step, and the step can be computed again."""

import math

import pytest
import torch
from torch.nn import functional as F

from kd_bench.config.overrides import compose_run
from kd_bench.errors import ConfigError, Diverged, IntegrityError
from kd_bench.runs.replay import replay
from kd_bench.runs.run import run
from kd_bench.training import divergence
from kd_bench.training.divergence import STEP_FILE, read_step

RUN = [
    *("student=resnet8_cifar", "teacher=resnet8_cifar", "dataset.train_samples=100", "recipe.batch_size=20"),
    *("recipe.epochs=2", "logger=none", "trainer.progress=none", "trainer.threads=1"),
]


def diverged(overrides: list[str]) -> Diverged:
    with pytest.raises(Diverged) as caught:
        run(compose_run(overrides))
    return caught.value


@pytest.mark.parametrize("method", ["scratch", "kd"])
def test_a_run_that_diverged_leaves_the_step_and_says_where(tmp_path, method):
    overrides = [*RUN, f"paths.runs={tmp_path}", f"method={method}", "recipe.optimizer.lr=1e12"]
    overrides += ["+teacher.overrides={recipe.optimizer.lr: 0.05}"] if method == "kd" else ["teacher=none"]
    error = diverged(overrides)
    (path,) = tmp_path.glob(f"*/{STEP_FILE}")
    assert str(error).endswith(f"; batch, weights and seeds: {path}")
    module, step, terms = replay(overrides)
    assert not all(map(math.isfinite, terms.values()))
    assert f"loss term {', '.join(sorted(n for n, v in terms.items() if not math.isfinite(v)))} is not" in str(error)
    assert (step.seed, step.epoch, step.left_out) == (0, step.progress.epoch, [])
    assert step.progress.step > 0
    assert step.batch.images.shape == (20, 3, 8, 8)
    logits = module.student(step.batch.images).logits
    assert torch.isfinite(F.cross_entropy(logits, step.batch.targets)) == math.isfinite(terms["ce"])


def test_the_weights_are_those_before_the_step(tmp_path, monkeypatch):
    from kd_bench.methods.scratch import Scratch

    genuine = Scratch.forward

    def broken(self, student, teacher, batch, progress):
        terms = genuine(self, student, teacher, batch, progress)
        return {"ce": terms["ce"] * float("inf")} if progress.step == 2 else terms

    overrides = [*RUN, f"paths.runs={tmp_path}", "method=scratch", "teacher=none"]
    with monkeypatch.context() as patch:
        patch.setattr(Scratch, "forward", broken)
        diverged(overrides)
    module, step, terms = replay(overrides)  # without the fault
    assert step.progress.step == 2
    assert 0 < terms["ce"] < 10
    assert all(torch.isfinite(value).all() for value in step.weights.values())
    assert any(parameter.grad is not None for parameter in module.student.parameters())


def test_what_is_too_large_is_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "LARGEST", 30_000)
    overrides = [*RUN, f"paths.runs={tmp_path}", "method=scratch", "teacher=none", "recipe.optimizer.lr=1e12"]
    diverged(overrides)
    (path,) = tmp_path.glob(f"*/{STEP_FILE}")
    step = read_step(path)
    assert path.stat().st_size < 50_000
    assert {name for name in step.left_out if not name.startswith("weights/")} == set()
    assert any(name.startswith("weights/student.") for name in step.left_out)


def test_there_is_no_step_of_a_run_that_did_not_diverge(tmp_path):
    with pytest.raises(IntegrityError, match="is no step of a run that diverged"):
        replay([*RUN, f"paths.runs={tmp_path}", "method=scratch", "teacher=none"])
    with pytest.raises(ConfigError, match=f"is not in {tmp_path}"):
        replay([*RUN, f"paths.runs={tmp_path}", "method=kd"])
