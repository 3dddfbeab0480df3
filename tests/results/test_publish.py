"""Publishing: short records, one table of learning curves for the study, and the very boards of the complete ones."""

import json
import re
from pathlib import Path

import pytest
from support.records import measured_content, record_content, save

from kd_bench.cli.main import main
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.publish import publish
from kd_bench.results.records.curves import read_table
from kd_bench.results.write import write_leaderboard

TABLE = "curves-mine.csv.gz"


def content(method: str = "kd", seed: int = 0, top1: float = 0.75, study: str = "mine", **kwargs) -> dict:
    change = 0.001 * (seed % 10)
    return measured_content(record_content(method, seed, top1 + change, **kwargs), change) | {"study": study}


def store(runs: Path, *contents: dict) -> None:
    for each in contents:
        save(each, runs / each["run_id"] / "record.json")


@pytest.fixture
def runs(tmp_path) -> Path:
    """A study of two methods with a teacher's record, and a run of another study."""
    store(tmp_path / "runs", *(content(method, seed) for method in ("kd", "at") for seed in range(5)))
    store(tmp_path / "runs", content("scratch", 1000, 0.8, role="teacher", student="wide", teacher=None))
    store(tmp_path / "runs", content("dkd", study="another"))
    return tmp_path / "runs"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_boards_and_pages_of_published_records_are_those_of_the_complete_ones(runs, tmp_path):
    done = publish(["mine"], runs, tmp_path / "results")
    assert (done.records, done.summary.records, done.summary.rejected, done.rejected) == (11, 11, 0, ())
    for path in runs.glob("*/record.json"):
        if json.loads(path.read_text())["study"] == "another":
            path.unlink()
    write_leaderboard(runs, tmp_path / "complete")
    write_leaderboard(tmp_path / "results" / "records", tmp_path / "short")
    published, complete = files(tmp_path / "short"), files(tmp_path / "complete")
    assert published == complete
    kept = {name: data for name, data in files(tmp_path / "results").items() if not name.startswith("records/")}
    assert kept == {name: complete[name] for name in ("leaderboard.md", "leaderboard.csv", "exemplars.csv")}
    assert len([name for name in published if name.startswith("run-pages/")]) == 11
    assert b"Learning curves" in published[f"run-pages/{content()['run_id']}.html"]


def test_publishing_again_gives_the_same_bytes(runs, tmp_path):
    publish(["mine"], runs, tmp_path / "results")
    first = files(tmp_path / "results")
    publish(["mine"], runs, tmp_path / "results")
    assert files(tmp_path / "results") == first
    assert not any(b'"host"' in data for name, data in first.items() if name.startswith("records/"))


def test_the_table_grows_with_the_study_and_forgets_runs_that_were_replaced(runs, tmp_path):
    publish(["mine"], runs, tmp_path / "results")
    table = tmp_path / "results" / "records" / TABLE
    before = read_table(table)
    added, replacing = content(seed=5), content(seed=4, options={"temperature": 2})
    store(tmp_path / "later", added, replacing)
    publish(["mine"], tmp_path / "later", tmp_path / "results")
    after = read_table(table)
    gone = content(seed=4)["run_id"]
    assert after.keys() == (before.keys() - {gone}) | {added["run_id"], replacing["run_id"]}
    assert all(after[run_id] == before[run_id] for run_id in before.keys() & after.keys())
    assert write_leaderboard(tmp_path / "results" / "records", tmp_path / "out").rejected == 0


def test_each_study_has_its_table(runs, tmp_path):
    publish(["mine"], runs, tmp_path / "results")
    publish(["another"], runs, tmp_path / "results")
    names = {path.name for path in (tmp_path / "results" / "records").iterdir() if path.is_file()}
    assert names == {TABLE, "curves-another.csv.gz"}


def test_a_study_without_curves_has_no_table(tmp_path):
    store(tmp_path / "runs", record_content() | {"study": "mine"})
    publish(["mine"], tmp_path / "runs", tmp_path / "results")
    assert not list((tmp_path / "results" / "records").glob("curves-*"))


def test_a_damaged_table_is_not_written_over(runs, tmp_path):
    publish(["mine"], runs, tmp_path / "results")
    table = tmp_path / "results" / "records" / TABLE
    table.write_bytes(table.read_bytes()[:100])
    before = files(tmp_path / "results")
    with pytest.raises(IntegrityError, match=rf"{TABLE} is damaged: .*; delete it and publish all"):
        publish(["mine"], runs, tmp_path / "results")
    assert files(tmp_path / "results") == before


def record_paths(results: Path) -> set[str]:
    return {path.relative_to(results / "records").as_posix() for path in (results / "records").rglob("seed*[0-9].json")}


PLACE = "shapes/wide--narrow"


