"""``kd-bench reproduce`` as a user meets it."""

import json
import re
import warnings
from pathlib import Path

import pytest
from data.formats import cifar100, place
from support.records import save_records, state_content

from kd_bench.cli.main import main
from kd_bench.runs.reproduction.cells import table_cells
from kd_bench.runs.reproduction.tables import all_tables

from .runs import cell_of, runs_of

ONE = ["crd_table1", "--method", "KD", "--pair", "resnet56--resnet20"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory, and no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def reproduce(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, and what was printed for the user and as an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what runs import
        code = main(["reproduce", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_list_has_every_table_with_its_cells_and_runs(folder, capsys):
    code, shown, _ = reproduce(capsys, "--list")
    assert code == 0
    found = {line.split()[0]: line.split(maxsplit=5) for line in shown.splitlines()}
    assert list(found) == list(all_tables().tables)
    for name, words in found.items():
        cells = table_cells(name)
        assert (words[1], words[3]) == (str(len(cells)), str(sum(cell.runs for cell in cells)))
        assert words[5] == all_tables().tables[name].title


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["crd_tabel1"], 2, "table 'crd_tabel1': no such table; did you mean 'crd_table1', 'crd_table"),
        (["zzz"], 2, "table 'zzz': no such table; there are: ['crd_reproduction', "),
        ([], 2, "which table? kd-bench reproduce --list"),
        (["crd_table1", "--only", "student=vgg8"], 2, "--only 'student=vgg8': should be method=NAME or pair="),
        (["crd_table1", "--only", "kd"], 2, "--only 'kd': should be method=NAME or pair="),
        (["crd_table1", "--only", "method=kdd"], 2, "method 'kdd': not in this table; did you mean 'kd'"),
        (["crd_table1", "--pair", "vgg13--vgg9"], 2, "pair 'vgg13--vgg9': not in this table; did you mean"),
        (["crd_table1", "--seeds", "0"], 2, "--seeds 0: should be at least 1"),
        ([*ONE, "--jobs", "0"], 2, "--jobs"),
        ([*ONE, "recipe.epoch=3"], 2, "recipe.epoch: unknown key; did you mean 'epochs'"),
        ([*ONE, "--teachers", "nowhere"], 4, "--teachers nowhere: no weights of resnet56: looked for resnet56_vanilla"),
        ([*ONE, "--board", "--margin", "0"], 2, "--margin 0.0: should be more than 0 points"),
        ([*ONE, "--board", "recipe.epochs=3"], 2, "'recipe.epochs=3': takes no overrides"),
        ([*ONE, "--board", "--records", "nowhere"], 2, "nowhere is not a directory"),
        (ONE, 4, "CIFAR-100 is absent: place cifar-100-python.tar.gz at "),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_done(folder, capsys, arguments, code, expected):
    found, shown, error = reproduce(capsys, *arguments)
    assert (found, shown) == (code, "")
    assert expected in error
    assert error.count("\n") == 1
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_only_is_another_way_to_name_methods_and_pairs(folder, capsys):
    code, shown, _ = reproduce(
        capsys, "crd_table1", "--only", "method=kd", "--only", "method=CRD", "--only", "pair=vgg13--vgg8", "--board"
    )
    assert code == 0
    assert "2 cells: 2 not run" in shown
    assert "not run: vgg13--vgg8, 2 cells" in shown
    page = Path("runs/reproduce/tables/crd_table1.md").read_text()
    assert re.findall(r"^\| (KD|CRD) \| ([\d.]+) ", page, re.MULTILINE) == [("KD", "72.98"), ("CRD", "73.94")]


def test_the_board_counts_runs_of_the_protocol_and_writes_its_pages(folder, capsys):
    cell = cell_of("crd_table1", "KD", "resnet56--resnet20")
    values = [cell.published.value + each for each in (0.001, -0.001, 0.0005, -0.0005, 0.0)]
    save_records([*runs_of(cell, values), *runs_of(cell, [0.5], "recipe.epochs=1")], folder / "records")
    state = state_content("kd", dataset="cifar100", teacher="resnet56_cifar", student="resnet20_cifar", seed=6)
    (folder / "records" / "failed").mkdir()
    (folder / "records" / "failed" / "state.json").write_text(json.dumps(state))
    (folder / "records" / "seed0.json").write_text("{")
    code, shown, _ = reproduce(capsys, *ONE, "--board", "--records", "records", "--margin", "0.3")
    assert code == 0
    assert "1 cell: 1 reproduced. Within ± 0.3 points counts as the same. Files that were rejected: 1;" in shown
    assert "- all: not counted, of another protocol: recipe.epochs=1 instead of 240" in shown
    assert "- all: failed: seed 6 (failed)" in shown
    pages = [f"records/tables/crd_table1.{ending}" for ending in ("html", "md", "csv", "json")]
    assert shown.splitlines()[-4:] == pages
    assert re.search(r"^KD +70.\d+ +70.66 ± \d.\d+ .* reproduced +5 of 5", shown, re.MULTILINE)
    assert "|" not in shown
    (found,) = json.loads(Path(pages[3]).read_text())["cells"]
    assert (found["verdict"], found["seeds"], found["ours"]) == ("reproduced", "0 1 2 3 4", pytest.approx(0.7066))
    assert reproduce(capsys, *ONE, "--board", "--records", "records", "--out", "pages")[0] == 0
    assert len(list((folder / "pages").iterdir())) == 4


@pytest.mark.slow
def test_a_composed_cell_trains_on_cifar_files_and_a_shorter_protocol_does_not_count(folder, capsys):
    """Teacher and student of a second each, on random images in the files of the real data set."""
    place(folder / "data" / "cifar100" / "cifar-100-python", cifar100(per_class=4))
    shorter = ["recipe.epochs=1", "+teacher.overrides.recipe.epochs=1", "dataset.validation_fraction=0.25"]
    quiet = ["dataset.source.verify=false", "paths.data=data", "logger=none", "trainer.progress=none"]
    command = [*ONE, "--seeds", "1", *shorter, *quiet]
    code, shown, error = reproduce(capsys, *command)
    assert (code, error) == (0, "")
    assert "[2/2] KD resnet56--resnet20 seed 0: test top-1 " in shown
    records = [json.loads(path.read_text()) for path in Path("runs/reproduce").glob("*/record.json")]
    student = next(record for record in records if record["role"] == "student")
    assert (student["study"], student["recipe"], student["student"]["name"]) == ("crd_table1", "crd", "resnet20_cifar")
    assert (student["dataset"]["train_samples"], student["config"]["method"]["kd_weight"]) == (300, 0.9)
    code, shown, _ = reproduce(capsys, *command)  # again: nothing is left to do
    assert (code, "2 runs, 2 of them finished" in shown) == (0, True)
    code, shown, _ = reproduce(capsys, *command, "--dry-run")
    assert "KD resnet56--resnet20                       1 run, 1 finished" in shown
    code, shown, _ = reproduce(capsys, *ONE, "--board")
    assert "1 cell: 1 not run" in shown
    assert "dataset.source.verify=False instead of True, dataset.validation_fraction=0.25 instead of 0.002" in shown
