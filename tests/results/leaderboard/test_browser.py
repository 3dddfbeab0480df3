"""The pages in a real browser: mouse, keyboard, address, phone, dark, without script."""

import pytest
from support.records import measured_content, record_content, save, save_records, seeds_of

from kd_bench.results.write import write_leaderboard

from .browser import CHROMIUM, browser
from .test_text import KD, SCRATCH

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

METHODS = {"kd": 0.10, "at": 0.30, "dkd": 0.20}
TABLE = "section.board:first-of-type table.rows"
SHOWN = "[...document.querySelectorAll('section.board table.rows tbody tr')].filter(row => row.checkVisibility())"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two boards: measured rows for two students, of which one has a row with a single seed."""
    records, out = tmp_path_factory.mktemp("records"), tmp_path_factory.mktemp("out")
    for student in ("narrow", "slim"):
        for record in seeds_of("scratch", SCRATCH, student=student, seconds=5.0):
            save(record.model_dump_json(), records / record.run_id / "record.json")
        for method, change in METHODS.items():
            for seed, top1 in enumerate(KD):
                content = record_content(method, seed, top1 - change / 10, student=student, seconds=100 * change)
                save(measured_content(content, change), records / content["run_id"] / "record.json")
    content = record_content("once", 0, 0.9, student="slim", family="features", recipe="short")
    save(content, records / content["run_id"] / "record.json")
    write_leaderboard(records, out)
    return out


@pytest.fixture(scope="module")
def tab():
    with browser() as tab:
        yield tab


@pytest.fixture
def page(tab, folder):
    tab.complaints.clear()
    tab.requests.clear()
    tab.size(1200, 900)
    tab.prefer(color_scheme="light")
    tab.open((folder / "index.html").as_uri())
    yield tab
    assert tab.complaints == []
    assert {request.partition(":")[0] for request in tab.requests} <= {"file", "data", "about"}


def methods(page):
    return page.run(f"{SHOWN}.map(row => row.querySelector('th').textContent.trim())")


def sorts(page):
    return page.run(f"[...document.querySelectorAll('{TABLE} th[aria-sort]')].map(th => [th.dataset.key, th.ariaSort])")


def status(page):
    return page.run("document.querySelector('output').innerText")


def address(page):
    return page.run("location.hash")


def test_a_click_on_a_header_sorts_its_board_and_a_second_one_turns_it_round(page):
    assert methods(page)[:4] == ["kd", "dkd", "at", "scratch"]
    assert sorts(page) == [["rank", "ascending"]]
    page.click(f"{TABLE} th[data-key=train_seconds] button")
    assert methods(page)[:4] == ["scratch", "kd", "dkd", "at"]
    assert sorts(page) == [["train_seconds", "ascending"]]
    page.click(f"{TABLE} th[data-key=train_seconds] button")
    assert methods(page)[:4] == ["at", "dkd", "kd", "scratch"]
    assert sorts(page) == [["train_seconds", "descending"]]
    assert methods(page)[4:] == ["kd", "dkd", "at", "scratch", "once"]  # the other board


def test_missing_values_sort_last_in_both_directions(page):
    for _ in range(2):
        page.click(f"{TABLE} th[data-key=scaled_ece] button")
        assert methods(page)[3] == "scratch"


def test_what_is_typed_filters_and_is_in_the_address(page):
    assert status(page) == "showing 9 of 9 rows"
    page.click("input[type=search]")
    page.type("DKD slim")
    assert methods(page) == ["dkd"]
    assert status(page) == "showing 1 of 9 rows; hidden: 8 do not match"
    assert address(page) == "#filter=DKD+slim"
    page.open(page.run("location.href"))
    assert methods(page) == ["dkd"]
    page.click("button[type=reset]")
    page.run("new Promise(done => setTimeout(done, 50))")
    assert (len(methods(page)), address(page)) == (9, "")


@pytest.mark.parametrize(
    ("state", "rows"),
    [
        ("family=features", 1),
        ("evidence=single+run", 1),
        ("pair=wide+%E2%86%92+narrow", 4),
        ("since=2025-01-02", 0),
        ("since=2025-01-01&size=100000", 9),
        ("dataset=shapes&recipe=short", 9),
        ("rows=10", 9),
        ("dataset=%3Cscript%3E", 9),  # no such choice
    ],
)
def test_filters_are_read_from_the_address(page, folder, state, rows):
    page.open((folder / "index.html").as_uri() + "#" + state)
    assert len(methods(page)) == rows
    assert status(page).startswith(f"showing {rows} of 9 rows")


def test_columns_are_chosen_and_remembered(page, folder):
    visible = (
        "[...document.querySelectorAll('{} th[data-key]')].filter(th => th.checkVisibility()).map(th => th.dataset.key)"
    )
    keys = page.run(visible.format(TABLE))
    assert keys == ["rank", "method", "seeds", "top1", "kd_difference", "kd_p", "gap_closed", "train_seconds"]
    page.click(".columns summary")
    page.click("#show-brier")
    page.click("#show-kd_p")
    changed = page.run(visible.format(TABLE))
    assert set(changed) == {*keys, "brier"} - {"kd_p"}
    assert address(page) == "#hide=kd_p&show=brier"
    page.open(page.run("location.href"))
    assert page.run(visible.format(TABLE)) == changed


def test_the_plot_changes_its_axis_and_its_front_follows_the_filter(page):
    points = (
        "document.querySelector('.tab:has(svg[aria-labelledby*={}]) .front').getAttribute('points').split(' ').length"
    )
    drawn = "[...document.querySelectorAll('svg.pareto')].filter(svg => svg.checkVisibility()).length"
    assert page.run(drawn) == 1
    assert page.run(points.format("train_seconds")) == 3  # scratch, kd, and once, which is as cheap but better
    page.click("label[for$=by-parameters]")
    assert page.run(drawn) == 1
    assert address(page) == "#plot=cost-0-by-parameters"
    page.click("input[type=search]")
    page.type("kd")
    assert page.run(points.format("train_seconds")) == 1
    assert page.run("document.querySelectorAll('svg .dimmed').length") > 0


def test_the_overview_follows_the_filters(page):
    cells = "[...document.querySelectorAll('table.overview {}')].filter(e => e.checkVisibility())"
    assert page.run(cells.format("tbody th") + ".map(e => e.textContent)") == ["at", "dkd", "kd", "once", "scratch"]
    page.click("input[type=search]")
    page.type("once")
    assert page.run(cells.format("tbody th") + ".map(e => e.textContent)") == ["once"]
    assert page.run(cells.format("thead a") + ".map(e => e.textContent)") == ["shapes · wide → slim · short"]
    page.type(" nowhere")
    assert page.run("document.getElementById('overview').hidden") is True


def test_the_order_of_ranks_is_that_of_the_page_without_script(page):
    rows = "[...document.querySelectorAll('section.board table.rows tbody tr')].map(row => row.dataset.row)"
    names = page.run(rows)
    assert [int(name.rpartition("-")[2]) for name in names] == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    ties = f"[...document.querySelectorAll('{TABLE} td.in-ties')].map(e => e.innerText)"
    assert len(page.run(ties)) == 4


def test_the_button_of_a_row_shows_what_can_be_copied(page):
    page.click(f"{TABLE} .in-records button")
    shown = "document.querySelector('[popover]:popover-open')"
    assert "LaTeX row" in page.run(f"{shown}.innerText")
    page.run(f"{shown}.querySelector('pre + button').click()")
    page.run("new Promise(done => setTimeout(done, 200))")
    assert page.run(f"{shown}.querySelector('pre + button').textContent") in ("Copied", "Selected")
    page.press("Escape", 27)
    assert page.run(f"{shown} === null") is True
    page.run(f"document.querySelector('{TABLE} .in-records button').focus()")
    page.press("Enter", 13, "\r")
    assert page.run(f"{shown} !== null") is True


@pytest.fixture(scope="module")
def two_data_sets(tmp_path_factory):
    records, out = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("two-out")
    for name in ("digits", "shapes"):
        save_records(seeds_of("kd", KD, dataset=name) + seeds_of("scratch", SCRATCH, dataset=name), records)
    write_leaderboard(records, out)
    return out / "index.html"


BOARDS = "[...document.querySelectorAll('section.board')].filter(e => e.checkVisibility()).map(e => e.dataset.dataset)"


def test_data_sets_are_tabs_for_keyboard_and_address(page, two_data_sets):
    page.open(two_data_sets.as_uri())
    assert page.run(BOARDS) == ["digits"]
    assert status(page) == "showing 2 of 4 rows; hidden: 2 are of other data sets"
    page.run("document.getElementById('data-set-0').focus()")
    page.press("ArrowRight", 39)
    assert page.run(BOARDS) == ["shapes"]
    assert address(page) == "#dataset=shapes"
    page.open(page.run("location.href"))
    assert page.run(BOARDS) == ["shapes"]
    page.click("#data-set-all")
    assert page.run(BOARDS) == ["digits", "shapes"]
    page.open(two_data_sets.as_uri() + "#filter=scratch")
    assert page.run("[...document.querySelectorAll('.data-sets .note')].map(e => e.textContent)") == ["1", "1", "2"]


@pytest.mark.parametrize("script", [True, False])
def test_a_link_to_a_board_shows_its_data_set(page, two_data_sets, script, tmp_path):
    page.call("Emulation.setScriptExecutionDisabled", value=not script)
    try:
        page.open(two_data_sets.as_uri())
        assert page.run(BOARDS) == ["digits"]
        page.run("document.querySelectorAll('.overview thead a')[1].click()")
        page.screenshot(tmp_path / "page.png")  # it has followed the link
        assert "shapes" in page.run(BOARDS)
        page.click("#data-set-0")
        assert "digits" in page.run(BOARDS)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_rank_bars_fit_a_phone(page):
    page.size(390, 844, mobile=True)
    plot = "document.querySelector('svg.ranks')"
    page.run(f"{plot}.scrollIntoView({{behavior: 'instant'}})")
    boxes = f"[...{plot}.querySelectorAll('text')].map(e => e.getBoundingClientRect())"
    assert page.run(f"{plot}.getBoundingClientRect().right <= innerWidth") is True
    assert page.run(f"getComputedStyle({plot}.querySelector('.label')).fontSize") == "12px"
    assert page.run(f"{boxes}.every(b => b.left >= 0 && b.right <= innerWidth - 8)") is True


def test_the_overview_scrolls_by_itself_on_a_phone(page):
    page.size(390, 800)
    region = "document.querySelector('table.overview').parentElement"
    assert page.run(f"{region}.scrollWidth > {region}.clientWidth") is True
    assert page.run("document.documentElement.scrollWidth <= innerWidth") is True
    page.run(f"{region}.scrollLeft = 40")
    first = f"{region}.querySelector('tbody th').getBoundingClientRect().left"
    assert page.run(f"{first} - {region}.getBoundingClientRect().left") == 0


def test_everything_works_with_the_keyboard(page):
    page.run(f"document.querySelector('{TABLE} th[data-key=gap_closed] button').focus()")
    page.press("Enter", 13, "\r")
    assert sorts(page) == [["gap_closed", "descending"]]
    outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.press("Tab", 9)
    assert page.run("document.activeElement.closest('th').dataset.key") == "train_seconds"


def test_screen_readers_get_names_for_tables_plots_and_fields(page):
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # it is drawn
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {}
    for node in nodes:
        if not node.get("ignored"):
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("table", "image", "searchbox", "combobox", "columnheader", "rowheader", "region", "navigation"):
        assert named.get(role), role
        assert all(named[role]), role
    assert "Results: shapes · wide → narrow · short" in named["table"]


@pytest.mark.parametrize("name", ["index.html", "run"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_and_texts_stand_out(page, folder, name, scheme):
    path = folder / name if name == "index.html" else sorted((folder / "run-pages").iterdir())[0]
    page.prefer(color_scheme=scheme)
    page.size(320, 640, mobile=True)
    page.open(path.as_uri())
    page.run("document.querySelectorAll('details').forEach(element => element.open = true)")
    assert page.run("document.documentElement.scrollWidth") == 320
    ink, paper, quiet = page.run(
        "[document.body, document.body, document.querySelector('footer')].map((element, index) =>"
        " getComputedStyle(element)[index === 1 ? 'backgroundColor' : 'color'])"
    )
    assert contrast(ink, paper) > 7
    assert contrast(quiet, paper) > 4.5  # WCAG 2.2, AA
    assert (luminance(paper) < 0.5) is (scheme == "dark")


def luminance(color):
    """Relative luminance of ``rgb(r, g, b)``, WCAG 2.2."""
    channels = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_motion_is_reduced_on_request(page, folder):
    behaviors = {}
    for preference in ("reduce", "no-preference"):
        page.prefer(reduced_motion=preference)
        behaviors[preference] = page.run("getComputedStyle(document.documentElement).scrollBehavior")
    assert behaviors == {"reduce": "auto", "no-preference": "smooth"}


def test_without_script_everything_is_there_but_the_filter(page, folder):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open((folder / "index.html").as_uri())
        assert len(methods(page)) == 9
        assert page.run("document.querySelector('form').checkVisibility()") is False
        assert page.run("document.querySelector('.columns').checkVisibility()") is True
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_seed_leads_to_the_page_of_its_run_and_that_back(page):
    page.run("document.querySelector('section.board > details').open = true")
    page.follow("section.board > details a")
    assert page.run("document.querySelector('h1').innerText") == "kd, seed 0"
    assert page.run("document.querySelectorAll('svg[role=img]').length") == 4
    page.follow("header a")
    assert page.run("document.querySelector('h1').innerText") == "kd_bench leaderboard"


def test_a_button_chooses_the_columns_of_a_question_and_the_address_keeps_them(page):
    headers = f"[...document.querySelectorAll('{TABLE} th[data-key]')]"
    visible = headers + ".filter(e => e.checkVisibility()).map(e => e.dataset.key)"
    default = page.run(visible)
    page.click(".presets button:nth-of-type(4)")
    chosen = page.run(visible)
    assert chosen[:5] == ["rank", "method", "seeds", "top1", "kd_difference"]
    assert {"train_seconds", "parameters"} <= set(chosen)
    assert "gap_closed" not in chosen
    page.open(page.run("location.href"))
    assert page.run(visible) == chosen
    page.click(".presets button")
    assert (page.run(visible), address(page)) == (default, "")


def test_a_phone_shows_cards_and_folds_the_filters(page, folder):
    page.size(390, 844, mobile=True)
    page.open((folder / "index.html").as_uri())
    cells = f"[...document.querySelector('{TABLE} tbody tr').cells].filter(e => e.checkVisibility())"
    cells += ".map(e => e.className.split(' ')[0])"
    assert page.run(cells) == ["in-rank", "in-method", "in-top1", "in-kd_difference", "in-records"]
    assert page.run("document.querySelector('form details').open") is False
    table = f"document.querySelector('{TABLE}')"
    assert page.run(f"{table}.parentElement.scrollWidth <= {table}.parentElement.clientWidth") is True
