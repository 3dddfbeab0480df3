"""The page of a run, read as a browser without script would read it."""

import shlex

import pytest

from kd_bench.leaderboard.pages.command import reproduce_command
from kd_bench.leaderboard.pages.run import run_page
from kd_bench.leaderboard.plots.run import class_gaps, curves_of
from kd_bench.runs.measured import ClassMetrics

from .factory import make_record, measured_content, record_content
from .test_metrics import measured_record
from .test_page import Page
from .test_text import HOSTILE


def test_the_command_has_the_choices_and_the_values_of_the_method():
    record = make_record("kd", 3, options={"temperature": 4.0, "stages": [1, 2], "mode": None})
    assert shlex.split(reproduce_command(record)) == [
        "kd-bench",
        "train",
        "dataset=shapes",
        "teacher.name=wide",
        "student.name=narrow",
        "method=kd",
        "recipe=short",
        "seed=3",
        "method.mode=null",
        "method.stages=[1, 2]",
        "method.temperature=4.0",
    ]
    assert "teacher" not in reproduce_command(make_record("scratch", teacher=None))


@pytest.mark.parametrize("name", [*HOSTILE, "$(reboot)", "a;b", "a b", "it's"])
def test_a_command_with_a_hostile_name_is_one_command_on_one_line(name):
    command = reproduce_command(make_record(name, options={"text": name}))
    words = shlex.split(command)
    assert "\n" not in command
    assert len(words) == 9
    assert words[:2] == ["kd-bench", "train"]


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
