"""What evaluation=full adds to a record: each section against what the networks themselves give."""

import dataclasses

import pytest
import torch

from kd_bench.data.batch import Batch
from kd_bench.evaluation import full, transfer
from kd_bench.evaluation.fidelity import kl_divergence, linear_cka
from kd_bench.evaluation.predictions import embed, predict
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.supplement import EVALUATION_FILE, read_evaluation
from kd_bench.runs.restore import restore
from kd_bench.runs.run import run

FAST = ["recipe.epochs=2", "dataset.train_samples=200", "logger=none", "trainer.progress=none", "trainer.threads=1"]
WITHOUT_LATENCY = "evaluation.sections=[embeddings,train_fidelity,corruptions,transfer]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def train(compose, runs, monkeypatch):
    """As on a machine without Fashion-MNIST."""
    monkeypatch.setattr(transfer, "FASHION_MNIST", dataclasses.replace(transfer.FASHION_MNIST, ways=(("no",),)))

    def of(*overrides: str) -> Record:
        return run(compose(*FAST, "teacher.name=resnet14_cifar", f"paths.runs={runs}", *overrides))

    return of


def test_sections_measure_the_saved_weights(train, runs):
    record = train("method=kd", "evaluation=full", WITHOUT_LATENCY)
    restored = restore(record, runs / record.run_id)
    pair, data, found = restored.pair, restored.data, record.full
    assert pair.teacher is not None

    test = [Batch(data.test.images, data.test.targets, torch.arange(719))]
    expected = linear_cka(embed(pair.student, test), embed(pair.teacher, test))
    assert found.embedding_cka == pytest.approx(expected, abs=1e-6)

    images, index = data.train.images, torch.arange(200)
    for name, seen in (("clean", images), ("augmented", data.augmentation(images, index, seed=0, epoch=2))):
        batch = [Batch(seen, data.train.targets, index)]
        ours, theirs = predict(pair.student, batch), predict(pair.teacher, batch)
        fidelity = getattr(found.train_fidelity, name)
        assert fidelity.top1 == float((ours.argmax(1) == data.train.targets).double().mean())
        assert fidelity.teacher_top1 == float((theirs.argmax(1) == data.train.targets).double().mean())
        assert fidelity.teacher_agreement == float((ours.argmax(1) == theirs.argmax(1)).double().mean())
        assert fidelity.kl == pytest.approx(kl_divergence(theirs, ours), abs=1e-6)
    assert found.train_fidelity.samples == 200

    assert found.corruptions.samples == 719
    assert found.corruptions.clean_top1 == record.headline().test.top1
    assert set(found.corruptions.top1) == set(found.corruptions.teacher_top1)
    assert found.transfer == {}
    assert found.not_measured == {
        "cifar_c": "there is no such set for this data set",
        "transfer.fashion_mnist": found.not_measured["transfer.fashion_mnist"],
        "latency": full.NOT_ASKED_FOR,
    }
    assert found.not_measured["transfer.fashion_mnist"].startswith("absent: place ")


def test_the_teacher_of_a_full_run_is_measured_beside_the_student_only(train, runs):
    record = train("method=kd", "evaluation=full", WITHOUT_LATENCY)
    assert read_record(runs / record.teacher.run_id / RECORD_FILE).full is None


def test_without_a_teacher_nothing_refers_to_one(train):
    found = train("method=scratch", "teacher.name=null", "evaluation=full", WITHOUT_LATENCY).full
    assert (found.embedding_cka, found.train_fidelity) == (None, None)
    assert found.not_measured["embedding_cka"] == found.not_measured["train_fidelity"] == full.NO_TEACHER
    assert (found.corruptions.teacher_top1, found.corruptions.mce) == (None, None)


def test_what_is_measured_changes_neither_the_run_nor_its_name(train, runs, capsys):
    first = train("method=at", "seed=4", "trainer.progress=lines")
    assert (first.full, first.config["evaluation"]) == (None, {"sections": []})
    again = train("method=at", "seed=4", "evaluation=full", WITHOUT_LATENCY, "trainer.progress=lines")
    assert again == first
    path = runs / first.run_id / EVALUATION_FILE
    assert f"measured in full: {path}" in capsys.readouterr().out
    once = read_evaluation(path).full
    assert once is not None
    assert 0 < once.embedding_cka <= 1
    assert once.not_measured["latency"] == full.NOT_ASKED_FOR
    written = path.read_bytes()
    train("method=at", "seed=4", "evaluation=full", WITHOUT_LATENCY)
    assert path.read_bytes() == written  # nothing is lacking


def test_a_section_asked_for_later_is_added_to_the_earlier_ones(train, runs):
    first = train("method=at", "seed=5")
    for section in ("embeddings", "train_fidelity"):
        train("method=at", "seed=5", "evaluation=full", f"evaluation.sections=[{section}]")
    found = read_evaluation(runs / first.run_id / EVALUATION_FILE).full
    at_once = train("method=at", "seed=5", "evaluation=full", "evaluation.sections=[embeddings,train_fidelity]",
                    f"paths.runs={runs / 'once'}").full  # fmt: skip
    assert found == at_once


def test_a_machine_that_cannot_measure_says_why_and_keeps_the_rest(train, monkeypatch):
    def fails(*arguments):
        raise full.KDBenchError("a measuring process failed: no memory")

    monkeypatch.setattr(full, "latency", fails)
    record = train("method=fitnet", "evaluation=full", "evaluation.sections=[embeddings,latency]")
    assert 0 < record.full.embedding_cka <= 1
    assert record.full.latency is None
    assert record.full.not_measured["latency"] == "a measuring process failed: no memory"
