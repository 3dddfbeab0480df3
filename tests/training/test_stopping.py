"""Callbacks of the configuration, and the time after which a run stops."""

import time

import pytest
from pytorch_lightning.callbacks import Callback

from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.errors import ConfigError, Preempted
from kd_bench.results.checking.measurements import planned_epochs
from kd_bench.results.records.command import overrides_of
from kd_bench.results.records.fingerprint import determining
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run
from kd_bench.training import stopping
from kd_bench.training.pair import build

RUN = [
    *("method=scratch", "teacher=none", "student=resnet8_cifar", "dataset.train_samples=100", "recipe.batch_size=20"),
    *("recipe.epochs=6", "trainer.progress=none", "trainer.threads=1"),
]
LIGHTNING = "_target_:pytorch_lightning.callbacks"
# No epoch is better than another by a half, so the third one is the last.
STOPS = f"trainer.callbacks={{stop:{{{LIGHTNING}.EarlyStopping,monitor:val/top1,mode:max,patience:2,min_delta:0.5}}}}"


def started(tmp_path, *overrides: str, callbacks=()):
    return run(compose_run([*RUN, f"paths.runs={tmp_path}", "logger=none", *overrides]), callbacks=callbacks)


def test_early_stopping_is_recorded_and_a_part_of_the_runs_name(tmp_path):
    plain, record = started(tmp_path), started(tmp_path, STOPS)
    assert (len(plain.history), len(record.history)) == (6, 3)
    assert record.history == plain.history[:3]
    assert record.metrics.last.epoch == 3 < planned_epochs(record) == 6
    assert record.run_id != plain.run_id
    assert record.config["trainer"]["callbacks"]["stop"]["patience"] == 2
    assert "callbacks" not in plain.config["trainer"]
    again = check(compose_run([*overrides_of(record.config), f"paths.runs={tmp_path}", "logger=none"]))
    assert again.recorded()["trainer"] == record.config["trainer"]
    assert read_state(tmp_path / record.run_id).state == "completed"


class Kill(Callback):
    """Ends the run where its last checkpoint is written and nothing else."""

    def on_train_end(self, trainer, pl_module):
        raise Preempted("stopped by a test")


def test_a_run_that_was_stopped_early_trains_no_further_when_it_is_resumed(tmp_path):
    whole = started(tmp_path / "whole", STOPS)
    with pytest.raises(Preempted):
        started(tmp_path / "killed", STOPS, callbacks=(lambda: [Kill()],))
    resumed = started(tmp_path / "killed", STOPS)
    assert resumed.times.resumed == 1
    assert resumed.history == whole.history
    assert resumed.artifacts == whole.artifacts


class KillEarly(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise Preempted("stopped by a test")


def test_early_stopping_remembers_the_epochs_before_an_interruption(tmp_path):
    whole = started(tmp_path / "whole", STOPS)
    with pytest.raises(Preempted):
        started(tmp_path / "killed", STOPS, callbacks=(lambda: [KillEarly()],))
    resumed = started(tmp_path / "killed", STOPS)
    assert resumed.history == whole.history
    assert resumed.artifacts == whole.artifacts


def test_callbacks_that_look_on_change_nothing(tmp_path):
    looking = f"trainer.callbacks={{rate:{{{LIGHTNING}.LearningRateMonitor}},time:{{{LIGHTNING}.Timer}}}}"
    plain = check(compose_run([*RUN, "logger=csv"]))
    watched = check(compose_run([*RUN, "logger=csv", looking]))
    assert watched.recorded() == plain.recorded()
    assert determining(watched) == determining(plain)
    record = started(tmp_path, looking, "logger=csv", "recipe.epochs=2", "trainer.profiler=simple")
    assert (tmp_path / record.run_id / "fit-profile.txt").read_text().startswith("FIT Profiler Report")
    again = started(tmp_path / "plain", "recipe.epochs=2")
    assert record.run_id == again.run_id
    assert record.artifacts == again.artifacts


def test_a_monitor_without_a_tracker_is_left_out_with_a_warning(tmp_path):
    looking = f"trainer.callbacks={{rate:{{{LIGHTNING}.LearningRateMonitor}}}}"
    with pytest.warns(UserWarning, match="LearningRateMonitor is left out: it writes to a tracker, and logger=none"):
        started(tmp_path, looking, "recipe.epochs=1")


REFUSED = {
    "EarlyStopping,monitor:test/top1,mode:max": r"^trainer\.callbacks\.it\.monitor='test/top1': should be val/top1 or",
    "EarlyStopping,monitor:val/top1": r"^trainer\.callbacks\.it\.mode='min': should be 'max' for val/top1$",
    "EarlyStopping,monitor:val/nll,mode:sideways": r"^trainer\.callbacks\.it: `mode` can be min, max",
    "EarlyStopping,monitor:val/nll,patienc:2": r"^trainer\.callbacks\.it\.patienc: unknown key; did you mean 'pat",
    "Timer,duration:'00:00:01:00'": r"^trainer\.callbacks\.it\.duration: should be null; trainer\.max_time stops",
    "ModelCheckpoint": r"^trainer\.callbacks\.it\._target_='pytorch_lightning.callbacks.ModelCheckpoint': is not",
    "LambdaCallback": r"^trainer\.callbacks\.it\._target_=.*: is not allowed here; allowed: pytorch_lightning\.",
}


@pytest.mark.parametrize("callback", REFUSED)
def test_a_callback_that_cannot_do_its_work_is_refused(callback):
    with pytest.raises(ConfigError, match=REFUSED[callback]):
        build(check(compose_run([*RUN, f"trainer.callbacks={{it:{{{LIGHTNING}.{callback}}}}}"])))


def test_early_stopping_wants_one_process():
    with pytest.raises(ConfigError, match=r"the first process alone evaluates; trainer.devices=2 has to be 1$"):
        build(check(compose_run([*RUN, "trainer=ddp", STOPS])))


@pytest.mark.parametrize("value", ["1h", "00:00:60:00", "3600"])
def test_a_time_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=r"^trainer\.max_time="):
        check(compose_run([*RUN, f"trainer.max_time={value}"]))


def test_a_run_stops_in_time_and_resumes_bit_for_bit(tmp_path, monkeypatch):
    """The clock moves by a second with each look; ten of them are over in the second epoch."""
    whole = started(tmp_path / "whole", "recipe.epochs=3")
    ticks = iter(range(10**6))
    monkeypatch.setattr(stopping, "time", type("Clock", (), {"monotonic": staticmethod(lambda: float(next(ticks)))}))
    with pytest.raises(Preempted, match=r"^stopped by trainer\.max_time=00:00:00:10; the same command") as caught:
        started(tmp_path / "stopped", "recipe.epochs=3", "trainer.max_time=00:00:00:10")
    assert caught.value.exit_code == 143
    monkeypatch.setattr(stopping, "time", time)
    assert read_state(tmp_path / "stopped" / whole.run_id).state == "preempted"
    resumed = started(tmp_path / "stopped", "recipe.epochs=3", "trainer.max_time=00:01:00:00")
    assert resumed.run_id == whole.run_id  # the limit is no part of it
    assert resumed.times.resumed == 1
    assert resumed.artifacts == whole.artifacts


def test_an_epoch_that_would_last_too_long_is_not_begun(monkeypatch):
    times = iter([0.0, 0.0, 6.0])
    monkeypatch.setattr(stopping, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(times))}))
    limit = stopping.TimeLimit("00:00:00:10")
    limit.on_train_epoch_start(None, None)
    with pytest.raises(Preempted):
        limit.on_train_epoch_start(None, None)  # 6 s are over, and the next 6 s end after 10
