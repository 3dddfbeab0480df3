"""The pages of the methods, what they are made of, and how one is printed."""

import json
import re
from typing import Annotated, Any, ClassVar, Literal

import pytest
import torch
import yaml
from pydantic import Field

import kd_bench.cli.method_pages.__main__ as program
from kd_bench.cli.main import main
from kd_bench.cli.method_pages import measuring
from kd_bench.cli.method_pages.catalogue import catalogue
from kd_bench.cli.method_pages.docstrings import docstring, markdown
from kd_bench.cli.method_pages.pages import page, pages
from kd_bench.cli.method_pages.settings import allowed, header, hyperparameters, taken_over, written
from kd_bench.cli.method_pages.step_costs import Cost, read_costs, write_costs
from kd_bench.config.paths import CHECKOUT, CONF
from kd_bench.config.ranges import (
    Count,
    Fraction,
    ImageSize,
    NonNegative,
    OpenFraction,
    Positive,
    PositiveFraction,
    PositiveInt,
)
from kd_bench.runs.preview import TRIAL_SAMPLES

CHOICES = sorted(path.stem for path in (CONF / "method").glob("[!_]*.yaml"))
MEASURE = "run `python -m kd_bench.cli.method_pages --measure"
COST: Cost = {"adapter_parameters": 12_345, "time": 1.5, "memory": 2.0, "threads": 4}


# The pages.


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


def test_every_method_has_a_cost():
    found = read_costs()
    missing = [choice for choice in CHOICES if choice not in found]
    assert missing == [], f"{MEASURE} {' '.join(missing)}`"
    assert sorted(found) == CHOICES
    assert all(cost["time"] > 0 and cost["memory"] > 0 and cost["adapter_parameters"] >= 0 for cost in found.values())


def test_there_is_a_page_of_every_method_and_an_index(made):
    assert sorted(made) == sorted(["README.md", *(f"{choice}.md" for choice in CHOICES)])
    assert f"a training set of {TRIAL_SAMPLES:,} samples" in made["README.md"]
    for choice in CHOICES:
        assert f"]({choice}.md) | " in made["README.md"]


def test_links_lead_somewhere(made):
    for name, text in made.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            known = target in made or (target.startswith("../") and (CHECKOUT / target[3:]).is_file())
            assert known or target.startswith("https://arxiv.org/abs/"), f"{name}: {target}"


def test_a_page_says_what_a_method_is(made):
    page = made["kd.md"]
    for part in (
        "# kd\n\nSoftened logits (Hinton et al. 2015)",
        "- Family: logits\n- Paper: Hinton et al. 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531)\n"
        "- Needs: teacher\n",
        "``ce_weight * CE + kd_weight * T^2 * KL``",
        "### `kd_loss(student_logits, teacher_logits, temperature)`\n\n"
        "``temperature ** 2 * KL(p_teacher || p_student)``",
        "\n- `method.kd_weight=0.9`, number ≥ 0\n- `method.temperature=4.0`, number &gt; 0\n",
    ):
        assert part in page
    assert "The terms of [kd](kd.md) and [at](at.md) in one sum" in made["kd_at.md"]
    assert "This is [kd](kd.md) with other values." in made["kd_ls.md"]
    note = "0.07 in the code for all data sets; the paper (section 4.5) has 0.1 on CIFAR-100."
    note += " (the paper: 0.1 on CIFAR-100)"
    assert f"\n- `method.terms.crd.temperature=0.07`, number &gt; 0: {note}\n" in made["crd_kd.md"]
    assert made["scratch.md"].count("\n- `method.") == 0


def test_a_method_without_a_measured_cost_has_a_page(monkeypatch):
    monkeypatch.setattr("kd_bench.cli.method_pages.pages.read_costs", dict)
    assert page("dkd").endswith("\n\nNot measured yet: `python -m kd_bench.cli.method_pages --measure dkd`.\n")


# The page in the terminal.