def test_settings_of_one_cell_are_told_apart_by_the_path(runs, tmp_path):
    """Those that stand there keep their place; all seeds of the others lie in one folder with a hash in its name."""
    publish(["mine"], runs, tmp_path / "results")
    before = record_paths(tmp_path / "results")
    hotter = [content(seed=seed, options={"temperature": 2}, study="hot") for seed in range(6)]
    store(tmp_path / "hot", *hotter)
    done = publish(["hot"], tmp_path / "hot", tmp_path / "results")
    assert (done.records, done.summary.records, done.summary.rejected) == (6, 17, 0)
    added = record_paths(tmp_path / "results") - before
    (folder,) = {name.rpartition("/")[0] for name in added}
    assert re.fullmatch(rf"{PLACE}/kd-[0-9a-f]{{8}}", folder)
    assert {name.rpartition("/")[2] for name in added} == {f"seed{seed}.json" for seed in range(6)}
    assert before < record_paths(tmp_path / "results")
    again = files(tmp_path / "results")
    publish(["hot"], tmp_path / "hot", tmp_path / "results")
    publish(["mine"], runs, tmp_path / "results")
    assert files(tmp_path / "results") == again


def test_two_settings_of_one_study_are_both_published(runs, tmp_path):
    store(runs, content(options={"temperature": 2}))
    assert publish(["mine"], runs, tmp_path / "results").summary.records == 12
    assert len(record_paths(tmp_path / "results")) == 12


def status(runs: Path, study: str, *contents: dict) -> None:
    tasks = [{"key": str(number), "run_id": each["run_id"]} for number, each in enumerate(contents)]
    save({"study": study, "tasks": [*tasks, {"key": "waiting", "run_id": None}]}, runs / "studies" / f"{study}.json")


def test_runs_that_a_study_shares_with_an_earlier_one_are_published(runs, tmp_path):
    """They carry the name of the study that ran them, and their curves lie in its table."""
    own = [content("at", seed, study="second", options={"p": 1}) for seed in range(2)]
    shared = [content("kd", seed) for seed in range(4)]
    store(runs, *own)
    status(runs, "second", *own, *shared)
    done = publish(["second"], runs, tmp_path / "results")
    assert (done.records, done.summary.records, done.summary.rejected) == (6, 6, 0)
    tables = {path.name: read_table(path).keys() for path in (tmp_path / "results" / "records").glob("curves-*")}
    assert tables == {
        "curves-second.csv.gz": {each["run_id"] for each in own},
        TABLE: {each["run_id"] for each in shared},
    }
    publish(["mine"], runs, tmp_path / "results")
    assert write_leaderboard(tmp_path / "results" / "records", tmp_path / "out").rejected == 0


def test_a_run_that_two_studies_trained_each_stays_as_it_was_published(runs, tmp_path):
    publish(["mine"], runs, tmp_path / "results")
    before = files(tmp_path / "results")
    store(tmp_path / "later", content(study="later", seconds=99.0))
    assert publish(["later"], tmp_path / "later", tmp_path / "results").records == 1
    assert files(tmp_path / "results") == before


def test_another_result_of_a_published_run_is_refused_with_one_line(runs, tmp_path):
    publish(["mine"], runs, tmp_path / "results")
    before = files(tmp_path / "results")
    other = content(study="later")
    other["student"]["weights_sha256"] = "0" * 64
    store(tmp_path / "later", other)
    with pytest.raises(ConfigError, match=r"kd/seed0\.json is a different record, of run [0-9a-f]{16}"):
        publish(["later"], tmp_path / "later", tmp_path / "results")
    assert files(tmp_path / "results") == before


def test_files_that_are_no_records_are_listed_and_the_others_published(runs, tmp_path, capsys):
    save("{", runs / "bad" / "record.json")
    save("[]", runs / "studies" / "mine.json")
    where = ["--runs", str(runs), "--results", str(tmp_path / "results")]
    assert main(["publish", "mine", *where]) == 4
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("11 records copied")
    assert [line.split(": ")[:2] for line in shown[2:]] == [
        ["rejected", str(runs / "bad" / "record.json")],
        ["rejected", str(runs / "studies" / "mine.json")],
    ]


def status_of(folder: Path, runs: Path, *contents: dict) -> None:
    """The status of a study that was run by the path of its folder, as ``kd-bench study`` writes it."""
    tasks = [{"key": str(number), "run_id": each["run_id"]} for number, each in enumerate(contents)]
    save({"study": "x", "folder": str(folder), "tasks": tasks}, runs / "studies" / f"x-{len(folder.name):08x}.json")


def published_ids(results: Path) -> set[str]:
    return {json.loads((results / "records" / path).read_text())["run_id"] for path in record_paths(results)}


