"""The short form of published records: what it keeps, what it leaves out, and how many bytes that takes."""

import json
from pathlib import Path

import jsonschema
import pytest
from support.records import make_record, measured_content, record_content

from kd_bench.config.paths import CHECKOUT
from kd_bench.results.records.command import to_record
from kd_bench.results.records.compact import are_copies, as_lines, shortened, shortened_evaluation
from kd_bench.results.records.measured import SelectedMetrics, SplitMetrics
from kd_bench.results.records.record import SCHEMA_FILE, Record, read_record
from kd_bench.results.records.supplement import Evaluation, supplemented

COMMITTED = sorted((CHECKOUT / "results" / "records").rglob("seed*[0-9].json"))
# Those that every record has, since the first one.
ALWAYS = {"top1", "top5", "nll", "ece", "ece_noise_floor", "teacher_agreement", "negative_flips", "positive_flips"}


def measured(**changes: object) -> Record:
    return Record.model_validate(measured_content(record_content(best=0.76)) | changes, strict=False)


def texts(node: object) -> set[str]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return {node} if isinstance(node, str) else set().union(*map(texts, inner))


def test_a_line_for_each_key_and_arrays_on_one(tmp_path):
    record = measured(config={"a": {"b": [1, [2.5, {"c": None}]], "d": {}}, "e": 'ü"'})
    text = as_lines(record)
    config = text[text.index('"config":') :].splitlines()[:7]
    assert config == ['"config":{', '"a":{', '"b":[1,[2.5,{"c":null}]],', '"d":{}', "},", '"e":"ü\\""', "},"]
    assert text.endswith("\n}\n")
    (tmp_path / "record.json").write_text(text, encoding="utf-8")
    assert read_record(tmp_path / "record.json") == record


def test_a_short_record_names_no_host_and_no_curves(tmp_path):
    record = measured()
    short = shortened(record.model_copy(update={"hardware": record.hardware.model_copy(update={"host": "mine.org"})}))
    (tmp_path / "seed0.json").write_text(as_lines(short), encoding="utf-8")
    content = json.loads((tmp_path / "seed0.json").read_text(encoding="utf-8"))
    assert "mine.org" not in texts(content)
    assert "history" not in content
    assert len(content["history_sha256"]) == 64
    assert read_record(tmp_path / "seed0.json") == short
    jsonschema.validate(content, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def test_the_headline_on_the_test_split_is_complete_and_the_rest_is_what_all_records_have():
    record = measured()
    short = shortened(record)
    for name in SelectedMetrics.model_fields.keys() - {"validation"}:
        assert getattr(short.headline(), name) == getattr(record.headline(), name)
    rest = [short.metrics.last.validation, short.metrics.best_on_validation.validation]
    rest += [short.metrics.best_on_validation.test]
    for split in rest:
        assert {name for name, value in split.model_dump().items() if value is not None} <= ALWAYS | {"retention"}
    assert short.metrics.best_on_validation.classes is None
    assert short.metrics.best_on_validation.test.top1 == record.metrics.best_on_validation.test.top1 == 0.76
    assert record.metrics.best_on_validation.test.brier is not None, "and the record itself stays as it is"


def test_shortening_again_changes_nothing():
    short = shortened(measured())
    assert shortened(short) == short


def test_a_network_from_elsewhere_has_no_curves():
    assert shortened(make_record()).history_sha256 is None


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_record_of_the_demo_takes_at_most_8_kilobytes(path: Path):
    record = read_record(path)
    short = shortened(record.model_copy(update={"overrides": to_record(record.config)}))
    assert len(as_lines(short).encode()) <= 8 * 1024


def test_complete_and_published_copies_are_one_record():
    record = measured()
    asked = record.model_copy(update={"overrides": ["method=kd"]})
    assert are_copies([record, asked, shortened(record), shortened(asked)])


@pytest.mark.parametrize(
    ("key", "value"),
    [("history", [{"epoch": 1.0}]), ("recipe", "other"), ("config", {"recipe": {"epochs": 9}})],
)
def test_what_differs_is_no_copy(key, value):
    record, other = measured(), measured(**{key: value})
    assert not are_copies([record, other])
    assert not are_copies([shortened(record), other])
    assert not are_copies([shortened(record), shortened(other)])


def test_a_run_that_two_studies_trained_each_is_one_record():
    """The same result at another time on another machine, of which less was measured."""
    record = measured()
    hardware = record.hardware.model_copy(update={"host": "elsewhere", "processor": "q"})
    times = record.times.model_copy(update={"train_seconds": 99.0, "resumed": 3})
    teacher = record.teacher.model_copy(update={"source": "another file"})
    update = {"study": "another", "hardware": hardware, "times": times, "teacher": teacher, "cost": None}
    elsewhere = record.model_copy(update={**update, "config": {**record.config, "study": "another"}})
    assert are_copies([record, elsewhere, elsewhere.model_copy(update={"full": None}), shortened(elsewhere)])


@pytest.mark.parametrize("part", ["student", "artifacts", "metrics"])
def test_another_result_of_the_same_run_is_a_contradiction(part):
    record = measured()
    changes = {
        "student": record.student.model_copy(update={"weights_sha256": "0" * 64}),
        "artifacts": {"predictions.safetensors": "0" * 64},
        "metrics": Record.model_validate(record_content(top1=0.7), strict=False).metrics,
    }
    assert not are_copies([record, record.model_copy(update={part: changes[part]})])


def evaluation(record: Record) -> Evaluation:
    content = json.loads(record.model_dump_json(include={"metrics", "full", "code", "environment", "hardware"}))
    return Evaluation.model_validate_json(
        json.dumps({**content, "run_id": record.run_id, "evaluated_at": "2025-01-02T00:00:00Z"})
    )


def test_a_supplement_repeats_nothing_that_its_record_says():
    whole = measured()
    record = whole.model_copy(update={"full": None})
    short = shortened_evaluation(evaluation(whole), record)
    assert (short.metrics, short.hardware.host) == (None, None)
    assert Evaluation.model_validate_json(as_lines(short)) == short
    assert supplemented(record, short) == whole
    assert supplemented(shortened(record), short).full == whole.full


def test_a_supplement_keeps_what_its_record_lacks():
    whole, record = measured(), Record.model_validate(record_content(best=0.76), strict=False)
    short = shortened_evaluation(evaluation(whole), record)
    filled = supplemented(shortened(record), short)
    assert filled.headline().test == whole.headline().test
    assert filled.headline().classes == whole.headline().classes
    assert SplitMetrics.model_validate(short.metrics.last.validation.model_dump()).brier is None
