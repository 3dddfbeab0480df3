"""``kd-bench list methods``: what it says of a method, as text and as JSON."""

import json

import pytest

from kd_bench.cli.main import main
from kd_bench.cli.method_pages.catalogue import as_lines, catalogue


@pytest.fixture(scope="module")
def entries() -> list[dict]:
    return catalogue("kd_a") + catalogue("mean_teacher")


def test_an_entry_says_all_that_a_method_is(entries):
    combined, averaged = entries
    assert averaged == {
        "name": "mean_teacher",
        "family": "self-distillation",
        "paper": "Tarvainen & Valpola 2017, arXiv:1703.01780",
        "requires": ["moving average of the student", "2 views of each image"],
        "parameters": {"ce_weight": 1.0, "consistency_weight": 100.0, "warmup_epochs": 5, "decay": 0.97},
    }
    assert combined == {
        "name": "kd_at",
        "family": "combination",
        "paper": "Hinton et al. 2015, arXiv:1503.02531; Zagoruyko & Komodakis 2017, arXiv:1612.03928",
        "requires": ["teacher"],
        "parameters": {
            "terms": {
                "kd": {"ce_weight": 1.0, "kd_weight": 1.0, "temperature": 4.0, "standardize_logits": False},
                "at": {"ce_weight": 0.0, "at_weight": 1000.0, "power": 2, "skip_stages": 1},
            }
        },
    }


def test_lines_say_what_the_entries_say(entries):
    assert as_lines(entries) == [
        "kd_at               combination         Hinton et al. 2015, arXiv:1503.02531; Zagoruyko & Komodakis 2017, "
        "arXiv:1612.03928; needs teacher",
        "                    terms.kd.ce_weight=1.0 terms.kd.kd_weight=1.0 terms.kd.temperature=4.0 "
        "terms.kd.standardize_logits=False terms.at.ce_weight=0.0 terms.at.at_weight=1000.0 terms.at.power=2 "
        "terms.at.skip_stages=1",
        "mean_teacher        self-distillation   Tarvainen & Valpola 2017, arXiv:1703.01780; needs moving average of "
        "the student, 2 views of each image",
        "                    ce_weight=1.0 consistency_weight=100.0 warmup_epochs=5 decay=0.97",
    ]


def test_the_command_prints_the_entries_either_way(entries, capsys):
    assert main(["list", "methods", "--like", "mean_teacher", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == entries[1:]
    assert main(["list", "methods", "--like", "mean_teacher"]) == 0
    assert capsys.readouterr().out.splitlines() == as_lines(entries[1:])
    assert main(["list", "methods", "--like", "no such method", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["list", "methods", "--like", "no such method"]) == 0
    assert capsys.readouterr().out == "\n"
