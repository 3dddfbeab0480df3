"""The board of a published table as HTML, Markdown, CSV and JSON."""

import csv
import html.parser
import io
import json
from dataclasses import replace

import pytest

from kd_bench.errors import ConfigError
from kd_bench.results.checking.load import Collection
from kd_bench.runs.reproduction.board_pages import (
    COLUMNS,
    csv_text,
    explanations,
    html_page,
    json_text,
    markdown,
    write_board,
)
from kd_bench.runs.reproduction.verdicts import Board, Line, build_board

from .runs import cell_of, runs_of

PAIRS = ("resnet56--resnet20", "resnet110--resnet20")
HOSTILE = "=1+1|<script>alert(1)</script>\n`x`\u202e[a](b)"


@pytest.fixture(scope="module")
def board() -> Board:
    """Reproduced by five seeds, by three, one seed only, another protocol, not run; of two pairs."""
    cells = [cell_of("crd_table1", name, PAIRS[0]) for name in ("KD", "AT", "SP", "CRD")]
    cells += [cell_of("crd_table1", "KD", PAIRS[1])]
    counts = [(5, ()), (3, ()), (1, ()), (5, ("recipe.epochs=30",)), (0, ())]
    values = [0.001, -0.001, 0.0005, -0.0005, 0.0]
    records = [
        run
        for cell, (count, overrides) in zip(cells, counts, strict=True)
        for run in runs_of(cell, [cell.published.value + each for each in values[:count]], *overrides)
    ]
    return build_board("crd_table1", cells, Collection(tuple(records), (), ()), 0.005)


