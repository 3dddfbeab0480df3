"""The page, read as a browser without script would read it."""

import base64
import dataclasses
import hashlib
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from support.records import make_record, seeds_of, state_content

from kd_bench.results.checking.load import Rejected
from kd_bench.results.leaderboard.columns import columns_of
from kd_bench.results.leaderboard.pages.index import html_page
from kd_bench.results.leaderboard.pages.matrix import win_matrix
from kd_bench.results.leaderboard.pages.overview import overview
from kd_bench.results.leaderboard.plots.chart import Axis
from kd_bench.results.leaderboard.plots.dots import axis_of, dot_plot

from .test_text import HOSTILE, KD, SCRATCH, hostile_leaderboard, leaderboard_of

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes and the text of each, and a check that every element is closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))
        assert len(dict(attributes)) == len(attributes)
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2].append(data)

    def all(self, tag, **attributes):
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = [element for element in self.elements if element[0] == tag]
        return [element for element in found if wanted.items() <= element[1].items()]

    def texts(self, tag, **attributes):
        return ["".join(text).strip() for _, _, text in self.all(tag, **attributes)]


def board_rows(leaderboard):
    return [row for board in leaderboard.boards for row in board.rows]


@pytest.fixture
def leaderboard():
    return leaderboard_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD), seeds_of("once", (0.9,)))


def test_every_row_and_column_is_there_without_script(leaderboard):
    page = Page(html_page(leaderboard))
    rows = [element for element in page.all("tr") if "data-row" in element[1]]
    assert len(rows) == 3
    keys = {attributes["data-key"] for _, attributes, _ in page.all("th") if "data-key" in attributes}
    assert keys == {column.key for column in columns_of(board_rows(leaderboard))}
    assert {"top1", "ece", "retention"} <= keys
    assert "brier" not in keys  # no record has it
    assert page.texts("h2")[0] == "shapes · wide → narrow · short"
    text = "".join(rows[0][2])
    assert text.startswith("1kd573.90 ± 0.92▲ +3.10 [")
    assert page.texts("p", class_="counts") == ["11 records, 0 unfinished, 0 failed, 0 rejected"]


def test_the_filter_is_hidden_until_the_script_shows_it(leaderboard):
    page = Page(html_page(leaderboard))
    ((_, attributes, _),) = page.all("form")
    assert "hidden" in attributes
    assert page.texts("output") == ["showing 3 of 3 rows"]


def test_numbers_sort_as_numbers_and_missing_ones_have_no_value(leaderboard):
    page = Page(html_page(leaderboard))
    values = {
        "".join(text).strip(): attributes.get("data-value")
        for _, attributes, text in page.all("td")
        if "in-kd_difference" in attributes.get("class", "")
    }
    assert values["–"] is None
    (scratch,) = (float(value) for text, value in values.items() if text.startswith("▼"))
    assert scratch == pytest.approx(-0.031)


def test_bold_is_the_significantly_best_row_alone(leaderboard):
    page = Page(html_page(leaderboard))
    classes = [attributes.get("class", "") for _, attributes, _ in page.elements]
    best = [names for names in classes if "best" in names.split()]
    assert sorted(best) == ["in-method text best", "in-top1 number best"]


def test_intervals_that_contain_zero_are_grey():
    page = Page(html_page(leaderboard_of(seeds_of("kd", KD), seeds_of("at", KD), seeds_of("scratch", SCRATCH))))
    grey = [attributes["class"] for _, attributes, _ in page.all("td") if "unclear" in attributes.get("class", "")]
    assert grey == ["in-kd_difference number unclear"]


def test_every_seed_is_listed_with_its_run(leaderboard):
    page = Page(html_page(leaderboard))
    run = make_record("once", 0, 0.9).run_id
    assert page.texts("a", href=f"run-pages/{run}.html") == ["90.00"]
    assert not any("run-pages/" in a["href"] for _, a, _ in Page(html_page(leaderboard, run_pages=False)).all("a"))


