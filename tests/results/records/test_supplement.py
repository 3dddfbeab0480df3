"""What is measured later lies beside the record: read with it, never in place of it."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from support.records import record_content, save

from kd_bench.errors import IntegrityError
from kd_bench.results.checking.load import load
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.results.records.supplement import (
    EVALUATION_FILE,
    Evaluation,
    read_evaluation,
    supplement_path,
    supplemented,
    write_evaluation,
)

FULL = {"embedding_cka": 0.5, "not_measured": {"latency": "not asked for", "cifar_c": "absent"}}


def old_record(**changes) -> Record:
    """Without what the first records did not have."""
    content = record_content(**changes)
    for rule in content["metrics"].values():
        for key in set(rule or {}) - {"epoch", "validation", "test"}:
            rule[key] = {} if key == "not_measured" else None
        for split in ("validation", "test"):
            if rule:
                rule[split] = {name: rule[split][name] for name in OLD}
    content.pop("full", None)
    return Record.model_validate_json(json.dumps(content))


OLD = (
    *("top1", "top5", "nll", "ece", "ece_noise_floor", "teacher_agreement"),
    *("negative_flips", "positive_flips", "retention"),
)


def evaluation(record: Record, full: dict | None = None, day: int = 1, **test) -> Evaluation:
    content = json.loads(record.model_dump_json(include={"metrics", "code", "environment", "hardware", "run_id"}))
    content["metrics"]["last"]["test"] |= {"brier": 0.4, "kl": 0.2, **test}
    when = datetime(2025, 1, day, tzinfo=timezone.utc).isoformat()
    return Evaluation.model_validate_json(json.dumps({**content, "evaluated_at": when, "full": full}))


def test_an_evaluation_is_read_back_exactly(tmp_path):
    written = evaluation(old_record(), FULL)
    write_evaluation(written, tmp_path / EVALUATION_FILE)
    assert read_evaluation(tmp_path / EVALUATION_FILE) == written


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"run_id": 3}', "\udcff"])
def test_what_is_no_evaluation_is_one_line(tmp_path, text):
    path = tmp_path / EVALUATION_FILE
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        IntegrityError, match=r"evaluation\.json (is not a valid evaluation|cannot be read): "
    ) as caught:
        read_evaluation(path)
    assert "\n" not in str(caught.value)


def test_what_the_record_lacks_is_added_and_nothing_is_replaced():
    record = old_record(top1=0.75)
    found = supplemented(record, evaluation(record, FULL, top1=0.75 + 1e-9))
    test = found.metrics.last.test
    assert (test.brier, test.kl, test.top1) == (0.4, 0.2, 0.75)
    assert found.metrics.last.validation == record.metrics.last.validation
    assert found.full.embedding_cka == 0.5
    same = {"metrics", "full"}
    assert found.model_dump(exclude=same) == record.model_dump(exclude=same)
    assert record.metrics.last.test.brier is None


def test_sections_are_filled_one_by_one_and_their_reasons_go():
    record = old_record()
    first = supplemented(record, evaluation(record, FULL))
    fidelity = {"top1": 0.5, "teacher_top1": 0.5, "teacher_agreement": 0.5, "kl": 0.1}
    more = {
        "train_fidelity": {"samples": 5, "clean": fidelity, "augmented": fidelity},
        "embedding_cka": 0.9,
        "not_measured": {"cifar_c": "still absent", "transfer.digits": "absent"},
    }
    second = supplemented(first, evaluation(record, more))
    assert second.full.embedding_cka == 0.5
    assert second.full.train_fidelity.samples == 5
    assert set(second.full.not_measured) == {"latency", "cifar_c", "transfer.digits"}
    third = {"latency": LATENCY, "not_measured": {}}
    assert "latency" not in supplemented(second, evaluation(record, third)).full.not_measured


LATENCY = {
    "batch_size": 1,
    "threads": 1,
    "processes": 3,
    "timings": 200,
    "teacher": None,
    "p50_ratio": None,
    "student": {
        "p50_ms": 1.0,
        "p95_ms": 1.0,
        "p99_ms": 1.0,
        "images_per_second": 9.0,
        "best_batch": 4,
        "activation_bytes": 10,
        "load_seconds": 0.1,
    },
}


def test_a_supplement_of_another_run_or_that_contradicts_is_refused():
    record = old_record()
    other = old_record(seed=5)
    with pytest.raises(IntegrityError, match=f"^it is of run {other.run_id}, not of {record.run_id}$"):
        supplemented(record, evaluation(other))
    with pytest.raises(IntegrityError, match=r"^it contradicts the record: metrics\.last\.test\.ece=0\.04: "):
        supplemented(record, evaluation(record, ece=0.05))


def saved(record: Record, path: Path, *evaluations: Evaluation) -> None:
    save(record.model_dump_json(), path)
    for each in evaluations:
        write_evaluation(each, supplement_path(path))


@pytest.mark.parametrize(
    ("name", "supplement"), [(RECORD_FILE, EVALUATION_FILE), ("seed3.json", "seed3.evaluation.json")]
)
def test_boards_read_the_supplement_beside_a_record(tmp_path, name, supplement):
    record = old_record(seed=3)
    saved(record, tmp_path / "a" / name, evaluation(record, FULL))
    assert {path.name for path in (tmp_path / "a").iterdir()} == {name, supplement}
    found = load(tmp_path)
    assert found.rejected == ()
    assert found.records == (supplemented(record, evaluation(record, FULL)),)


def test_a_copy_without_a_supplement_is_no_other_record_and_the_latest_supplement_counts(tmp_path):
    record = old_record()
    saved(record, tmp_path / "a" / RECORD_FILE)
    saved(record, tmp_path / "b" / RECORD_FILE, evaluation(record, {"embedding_cka": 0.1}, day=2))
    saved(record, tmp_path / "c" / RECORD_FILE, evaluation(record, {"embedding_cka": 0.9}, day=3))
    found = load(tmp_path)
    assert found.rejected == ()
    assert [each.full.embedding_cka for each in found.records] == [0.9]


def test_a_supplement_that_cannot_be_used_is_listed_and_the_record_stays(tmp_path):
    first, second, third = (old_record(seed=seed) for seed in range(3))
    saved(first, tmp_path / "a" / RECORD_FILE, evaluation(second))
    saved(second, tmp_path / "b" / RECORD_FILE, evaluation(second, nll=9.0))
    saved(third, tmp_path / "c" / RECORD_FILE)
    save("{", tmp_path / "c" / EVALUATION_FILE)
    found = load(tmp_path)
    assert sorted(found.records, key=lambda record: record.seed) == [first, second, third]
    reasons = {each.path: each.reason.partition(":")[0] for each in found.rejected}
    assert reasons == {
        "a/evaluation.json": f"it is of run {second.run_id}, not of {first.run_id}",
        "b/evaluation.json": "it contradicts the record",
        "c/evaluation.json": "is not a valid evaluation",
    }
