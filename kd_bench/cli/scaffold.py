"""The files of a new method: a skeleton that works, to be filled with the new idea. Needs no torch."""

import importlib.util
import json
import keyword
import re
from collections.abc import Mapping
from pathlib import Path

from kd_bench.config.paths import CHECKOUT, CONF
from kd_bench.errors import ConfigError

FAMILIES = ("baseline", "contrastive", "features", "logits", "online", "relations", "self-distillation")
# Authors and year, then an arXiv id or a venue.
PAPER = r"\b(19|20)\d\d, (arXiv:\d{4}\.\d{4,5}|[A-Z][A-Za-z]+)$"
UNPUBLISHED = "unpublished"

METHOD = '''"""NAME: what is new about it, in a line."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def NAME_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Squared difference of the logits (B, K), mean over batch and classes.

    A skeleton: put the paper's formula here, with its equation and where the authors' code differs from it.
    """
    return (student_logits - teacher_logits).pow(2).mean()


class CLASS(Method):
    """``ce_weight * CE + distillation_weight * NAME_loss``."""

    paper = "PAPER"
    family = "FAMILY"

    def __init__(self, ce_weight: NonNegative, distillation_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.distillation_weight = ce_weight, distillation_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        distillation = NAME_loss(student.logits, teacher.logits)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "distillation": self.distillation_weight * distillation,
        }
'''

CHOICE = """# What it does, in a line, and where the values come from.
_target_: MODULE.CLASS
ce_weight: 1.0
distillation_weight: 1.0
"""

ROW = '''"""The test that proves the numbers of NAME."""

ORACLES = {
    "NAME": "tests/methods/test_NAME.py::test_the_loss_is_its_formula",
}
'''

TEST = '''"""NAME against its formula, written out one number at a time."""

import pytest
from golden_rows.given import on_logits, run

from kd_bench.methods.NAME import CLASS

from . import slow
from .slow import random_labels, random_logits


def test_the_loss_is_its_formula():
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    squares = [(s - t) ** 2 for student_row, teacher_row in rows for s, t in zip(student_row, teacher_row, strict=True)]
    terms = run(CLASS(0.25, 3.0), on_logits(student), on_logits(teacher), labels=labels)
    assert terms["distillation"].item() == pytest.approx(3 * slow.mean(squares), rel=1e-9)
    assert terms["ce"].item() == pytest.approx(0.25 * slow.cross_entropy(student.tolist(), labels.tolist()), rel=1e-9)
'''

PLUGIN_TEST = '''"""NAME against its formula, written out one number at a time, and one step of training."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress
from kd_bench.models.features import Outputs
from NAME import NAME_loss
from omegaconf import OmegaConf

CHOICE = Path(__file__).parent / "my_conf" / "method" / "NAME.yaml"


def outputs(logits):
    """Outputs of which only the logits matter."""
    return Outputs(logits, [], logits)


def test_the_loss_is_its_formula():
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist())
    squares = [(s - t) ** 2 for s, t in pairs]
    assert NAME_loss(student, teacher).item() == pytest.approx(sum(squares) / len(squares), rel=1e-9)


def test_a_step_of_training_lowers_the_loss():
    torch.manual_seed(0)
    method, network = instantiate(OmegaConf.load(CHOICE)), torch.nn.Linear(3, 5)
    batch = Batch(torch.randn(4, 3), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    teacher = outputs(torch.randn(4, 5))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for step in range(2):
        terms = method(outputs(network(batch.images)), teacher, batch, Progress(0, 1, step, 2))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
'''


def write_method(name: str, family: str, paper: str) -> list[Path]:
    """Write a method into the checkout that this package is run from, and return its files.

    Raises:
        ConfigError: the name or the paper cannot be taken, or there is no checkout; nothing is written.
    """
    if not (CHECKOUT / "tests" / "golden_rows").is_dir():
        raise ConfigError(
            f"new-method: kd_bench runs from {CHECKOUT}, which is no checkout: it has no tests/golden_rows; clone the "
            "repository and run `make install` there, or write a plugin for a repository of your own with --out DIR"
        )
    values = _values(name, f"kd_bench.methods.{name}", family, paper)
    templates = {
        f"kd_bench/methods/{name}.py": METHOD,
        f"conf/method/{name}.yaml": CHOICE,
        f"tests/golden_rows/{name}.py": ROW,
        f"tests/methods/test_{name}.py": TEST,
    }
    return _write({CHECKOUT / path: _filled(template, values) for path, template in templates.items()})


def write_plugin(name: str, family: str, paper: str, folder: Path) -> list[Path]:
    """Write a method that lives outside this repository, and return its files.

    They are a module, its test beside it and a folder of configurations.

    Raises:
        ConfigError: the name or the paper cannot be taken; nothing is written.
    """
    values = _values(name, name, family, paper)
    if (CONF / "method" / f"{name}.yaml").exists():
        raise ConfigError(f"new-method {name}: the name is taken by a method of kd_bench")
    if importlib.util.find_spec(name) is not None:
        raise ConfigError(f"new-method {name}: the name is taken by a module that this Python imports")
    templates = {f"{name}.py": METHOD, f"test_{name}.py": PLUGIN_TEST, f"my_conf/method/{name}.yaml": CHOICE}
    return _write({folder / path: _filled(template, values) for path, template in templates.items()})


def _values(name: str, module: str, family: str, paper: str) -> dict[str, str]:
    """Return what takes the place of the words in capitals."""
    title = "".join(part.capitalize() for part in name.split("_"))
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,27}", name):
        raise ConfigError(f"new-method {name!r}: should be up to 28 of a-z, 0-9 and _, a letter first, such as my_kd")
    imported = re.search(rf"import.*\b{title}\b", METHOD)
    if keyword.iskeyword(name) or keyword.iskeyword(title) or name == "null" or imported:
        raise ConfigError(f"new-method {name}: the name, or its class {title}, means something else already")
    if paper != UNPUBLISHED and (not re.search(PAPER, paper) or not paper.isprintable() or len(paper) > 100):
        raise ConfigError(
            f"--paper={paper!r}: should be up to 100 characters with authors, year, and an arXiv id or a venue, "
            "such as 'Author et al. 2026, arXiv:2601.00001'"
        )
    quoted = json.dumps(paper, ensure_ascii=False)
    return {"NAME": name, "CLASS": title, "MODULE": module, "FAMILY": family, '"PAPER"': quoted}


def _filled(template: str, values: dict[str, str]) -> str:
    return re.sub("|".join(values), lambda match: values[match.group()], template)


def _write(files: Mapping[Path, str]) -> list[Path]:
    """Write all files or none, and none over another."""
    if taken := [path for path in files if path.exists()]:
        raise ConfigError(f"new-method: {taken[0]} exists already; nothing was written")
    written: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except BaseException as error:
        for path in written:
            path.unlink()
        if isinstance(error, FileExistsError | NotADirectoryError):  # of another process, or a file where a folder goes
            raise ConfigError(f"new-method: {error.filename} is in the way; nothing was written") from error
        raise
    return written
