"""What a row shows beside its numbers: ties, dots, tier, links, lines to copy; and the tabs of data sets."""

import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from support.records import seeds_of
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.config.paths import CHECKOUT
from kd_bench.results.leaderboard.columns import columns_of
from kd_bench.results.leaderboard.latex import latex
from kd_bench.results.leaderboard.pages.index import html_page
from kd_bench.results.leaderboard.pages.more import Surroundings, more_cell
from kd_bench.results.leaderboard.pages.ties import tie_cells
from kd_bench.results.leaderboard.plots.dots import axis_of
from kd_bench.results.leaderboard.plots.ranks import END, LABELS, rank_plot
from kd_bench.results.leaderboard.ties import tie_groups
from kd_bench.results.text.formats import p_value
from kd_bench.results.write import read_leaderboard

from .test_page import Page
from .test_text import KD, SCRATCH, leaderboard_of

NOISE = ((0, 2, 1, 0, -1), (1, -1, 0, 2, 0), (0, 0, 1, -2, 1), (2, 0, -1, 0, 1), (-1, 1, 1, 0, 0))


def ladder(steps, step=0.0015):
    """Methods whose means rise by a little: neighbours are tied, and distant ones separated."""
    return leaderboard_of(
        *(
            seeds_of(f"m{rung:02d}", [0.7 + step * rung + 0.001 * each for each in NOISE[rung % 5]], family="logits")
            for rung in range(steps)
        )
    )


def test_ties_are_the_longest_runs_of_rows_that_are_not_separated():
    board = ladder(8).boards[0]
    keys = [row.entry.key for row in board.rows]

    def tied(group):
        return all(
            board.family.compare(keys[a], keys[b]).claim == "not separated" for a, b in combinations(sorted(group), 2)
        )

    runs = [range(a, b) for a in range(8) for b in range(a + 2, 9) if tied(range(a, b))]
    longest = [one for one in runs if not any(set(one) < set(other) for other in runs)]
    assert tie_groups(board) == longest
    assert len(longest) > 2
    for position, cell in enumerate(tie_cells(board)):
        numbers = [str(number) for number, group in enumerate(longest, start=1) if position in group]
        assert Page(cell).texts("span") == ([f"in tie {', '.join(numbers)}"] if numbers else [])
        assert cell.count("<i ") == len(numbers)


def test_bars_of_ties_that_meet_in_a_row_stand_side_by_side():
    for cell in tie_cells(ladder(8).boards[0]):
        lefts = re.findall(r"left:(\d+)px", cell)
        assert len(set(lefts)) == len(lefts)


def test_a_row_that_is_separated_from_all_others_is_in_no_tie():
    board = leaderboard_of(seeds_of("kd", KD), seeds_of("scratch", SCRATCH)).boards[0]
    assert tie_groups(board) == []


def test_rank_bars_cover_the_slots_of_the_ranks_of_their_rows():
    board = ladder(8).boards[0]
    svg = ElementTree.fromstring(rank_plot(board))  # noqa: S314, the text is our own
    lines = svg.findall("g")
    assert [line.get("data-row") for line in lines] == [f"{board.identifier}-{index}" for index in range(8)]
    slot = (END - LABELS) / 8
    for line, row in zip(lines, board.rows, strict=True):
        bar = line.find("rect[@class='ranked']")
        start, width = (float(bar.get(name).removesuffix("%")) for name in ("x", "width"))
        assert (start - LABELS) / slot + 1 == pytest.approx(row.rank[0], abs=0.01)
        assert width / slot == pytest.approx(row.rank[1] - row.rank[0] + 1, abs=0.01)
    assert "viewBox" not in svg.attrib  # its text keeps its size where the page is narrow
    assert svg.get("role") == "img"
    first = board.rows[0]
    assert f"{first.entry.label} {first.rank[0]}" in svg.find("desc").text


def test_no_rank_plot_without_ranks():
    assert rank_plot(leaderboard_of(seeds_of("kd", KD), seeds_of("once", (0.9,))).boards[0]) == ""


@pytest.mark.parametrize(("rows", "inline"), [(19, False), (20, True)])
def test_dots_stand_in_the_table_from_twenty_rows_on(rows, inline):
    found = ladder(rows)
    page = Page(html_page(found))
    kinds = [attributes.get("class") for tag, attributes, _ in page.elements if tag == "svg"]
    assert ("chart dots" in kinds) is not inline
    assert kinds.count("chart inline") == (rows if inline else 0)
    if inline:
        axis = axis_of(found.boards[0])
        (head,) = page.texts("th", class_="in-top1 in-dots")
        assert head == f"Seeds, {100 * axis.low:.2f} to {100 * axis.high:.2f}\xa0%"


def test_every_line_of_a_table_has_as_many_cells():
    text = html_page(ladder(20))
    table = re.search(r'<table class="rows">.*?</table>', text, re.DOTALL)[0]
    lines = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    assert len({len(re.findall(r"<t[hd][ >]", line)) for line in lines}) == 1
    assert len(lines) == 22  # with the header and the teacher


