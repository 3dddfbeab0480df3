"""Tables for papers, compiled where there is a LaTeX."""

import shutil
import subprocess

import pytest
from support.records import seeds_of

from kd_bench.results.leaderboard.latex import latex
from kd_bench.results.text.escape import for_latex

from .test_text import HOSTILE, KD, SCRATCH, hostile_leaderboard, leaderboard_of

MORE_HOSTILE = (
    "\\input{/etc/passwd}",
    "a&b\\\\",
    "100%",
    "#$_{}~^",
    "''``--?`",
    "[0pt]",
    "Ünïcode ß 漢字 🙂",
    "\\end{document}",
)


def lines_of(leaderboard):
    return [line for line in latex(leaderboard).splitlines() if line.endswith("\\\\")]


def test_a_table_holds_what_the_board_holds():
    header, kd, scratch, once = lines_of(
        leaderboard_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD), seeds_of("once", (0.9,)))
    )
    assert header.startswith("Rank & Method & Seeds & Test top{-}1 \\% & $\\Delta$ KD & p vs KD & ")
    assert kd.startswith("{1} & {\\textbf{kd}} & {5} & {\\textbf{73.90}} $\\pm$ 0.92 & {--} & {--} & ")
    assert scratch.startswith("{2} & {scratch} & {5} & {70.80} $\\pm$ ")
    assert " & $\\bigtriangledown$ {$-$3.10} [$-$3.38, $-$2.82] & {\\textless{} 0.001} & " in scratch
    assert once.startswith("{--} & {once} & {1} (single run) & {90.00} & ")


@pytest.mark.parametrize(("rows", "environment"), [(29, "tabular"), (30, "longtable")])
def test_long_boards_are_broken_over_pages(rows, environment):
    text = latex(leaderboard_of(*(seeds_of(f"method{index}", KD[:1]) for index in range(rows))))
    assert (text.count(f"\\begin{{{environment}}}"), text.count(f"\\end{{{environment}}}")) == (1, 1)
    assert ("longtable}{" in text) == (environment == "longtable")
    assert text.count("\\\\\n") == rows + (1 if environment == "tabular" else 2)  # with the header and a caption


def test_only_significantly_best_rows_are_bold():
    assert "\\textbf" not in latex(leaderboard_of(seeds_of("kd", KD), seeds_of("at", KD)))
    assert "\\textbf" not in latex(leaderboard_of(seeds_of("kd", KD[:3]), seeds_of("scratch", SCRATCH[:3])))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain 1.5", "plain 1.5"),
        ("a_b%", "a\\_b\\%"),
        ("\\{}", "\\textbackslash{}\\{\\}"),
        ("Müller, Łukasz", 'M\\"{u}ller, \\L{}ukasz'),
        ("漢", "U+6F22"),
        ("a--b", "a{-}{-}b"),
        ("a\nb", "a\\textbackslash{}nb"),
    ],
)
def test_texts_become_plain_ascii(text, escaped):
    assert for_latex(text) == escaped
    assert escaped.isascii()


def test_without_rows_there_is_a_comment():
    assert all(line.startswith("%") for line in latex(leaderboard_of()).splitlines())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_hostile_names_compile(tmp_path):
    groups = [seeds_of(name, KD[:3], paper=name, options={"x": name}, dataset=name) for name in MORE_HOSTILE]
    many = [seeds_of("kd", KD[:1], student=f"student{index}") for index in range(60)]
    tables = latex(hostile_leaderboard()) + latex(leaderboard_of(*groups, *many))
    document = (
        f"\\documentclass{{article}}\\usepackage{{booktabs,longtable}}\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    (tmp_path / "board.tex").write_text(document, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "board.pdf").stat().st_size > 10_000
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "board.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "U+6F22" in text.stdout
        assert "root:" not in text.stdout
    assert len(HOSTILE) + len(MORE_HOSTILE) + 60 == tables.count("\\begin{table}")