def test_studies_of_one_name_in_different_places_do_not_mix(tmp_path):
    """Their runs carry the same name; the path of a study says which are its own."""
    runs = tmp_path / "runs"
    first, second = [content(seed=seed, study="x") for seed in (0, 1)], [content("at", study="x")]
    store(runs, *first, *second)
    status_of(tmp_path / "a" / "x", runs, *first)
    with_status = publish(["x"], runs, tmp_path / "one")
    assert with_status.records == 3
    save(
        {"study": "x", "folder": str(tmp_path / "bb" / "x"), "tasks": [{"run_id": second[0]["run_id"]}]},
        runs / "studies" / "x-0badc0de.json",
    )
    with pytest.raises(ConfigError, match=r"study 'x': several have that name, .*/a/x, .*/bb/x"):
        publish(["x"], runs, tmp_path / "both")
    publish([str(tmp_path / "bb" / "x")], runs, tmp_path / "second")
    assert published_ids(tmp_path / "second") == {second[0]["run_id"]}
    publish([f"{tmp_path}/bb/../a/x"], runs, tmp_path / "first")
    assert published_ids(tmp_path / "first") == {each["run_id"] for each in first}


def learned(teacher: dict, method: str = "kd", seed: int = 0, **kwargs) -> dict:
    """A run without a study that learned from the network of another."""
    student = content(method, seed, study=None, **kwargs)
    student["teacher"]["run_id"] = teacher["run_id"]
    return student


@pytest.fixture
def swept(tmp_path) -> dict[str, list[dict]]:
    """Sweeps of ``train -m`` in one folder of runs: of methods, and of a temperature; one job failed."""
    runs = tmp_path / "runs"
    teacher = content("scratch", 1000, 0.8, study=None, role="teacher", student="wide", teacher=None)
    scratch = content("scratch", 0, 0.5, study=None, teacher=None)
    methods = [learned(teacher), learned(teacher, "at"), scratch]
    hot = [learned(teacher, options={"temperature": 2})]
    store(runs, teacher, *methods, *hot)
    for name, jobs in (("methods", methods), ("hot", hot)):
        for number, each in enumerate(jobs):
            job = {"point": "method=kd", "failure": None, "run_id": each["run_id"], "validation_top1": 0.5}
            save(job, runs / "sweeps" / name / f"job-{number}.json")
    save({"point": "method=dkd", "failure": "no luck"}, runs / "sweeps" / "methods" / "job-3.json")
    return {"methods": [teacher, *methods], "hot": [teacher, *hot]}


def ids(*contents: dict) -> set[str]:
    return {each["run_id"] for each in contents}


def test_a_sweep_is_published_with_the_teacher_that_its_runs_learned_from(swept, tmp_path, capsys):
    results, sweeps = tmp_path / "results", tmp_path / "runs" / "sweeps"
    where = ["--runs", str(tmp_path / "runs"), "--results", str(results)]
    assert main(["publish", str(sweeps / "methods"), *where]) == 0
    assert capsys.readouterr().out.startswith("4 records copied")
    assert published_ids(results) == ids(*swept["methods"])
    before = files(results)
    assert main(["publish", str(sweeps / "methods"), *where]) == 0
    assert files(results) == before
    assert main(["publish", str(sweeps / "hot"), *where]) == 0  # other settings go beside the others
    assert published_ids(results) == ids(*swept["methods"], *swept["hot"])
    assert write_leaderboard(results / "records", tmp_path / "out").rejected == 0
    after = files(results)
    assert main(["publish", *where]) == 0
    assert files(results) == after


def test_single_runs_are_published_by_their_ids(swept, tmp_path):
    teacher, kd = swept["methods"][:2]
    publish([kd["run_id"]], tmp_path / "runs", tmp_path / "results")
    assert published_ids(tmp_path / "results") == ids(teacher, kd)


def test_a_sweep_that_repeats_settings_with_another_result_is_refused_with_the_path_and_the_settings(swept, tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    publish([str(runs / "sweeps" / "methods")], runs, results)
    before = files(results)
    other = learned(swept["methods"][0])
    other["run_id"], other["config"]["stray"] = "f" * 16, {"key": 3}
    store(tmp_path / "other", other)
    with pytest.raises(ConfigError) as caught:
        publish([], tmp_path / "other", results)
    line = str(caught.value)
    assert line.startswith(f"{results}/records/{PLACE}/kd/seed0.json is a different record, of ")
    assert f"run {swept['methods'][1]['run_id']} (here ffffffffffffffff): stray.key=none there, 3 here" in line
    assert files(results) == before


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (["0123456789abcdef"], "0123456789abcdef: no record of run 0123456789abcdef below "),
        (["nothing"], "study 'nothing': no finished run of it below "),
        (["SWEEPS/gone"], "no record of run 0123456789abcdef below .*; name the folder of its runs by --runs"),
        (["SWEEPS/failed"], "sweep .*failed: none of its jobs has finished"),
    ],
)
def test_what_has_no_run_is_refused(swept, tmp_path, what, line):
    sweeps = tmp_path / "runs" / "sweeps"
    save({"failure": None, "run_id": "0123456789abcdef"}, sweeps / "gone" / "job-0.json")
    save({"failure": "no luck"}, sweeps / "failed" / "job-0.json")
    with pytest.raises(ConfigError, match=line):
        publish([each.replace("SWEEPS", str(sweeps)) for each in what], tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_all_runs_are_published_only_where_their_folder_is_named(capsys):
    assert main(["publish"]) == 2
    assert "or the folder of all runs to publish by --runs DIR" in capsys.readouterr().err
