"""A network trained elsewhere as a finished run: measured, recorded, used as a teacher, or refused without a trace."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score
from support.taps import make_tap

from kd_bench.cli.main import main
from kd_bench.config.files import file_sha256
from kd_bench.data.batch import DataSpec
from kd_bench.data.digits import Digits
from kd_bench.models.weights import weights_sha256
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE, Record, read_record, schema_text
from kd_bench.results.records.states import read_state
from kd_bench.results.write import read_leaderboard, write_leaderboard
from kd_bench.runs.run import run

SETTINGS = ["logger=none", "trainer.progress=none", "trainer.threads=1"]
FAST = [*SETTINGS, "recipe.epochs=2", "recipe.batch_size=32", "dataset.train_samples=400", "student=resnet8_cifar"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture
def trained(compose, elsewhere) -> Record:
    """A network, trained once."""
    return run(compose(*FAST, "method=scratch", "teacher=none", f"paths.runs={elsewhere / 'runs'}"))


def weights_of(trained: Record, elsewhere: Path) -> dict[str, torch.Tensor]:
    return load_file(elsewhere / "runs" / trained.run_id / WEIGHTS_FILE)


@pytest.fixture
def file(trained, elsewhere) -> Path:
    """As RepDistiller saves its teachers."""
    path = elsewhere / "resnet8_best.pth"
    torch.save({"epoch": 2, "model": weights_of(trained, elsewhere), "best_acc": torch.tensor(80.0)}, path)
    return path


@pytest.fixture
def runs(tmp_path) -> Path:
    return tmp_path / "runs"


def imported(file: Path, runs: Path, *arguments: str, model: str = "resnet8_cifar") -> int:
    return main(["import", str(file), "--model", model, *arguments, f"paths.runs={runs}", *SETTINGS])


def only_record(runs: Path) -> Record:
    (path,) = runs.glob(f"*/{RECORD_FILE}")
    return read_record(path)


# What an import leaves.


def test_the_record_says_what_was_measured_and_where_it_came_from(trained, file, runs, capsys):
    assert imported(file, runs) == 0
    record = only_record(runs)
    folder = runs / record.run_id
    jsonschema.validate(json.loads((folder / RECORD_FILE).read_text()), json.loads(schema_text()))
    assert (record.role, record.imported_from, record.teacher) == ("teacher", "resnet8_best.pth", None)
    assert (record.method.name, record.recipe, record.history) == ("imported", "imported", [])
    assert record.times.train_seconds is None
    assert record.times.teacher_train_seconds is None
    assert record.student == trained.student
    for rule in ("last", "best_on_validation"):
        selected = getattr(record.metrics, rule)
        assert selected.epoch == 0
        assert selected.test == trained.metrics.last.test
        assert selected.validation == trained.metrics.last.validation
    assert {name: file_sha256(folder / name) for name in record.artifacts} == record.artifacts
    assert set(record.artifacts) == {PREDICTIONS_FILE, WEIGHTS_FILE}
    assert (read_state(folder).state, read_state(folder).role) == ("completed", "teacher")
    top1 = 100 * trained.metrics.last.test.top1
    assert capsys.readouterr().out.splitlines() == [
        f"resnet8_cifar: test top-1 {top1:.2f} % on digits, run {record.run_id}",
        f"use it with: teacher.name=resnet8_cifar teacher.checkpoint={record.run_id}",
    ]


@torch.no_grad()
def test_the_saved_weights_give_the_saved_predictions_and_the_recorded_accuracy(file, runs, elsewhere, trained):
    assert imported(file, runs) == 0
    record = only_record(runs)
    state = load_file(runs / record.run_id / WEIGHTS_FILE)
    assert weights_sha256(state) == record.student.weights_sha256 == weights_sha256(weights_of(trained, elsewhere))
    tap = make_tap("resnet8_cifar", DataSpec(10, (8, 8), (0.3056,) * 3, (0.3764,) * 3), seed=1).eval()
    tap.network.load_state_dict(state)
    test = Digits(test_fraction=0.4).load().test
    logits = tap(test.images / 255.0).logits
    stored = load_file(runs / record.run_id / PREDICTIONS_FILE)
    torch.testing.assert_close(stored["test/last"], logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(stored["test/last"], stored["test/best_on_validation"])
    assert torch.equal(stored["test/targets"], test.targets)
    assert stored["test/index"].tolist() == list(range(719))
    assert not [name for name in stored if name.endswith("teacher")]
    for split in ("validation", "test"):
        correct = accuracy_score(stored[f"{split}/targets"].numpy(), stored[f"{split}/last"].argmax(1).numpy())
        assert getattr(record.metrics.last, split).top1 == pytest.approx(correct, abs=1e-12)


def test_a_second_import_changes_nothing(file, runs, elsewhere, trained, monkeypatch):
    def everything() -> dict[Path, tuple[int, bytes]]:
        paths = [path for path in runs.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    assert imported(file, runs) == 0
    before = everything()
    monkeypatch.setattr("kd_bench.runs.foreign.teacher_predictions", None)  # it is not even measured again
    assert imported(file, runs) == 0
    other = elsewhere / "the same weights.pth"
    torch.save({f"module.{name}": value for name, value in weights_of(trained, elsewhere).items()}, other)
    assert imported(other, runs) == 0
    assert everything() == before


def test_overrides_may_stand_anywhere(file, runs, capsys):
    shared = ["--model", "resnet8_cifar", *SETTINGS]
    orders = [
        [str(file), f"paths.runs={runs}", *shared],
        [*shared[:2], str(file), f"paths.runs={runs}", *shared[2:]],
        [str(file), *shared, f"paths.runs={runs}"],
        [str(file), "trainer.threads=1", *shared[:2], *shared[2:4], "--expected-top1", "0.1", f"paths.runs={runs}"],
    ]
    assert [main(["import", *order]) for order in orders] == [0, 0, 0, 0]
    assert only_record(runs).imported_from == file.name
    with pytest.raises(SystemExit) as caught:
        main(["import", *orders[0], "--expected-top-1", "0.5"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --expected-top-1\n")


def test_what_was_done_to_the_file_is_told(file, runs, elsewhere, trained, capsys):
    old = elsewhere / "old.pth"
    state = weights_of(trained, elsewhere)
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, old)
    assert imported(old, runs) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{old} lacks num_batches_tracked of 9 batch norms; they count from 0"


# A teacher like any other.


def test_an_import_is_a_teacher_and_no_row_of_a_board(file, runs, compose, tmp_path):
    assert imported(file, runs) == 0
    source = only_record(runs)
    teacher = ["teacher.name=resnet8_cifar", f"teacher.checkpoint={source.run_id}"]
    record = run(compose(*FAST, "recipe.epochs=1", "method=kd", *teacher, f"paths.runs={runs}"))
    assert len(list(runs.glob(f"*/{RECORD_FILE}"))) == 2  # no teacher was trained
    assert (record.teacher.run_id, record.teacher.source) == (source.run_id, source.run_id)
    assert record.teacher.test_top1 == source.metrics.last.test.top1
    assert record.teacher.weights_sha256 == source.student.weights_sha256
    assert record.times.teacher_train_seconds is None
    stored = [load_file(runs / each.run_id / PREDICTIONS_FILE) for each in (source, record)]
    assert torch.equal(stored[0]["test/last"], stored[1]["test/teacher"])

    (board,) = read_leaderboard(runs).boards
    assert [row.entry.name for row in board.rows] == ["kd"]
    summary = write_leaderboard(runs, tmp_path / "board")
    assert (summary.unfinished, summary.failed, summary.rejected) == (0, 0, 0)
    markdown = (tmp_path / "board" / "leaderboard.md").read_text()
    (line,) = [line for line in markdown.splitlines() if "imported" in line]  # of the table of teachers
    assert line.startswith("| resnet8\\_cifar | digits | imported | 0 | ")
    assert "imported" not in (tmp_path / "board" / "leaderboard.csv").read_text()


# Refusals.


def refused(capsys, runs: Path, code: int) -> str:
    """The one line of a command that ended with 4; it left nothing in ``runs``."""
    assert code == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert not runs.exists() or list(runs.iterdir()) == []
    return line


def test_weights_of_another_network_are_refused(file, runs, capsys):
    line = refused(capsys, runs, imported(file, runs, model="resnet14_cifar"))
    assert line.startswith(f"kd-bench: {file} does not fit the network: missing: layer1.1.")


def test_weights_below_what_is_expected_are_refused(trained, file, runs, capsys):
    top1 = trained.metrics.last.test.top1
    line = refused(capsys, runs, imported(file, runs, "--expected-top1", str(top1 + 0.0101)))
    assert line.startswith(
        f"kd-bench: teacher resnet8_cifar: top-1 on the test split is {100 * top1:.2f} %, {100 * top1 + 1.01:.2f} % "
    )
    assert imported(file, runs, "--expected-top1", str(top1 + 0.0099)) == 0


def test_weights_at_chance_are_refused(runs, elsewhere, capsys):
    path = elsewhere / "constant.pth"
    state = make_tap("resnet8_cifar", DataSpec(10, (8, 8), (0.3,) * 3, (0.4,) * 3)).network.state_dict()
    torch.save({**state, "fc.weight": torch.zeros(10, 64), "fc.bias": torch.arange(10.0)}, path)  # always a nine
    line = refused(capsys, runs, imported(path, runs))
    assert "chance is 10.00 %: wrong weights, class order or input normalization?" in line


def test_weights_that_overflow_leave_nothing_behind(trained, runs, elsewhere, capsys):
    path = elsewhere / "large.pth"
    torch.save({**weights_of(trained, elsewhere), "fc.weight": torch.full((10, 64), 3e38)}, path)
    assert imported(path, runs) == 1
    assert "resnet8_cifar gives logits that are not finite" in capsys.readouterr().err
    assert not runs.exists()


def test_a_missing_file_is_refused(runs, capsys):
    line = refused(capsys, runs, imported(Path("nothing.pth"), runs))
    assert line == "kd-bench: nothing.pth: no such weight file"


def test_absent_data_are_told_of_before_the_file_is_read(file, runs, capsys, tmp_path):
    line = refused(capsys, runs, imported(file, runs, "dataset=cifar100", f"paths.data={tmp_path}"))
    assert line.startswith("kd-bench: CIFAR-100 is absent: place cifar-100-python.tar.gz at ")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dataset=digitz"], "dataset='digitz': no such choice"),
        (["sead=1"], "sead: unknown key; did you mean 'seed'?"),
    ],
)
def test_a_wrong_configuration_is_exit_code_2(file, runs, capsys, arguments, reason):
    assert imported(file, runs, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kd-bench: {reason}")
    assert not runs.exists()


def test_an_unknown_network_is_exit_code_2(file, runs, capsys):
    assert imported(file, runs, model="resnet8_cifra") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kd-bench: student.name='resnet8_cifra': no such network; did you mean")
    assert not runs.exists()