def test_a_page_is_printed_without_markup(capsys):
    assert main(["list", "methods", "kd_ls"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].strip() == "kd_ls"
    assert "This is kd with other values." in lines
    assert " • Files: conf/method/kd_ls.yaml, kd_bench/methods/kd.py" in lines
    assert " • Family: logits" in lines
    assert " • method.temperature=2.0, number > 0: the base temperature" in lines
    assert max(map(len, lines)) <= 100
    assert not re.search(r"[`\\\x1b]|&[gl]t;|\]\(|\.md\b| \n", printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("methods kdd", "method='kdd': no such choice; did you mean 'kd'"),
        ("methods 0", "method='0': no such choice; see kd-bench list methods"),
        ("models resnet18", "resnet18: only a method has a page"),
        ("methods kd --json", "kd: only a method has a page, and no JSON of it; --like TEXT chooses by name"),
    ],
)
def test_what_has_no_page_is_told_in_one_line(arguments, message, capsys):
    assert main(["list", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kd-bench: {message}")


# Docstrings.


def documented() -> None:
    """``a | b`` of a thing.

    Two lines
    of text.

    Args:
        one, other: (B, K), of the
            two things.
        third: the last: ``x``.

    Returns:
        (B,), all
        of it.

    Raises:
        ConfigError: never.
    """


def test_a_docstring_is_taken_apart():
    found = docstring(documented)
    assert found.paragraphs == ["``a | b`` of a thing.", "Two lines of text."]
    shared = "(B, K), of the two things."
    assert found.arguments == {"one": shared, "other": shared, "third": "the last: ``x``."}
    assert found.returns == "(B,), all of it."
    assert docstring(lambda: None) == ([], {}, "")


def test_text_is_escaped_and_code_is_not():
    assert markdown("a_b * ``c_d * e`` < [f]") == r"a\_b \* ``c_d * e`` &lt; \[f\]"
    assert markdown("``KL(p || q)`` | x") == r"``KL(p || q)`` \| x"
    assert markdown("``KL(p || q)`` | x", cell=True) == r"``KL(p \|\| q)`` \| x"


# Hyperparameters.


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Positive, "number > 0"),
        (NonNegative, "number ≥ 0"),
        (Fraction, "number ≥ 0, ≤ 1"),
        (PositiveFraction, "number > 0, ≤ 1"),
        (OpenFraction, "number > 0, < 1"),
        (PositiveInt, "integer ≥ 1"),
        (Count, "integer ≥ 0"),
        (bool, "``true`` or ``false``"),
        (str, "text"),
        (Literal["channels", "width"], "``channels`` or ``width``"),
        (Positive | None, "number > 0 or null"),
        (list[str], "list of text"),
        (ImageSize, "list of integer ≥ 1, at least 2"),
        (Annotated[list[Positive], Field(min_length=1)], "list of number > 0, at least 1"),
        (list[tuple[Count, Count]], "list of [integer ≥ 0, integer ≥ 0]"),
    ],
)
def test_ranges_are_those_of_the_annotation(annotation, words):
    assert allowed(annotation) == words


def test_comments_are_those_of_the_file_that_sets_the_value():
    assert header("byot").startswith("Be Your Own Teacher (Zhang et al. 2019), weights of the unofficial code")
    assert written("ttm")["exponent"] == ("0.1", "a temperature of 10 for the teacher alone")
    assert written("mlld")["weak_temperatures"] == ("[2.0, 6.0]", "of the first view alone, as in the code")
    above = written("reviewkd")["review_weight"]
    assert above.value == "5.0"
    assert above.comment.startswith("The authors' code: 5 for wrn_40_2 to wrn_16_2, wrn_40_1 and shufflenetv1, and for")
    assert written("kd")["standardize_logits"] == ("false", "true, with other weights: kd_ls")
    assert written("kd_ls")["standardize_logits"] == ("true", "")
    assert written("kd_ls")["temperature"] == ("2.0", "the base temperature")
    assert written("kd_at")["terms.at.skip_stages"] == ("1", "leaves out the stem")
    assert taken_over("kd_at") == {"terms.kd": "kd", "terms.at": "at"}
    assert taken_over("kd_ls") == {"": "kd"}
    assert taken_over("kd") == {}