@pytest.fixture(scope="module")
def committed():
    return read_leaderboard(CHECKOUT / "results" / "records")


def more_of(leaderboard, name, **surroundings):
    board = leaderboard.boards[0]
    row = next(row for row in board.rows if row.entry.name == name)
    return row, Page(more_cell(row, "row-1", columns_of(board.rows), Surroundings(**surroundings)))


def test_the_command_of_a_row_runs_all_of_its_seeds_and_nothing_else(committed):
    row, page = more_of(committed, "at_8x8")
    command, line = page.texts("code")[1:]
    words = shlex.split(command)
    assert words[:3] == ["kd-bench", "train", "-m"]
    overrides = OverridesParser.create().parse_overrides(words[3:])
    assert [each.key_or_group for each in overrides if each.is_sweep_override()] == ["seed"]
    assert f"seed={','.join(str(run.seed) for run in row.entry.runs)}" in words
    assert line in latex(committed)
    ((_, button, _),) = page.all("button")
    ((_, shown, _),) = page.all("div")
    assert (button["popovertarget"], button["aria-label"]) == (shown["id"], "More on at_8x8")


def test_a_row_leads_to_its_paper_and_to_the_page_of_its_method(committed):
    page = more_of(committed, "kd")[1]
    assert "kd-bench list methods kd" in page.texts("code")
    assert [each["href"] for _, each, _ in page.all("a")] == ["https://arxiv.org/abs/1503.02531"]
    page = more_of(committed, "kd", method_pages="../methods")[1]
    assert "../methods/kd.html" in [each["href"] for _, each, _ in page.all("a")]
    page = more_of(committed, "at_8x8", method_pages="../methods")[1]  # a name of the study: there is no such page
    assert [each["href"] for _, each, _ in page.all("a")] == ["https://arxiv.org/abs/1612.03928"]


def test_a_configuration_that_does_not_compose_has_no_command():
    foreign = leaderboard_of(seeds_of("kd", KD, options={"_target_": "os.system"}))
    assert not any("train" in text for text in more_of(foreign, "kd")[1].texts("code"))


def test_a_row_is_as_far_verified_as_the_weakest_of_its_records():
    leaderboard = leaderboard_of(seeds_of("kd", KD[:3]))
    runs = [run.run_id for run in leaderboard.boards[0].rows[0].entry.runs]
    for tiers, badge in (
        ({}, "local"),
        (dict.fromkeys(runs, "checked"), "checked"),
        (dict.fromkeys(runs[:2], "checked"), "local"),
    ):
        page = more_of(leaderboard, "kd", tiers=tiers)[1]
        assert page.texts("span", class_=f"tier {badge}") == [badge]
    meaning = page.all("span", class_="tier local")[0][1]["title"]
    assert meaning == "valid and without contradictions; no predictions were looked at"


def test_boards_check_predictions_on_request_and_reject_what_contradicts_them(tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "board"
    records = {name: train(runs, f"method={name}") for name in ("scratch", "kd")}

    def badges(*options):
        assert main(["leaderboard", "--records", str(runs), "--out", str(out), *options]) == 0
        page = Page((out / "index.html").read_text(encoding="utf-8"))
        kinds = [each.get("class", "") for _, each, _ in page.all("span")]
        return [kind.removeprefix("tier ") for kind in kinds if kind.startswith("tier ")], page

    assert badges()[0] == ["local", "local"]
    assert badges("--check")[0] == ["checked", "checked"]
    other = runs / records["scratch"].run_id / "predictions.safetensors"
    shutil.copy(other, runs / records["kd"].run_id / "predictions.safetensors")
    found, page = badges("--check")
    assert found == ["checked"]
    assert f"{records['kd'].run_id}/record.json" in page.texts("td")
    assert "1 rejected" in capsys.readouterr().out


def test_data_sets_are_tabs_that_need_no_script():
    two = leaderboard_of(seeds_of("kd", KD), seeds_of("kd", KD, dataset="digits"), seeds_of("scratch", SCRATCH))
    text = html_page(two)
    page = Page(text)
    radios = [each for _, each, _ in page.all("input", type="radio", name="dataset")]
    assert [(each["value"], "checked" in each) for each in radios] == [
        ("digits", True),
        ("shapes", False),
        ("*", False),
    ]
    sections = {each["data-dataset"]: each["data-set"] for _, each, _ in page.all("section", class_="board")}
    assert sections == {"digits": "0", "shapes": "1"}
    assert 'body:has(#data-set-1:checked) section[data-set]:not([data-set="1"])' in text
    assert page.all("select", name="dataset") == []


def test_a_single_data_set_has_no_tabs():
    page = Page(html_page(leaderboard_of(seeds_of("kd", KD))))
    assert page.all("div", class_="data-sets") == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.0005, "< 0.001"), (0.001, "≤ 0.001"), (0.0014, "0.001"), (0.031, "0.031"), (1.0, "1.000")]
)
def test_a_p_value_at_its_floor_is_at_most_that(value, text):
    assert p_value(value) == text
