"""``kd-bench verify``: what holds is told step by step, what does not is named and is exit code 4."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.trained import train

from kd_bench.cli.main import main
from kd_bench.config.files import file_sha256
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.models.weights import weights_sha256
from kd_bench.results.records.record import read_record

METHODS = ["kd", "simkd", "born_again", "byot"]  # plain; with a head of its own; of a chain; with predicting exits


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("verified") / "runs"
    for method in METHODS:
        train(runs, f"method={method}")
    return runs


@pytest.fixture
def there(finished, tmp_path, monkeypatch) -> Path:
    """A working directory with a copy of these runs in ``runs``."""
    shutil.copytree(finished, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def folder_of(runs: Path, method: str = "kd") -> Path:
    (found,) = [path.parent for path in runs.glob("*/record.json") if read_record(path).method.name == method]
    return found


def refusal(capsys, *arguments: str, code: int = 4) -> str:
    assert main(["verify", *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("kd-bench: ")
    assert error.count("\n") == 1
    return error.removeprefix("kd-bench: ").rstrip("\n")


def rewrite(folder: Path, **changes: object) -> None:
    """Change the record at ``a__b``, and give it the hashes of the files that lie beside it."""
    content = json.loads((folder / "record.json").read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = content
        for name in parents:
            node = node[name]
        node[last] = value
    content["artifacts"] = {name: file_sha256(folder / name) for name in content["artifacts"]}
    (folder / "record.json").write_text(json.dumps(content))


# --- What holds ---


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_computed_again_bit_for_bit(there, method, capsys):
    folder = folder_of(there, method)
    assert main(["verify", folder.name]) == 0
    *steps, last = capsys.readouterr().out.splitlines()
    assert [step.partition(":")[0] for step in steps] == [
        *("record", "files", "metrics", "data", "weights", "sizes", "predictions", "teacher")
    ]
    assert steps[-2] == "predictions: validation/last, test/last computed again, bitwise equal"
    assert steps[-1] == "teacher: validation/teacher, test/teacher computed again, bitwise equal"
    assert last == f"runs/{folder.name}: checked"


@pytest.mark.parametrize("method", ["kd", "born_again"])
def test_a_run_is_trained_again_bit_for_bit_and_leaves_nothing_behind(there, method, capsys, monkeypatch, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = sorted(there.rglob("*"))
    folder = folder_of(there, method)
    assert main(["verify", str(folder), "--retrain"]) == 0
    shown = capsys.readouterr().out
    assert str(temporary) not in shown
    *_, training, last = shown.splitlines()
    assert training == "training: weights, predictions and metrics of a second training are bitwise equal"
    assert last == f"{folder}: reproduced"
    assert sorted(there.rglob("*")) == before
    assert list(temporary.iterdir()) == []


def test_without_its_teacher_s_run_the_rest_is_verified(there, capsys):
    folder = folder_of(there)
    shutil.rmtree(there / read_record(folder / "record.json").teacher.run_id)
    assert main(["verify", str(folder)]) == 0
    assert "teacher: not computed again: the run " in capsys.readouterr().out


def test_on_a_machine_of_another_kind_a_training_need_not_be_bitwise_equal(there, capsys):
    """Another record of the same run, as if from elsewhere: its numbers lie within the tolerance."""
    folder = folder_of(there)
    logits = dict(load_file(folder / "predictions.safetensors"))
    logits["test/best_on_validation"] = logits["test/best_on_validation"] * (1 + 1e-7)
    save_file(logits, folder / "predictions.safetensors")
    rewrite(folder, hardware__processor="another")
    assert main(["verify", str(folder), "--retrain"]) == 0
    training = capsys.readouterr().out.splitlines()[-2]
    assert training == (
        "training: on another machine, predictions.safetensors test/best_on_validation: differs from that of the "
        "second training; test top-1 +0.00 points"
    )


# --- What does not ---


def test_a_flipped_byte_is_named(there, capsys):
    folder = folder_of(there)
    path = folder / "student.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert refusal(capsys, str(folder)).startswith("artifacts.student.safetensors=")


def test_a_missing_file_is_named(there, capsys):
    folder = folder_of(there)
    (folder / "student.safetensors").unlink()
    assert refusal(capsys, str(folder)).startswith("artifacts.student.safetensors: there is no such file in ")


def test_an_edited_metric_is_named(there, capsys):
    folder = folder_of(there)
    nll = read_record(folder / "record.json").metrics.last.test.nll
    rewrite(folder, metrics__last__test__nll=nll + 0.01)
    assert refusal(capsys, str(folder)) == f"metrics.last.test.nll={nll + 0.01}: the predictions give {nll}"


def test_other_weights_are_named(there, capsys):
    folder = folder_of(there)
    weights = dict(load_file(folder / "student.safetensors"))
    weights["fc.bias"] = weights["fc.bias"] + 1
    save_file(weights, folder / "student.safetensors")
    rewrite(folder)
    assert f" holds {weights_sha256(weights)}" in refusal(capsys, str(folder))


def test_weights_that_do_not_give_the_predictions_are_named(there, capsys):
    """Every hash fits, only the network is not the one that was evaluated."""
    folder = folder_of(there)
    weights = dict(load_file(folder / "student.safetensors"))
    weights["fc.bias"] = weights["fc.bias"] + torch.eye(10)[0]
    save_file(weights, folder / "student.safetensors")
    rewrite(folder, student__weights_sha256=weights_sha256(weights))
    assert refusal(capsys, str(folder)).startswith("predictions.safetensors validation/last: differs by ")


@pytest.mark.parametrize(
    ("key", "forged"),
    [
        *((f"{role}.{name}", 1000) for role in ("student", "teacher") for name in ("parameters", "macs", "file_bytes")),
        ("student.input_size", [4, 4]),
        ("teacher.input_size", [4, 4]),
        ("student.trainable_parameters", 1000),
        ("method.adapter_parameters", 1),
        ("dataset.duplicates", 1),
        ("dataset.class_names", list("abcdefghij")),
    ],
)
def test_a_forged_size_is_named(there, key, forged, capsys):
    folder = folder_of(there)
    part, name = key.split(".")
    true = getattr(getattr(read_record(folder / "record.json"), part), name)
    rewrite(folder, **{f"{part}__{name}": forged})
    expected = f"{key}={forged}: the networks and data at hand give {true}"
    error = refusal(capsys, str(folder))
    by_another_record = "another record" in error and f"{name}={forged}" in error  # that of the teacher says so first
    assert error == expected or by_another_record or ("teacher" in key and error.startswith(f"{key}="))


def test_a_forged_device_is_named(there, capsys):
    folder = folder_of(there)
    rewrite(folder, hardware__device="NVIDIA H100")
    expected = "hardware.device='NVIDIA H100': but config.trainer.accelerator='cpu'"
    assert refusal(capsys, str(folder)) == expected


def test_predictions_of_another_order_are_named(there, capsys):
    """The metrics follow from them: logits and labels were turned round together."""
    folder = folder_of(there)
    turned = {name: values.flip(0) for name, values in load_file(folder / "predictions.safetensors").items()}
    save_file({name: values.contiguous() for name, values in turned.items()}, folder / "predictions.safetensors")
    metrics = read_record(folder / "record.json").metrics
    epochs = {"last": metrics.last.epoch, "best_on_validation": metrics.best_on_validation.epoch}
    rewrite(folder, metrics=json.loads(metrics_of(turned, epochs).model_dump_json()))
    assert "predictions.safetensors validation/" in refusal(capsys, str(folder))


def test_another_teacher_is_named(there, capsys):
    """Its logits were exchanged, so that agreement could be claimed."""
    folder = folder_of(there)
    teacher = read_record(folder / "record.json").teacher
    path = there / teacher.run_id / "student.safetensors"
    weights = dict(load_file(path))
    weights["fc.bias"] = weights["fc.bias"] + 1
    save_file(weights, path)
    assert main(["verify", str(folder)]) == 4
    assert "is not the file of its record" in capsys.readouterr().err


def test_other_data_are_named(there, capsys):
    folder = folder_of(there)
    error = refusal(capsys, str(folder), "dataset.source.test_fraction=0.5", code=2)
    assert error.startswith("dataset: the overrides change the run; only trainer, study, evaluation, plugins and paths")


def test_a_training_that_differs_on_the_same_machine_is_named(there, capsys):
    """Everything fits together, but it is what another seed gave."""
    folder, other = folder_of(there), train(there / "lucky", "method=kd", "seed=7")
    for name in ("student.safetensors", "predictions.safetensors"):
        shutil.copy(there / "lucky" / other.run_id / name, folder / name)
    lucky = json.loads((there / "lucky" / other.run_id / "record.json").read_text())
    rewrite(
        folder,
        student__weights_sha256=other.student.weights_sha256,
        metrics=lucky["metrics"],
        history=lucky["history"],
    )
    assert main(["verify", str(folder)]) == 0
    capsys.readouterr()
    error = refusal(capsys, str(folder), "--retrain")
    assert error.startswith(f"student.weights_sha256={other.student.weights_sha256}: trained again ")
    assert error.endswith("(same machine, packages and threads)")


def test_code_from_elsewhere_is_not_run_because_a_record_says_so(there, capsys, tmp_path):
    (tmp_path / "their_kd.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    folder = folder_of(there)
    content = json.loads((folder / "record.json").read_text())
    content["config"]["plugins"] = ["their_kd"]
    rewrite(folder, config=content["config"])
    error = refusal(capsys, str(folder), code=2)
    assert error == (
        "plugins=['their_kd']: the run used code from elsewhere, which a record cannot ask for; say plugins=[their_kd] "
        "if you trust it"
    )
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["nothing", "0" * 16])
def test_no_such_run_is_exit_code_2(there, name, capsys):
    assert refusal(capsys, name, code=2) == f"run {name!r}: no finished run there, nor in runs"
