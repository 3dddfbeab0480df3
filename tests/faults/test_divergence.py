"""Whatever is no longer finite ends the run, and leaves no number: loss, gradient, logits."""

import itertools

import pytest
import torch

from kd_bench.errors import Diverged
from kd_bench.methods.scratch import Scratch
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.record import RECORD_FILE
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run

RUN = [
    *("recipe.epochs=2", "student=resnet8_cifar", "dataset.train_samples=100", "method=scratch", "teacher=none"),
    *("recipe.batch_size=25", "logger=none", "trainer.progress=none", "trainer.threads=1"),
]
LAST = 7  # four steps an epoch, counted from 0


class NaNBackward(torch.autograd.Function):
    """A finite loss whose gradient is not."""

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("nan")


FAULTS = {
    "NaN": lambda loss: loss * float("nan"),
    "infinity": lambda loss: loss * float("inf"),
    "gradient": NaNBackward.apply,
}


def test_a_step_that_is_not_finite_ends_the_run_without_a_number(compose, tmp_path, monkeypatch, figure):
    genuine, left, states = Scratch.forward, [], []
    for fault, step in itertools.product(FAULTS, (0, 5, LAST)):

        def broken(self, student, teacher, batch, progress, fault=fault, step=step):
            terms = genuine(self, student, teacher, batch, progress)
            return {"ce": FAULTS[fault](terms["ce"])} if progress.step == step else terms

        monkeypatch.setattr(Scratch, "forward", broken)
        folder = tmp_path / f"{fault}{step}"
        named = "is not finite" if fault == "gradient" else "loss term ce is not finite"
        with pytest.raises(Diverged, match=named) as caught:
            run(compose(*RUN, f"paths.runs={folder}"))
        (directory,) = folder.iterdir()
        state = read_state(directory)
        assert state.cause == str(caught.value)
        states.append(state.state)
        left += [name for name in (RECORD_FILE, PREDICTIONS_FILE) if (directory / name).exists()]
    figure(
        "R8",
        {
            "runs with NaN or infinity in a loss or a gradient": len(states),
            "first, in the middle or last step of": LAST + 1,
            "ended as diverged": states.count("diverged"),
            "records or predictions that they left": len(left),
        },
    )
    assert set(states) == {"diverged"}
    assert not left
