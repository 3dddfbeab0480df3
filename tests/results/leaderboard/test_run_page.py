"""The page of a run, read as a browser without script would read it."""

import html
import re
import shlex

import pytest
from support.records import make_record, measured_content, record_content

from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.results.leaderboard.pages.command import reproduce_command
from kd_bench.results.leaderboard.pages.run_page import run_page
from kd_bench.results.leaderboard.plots.run_plots import class_gaps, curves_of
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.literals import literal
from kd_bench.results.records.measured import ClassMetrics
from kd_bench.results.records.record import Record
from kd_bench.results.text.escape import visible

from .test_metrics import measured_record
from .test_page import Page
from .test_text import HOSTILE


def composed_record(*overrides):
    """A record whose configuration is one that composes."""
    config = check(compose_run(list(overrides))).recorded()
    return Record.model_validate(measured_content(record_content()) | {"config": config}, strict=False)


def name(config):
    return fingerprint(config, "d" * 64, [["t" * 64], []], 0)


@pytest.mark.parametrize(
    "overrides",
    [
        ("method=dkd", "method.others_weight=2", "recipe.epochs=7", "seed=0"),
        ("method=dkd", "method.others_weight=2", "recipe.epochs=7", "seed=41"),
        ("method=at", "names.method=at_8x8", "teacher=ensemble", "+teacher.overrides={recipe.epochs:30}"),
        ("method=scratch", "teacher=none", "recipe=digits", "trainer.threads=1"),
    ],
)
def test_the_command_composes_to_the_run(overrides):
    words = shlex.split(reproduce_command(composed_record(*overrides)))
    assert words[:2] == ["kd-bench", "train"]
    asked, found = (check(compose_run(list(each))) for each in (overrides, words[2:]))
    assert found.recorded() == asked.recorded()
    assert name(found) == name(asked)


def test_seeds_of_a_cell_share_the_rest_of_their_command():
    lines = [reproduce_command(composed_record("method=fitnet", f"seed={seed}")) for seed in (0, 1, 2)]
    assert [line.replace(f" seed={seed}", "") for seed, line in enumerate(lines)] == [lines[0]] * 3
    assert [" seed=" in line for line in lines] == [False, True, True]


@pytest.mark.parametrize("text", [*HOSTILE, "$(reboot)", "a;b", "a b", "it's"])
def test_a_command_with_a_hostile_text_is_one_command(text):
    record = composed_record(f"+student.kwargs.text={literal(text)}")
    words = shlex.split(reproduce_command(record))
    assert check(compose_run(words[2:])).student.kwargs == {"text": text}
    (line,) = re.findall("<pre><code>(.*?)</code></pre>", run_page(record), re.DOTALL)
    assert html.unescape(line) == visible(reproduce_command(record))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "config.dataset: Field required"),
        ({"method": {"_target_": "os.system", "command": "reboot"}}, "config.method._target_=&#x27;os.system&#x27;"),
        ({"method": "<script>"}, "config.method: Input should be a valid dictionary"),
        ({"student": {"name": "${oc.env:HOME}"}}, "is an interpolation"),
    ],
)
def test_where_nothing_composes_the_page_says_why(config, reason):
    base = composed_record().config
    content = record_content() | {"config": base | config if config else {}}
    page = run_page(Record.model_validate(content, strict=False))
    assert "<p>No command composes to the configuration of this record: " in page
    assert reason in page
    assert "<pre><code>" not in page


def test_everything_that_was_measured_is_on_the_page():
    page = Page(run_page(measured_record()))
    assert page.texts("h1") == ["kd, seed 0"]
    assert page.texts("h2") == [
        "Do it again",
        "Results",
        "Learning curves",
        "Calibration",
        "Classes",
        "Where student and teacher differ",
        "Provenance",
        "Configuration",
    ]
    cells = page.texts("td")
    assert {"0.020 (0.015)", "6.40 kB", "fewer than 6 classes", "no files", "50.00", "−30.00", "worse"} <= set(cells)
    assert page.all("script") == []
    assert [attributes["href"] for _, attributes, _ in page.all("link")] == ["data:,"]


def test_plots_are_named_and_have_tables():
    page = Page(run_page(measured_record()))
    plots = [attributes for _, attributes, _ in page.all("svg") if attributes.get("role") == "img"]
    assert len(plots) == 4
    ids = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    assert all(set(plot["aria-labelledby"].split()) <= ids for plot in plots)
    assert {"Curves as a table", "Reliability as a table", "Classes as a table"} <= set(page.texts("summary"))
    assert all("scope" in attributes for _, attributes, _ in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_a_record_of_before_has_a_page_without_what_it_lacks():
    page = Page(run_page(make_record()))
    assert page.texts("h2") == ["Do it again", "Results", "Provenance", "Configuration"]


def test_hostile_names_stay_text():
    for name in HOSTILE:
        content = measured_content(record_content(name, dataset=name, student=name, teacher=name, paper=name))
        content["dataset"]["class_names"] = [name] * 4
        content["history"] = [{"epoch": 1.0, f"train/{name}": 1.0}]
        content["config"][name] = name
        text = run_page(type(make_record()).model_validate(content, strict=False))
        page = Page(text)
        assert page.all("script") == []
        assert not any(key.startswith("on") for _, attributes, _ in page.elements for key in attributes)
        assert "\u202e" not in text


def test_gaps_of_classes_follow_from_the_flips():
    classes = ClassMetrics.model_validate(measured_content(record_content())["metrics"]["last"]["classes"])
    assert class_gaps(classes) == [0.0, -0.3, 0.1, None]


def test_long_curves_are_thinned_and_keep_their_last_epoch():
    history = [{"epoch": float(epoch), "val/top1": epoch / 1000} for epoch in range(1, 241)]
    curves = curves_of(history, ["val/top1", "val/none"])
    assert list(curves) == ["val/top1"]
    assert len(curves["val/top1"]) == 60
    assert curves["val/top1"][-1] == (240.0, 0.24)
