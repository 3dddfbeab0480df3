"""The web site: links lead somewhere, nothing is loaded from a network, and what was built opens from the disk."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest
from results.leaderboard.browser import CHROMIUM, browser

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "docs" / "build_site.py"

spec = importlib.util.spec_from_file_location("build_site", SCRIPT)
assert spec is not None
assert spec.loader is not None
build_site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_site)

TEXT = """[front](../README.md#start), [folder](../experiments/demo), [file](../Makefile), [tree](../conf/recipe),
[here](#there), [elsewhere](https://example.org/a.md)

```
[in code](nowhere.md)
```
"""
REWRITTEN = """[front](../index.md#start), [folder](../experiments/demo/README.md), [file](../files/Makefile.md), \
[tree](../files/conf/recipe.md),
[here](#there), [elsewhere](https://example.org/a.md)

```
[in code](nowhere.md)
```
"""


def test_links_of_pages_lead_to_pages_of_the_site():
    pages = {"README.md": "", "docs/data.md": TEXT, "experiments/demo/README.md": ""}
    assert build_site.rewrite("docs/data.md", TEXT, pages) == (REWRITTEN, {"Makefile", "conf/recipe"})
    with pytest.raises(SystemExit, match=r"docs/data.md: ../experiments/none/README.md: no such file"):
        build_site.rewrite("docs/data.md", "[a](../experiments/none/README.md)", pages)


def test_every_link_of_the_documentation_leads_somewhere(tmp_path, monkeypatch):
    index = {"README.md": "[a](kd.md)", "kd.md": "[`conf/method/kd.yaml`](../conf/method/kd.yaml)"}
    monkeypatch.setattr("kd_bench.cli.method_pages.pages.pages", lambda: index)
    build_site.write_source(tmp_path)
    assert (tmp_path / "methods/kd.md").read_text() == "[`conf/method/kd.yaml`](../files/conf/method/kd.yaml.md)"
    listing = (tmp_path / "files/conf/method/kd.yaml.md").read_text()
    assert (ROOT / "conf/method/kd.yaml").read_text() in listing
    assert "\n:caption: Studies\n\nexperiments/*/README\n" in (tmp_path / "index.md").read_text()
    runs = [path for path in (ROOT / "results/records").rglob("seed*.json") if path.stem.removeprefix("seed").isdigit()]
    assert (tmp_path / "boards.md").read_text().count('href="boards/run-pages/') == len(runs)


def test_broken_links_are_named(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="sub/b.html#x y"></a><a href="#top"></a><a href="#gone"></a><a href="c.html"></a>'
        '<a href="https://example.org"></a><img src="data:image/png;base64,"><img src="d.png">'
    )
    (tmp_path / "sub" / "b.html").write_text(
        '<p id="x y"></p><a href="../a.html#filter=kd"></a><a href="../a.html#gone"></a>'
        '<script src="https://example.org/a.js"></script><link rel="stylesheet" href="//example.org/a.css">'
    )
    assert build_site.broken_links(tmp_path) == [
        *("a.html: #gone", "a.html: c.html", "a.html: d.png"),
        *("sub/b.html: ../a.html#gone", "sub/b.html: https://example.org/a.js", "sub/b.html: //example.org/a.css"),
    ]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SystemExit, match="is there already and is no site"):
        build_site.build(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="there is no Sphinx: pip install '.[site]'")
def test_the_site_opens_from_the_disk(tmp_path):
    site = tmp_path / "site"
    done = subprocess.run([sys.executable, SCRIPT, site], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("index.html", "methods/dkd.html", "boards/index.html", "results/leaderboard.html"):
        assert (site / name).is_file()
    if CHROMIUM is None:
        return
    with browser() as tab:
        tab.open((site / "search.html").as_uri() + "?q=decoupled")
        found = "[...document.querySelectorAll('#search-results a')].map(a => a.getAttribute('href'))"
        begun = time.monotonic()
        while "methods/dkd.html" not in tab.run(found):
            assert time.monotonic() - begun < 30, tab.run("document.body.innerText")
            time.sleep(0.1)
        assert tab.complaints == []
        assert {request.partition(":")[0] for request in tab.requests} <= {"file", "data", "about"}
