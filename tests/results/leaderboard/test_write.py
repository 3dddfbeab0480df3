"""The whole way from a folder of files to three outputs."""

import os
import random
import subprocess
import sys
import time

import pytest
from support.records import make_record, record_content, save, save_records, seeds_of, state_content

from kd_bench.errors import ConfigError
from kd_bench.results.leaderboard.terminal import terminal_table
from kd_bench.results.write import OUTPUTS, PAGE, LeaderboardSummary, write_leaderboard

BUILD = """
import sys
from pathlib import Path
from kd_bench.results.leaderboard.terminal import terminal_table
from kd_bench.results.write import write_leaderboard
summary = write_leaderboard(Path(sys.argv[1]), Path(sys.argv[2]))
Path(sys.argv[2], "terminal.txt").write_text(terminal_table(summary.boards), encoding="utf-8")
heavy = {"torch", "torchvision", "timm", "pytorch_lightning", "pandas", "jinja2", "scipy.stats"} & set(sys.modules)
assert not heavy, heavy
"""


def populate(directory, order):
    """A folder with something of everything, its files created in the given order of 26."""
    records = [
        *seeds_of("scratch", (0.70, 0.71, 0.72, 0.71, 0.70), teacher=None),
        *seeds_of("kd", (0.73, 0.74, 0.75, 0.74, 0.735)),
        *seeds_of("kd", (0.72, 0.73, 0.74), options={"temperature": 1}),
        *seeds_of("at", (0.72, 0.73, 0.74), teacher="deep"),
        make_record("scratch", 1000, 0.8, role="teacher", student="wide", teacher=None),
    ]
    files = [(record.model_dump_json(), f"{record.run_id}/record.json") for record in records]
    files += [(records[0].model_dump_json(), "published/seed0.json")]
    files += [(record_content(top1=top1, run_id="f" * 16), f"conflict{top1}/record.json") for top1 in (0.1, 0.2)]
    files += [("{", f"damaged{index}/record.json") for index in range(2)]
    files += [(state_content("kd", "failed", seed=seed), f"failed{seed}/state.json") for seed in range(4)]
    for index in order:
        save(files[index][0], directory / files[index][1])
    return len(files)


FILES = (*OUTPUTS, PAGE)


