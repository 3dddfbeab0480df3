"""Faults of configurations, plugins and files that no other test of kd_bench meets."""

import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from support.taps import make_tap

from kd_bench.cli.main import main
from kd_bench.config.check import check
from kd_bench.config.paths import CONF
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, IntegrityError, Interrupted
from kd_bench.evaluation.metrics import accuracy
from kd_bench.methods.scratch import Scratch
from kd_bench.results.records.record import RECORD_FILE, SCHEMA_FILE
from kd_bench.results.records.states import read_state
from kd_bench.runs.run import run
from kd_bench.runs.studies.grid import open_study
from kd_bench.training.pair import build
from kd_bench.training.teachers import check_teacher, describe_normalization

RUN = [
    *("recipe.epochs=2", "student=resnet8_cifar", "dataset.train_samples=100", "method=scratch", "teacher=none"),
    *("logger=none", "trainer.progress=none", "trainer.threads=1", "trainer.checkpoint_seconds=0"),
]


class StopAt(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise Interrupted("stopped")


def stopped(compose, runs: Path, *overrides: str) -> Path:
    """The directory of a run that was stopped after its first epoch."""
    before = set(runs.glob("*/state.json"))
    with pytest.raises(Interrupted):
        run(compose(*RUN, f"paths.runs={runs}", *overrides), callbacks=(lambda: [StopAt(1)],))
    (state,) = set(runs.glob("*/state.json")) - before
    return state.parent


# --- Configurations ---


@pytest.mark.parametrize("method", ["dkd", "dkd_ls"])
def test_dkd_is_refused_where_there_is_no_other_class(compose, method):
    config = check(compose(f"method={method}", "dataset.num_classes=2"))
    with pytest.raises(ConfigError, match=f"^method={method} needs at least 3 classes; dataset.num_classes=2$"):
        build(config)


def test_a_run_is_never_resumed_with_another_configuration(compose, tmp_path):
    """Another configuration is another directory. What has no say in the numbers may change."""
    first = stopped(compose, tmp_path)
    other = run(compose(*RUN, f"paths.runs={tmp_path}", "recipe.optimizer.lr=0.04"))
    assert other.run_id != first.name
    assert other.times.resumed == 0
    assert read_state(first).state == "interrupted"
    record = run(compose(*RUN, f"paths.runs={tmp_path}", "trainer.checkpoint_every_n_epochs=2", "study=another"))
    assert (record.run_id, record.times.resumed) == (first.name, 1)


def test_the_checkpoint_of_another_run_is_not_resumed(compose, tmp_path):
    first, second = stopped(compose, tmp_path), stopped(compose, tmp_path, "seed=1")
    for path in second.glob("checkpoint-*"):
        path.unlink()
    (foreign,) = first.glob("checkpoint-*")
    shutil.copy(foreign, second)
    with pytest.raises(IntegrityError, match=f"belongs to run {first.name}, not to {second.name}; delete"):
        run(compose(*RUN, f"paths.runs={tmp_path}", "seed=1"))
    assert not (second / RECORD_FILE).exists()


def test_what_lies_beside_checkpoints_is_not_resumed(compose, tmp_path):
    """As Lightning's own ``last-v1.ckpt``."""
    folder = stopped(compose, tmp_path)
    (path,) = folder.glob("checkpoint-*")
    path.rename(folder / "last-v1.ckpt")
    assert run(compose(*RUN, f"paths.runs={tmp_path}")).times.resumed == 0


def test_a_choice_of_a_shipped_name_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "my_conf" / "method" / "kd.yaml"
    own.parent.mkdir(parents=True)
    shutil.copy(CONF / "method" / "kd.yaml", own)
    assert main(["train", "--config-dir", "my_conf", *RUN]) == 2
    line = f"kd-bench: {own.relative_to(tmp_path)}: kd-bench ships a choice of that name; give yours another one\n"
    assert capsys.readouterr().err == line
    (tmp_path / "my_conf" / "study.yaml").write_text("defaults: [train, _self_]\n")
    with pytest.raises(ConfigError, match="ships a choice of that name"):
        _ = open_study(str(tmp_path / "my_conf"), []).points


# --- Data ---


def test_a_teacher_with_other_normalization_is_refused_with_both():
    spec = DataSpec(10, (8, 8), (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
    tap = make_tap("resnet8_cifar", spec, 0)
    assert describe_normalization(tap, spec) == ""
    of_the_data = DataSpec(10, (8, 8), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    both = describe_normalization(tap, of_the_data)
    assert both == (
        " It expects mean [0.3, 0.3, 0.3] and std [0.4, 0.4, 0.4]; "
        "those of the data are [0.5, 0.5, 0.5] and [0.25, 0.25, 0.25]."
    )
    with pytest.raises(IntegrityError, match=r"or input normalization[?] It expects mean .* those of the data are"):
        check_teacher("net", {"validation": 0.1, "test": 0.1}, ("test", 0.9), 10, both)


def test_a_test_split_ordered_by_class_has_the_same_accuracy():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(300, 7, generator=generator), torch.randint(7, (300,), generator=generator)
    order = targets.argsort()
    assert accuracy(logits[order], targets[order]) == accuracy(logits, targets)


# --- Resources ---


def test_a_run_out_of_memory_says_with_which_batch(compose, tmp_path, monkeypatch):
    def forward(self, *arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Scratch, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        run(compose(*RUN, f"paths.runs={tmp_path}", "recipe.batch_size=32"))
    (path,) = tmp_path.glob("*/state.json")
    state = read_state(path.parent)
    assert state.state == "oom"
    assert state.cause == "CUDA out of memory. Tried to allocate 2.00 GiB (recipe.batch_size=32)"


# --- Services ---


def test_weights_that_no_hub_gives_are_one_line(compose, tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand so on")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    monkeypatch.setattr("kd_bench.models.factory._reachable", lambda url: True)
    with pytest.raises(IntegrityError) as caught:
        run(compose(*RUN, f"paths.runs={tmp_path}", "student.name=resnet18", "student.pretrained=true"))
    assert str(caught.value) == (
        "student.pretrained: the weights of resnet18 cannot be fetched: We couldn't connect to 'https://huggingface.co'"
    )
    assert caught.value.exit_code == 4


def test_no_record_claims_to_know_an_energy():
    """It is not measured: there is no number, not a 0."""
    text = SCHEMA_FILE.read_text()
    assert not [word for word in ("energy", "joule", "watt", "co2", "kwh") if word in text.lower()]