class Tables(html.parser.HTMLParser):
    """The texts of all cells, a list a row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_published_ours_and_verdict_stand_side_by_side(board):
    rows = Tables(html_page(board)).rows
    assert rows[0] == list(COLUMNS)
    shown = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows[1:5]}
    assert shown["KD"] == {
        "Method": "KD",
        "Published %": "70.66",
        "Ours %": "70.66 ± 0.10",
        "Difference": "0.00 [−0.23, +0.23]",  # t(0.95, 4.8) · √(0.24² + 0.079²) / √5
        "Verdict": "reproduced",
        "Seeds": "5 of 5",
        "Published sd": "0.24 (5 seeds)",
        "Epoch": "last",
        "Source": "crd, rerun",
    }
    assert (shown["AT"]["Verdict"], shown["AT"]["Seeds"]) == ("reproduced (preliminary)", "3 of 5")
    one = shown["SP"]
    assert (one["Verdict"], one["Difference"], one["Ours %"]) == ("inconclusive", "+0.10", "69.77")  # no interval
    assert (shown["CRD"]["Verdict"], shown["CRD"]["Ours %"], shown["CRD"]["Source"]) == ("not run", "–", "crd, own")


def test_markdown_shows_the_same_rows(board):
    shown = [
        [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")]
        for line in markdown(board).splitlines()
        if line.startswith("|") and "---" not in line
    ]
    assert shown == Tables(html_page(board)).rows


def test_notes_name_their_methods(board):
    for page in (html_page(board), markdown(board)):
        assert "CRD: not counted, of another protocol: recipe.epochs=30 instead of 240" in page
        assert "Teacher: published 72.34 %, ours 72.34 %." in page
        assert "5 cells: 2 reproduced (1 preliminary), 1 inconclusive, 2 not run." in page


def test_what_concerns_a_whole_pair_is_noted_once(board):
    lines = tuple(replace(line, notes=("another teacher",)) for line in board.lines)
    page = markdown(replace(board, lines=lines))
    assert page.count("- all: another teacher\n") == 2


def test_the_page_says_how_it_was_found_and_what_is_known_to_differ(board):
    texts = " ".join(explanations(board))
    for expected in (
        "within ± 0.5 points",
        "fewer than 3 seeds",
        "49,900 of the 50,000 training images",
        "FT: the paraphraser",
        "Protocol repdistiller: Tian et al. 2020",
    ):
        assert expected in texts
    assert '<a rel="noreferrer" href="https://arxiv.org/abs/1910.10699">' in html_page(board)


def test_a_published_number_that_was_selected_on_the_test_split_is_marked():
    cell = cell_of("dkd_cifar100", "DKD", PAIRS[0])
    board = build_board("dkd_cifar100", [cell], Collection((), (), ()), 0.01)
    assert Tables(html_page(board)).rows[1][COLUMNS.index("Epoch")] == "best on test: too good"
    assert "within ± 1 points" in " ".join(explanations(board))


# --- For programs ---


def test_csv_and_json_have_the_same_numbers_in_full(board):
    rows = list(csv.DictReader(io.StringIO(csv_text(board))))
    document = json.loads(json_text(board))
    assert (document["table"], document["margin"], len(document["cells"])) == ("crd_table1", 0.005, 5)
    for row, cell, line in zip(rows, document["cells"], board.lines, strict=True):
        assert {**row, "margin": ""}.keys() == {*cell, "margin"}
        for name, value in cell.items():
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            assert row[name] == text, name
        assert (cell["published"], cell["verdict"]) == (line.cell.published.value, line.verdict)
        assert cell["source"].startswith("Tian, Krishnan & Isola")
    first, last = document["cells"][0], document["cells"][-1]
    assert first["ours"] == pytest.approx(0.7066)
    assert first["runs"].split() == [run.run_id for run in board.lines[0].runs]
    assert (last["ours"], last["difference"], last["teacher_top1"], last["seeds"]) == (None, None, None, "")
    assert (rows[-1]["ours"], rows[-1]["verdict"]) == ("", "not run")


# --- Written by anyone ---


def hostile(line: Line) -> Line:
    """Names of published results and notes, which quote configurations of records, are texts of others."""
    published = replace(line.cell.published, method=HOSTILE, paper_key=HOSTILE, source=HOSTILE)
    return replace(line, cell=replace(line.cell, published=published), notes=(HOSTILE,))


def test_hostile_names_are_shown_as_text(board):
    bad = replace(board, lines=tuple(map(hostile, board.lines)))
    page, plain = html_page(bad), Tables(html_page(board))
    assert "<script>alert" not in page
    assert Tables(page).tags == plain.tags
    assert len(Tables(page).rows) == len(plain.rows)
    text = markdown(bad)
    assert "<script" not in text
    assert "\u202e" not in page + text + csv_text(bad)
    assert len(text.splitlines()) == len(markdown(replace(bad, lines=tuple(
        replace(line, notes=("x",)) for line in board.lines))).splitlines())  # fmt: skip
    assert "\\[a\\](b)" in text
    rows = list(csv.reader(io.StringIO(csv_text(bad))))
    assert all(row[rows[0].index("method")].startswith("'=1+1|") for row in rows[1:])
    assert json.loads(json_text(bad))["cells"][0]["method"] == HOSTILE


def test_the_page_loads_and_runs_nothing(board):
    page = html_page(board)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "src=" not in page


# --- Files ---


def test_four_files_are_written_and_again_with_the_same_bytes(tmp_path, board):
    paths = write_board(board, tmp_path / "a" / "b")
    assert [path.name for path in paths] == [f"crd_table1.{ending}" for ending in ("html", "md", "csv", "json")]
    first = [path.read_bytes() for path in paths]
    records = [run for line in board.lines for run in line.runs]
    again = build_board(
        "crd_table1", [line.cell for line in board.lines], Collection(tuple(records[::-1]), (), ()), 0.005
    )
    lines = tuple(replace(new, notes=old.notes) for new, old in zip(again.lines, board.lines, strict=True))
    write_board(replace(again, lines=lines), tmp_path / "a" / "b")
    assert [path.read_bytes() for path in paths] == first
    assert all(b"\r" not in content and content.endswith(b"\n") for content in first)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, board):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out: .* cannot be created"):
        write_board(board, tmp_path / "file" / "below")