def test_sections_for_teachers_states_and_rejected_files(leaderboard):
    states = [state_content("fitnet", "diverged", cause="loss is nan")]
    teacher = make_record("scratch", 1000, 0.81, role="teacher", student="wide", teacher=None)
    full = leaderboard_of(seeds_of("kd", KD), [teacher], states=states)
    collection = dataclasses.replace(full.collection, rejected=(Rejected("a/b", "is bad"),))
    page = Page(html_page(dataclasses.replace(full, collection=collection)))
    assert page.texts("h2")[2:] == ["Teachers", "Failed and unfinished runs", "Rejected files", "How to read this"]
    assert page.texts("p", class_="counts") == ["6 records, 0 unfinished, 1 failed, 1 rejected"]
    cells = page.texts("td")
    assert {"81.00", "loss is nan", "diverged", "a/b", "is bad"} <= set(cells)


def test_an_empty_leaderboard_is_a_page():
    page = Page(html_page(leaderboard_of()))
    assert "There are no finished student runs to rank." in page.texts("p")
    assert page.all("form") == []


def test_the_page_loads_nothing_and_runs_its_own_script_only(leaderboard):
    text = html_page(leaderboard)
    page = Page(text)
    ((_, policy, _),) = page.all("meta", http_equiv="Content-Security-Policy")
    ((_, _, script),) = page.all("script")
    digest = base64.b64encode(hashlib.sha256("".join(script).encode()).digest()).decode()
    assert policy["content"].startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy["content"]
    assert not any("src" in attributes for _, attributes, _ in page.elements)
    assert [attributes["href"] for _, attributes, _ in page.all("link")] == ["data:,"]
    assert "url(" not in text
    assert "@import" not in text
    links = {attributes["href"] for _, attributes, _ in page.all("a")}
    runs = {f"run-pages/{record.run_id}.html" for record in leaderboard.collection.records}
    assert links == {"https://arxiv.org/abs/2001.00001", "#how", *runs}


def test_hostile_names_stay_text():
    leaderboard = hostile_leaderboard()
    text = html_page(leaderboard)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes, _ in page.elements for name in attributes)
    assert "\u202e" not in text
    labels = page.texts("th", class_="in-method text")
    assert len(labels) == len(HOSTILE)
    assert {"<script>alert(1)</script>", "a|b", "=cmd()", "&lt;b&gt;", "abc\\u202edef\\u200b"} <= set(labels)
    ((_, attributes, _),) = [element for element in page.all("th", class_="in-method text") if "title" in element[1]]
    assert attributes["title"] == "x" * 10_000
    assert max(map(len, labels)) <= 90


def svg_of(board):
    names = [str(index) for index in range(len(board.rows))]
    return ElementTree.fromstring(dot_plot(board, names))  # noqa: S314, the text is our own


def at_percent(text):
    number, unit, rest = text.partition("%")
    assert (unit, rest) == ("%", "")
    return float(number)


def test_dots_are_where_the_numbers_say(leaderboard):
    board = leaderboard.boards[0]
    svg = svg_of(board)
    axis = axis_of(board)
    lines = svg.findall("g")
    assert [line.get("data-row") for line in lines] == ["0", "1", "2"]
    for line, row in zip(lines, board.rows, strict=True):
        centers = [at_percent(circle.get("cx")) for circle in line.findall("circle")]
        assert centers == pytest.approx([axis.at(score) for score in row.entry.scores.values()], abs=0.006)
    interval = lines[0].find("line[@class='interval']")
    assert at_percent(interval.get("x1")) == pytest.approx(axis.at(board.rows[0].top1.low), abs=0.006)
    assert at_percent(interval.get("x2")) == pytest.approx(axis.at(board.rows[0].top1.high), abs=0.006)
    assert lines[2].find("line[@class='interval']") is None
    assert lines[2].find("title").text == "once, mean 90.00. seed 0: 90.00"


