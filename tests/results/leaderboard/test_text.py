"""Numbers and names as people and spreadsheets get them."""

import csv
import html
import io
import re
import unicodedata
from pathlib import Path

import pytest
from support.records import make_record, seeds_of, state_content

from kd_bench.config.characters import HIDDEN_CATEGORIES
from kd_bench.results.checking.load import Collection
from kd_bench.results.leaderboard import columns
from kd_bench.results.leaderboard.building import build
from kd_bench.results.leaderboard.latex import latex
from kd_bench.results.leaderboard.markdown import markdown
from kd_bench.results.leaderboard.spreadsheet import csv_text
from kd_bench.results.leaderboard.summary import EMPTY
from kd_bench.results.leaderboard.terminal import terminal_table
from kd_bench.results.records.states import RunState
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.text import formats
from kd_bench.results.text.escape import for_csv, for_html, for_latex, for_markdown, visible

SCRATCH = (0.70, 0.71, 0.72, 0.71, 0.70)
KD = (0.73, 0.74, 0.75, 0.74, 0.735)
HOSTILE = (
    "<script>alert(1)</script>",
    "a|b",
    "=cmd()",
    "+1",
    "-1",
    "@SUM(A1)",
    "line\nbreak\r\ttab",
    "x" * 10_000,
    "abc\u202edef\u200b",
    "**bold** _it_ `code` [link](http://e.invalid) \\",
    '" onmouseover="alert(1)',
    "&lt;b&gt;",
    "</script><!--",
)


def leaderboard_of(*groups, states=()):
    records = sorted((record for group in groups for record in group), key=lambda record: record.run_id)
    return build(Collection(tuple(records), tuple(RunState.model_validate(state) for state in states), ()))


@pytest.fixture
def leaderboard():
    return leaderboard_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD), seeds_of("once", (0.9,)))


def hostile_leaderboard():
    groups = [
        seeds_of(name, KD[:3], teacher=name, recipe=name, family=name, paper=name, options={"temperature": name})
        for name in HOSTILE
    ]
    states = [state_content(name, cause=name, dataset=name, student=name) for name in HOSTILE]
    return leaderboard_of(*groups, states=states)


def csv_rows(leaderboard):
    return list(csv.DictReader(io.StringIO(csv_text(leaderboard))))


