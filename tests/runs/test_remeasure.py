"""kd-bench evaluate: a finished run measured again, compared, printed and written beside its record."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from kd_bench.cli.main import main
from kd_bench.config.files import file_sha256
from kd_bench.errors import IntegrityError
from kd_bench.results.checking.load import load
from kd_bench.results.publish import publish
from kd_bench.results.records.directory import PREDICTIONS_FILE, WEIGHTS_FILE
from kd_bench.results.records.record import RECORD_FILE, Record, read_record, write_record
from kd_bench.results.records.supplement import EVALUATION_FILE, read_evaluation
from kd_bench.runs.restore import restore
from kd_bench.runs.run import run

FAST = ["recipe.epochs=2", "dataset.train_samples=200", "logger=none", "trainer.progress=none", "trainer.threads=1"]
SECTIONS = "evaluation.sections=[embeddings,train_fidelity]"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def trained(compose, runs) -> Record:
    return run(compose(*FAST, "method=kd", "teacher.name=resnet8_cifar", "study=mine", f"paths.runs={runs}"))


def evaluate(*arguments: str) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_a_run_is_evaluated_by_id_and_by_directory(trained, runs, capsys):
    assert evaluate(trained.run_id, "--runs", runs) == 0
    by_id = capsys.readouterr().out
    assert evaluate(runs / trained.run_id) == 0
    assert capsys.readouterr().out == by_id
    test = trained.metrics.last.test
    lines = {line.split()[0]: line.split()[1:] for line in by_id.splitlines() if line.split()}
    assert by_id.startswith(f"run {trained.run_id}: digits, resnet8_cifar -> resnet8_cifar, kd, seed 0\n")
    assert lines["top1"] == [f"{trained.metrics.last.validation.top1:.4g}", f"{test.top1:.4g}"]
    assert lines["nll"][1:] == [f"{test.nll:.4g}", f"{test.scaled.nll:.4g}"]
    assert lines["temperature"] == [f"{test.scaled.temperature:.4g}"]
    assert "classes significantly worse than the teacher: " in by_id
    assert not (runs / trained.run_id / EVALUATION_FILE).exists()


def test_json_has_every_number(trained, runs, capsys):
    assert evaluate(runs / trained.run_id, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["metrics"] == json.loads(trained.metrics.model_dump_json())
    assert (content["differences"], content["full"], content["run_id"]) == ([], None, trained.run_id)


def test_full_measures_the_restored_weights_and_write_puts_it_beside_the_record(trained, runs, capsys):
    folder = runs / trained.run_id
    before = (folder / RECORD_FILE).read_bytes()
    assert evaluate(folder, "--full", "--write", SECTIONS) == 0
    shown = capsys.readouterr().out
    assert f"written: {folder / EVALUATION_FILE}" in shown
    assert (folder / RECORD_FILE).read_bytes() == before
    written = read_evaluation(folder / EVALUATION_FILE)
    assert written.metrics == trained.metrics
    assert 0 < written.full.embedding_cka <= 1
    assert f"{written.full.embedding_cka:.4g}" in shown
    (student,) = [record for record in load(runs).records if record.run_id == trained.run_id]
    assert student.full == written.full
    assert evaluate(folder, "--write") == 2
    assert "holds a full evaluation, which would be lost" in capsys.readouterr().err
    assert read_evaluation(folder / EVALUATION_FILE) == written


def test_publishing_takes_the_supplement_along(trained, runs, tmp_path, capsys):
    assert evaluate(runs / trained.run_id, "--full", "--write", SECTIONS) == 0
    records = tmp_path / "results" / "records"
    assert publish(["mine"], runs, tmp_path / "results").records >= 1
    names = {path.name for path in records.rglob("*.json")}
    assert {"seed0.json", "seed0.evaluation.json"} <= names
    assert [record.full is not None for record in load(records).records if record.role == "student"] == [True]
    (runs / trained.run_id / EVALUATION_FILE).unlink()
    publish(["mine"], runs, tmp_path / "results")
    assert not list(records.rglob("*.evaluation.json"))


def test_publishing_refuses_what_belongs_to_another_run(trained, runs, tmp_path):
    assert evaluate(runs / trained.run_id, "--write") == 0
    path = runs / trained.run_id / EVALUATION_FILE
    path.write_text(path.read_text().replace(trained.run_id, "0" * 16))
    with pytest.raises(IntegrityError, match=f"^{path} it is of run 0000000000000000, not of {trained.run_id}$"):
        publish(["mine"], runs, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_restored_networks_give_the_saved_predictions(trained, runs):
    from kd_bench.evaluation.predictions import predict

    restored = restore(trained, runs / trained.run_id)
    saved = load_file(runs / trained.run_id / PREDICTIONS_FILE)
    batches = restored.data.evaluation_loader(restored.data.test)
    assert torch.allclose(predict(restored.pair.student, batches), saved["test/last"], atol=1e-5)
    assert torch.allclose(predict(restored.pair.teacher, batches), saved["test/teacher"], atol=1e-5)


def tampered(runs, record: Record, **test) -> None:
    """A record that claims other numbers than its predictions give."""
    last = record.metrics.last
    last = last.model_copy(update={"test": last.test.model_copy(update=test)})
    changed = record.model_copy(update={"metrics": record.metrics.model_copy(update={"last": last})})
    (runs / record.run_id / RECORD_FILE).unlink()
    write_record(changed, runs / record.run_id / RECORD_FILE)


def test_a_record_that_its_predictions_contradict_is_named_and_gets_no_supplement(trained, runs, capsys):
    tampered(runs, trained, top1=0.99, brier=0.01)
    assert evaluate(runs / trained.run_id, "--write") == 4
    error = capsys.readouterr().err
    assert error.startswith("kd-bench: metrics.last.test.top1=0.99: the predictions give ")
    assert "and 1 more numbers differ" in error
    assert not (runs / trained.run_id / EVALUATION_FILE).exists()


def test_a_record_from_before_there_was_a_metric_is_no_contradiction(trained, runs, capsys):
    tampered(runs, trained, brier=None, kl=None, scaled=None)
    assert evaluate(runs / trained.run_id, "--write") == 0
    (student,) = [record for record in load(runs).records if record.run_id == trained.run_id]
    assert student.metrics == trained.metrics


def test_predictions_that_changed_are_refused(trained, runs, capsys):
    path = runs / trained.run_id / PREDICTIONS_FILE
    values = load_file(path)
    save_file({**values, "test/last": values["test/last"] + 1}, path)
    assert evaluate(runs / trained.run_id) == 4
    assert "is not the file of its record: its content has changed" in capsys.readouterr().err


@pytest.mark.parametrize("fix_record", [False, True])
def test_weights_that_changed_are_refused(trained, runs, capsys, fix_record):
    """Even where the record was made to fit them, they do not give the predictions."""
    from kd_bench.models.weights import weights_sha256

    path = runs / trained.run_id / WEIGHTS_FILE
    weights = {name: value.clone() for name, value in load_file(path).items()}
    weights["fc.weight"] = -weights["fc.weight"]
    save_file(weights, path)
    if fix_record:
        student = trained.student.model_copy(update={"weights_sha256": weights_sha256(weights)})
        artifacts = {**trained.artifacts, WEIGHTS_FILE: file_sha256(path)}
        changed = trained.model_copy(update={"student": student, "artifacts": artifacts})
        (runs / trained.run_id / RECORD_FILE).unlink()
        write_record(changed, runs / trained.run_id / RECORD_FILE)
    assert evaluate(runs / trained.run_id, "--full", SECTIONS) == 4
    expected = "its weights predict another class" if fix_record else "student.weights_sha256="
    assert expected in capsys.readouterr().err


def test_a_lost_teacher_is_named(trained, runs, capsys):
    (runs / trained.teacher.run_id / RECORD_FILE).unlink()
    assert evaluate(runs / trained.run_id, "--full", SECTIONS) == 4
    assert f"teacher.checkpoint='{trained.teacher.run_id}': neither a finished run" in capsys.readouterr().err
    assert evaluate(runs / trained.run_id) == 0


def test_a_record_says_what_files_and_training_cost(compose, trained, runs):
    assert trained.student.file_bytes == (runs / trained.run_id / WEIGHTS_FILE).stat().st_size
    assert trained.teacher.file_bytes == (runs / trained.teacher.run_id / WEIGHTS_FILE).stat().st_size
    assert trained.student.trainable_parameters == trained.student.parameters
    assert 0 < trained.cost.teacher_forward_share < 0.6
    assert 2**27 < trained.cost.peak_memory_bytes < 2**34
    assert trained.cost.device_peak_memory_bytes is None
    assert read_record(runs / trained.teacher.run_id / RECORD_FILE).cost.teacher_forward_share == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "run 'nowhere': no finished run there, nor in "),
        (["RUN", "paths.data=x"], "paths.data=x: overrides are for --full"),
        (["RUN", "--full", "evaluation.sections=[speed]"], "evaluation.sections"),
        (["RUN", "--full", "evaluation.section=[latency]"], "evaluation.section"),
    ],
)
def test_wrong_usage_is_one_line(trained, runs, capsys, arguments, message):
    given = [str(runs / trained.run_id) if argument == "RUN" else argument for argument in arguments]
    assert evaluate(*given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_record_of_an_ensemble_is_evaluated_in_full(compose, runs):
    small = [f"teacher.members.{member}.name=resnet8_cifar" for member in ("first", "second")]
    record = run(compose(*FAST, "method=kd", "teacher=ensemble", *small, f"paths.runs={runs}"))
    assert evaluate(runs / record.run_id, "--full", "--write", SECTIONS) == 0
    full = read_evaluation(runs / record.run_id / EVALUATION_FILE).full
    assert full.not_measured["embedding_cka"] == "an ensemble has no embedding of its own"
    assert full.train_fidelity.samples == 200
    assert read_record(runs / record.run_id / RECORD_FILE) == record
