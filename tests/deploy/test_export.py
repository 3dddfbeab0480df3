"""``kd-bench export``: the files as another program reads them, the report, int8, and what goes wrong."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from faults.conftest import fill
from safetensors import safe_open
from safetensors.torch import load_file
from support.trained import train

from kd_bench.cli import deploy_options
from kd_bench.cli.main import main
from kd_bench.data.digits import Digits
from kd_bench.deploy.exporting import read_report
from kd_bench.deploy.parity import compared
from kd_bench.results.records.record import Record, read_record


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Record]:
    """A run of KD beside its teacher's, whose student sees its images resized."""
    runs = tmp_path_factory.mktemp("runs")
    return runs, train(runs, "method=kd", "student.input_size=[12,12]")


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """The directory of a copy of the run, with its neighbours."""
    runs, record = trained
    return Path(shutil.copytree(runs, tmp_path / "runs")) / record.run_id


def images_of_the_test_split() -> np.ndarray:
    return Digits(test_fraction=0.4).load().test.images.numpy().astype(np.float32) / 255


def logits_of(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def test_another_program_gets_the_predictions_of_the_run(run, capsys):
    assert main(["export", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "the class is the same on 100.00 % of 719 images" in shown
    folder, images = run / "export", images_of_the_test_split()
    saved = load_file(run / "predictions.safetensors")["test/last"]
    for size in (1, 7, len(images)):  # the batch is dynamic
        found = logits_of(folder / "student.onnx", images[:size])
        assert np.abs(found - saved[:size].numpy()).max() < 1e-4
    with torch.inference_mode():
        again = torch.export.load(folder / "student.pt2").module()(torch.from_numpy(images))
    assert torch.allclose(again, saved, atol=1e-5)


def test_files_say_what_they_are(run):
    assert main(["export", str(run)]) == 0
    record, report = read_record(run / "record.json"), read_report(run)
    folder = run / "export"
    model = onnx.load(folder / "student.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [report.opset]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    with safe_open(folder / "student.safetensors", "pt") as weights:
        assert weights.metadata() == facts
        network = {name.removeprefix("tap.network."): weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
    assert facts["run_id"] == record.run_id == report.run_id
    assert json.loads(facts["classes"]) == record.dataset.class_names
    assert facts["input"] == "images: float32 (batch, 3, 8, 8), RGB in [0, 1]"
    own = load_file(run / "student.safetensors")
    assert network.keys() == own.keys()
    assert all(torch.equal(network[name], own[name]) for name in own)
    for name, info in report.files.items():
        content = (folder / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (info.sha256, info.bytes)
    assert str(Path(__file__).parents[2]).encode() not in (folder / "student.onnx").read_bytes(), "names of files here"
    assert {(each.file, each.threads) for each in report.parity} == {
        ("student.onnx", 1),
        ("student.onnx", 2),
        ("student.pt2", None),
    }


def test_bounds_of_parity():
    reference = torch.tensor([[20.0, 1.0], [1.0, 3.0]])
    assert compared("f", "r", 1, reference, reference).largest_difference == 0
    near, far = reference + torch.tensor([[1e-3, 0.0], [0.0, 0.0]]), reference + 3e-3
    assert compared("f", "r", 1, reference, near).passed, "1e-4 of the largest logit, 20, are allowed"
    found = compared("f", "r", 1, reference, far)
    assert (found.passed, found.allowed) == (False, pytest.approx(2e-3))
    ties = torch.zeros(100, 2)
    swapped = ties.clone()
    swapped[0, 1] = 1e-6
    found = compared("f", "r", 1, ties, swapped)
    assert (found.passed, found.agreement) == (False, 0.99)
    assert compared("f", "r", 1, reference, reference * float("nan")).problem == "gives logits that are not finite"
    assert compared("f", "r", 1, reference, reference[:1]).problem == "gives logits of shape (1, 2) instead of (2, 2)"


def test_damaged_files_fail_the_check(run, capsys):
    assert main(["export", str(run)]) == 0
    assert main(["export", str(run), "--check"]) == 0
    path = run / "export" / "student.onnx"
    whole = path.read_bytes()

    model = onnx.load(path)
    weights = next(each for each in model.graph.initializer if each.dims and len(each.raw_data) > 100)
    changed = onnx.numpy_helper.to_array(weights).copy()
    changed.flat[0] += 1
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    onnx.save(model, path)
    capsys.readouterr()
    assert main(["export", str(run), "--check"]) == 1
    assert "student.onnx: has sha256" in (error := capsys.readouterr().err)
    assert "and 2 more problems" in error, "parity with 1 and 2 threads"

    path.write_bytes(whole[: len(whole) // 2])
    assert main(["export", str(run), "--check"]) == 1
    path.write_bytes(whole)
    (run / "export" / "student.pt2").write_bytes(b"not loaded, only hashed")
    assert main(["export", str(run), "--check"]) == 1
    assert "student.pt2: has sha256" in capsys.readouterr().err


def test_an_export_beyond_the_bound_fails_and_says_so_in_its_report(run, monkeypatch, capsys):
    monkeypatch.setattr("kd_bench.deploy.parity.LOGITS_APART", 1e-12)
    assert main(["export", str(run), "--int8"]) == 1
    assert "parity fails: student.onnx: onnxruntime, 1 thread: logits differ by at most" in capsys.readouterr().err
    report = read_report(run)
    assert report.failures
    assert report.int8 is None


def test_int8_is_a_run_of_its_own_beside_the_first(run, capsys):
    before = (run / "record.json").read_bytes()
    assert main(["export", str(run), "--int8"]) == 0
    assert (run / "record.json").read_bytes() == before
    found = read_report(run).int8
    record, variant = read_record(run / "record.json"), read_record(run.parent / found.run_id / "record.json")
    assert (variant.method.name, variant.variant_of) == ("kd int8", record.run_id)
    logits = logits_of(run.parent / found.run_id / "student.int8.onnx", images_of_the_test_split())
    saved = load_file(run.parent / found.run_id / "predictions.safetensors")
    assert np.allclose(logits, saved["test/last"].numpy(), atol=1e-4)
    top1 = float((logits.argmax(1) == saved["test/targets"].numpy()).mean())
    assert variant.headline().test.top1 == pytest.approx(top1) == pytest.approx(found.test_top1)
    assert variant.student.weights_sha256 != record.student.weights_sha256
    assert found.bytes < 0.5 * read_report(run).files["student.onnx"].bytes

    assert main(["check", str(run.parent)]) == 0, "the id follows from the record, the metrics from the predictions"
    assert "3 checked" in capsys.readouterr().out
    assert main(["export", str(run), "--int8"]) == 0, "a second time it is there already"
    board = run.parent.parent / "board"
    assert main(["leaderboard", "--records", str(run.parent), "--out", str(board)]) == 0
    assert "kd int8" in (board / "leaderboard.csv").read_text()
    capsys.readouterr()
    assert main(["export", str(run.parent / found.run_id)]) == 2
    assert record.run_id in capsys.readouterr().err


@pytest.fixture
def plain(trained) -> str:
    runs, record = trained
    return str(runs / record.run_id)


@pytest.mark.parametrize("command", ["export", "profile"])
def test_what_is_not_there_is_named(plain, run, command, capsys, monkeypatch):
    assert main([command, "nowhere"]) == 2
    assert "run 'nowhere': no finished run there" in capsys.readouterr().err
    assert main([command, plain, "plugins=[elsewhere]"]) == 2
    (run / "student.safetensors").unlink()
    capsys.readouterr()
    assert main([command, str(run)]) == 4
    assert "student.safetensors: no such weight file" in capsys.readouterr().err
    monkeypatch.setattr(deploy_options, "find_spec", lambda name: None if name.startswith("onnx") else True)
    assert main([command, plain]) == 2
    assert capsys.readouterr().err == (
        f"kd-bench: {command}: needs onnx, onnxscript, onnxruntime; pip install 'kd-bench[deploy]'\n"
    )


def test_a_check_needs_an_export(plain, capsys):
    assert main(["export", plain, "--check"]) == 2
    assert "has not been exported" in capsys.readouterr().err


def test_a_full_disk_leaves_what_was_there(trained, disk, capsys):
    runs, record = trained
    folder = disk(16 << 20)
    shutil.copytree(runs, folder / "runs")
    run = folder / "runs" / record.run_id
    assert main(["export", str(run)]) == 0
    before = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    fill(folder)
    capsys.readouterr()
    assert main(["export", str(run)]) == 4
    assert "student.onnx cannot be written: No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (run / "export").iterdir()} == before


FAST = ["recipe.epochs=1", "dataset.train_samples=50", "trainer.threads=1", "trainer.progress=none", "logger=none"]


def test_a_run_with_a_plugin_is_exported_where_its_code_is_named(working_directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kd_bench.config.composition._FURTHER", [])
    monkeypatch.setattr("kd_bench.config.plugins._FOLDERS", [])
    monkeypatch.delitem(sys.modules, "deployed_kd", raising=False)
    assert main(["new-method", "deployed_kd", "--out", str(tmp_path / "repository")]) == 0
    there = ["--config-dir", str(tmp_path / "repository" / "my_conf")]
    train_it = ["train", *there, "plugins=[deployed_kd]", "method=deployed_kd", "teacher.name=resnet8_cifar", *FAST]
    assert main(train_it) == 0
    records = map(read_record, Path("runs").glob("*/record.json"))
    (record,) = [each for each in records if each.method.name == "deployed_kd"]
    capsys.readouterr()
    assert main(["export", record.run_id, *there]) == 2
    assert "say plugins=[deployed_kd] if you trust it" in capsys.readouterr().err
    assert main(["export", record.run_id, *there, "plugins=[deployed_kd]", "--int8"]) == 0
    assert main(["check", "runs"]) == 0
    assert "3 checked" in capsys.readouterr().out
