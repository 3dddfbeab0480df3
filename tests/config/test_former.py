"""Plugins written for an earlier layout import modules under their former names and train."""

import subprocess
import sys
from pathlib import Path

import pytest

from kd_bench.cli.main import main
from kd_bench.config.former import FORMER, FormerNames
from kd_bench.config.plugins import load_plugins
from kd_bench.results.records.record import read_record

# As `kd-bench new-method old_kd --out .` wrote it when these two modules lay at the root of the package.
METHOD = '''"""old_kd: what is new about it, in a line."""

from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.losses import cross_entropy
from kd_bench.methods.base import Method, Progress, teacher_outputs
from kd_bench.models.features import Outputs
from kd_bench.types import NonNegative


def old_kd_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Squared difference of the logits (B, K), mean over batch and classes.

    A skeleton: put the paper's formula here, with its equation and where the authors' code differs from it.
    """
    return (student_logits - teacher_logits).pow(2).mean()


class OldKd(Method):
    """``ce_weight * CE + distillation_weight * old_kd_loss``."""

    paper = "unpublished"
    family = "logits"

    def __init__(self, ce_weight: NonNegative, distillation_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.distillation_weight = ce_weight, distillation_weight

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        distillation = old_kd_loss(student.logits, teacher_outputs(teacher).logits)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "distillation": self.distillation_weight * distillation,
        }
'''
CHOICE = """# What it does, in a line, and where the values come from.
_target_: old_kd.OldKd
ce_weight: 1.0
distillation_weight: 1.0
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The plugin in the working directory, in a process that has loaded no plugin yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["kd-bench"])
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if not isinstance(each, FormerNames)])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    for name in (*FORMER, "old_kd"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "my_conf" / "method").mkdir(parents=True)
    (tmp_path / "my_conf" / "method" / "old_kd.yaml").write_text(CHOICE)
    (tmp_path / "old_kd.py").write_text(METHOD)
    yield
    for name in (*FORMER, "old_kd"):
        sys.modules.pop(name, None)


FAST = ["recipe.epochs=1", "dataset.train_samples=64", "teacher.name=resnet8_cifar", "trainer.threads=1"]


@pytest.mark.usefixtures("plugin")
def test_a_plugin_of_the_previous_scaffold_trains(tmp_path):
    chosen = ["--config-dir", "my_conf", "plugins=[old_kd]", "method=old_kd"]
    assert main(["train", *chosen, *FAST, "logger=none", "trainer.progress=none"]) == 0
    records = [read_record(path) for path in tmp_path.glob("runs/*/record.json")]
    assert {record.method.name for record in records} == {"old_kd", "scratch"}


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_is_the_module_itself(former):
    Path("old_kd.py").write_text(f"import {former}\nfrom {former} import *\nimport {former} as found\n")
    load_plugins(["old_kd"])
    load_plugins(["old_kd"])
    module = sys.modules[FORMER[former]]
    assert sys.modules["old_kd"].found is module
    assert sys.modules[former] is module
    assert module.__name__ == module.__spec__.name == FORMER[former]
    assert sum(isinstance(finder, FormerNames) for finder in sys.meta_path) == 1


def test_only_a_plugin_that_asks_for_losses_imports_torch(tmp_path):
    (tmp_path / "ranges.py").write_text("from kd_bench.types import NonNegative")
    (tmp_path / "losses.py").write_text("from kd_bench.losses import cross_entropy")
    program = (
        "import sys; from kd_bench.config.plugins import load_plugins\n"
        "for plugins in ([], ['ranges'], ['losses']): load_plugins(plugins); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


def test_without_a_plugin_former_names_are_unknown(tmp_path):
    program = "import kd_bench.config.check; import kd_bench.types"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'kd_bench.types'"
