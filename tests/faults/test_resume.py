"""Every method there is, stopped in the middle of its last epoch: with the same command it ends as if never stopped."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
from support.choices import METHODS, networks_for

from kd_bench.config.paths import CONF
from kd_bench.errors import Preempted
from kd_bench.results.records.directory import HEAD_FILE, PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run

RUN = [
    *("recipe.epochs=2", "recipe.batch_size=32", "teacher.name=resnet8_cifar", "student=resnet8_cifar"),
    *("dataset.train_samples=100", "logger=none", "trainer.progress=none", "trainer.threads=1"),
]


class StopIn(pl.Callback):
    """Ends the run in a step of its last epoch, as SIGTERM does or by SIGTERM."""

    def __init__(self, number: int | None) -> None:
        self.number = number

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.pretraining or trainer.current_epoch + 1 < trainer.max_epochs or batch_idx != 1:
            return
        if self.number is None:
            raise Preempted("stopped")
        os.kill(os.getpid(), self.number)


def left_by(folder: Path) -> dict[str, object]:
    record = json.loads((folder / RECORD_FILE).read_text())
    del record["times"], record["cost"]
    files = [name for name in (WEIGHTS_FILE, PREDICTIONS_FILE, HEAD_FILE) if (folder / name).exists()]
    return {"record": record, **{name: (folder / name).read_bytes() for name in files}}


@pytest.mark.slow
def test_every_method_resumes_exactly(compose, tmp_path, figure):
    whole = tmp_path / "whole"
    different, by_a_signal = [], 0
    for number, method in enumerate(METHODS):
        broken = tmp_path / method
        staged = "pretrain_epochs:" in (CONF / "method" / f"{method}.yaml").read_text()
        cfg = [*RUN, f"method={method}", *(["method.pretrain_epochs=1"] if staged else []), *networks_for(method)]
        expected = run(compose(*cfg, f"paths.runs={whole}"))
        kind = signal.SIGTERM if number % 10 == 0 else None
        by_a_signal += kind is not None
        for earlier in {expected.teacher.run_id, *expected.method.trained_from}:
            shutil.copytree(whole / earlier, broken / earlier)
        with pytest.raises(Preempted):
            run(compose(*cfg, f"paths.runs={broken}"), callbacks=(lambda kind=kind: [StopIn(kind)],))
        assert read_state(broken / expected.run_id).state == "preempted"
        record = run(compose(*cfg, f"paths.runs={broken}"))
        assert (record.run_id, record.times.resumed) == (expected.run_id, 1)
        if left_by(broken / record.run_id) != left_by(whole / record.run_id):
            different.append(method)
    figure(
        "R2",
        {
            "methods stopped in their last epoch": len(METHODS),
            "of them by a real SIGTERM": by_a_signal,
            "with another record, other weights or predictions after resuming": len(different),
        },
    )
    assert not different