def outputs(out):
    """Every file, those of the runs as well."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def build_elsewhere(records, out, **environment):
    command = [sys.executable, "-W", "error", "-c", BUILD, str(records), str(out)]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    return outputs(out)


def test_outputs_and_summary(folder, tmp_path):
    populate(folder, range(26))
    summary = write_leaderboard(folder, tmp_path / "new" / "out")
    assert isinstance(summary, LeaderboardSummary)
    assert str(summary) == "17 records, 0 unfinished, 4 failed, 4 rejected"
    assert [board.teacher.name for board in summary.boards] == ["deep", "wide"]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted([*FILES, "run-pages"])
    assert [path.name for path in summary.files] == list(FILES)
    assert len(list((tmp_path / "new" / "out" / "run-pages").iterdir())) == summary.records
    assert "kd [temperature=1]" in terminal_table(summary.boards)


def test_same_bytes_in_any_file_order_locale_and_time_zone_and_without_torch(tmp_path):
    """In fresh processes with different hash seeds; they fail if anything heavy is imported."""
    order = list(range(26))
    (tmp_path / "one").mkdir()
    populate(tmp_path / "one", order)
    random.Random(5).shuffle(order)
    (tmp_path / "other").mkdir()
    populate(tmp_path / "other", order)
    here = build_elsewhere(tmp_path / "one", tmp_path / "a", TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
    there = build_elsewhere(
        tmp_path / "other", tmp_path / "b", TZ="Asia/Kolkata", LC_ALL="de_DE.UTF-8", PYTHONHASHSEED="2"
    )
    assert here == there


def test_a_missing_folder_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        write_leaderboard(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_is_a_configuration_error(folder):
    save("", folder / "file")
    with pytest.raises(ConfigError, match=r"out: .*file cannot be created"):
        write_leaderboard(folder, folder / "file")


def test_a_folder_without_records_says_which_states_exist(folder, tmp_path):
    save(state_content("fitnet", "failed", cause="no disk"), folder / "a" / "state.json")
    save(state_content("kd", "running"), folder / "b" / "state.json")
    summary = write_leaderboard(folder, tmp_path / "out")
    assert str(summary) == "0 records, 1 unfinished, 1 failed, 0 rejected"
    for name in ("index.html", "leaderboard.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "There are no finished student runs to rank." in text
        assert "no disk" in text
        assert "fitnet" in text


def test_what_is_rejected_changes_no_number(folder, tmp_path):
    records = seeds_of("kd", (0.73, 0.74, 0.75))
    save_records(records, folder)
    before = write_leaderboard(folder, tmp_path / "out")
    for index, value in enumerate((float("nan"), 1.7, None)):
        content = record_content("kd", 10 + index)
        content["metrics"]["last"]["test"]["top1"] = value
        save(content, folder / f"bad{index}" / "record.json")
    after = write_leaderboard(folder, tmp_path / "out")
    assert (before.rejected, after.rejected) == (0, 3)
    assert after.boards == before.boards


def test_writing_again_replaces_the_files_and_leaves_nothing_else(folder, tmp_path):
    populate(folder, range(26))
    write_leaderboard(folder, tmp_path / "out")
    first = outputs(tmp_path / "out")
    write_leaderboard(folder, tmp_path / "out")
    assert outputs(tmp_path / "out") == first
    assert len(list((tmp_path / "out").iterdir())) == len(FILES) + 1


def test_pages_of_runs_that_are_gone_go_as_well_and_nothing_else_does(folder, tmp_path):
    save_records(seeds_of("kd", (0.73, 0.74, 0.75)), folder)
    write_leaderboard(folder, tmp_path / "out")
    save("mine", tmp_path / "out" / "run-pages" / "notes.html")
    gone = make_record("kd", 0, 0.73).run_id
    (folder / gone / "record.json").unlink()
    write_leaderboard(folder, tmp_path / "out")
    pages = {path.name for path in (tmp_path / "out" / "run-pages").iterdir()}
    assert pages == {"notes.html", *(f"{record.run_id}.html" for record in seeds_of("kd", (0.73, 0.74, 0.75))[1:])}


def test_many_runs_have_pages_only_where_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kd_bench.results.write.MOST_RUN_PAGES", 2)
    save_records(seeds_of("kd", (0.73, 0.74, 0.75)), folder)
    for asked, pages in ((False, 0), (True, 3), (False, 0)):
        write_leaderboard(folder, tmp_path / "out", all_run_pages=asked)
        assert len(list((tmp_path / "out" / "run-pages").iterdir())) == pages
        assert (tmp_path / "out" / PAGE).read_text(encoding="utf-8").count('href="run-pages/') == pages


def test_writing_into_the_folder_of_records_is_harmless(folder):
    populate(folder, range(26))
    write_leaderboard(folder, folder)
    first = outputs(folder)
    write_leaderboard(folder, folder)
    assert outputs(folder) == first


def test_a_thousand_records_build_quickly(folder, tmp_path):
    generator = random.Random(0)
    for method in range(50):
        name = "scratch" if method == 0 else "kd" if method == 1 else f"method{method}"
        for student in ("narrow", "slim", "tiny", "small"):
            values = [0.7 + 0.001 * method + generator.gauss(0, 0.002) for _ in range(5)]
            save_records(seeds_of(name, values, student=student), folder)
    started = time.process_time()
    summary = write_leaderboard(folder, tmp_path / "out")
    assert time.process_time() - started < 5
    assert summary.records == 1000
    assert [len(board.rows) for board in summary.boards] == [50] * 4