def flat(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def test_defaults_are_what_hydra_composes():
    for entry in [*catalogue("sem"), *catalogue("_ls"), *catalogue("wttm"), *catalogue("irg"), *catalogue("byot")]:
        shown = {row.name: row.default for row in hyperparameters(entry["name"])}
        composed = flat(entry["parameters"])
        assert shown.keys() == composed.keys()
        for name, text in shown.items():
            assert text.startswith("${") or yaml.safe_load(text) == composed[name], f"{entry['name']}: {name}"


# Costs.


class Steps:
    """Stands for the steps of a method: what they hold, and how long one after the other takes."""

    HELD: ClassVar = {"fitnet": (150, 30, 20), "scratch": (70, 20, 10)}
    SECONDS: ClassVar = {"fitnet": [3.0, 8.0, 1.0], "scratch": [1.0, 2.0, 1.0]}
    order: ClassVar[list[str]] = []

    def __init__(self, config: Any, pair: Any) -> None:
        self.name = config.names.method
        self.left = iter(self.SECONDS[self.name])

    def memory(self) -> dict[str, int]:
        return dict(zip(("activation_bytes", "weight_bytes", "gradient_bytes"), self.HELD[self.name], strict=True))

    def seconds(self) -> float:
        self.order.append(self.name)
        return next(self.left)


def test_costs_are_medians_of_neighbouring_steps(monkeypatch):
    monkeypatch.setattr(measuring, "TrialStep", Steps)
    monkeypatch.setattr(measuring, "ROUNDS", 3)
    monkeypatch.setattr(Steps, "order", [])
    assert measuring.measure("fitnet") == {
        "adapter_parameters": 32 * 32 + 32 + 2 * 32,  # a 1x1 convolution with bias and a batch norm
        "time": 3.0,  # of 3, 4 and 1
        "memory": 2.0,
        "threads": torch.get_num_threads(),
    }
    assert Steps.order == ["fitnet", "scratch"] * 3


def test_costs_stay_as_they_are_in_their_file(tmp_path):
    path = tmp_path / "costs.json"
    assert read_costs(path) == {}
    write_costs({"kd": {**COST, "time": 1.25}, "at": COST}, path)
    assert list(json.loads(path.read_text())) == ["at", "kd"]
    before = path.read_bytes()
    write_costs(read_costs(path), path)
    assert path.read_bytes() == before


# The program.


@pytest.fixture
def costs(monkeypatch) -> dict[str, Cost]:
    """The file of costs, in memory."""
    kept: dict[str, Cost] = {"gone": COST, "kd": COST}
    monkeypatch.setattr(program, "choices", lambda group: ["at", "kd"])
    monkeypatch.setattr(program, "read_costs", kept.copy)
    monkeypatch.setattr(program, "write_costs", lambda costs: (kept.clear(), kept.update(costs)))
    monkeypatch.setattr(measuring, "measure", lambda method: {**COST, "time": 9.0})
    return kept


def test_costs_are_measured_of_one_or_all_and_those_of_methods_that_are_gone_dropped(costs, capsys):
    assert program.main(["--measure", "at"]) == 0
    assert costs == {"kd": COST, "at": {**COST, "time": 9.0}}
    assert capsys.readouterr().out.split()[0] == "at"
    assert program.main(["--measure"]) == 0
    assert costs["kd"]["time"] == 9.0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "kdd"], "--measure kdd: no such choice of conf/method; did you mean 'kd'?"),
        ([], "the following arguments are required: --measure"),
    ],
)
def test_wrong_usage_is_told(costs, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].partition("error: ")[2] == message
