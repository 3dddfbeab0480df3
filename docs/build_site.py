"""Build the web site of the documentation: ``python docs/build_site.py [FOLDER]``, or ``make site``.

It has the Markdown pages of the checkout, a page for each method, the boards of ``results/records`` and a page for each
of their runs. It opens from the disk, and loads nothing from a network.
"""

import argparse
import posixpath
import re
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "results" / "records"
PAGES = ("*.md", "docs/*.md", "experiments/*/README.md", "results/*.md", "results/published/*.md", "benchmarks/*.md")
# The sidebar: captions and the pages below them, in this order.
SIDEBAR = {
    "Guide": ["docs/*"],
    "Methods and results": ["methods/README", "boards", "results/README", "results/leaderboard", "results/published/*"],
    "Studies": ["experiments/*/README"],
    "Project": ["CONTRIBUTING", "CHANGELOG", "benchmarks/README"],
}
SETTINGS = {
    "project": "kd_bench",
    "extensions": ["myst_parser"],
    "myst_heading_anchors": 4,
    "smartquotes": False,
    "html_theme": "furo",
    "html_title": "kd_bench",
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_search_summary": False,  # a browser does not let a page read another one from the disk
    "html_show_sphinx": False,
    "html_use_index": False,
}
FRONT = "index.md"
IMAGES = (".png", ".svg", ".jpg", ".gif", ".webp")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json"}
_FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")


def build(site: Path) -> None:
    """Build the site in a folder, in place of what was built there before.

    Raises:
        SystemExit: a link leads nowhere, something would be loaded from a network, or Sphinx has a warning.
    """
    if site.exists() and not (site / ".buildinfo").exists():
        raise SystemExit(f"{site}: is there already and is no site")
    from sphinx.application import Sphinx  # an extra, which the check above does without

    from kd_bench.results.write import write_leaderboard

    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        source, doctrees = Path(work) / "source", Path(work) / "doctrees"
        write_source(source)
        sphinx = Sphinx(source, None, site, doctrees, "html", SETTINGS, status=None, warningiserror=True)
        sphinx.build()
    if sphinx.statuscode:
        raise SystemExit(f"{site}: not built without warnings")
    write_leaderboard(RECORDS, site / "boards", all_run_pages=True, method_pages="../methods")
    if broken := broken_links(site):
        raise SystemExit("\n".join(broken))


# The source.


def write_source(folder: Path) -> None:
    """Write what Sphinx makes the site of: every page, and a page of each file that one of them links to.

    Raises:
        SystemExit: a link leads nowhere.
    """
    from kd_bench.cli.method_pages.pages import pages

    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in _files(PAGES)}
    texts |= {f"methods/{name}": text for name, text in pages().items()}
    texts["boards.md"] = _boards()
    rewritten, linked = {}, set()
    for name, text in texts.items():
        rewritten[_placed(name)], files = rewrite(name, text, texts)
        linked |= files
    rewritten[FRONT] += "\n" + "\n".join(_sidebar(caption, entries) for caption, entries in SIDEBAR.items())
    rewritten["methods/README.md"] += "\n```{toctree}\n:hidden:\n:glob:\n\n[a-z]*\n```\n"
    for name in linked:
        if name.endswith(IMAGES):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        else:
            rewritten[f"files/{name}.md"] = _listing(name)
    for name, text in rewritten.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def rewrite(page: str, text: str, pages: dict[str, str]) -> tuple[str, set[str]]:
    """Let the links of a page lead to pages of the site.

    Args:
        page: the page by its path in the checkout, from which its links lead.
        pages: the Markdown pages by such paths.

    Returns:
        The text, and the other files and folders of the checkout that it links to.

    Raises:
        SystemExit: a link leads nowhere.
    """
    files = set()

    def leading(match: re.Match[str]) -> str:
        path, hash_sign, fragment = match[0].partition("#")
        if not path or urlsplit(path).scheme:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if f"{target}/README.md" in pages:
            target += "/README.md"
        elif target not in pages:
            if not (ROOT / target).exists():
                raise SystemExit(f"{page}: {match[0]}: no such file")
            files.add(target)
            target = target if target.endswith(IMAGES) else f"files/{target}.md"
        return posixpath.relpath(_placed(target), posixpath.dirname(page) or ".") + hash_sign + fragment

    parts = _FENCED.split(text)
    parts[::2] = [_LINK.sub(leading, part) for part in parts[::2]]
    return "".join(parts), files


def _files(patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def _placed(page: str) -> str:
    return FRONT if page == "README.md" else page


def _sidebar(caption: str, entries: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", ":glob:", f":caption: {caption}", "", *entries, "```", ""])


def _listing(name: str) -> str:
    """Show a file of the checkout, or every file of a folder, on a page that the search leaves out."""
    path = ROOT / name
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    blocks = ["---\norphan: true\nnosearch: true\n---", f"# `{name}`"]
    for file in files:
        blocks += [f"## `{file.name}`"] if path.is_dir() else []
        blocks += [f"````{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text(encoding='utf-8')}\n````"]
    return "\n\n".join(blocks) + "\n"


def _boards() -> str:
    """List the published runs, each with its page; boards and pages of runs are no pages of Sphinx."""
    from kd_bench.results.checking.load import load

    lines = ['# Boards and runs\n\n<a href="boards/index.html">All boards on one page</a>, made of these runs:\n']
    lines += ["| run | data set | teacher | student | method | seed |", "| --- | --- | --- | --- | --- | --- |"]
    rows = [
        [each.dataset.name, each.teacher.name if each.teacher else "none", each.student.name, each.method.name, each]
        for each in load(RECORDS).records
    ]
    for *names, record in sorted(rows, key=lambda row: (row[:-1], row[-1].seed)):
        link = f'<a href="boards/run-pages/{record.run_id}.html">{record.run_id}</a>'
        lines.append(f"| {link} | {' | '.join(names)} | {record.seed} |")
    return "\n".join(lines) + "\n"


# The check.


class _Page(HTMLParser):
    """The links, loaded files and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors |= {value for value in (attributes.get("id"), attributes.get("name")) if value}
        if target := attributes.get("href"):
            (self.loaded if tag == "link" else self.links).append(target)
        if target := attributes.get("src"):
            self.loaded.append(target)


def broken_links(site: Path) -> list[str]:
    """Name the links of all pages that lead nowhere and the files that would be loaded from a network."""
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for target in page.links + page.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                found = target not in page.loaded or parts.scheme == "data"
            else:
                file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                anchored = file not in pages or not parts.fragment or "=" in parts.fragment
                found = file.is_file() and (anchored or unquote(parts.fragment) in pages[file].anchors)
            broken += [] if found else [f"{path.relative_to(site)}: {target}"]
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the web site of the documentation.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site", help="(default: site)")
    site = parser.parse_args().folder.resolve()
    build(site)
    print(f"{sum(1 for _ in site.rglob('*.html'))} pages: {site / 'index.html'}")


if __name__ == "__main__":
    main()