def test_the_plot_is_named_and_described(leaderboard):
    svg = svg_of(leaderboard.boards[0])
    assert svg.get("role") == "img"
    named = {svg.find("title").get("id"), svg.find("desc").get("id")}
    assert set(svg.get("aria-labelledby").split()) == named
    assert "kd 73.90, scratch 70.80, once 90.00" in svg.find("desc").text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.711, 0.768, [0.72, 0.73, 0.74, 0.75, 0.76]), (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.7, 0.702, None)],
)
def test_ticks_are_round_and_few(low, high, ticks):
    actual = Axis(low, high).ticks()
    assert 2 <= len(actual) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in actual)
    assert ticks is None or actual == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[0.7], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.5]])
def test_plots_of_degenerate_boards(values):
    board = leaderboard_of(seeds_of("kd", values)).boards[0]
    svg = svg_of(board)
    assert all(31 <= at_percent(circle.get("cx")) <= 87 for circle in svg.iter("circle"))


def test_the_matrix_says_of_every_pair_what_its_board_says():
    board = leaderboard_of(*(seeds_of(name, KD) for name in ("kd", "at")), seeds_of("scratch", SCRATCH)).boards[0]
    page = Page(win_matrix(board))
    kinds = [attributes.get("class") for _, attributes, _ in page.all("td")]
    assert kinds == [None, None, "better", None, None, "better", "worse", "worse", None]
    found = board.family.compare(*(row.entry.key for row in board.rows[1:]))
    assert found.p_value == 0.001  # the least that a family finds
    p = "p ≤ 0.001"
    assert [page.texts("td")[at] for at in (1, 2, 6)] == ["+0.0 not tested", f"▲+3.1 {p}", f"▼−3.1 {p}"]
    assert {each["aria-label"] for _, each, _ in page.all("span", role="img")} == {"better", "worse"}
    assert page.texts("th", scope="row") == ["1 at", "2 kd", "3 scratch"]


def test_no_matrix_of_two_rows(leaderboard):
    assert win_matrix(leaderboard.boards[0]) == ""  # the third row has one seed


def test_the_overview_says_of_every_method_what_each_board_says():
    narrow = [*seeds_of("kd", KD), *seeds_of("scratch", SCRATCH), *seeds_of("at", KD[:2])]
    slim = [*seeds_of("kd", KD, student="slim"), *seeds_of("dkd", [each + 0.05 for each in SCRATCH], student="slim")]
    boards = leaderboard_of(narrow, slim).boards
    page = Page(overview(boards))
    assert page.texts("th", scope="col") == ["Method", *(board.title for board in boards)]
    assert [each["href"] for _, each, _ in page.all("a")] == [f"#{board.identifier}" for board in boards]
    cells = iter(page.texts("td"))
    assert {name: (next(cells), next(cells)) for name in page.texts("th", scope="row")} == {
        "at": ("0.00", ""),  # two seeds are not tested
        "dkd": ("", "▲ +1.90"),
        "kd": ("baseline", "baseline"),
        "scratch": ("▼ −3.10", ""),
    }
    assert overview(boards[:1]) == ""


def test_baselines_leading_rows_and_the_teacher_are_told_apart(leaderboard):
    page = Page(html_page(leaderboard))
    kinds = [attributes["class"] for _, attributes, _ in page.all("tr") if "data-row" in attributes]
    assert kinds == ["baseline leading", "baseline", ""]
    assert page.texts("th", class_="in-method text reference") == ["teacher wide"]
    assert page.texts("td", class_="in-top1 number reference") == ["80.00"]


def test_scratch_does_not_squeeze_the_axis():
    board = leaderboard_of(seeds_of("kd", KD), seeds_of("scratch", [0.1, 0.1, 0.11])).boards[0]
    assert axis_of(board).low > 0.7
    assert "◂ scratch" in dot_plot(board, ["0", "1"])