def markdown_rows(text):
    """The cells of the first table: that of the columns which are shown without being asked for."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[0].splitlines()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+1.23"), (-0.005, "\u22120.50"), (0.0, "0.00"), (-0.00001, "0.00"), (0.00001, "0.00"), (1.0, "+100.00")],
)
def test_points_carry_their_sign(value, text):
    assert formats.points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (78_042, "78.0 k"),
        (7_433_860, "7.43 M"),
        (1_083_000_000, "1.08 G"),
        (10**14, "100 T"),
        (10**400, "1.00e+400"),
    ],
)
def test_counts(value, text):
    assert formats.count(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.04, "0.0"), (99.94, "99.9"), (123.4, "123"), (1e308, "1.00e+308")])
def test_seconds(value, text):
    assert formats.seconds(value) == text


def test_ranks():
    assert [columns.rank_text(rank) for rank in (None, (1, 1), (2, 4))] == ["–", "1", "2–4"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain · ünïcode 漢字 🙂", "plain · ünïcode 漢字 🙂"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("a\u202eb", "a\\u202eb"),
        ("\x00\x1b[31m", "\\u0000\\u001b[31m"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)
def test_hidden_characters_become_visible(text, shown):
    assert visible(text) == shown


def test_long_texts_are_cut():
    assert visible("x" * 10_000, 20) == "x" * 19 + "…"
    assert visible("x" * 20, 20) == "x" * 20


def test_nothing_hidden_is_left():
    text = "".join(map(chr, [*range(0x3000), *range(0x3000, 0x110000, 97), 0xFEFF, 0xE0041]))
    for shown in (visible(text), for_markdown(text), for_csv(text), for_html(text)):
        assert not any(unicodedata.category(character) in HIDDEN_CATEGORIES for character in shown)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("line\nbreak", "line\\\\nbreak"),
        ("`*_[]\\", "\\`\\*\\_\\[\\]\\\\"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
    ],
)
def test_markdown_is_escaped(text, escaped):
    assert for_markdown(text) == escaped


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "＝"])
def test_formulas_are_defused(start):
    assert for_csv(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("text", ["kd", "1-2", "a=b", "", " "])
def test_other_texts_are_left_alone_in_csv(text):
    assert for_csv(text) == text


def test_a_tab_or_return_in_front_is_defused_and_visible():
    assert for_csv("\t=1") == "'\\t=1"
    assert for_csv("\r1") == "'\\r1"


def test_csv_has_full_precision_and_empty_cells(leaderboard):
    rows = {row["method"]: row for row in csv_rows(leaderboard)}
    board = leaderboard.boards[0]
    kd = next(row for row in board.rows if row.entry.name == "kd")
    assert list(rows) == ["kd", "scratch", "once"]
    assert float(rows["kd"]["test_top1_mean"]) == kd.top1.mean == pytest.approx(0.739)
    assert float(rows["kd"]["difference_to_scratch_simultaneous95_low"]) == kd.versus_scratch.low
    assert rows["kd"]["difference_to_scratch_claim"] == "better"
    assert rows["kd"]["difference_to_kd_mean"] == rows["once"]["test_top1_ci95_low"] == rows["once"]["rank_first"] == ""
    assert (rows["kd"]["rank_first"], rows["kd"]["rank_last"]) == ("1", "1")
    assert (rows["kd"]["seeds"], rows["once"]["evidence"]) == ("0 1 2 3 4", "single run")
    assert rows["kd"]["significantly_best"] == "true"
    assert rows["once"]["difference_to_scratch_n"] == "1"


def test_csv_has_a_header_without_rows():
    assert csv_text(leaderboard_of()).count("\n") == 1


def test_markdown_shows_percent_points_and_missing(leaderboard):
    text = markdown(leaderboard)
    assert "11 records, 0 unfinished, 0 failed, 0 rejected." in text
    header, _, kd, scratch, once = markdown_rows(text)
    kd_cells = dict(zip(header, kd, strict=True))
    assert kd_cells["Rank"] == "1"
    assert kd_cells["Method"] == "**kd**"
    assert kd_cells["Test top-1 %"] == "**73.90** ± 0.92"
    assert kd_cells["Δ KD"] == "–"
    assert dict(zip(header, scratch, strict=True))["Δ KD"] == "▼ −3.10 [−3.38, −2.82]"  # 3.10 ± 2.776 · 0.1
    once_cells = dict(zip(header, once, strict=True))
    assert (once_cells["Rank"], once_cells["Seeds"], once_cells["Test top-1 %"]) == ("–", "1 (single run)", "90.00")


def test_nothing_is_bold_without_a_significantly_best_row():
    text = markdown(leaderboard_of(seeds_of("kd", KD), seeds_of("at", KD)))
    assert "**" not in text


def test_what_is_not_shown_at_first_has_tables_of_its_own(leaderboard):
    text = markdown(leaderboard)
    assert "Further quality:\n\n| Method | Δ scratch | p vs scratch | Retention % |" in text
    assert "| **kd** | ▲ +3.10 [+2.82, +3.38] | &lt; 0.001 |" in text
    assert "\n\n▲ better than KD, ▼ worse than KD, ≈ not separated from KD.\n" in text
    assert "Further calibration:\n\n| Method | ECE |" in text
    assert "0.040 (0.010)" in text
    assert "Brier" not in text  # no record has it
    assert leaderboard.boards[0].family.power() in text


def test_every_output_has_the_same_eight_columns(leaderboard):
    titles = ["Rank", "Method", "Seeds", "Test top-1 %", "Δ KD", "p vs KD", "Gap closed %", "Train s"]
    assert markdown_rows(markdown(leaderboard))[0] == titles
    assert re.split("  +", terminal_table(leaderboard.boards).splitlines()[1].strip()) == titles
    header = next(line for line in latex(leaderboard).splitlines() if line.startswith("Rank"))
    assert header.removesuffix(" \\\\").split(" & ") == [for_latex(title) for title in titles]
    shown = [column.title for column in columns.columns_of(leaderboard.boards[0].rows) if column.shown]
    assert shown == titles


def test_the_glossary_of_the_documentation_explains_every_column():
    text = (Path(__file__).parents[3] / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    glossary = text.partition("## Glossary\n")[2]
    assert [line for line in glossary.splitlines() if line.startswith("- ")] == [
        f"- {for_markdown(column.title)}: {for_markdown(column.explanation)}" for column in columns.COLUMNS
    ]


def test_markdown_marks_selection_and_failures():
    states = [state_content("kd", "failed"), state_content("kd", "preempted", cause="")]
    text = markdown(leaderboard_of(seeds_of("kd", KD[:3], selection="best_on_validation"), states=states))
    header, _, kd, *_ = markdown_rows(text)
    cells = dict(zip(header, kd, strict=True))
    assert cells["Method"] == "kd selected on validation"
    assert cells["Seeds"] == "3 (preliminary, 1 failed, 1 unfinished)"
    assert "| failed | kd | shapes | wide | narrow | short | 0 | 3/30 | out of luck | 2025-01-01 10:00 UTC |" in text
    assert "| preempted | kd | shapes | wide | narrow | short | 0 | 3/30 | – |" in text


def test_hostile_names_do_not_break_markdown_tables():
    leaderboard = hostile_leaderboard()
    text = markdown(leaderboard)
    assert "<script" not in text
    assert "\u202e" not in text
    assert max(map(len, text.splitlines())) < 4000
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        bars = {line.replace("\\\\", "").replace("\\|", "").count("|") for line in table.splitlines()}
        assert len(bars) == 1
    assert text.count("| Rank | Method |") == len(HOSTILE)


def test_hostile_names_render_as_themselves_in_markdown():
    renderer = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    page = renderer.render(markdown(hostile_leaderboard()))
    assert page.count("<a ") == page.count('<a href="../docs/leaderboard.md#glossary">') == 1
    assert not re.search(r"<(script|em|code|img)\b", page)
    cells = {html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page)}
    assert {visible(name, 120) for name in HOSTILE} <= cells  # the paper column shows the bare name


def test_hostile_names_do_not_break_csv():
    leaderboard = hostile_leaderboard()
    rows = csv_rows(leaderboard)
    assert len(rows) == len(HOSTILE)
    assert csv_text(leaderboard).count("\n") == len(HOSTILE) + 1
    assert {"'=cmd()", "'+1", "'-1", "'@SUM(A1)", "line\\nbreak\\r\\ttab", "a|b"} <= {row["method"] for row in rows}
    assert "x" * 10_000 in {row["method"] for row in rows}
    for row in rows:
        assert row["test_top1_mean"] == repr(float(row["test_top1_mean"]))


def test_terminal_table_is_readable_at_100_columns(leaderboard):
    text = terminal_table(leaderboard.boards, 100)
    lines = text.splitlines()
    assert lines[0] == "shapes · wide → narrow · short"
    assert max(map(len, lines)) <= 100
    titles, _, kd, scratch, once = lines[1:6]
    assert titles.split()[:3] == ["Rank", "Method", "Seeds"]
    assert "▼ −3.10 [−3.38, −2.82]" in scratch
    assert kd.split()[:6] == ["1", "kd", "5", "73.90", "±", "0.92"]
    assert scratch.split()[0:3] == ["2", "scratch", "5"]
    assert once.split()[:4] == ["–!", "once", "1", "90.00"]
    assert "! no rank: fewer than 3 seeds." in lines


def test_terminal_table_fits_its_width_with_long_names():
    groups = [seeds_of("m" * 60, KD), seeds_of("scratch", SCRATCH), seeds_of("kd", KD)]
    text = terminal_table(leaderboard_of(*groups).boards, 120)
    assert max(map(len, text.splitlines())) <= 120
    assert sum(line.count("m") for line in text.splitlines()[3:] if "m" * 5 in line) == 60
    text = terminal_table(leaderboard_of(seeds_of("m" * 1000, KD)).boards, 120)
    assert max(map(len, text.splitlines())) <= 120
    assert "…" in text


def test_terminal_table_shows_nothing_hidden():
    text = terminal_table(hostile_leaderboard().boards)
    assert "\u202e" not in text
    assert "\r" not in text
    assert "\\u202e" in text


def test_terminal_table_marks():
    states = [state_content("kd", "failed")]
    text = terminal_table(leaderboard_of(seeds_of("kd", KD[:3], selection="best_on_validation"), states=states).boards)
    assert "1*" in text
    assert "kd†" in text
    assert "3 (1)" in text


def test_without_records_there_is_a_sentence():
    assert terminal_table(()) == EMPTY
    assert EMPTY in markdown(leaderboard_of())


def test_extreme_but_valid_numbers_are_shown():
    record = make_record("kd", 0, 1.0, seconds=1e308)
    student = record.student.model_copy(update={"parameters": 10**400, "macs": 0})
    again = make_record("kd", 1, 0.0, seconds=1e308)
    leaderboard = leaderboard_of([record.model_copy(update={"student": student}), again])
    for text in (markdown(leaderboard), csv_text(leaderboard), terminal_table(leaderboard.boards)):
        assert "e+308" in text


def test_half_width_of_a_known_estimate():
    assert formats.half_width(Estimate(0.5, 0.49, 0.51, 3)) == "± 1.00"
    assert formats.half_width(Estimate(0.5, None, None, 1)) == "–"
