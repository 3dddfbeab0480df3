"""The record: its schema, its strictness, and that nothing is lost on the way to the disk and back."""

import json
import math
import random
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest

from kd_bench.errors import IntegrityError
from kd_bench.results.records.record import RECORD_FILE, SCHEMA_FILE, Record, read_record, schema_text, write_record
from kd_bench.runs.run import run

_REAL: dict[str, dict] = {}  # a record per method; training one takes a second


def real(compose, folder: Path, method: str) -> dict:
    if method not in _REAL:
        settings = ["recipe.epochs=1", "teacher.name=resnet8_cifar", "dataset.train_samples=100", "logger=none"]
        settings += ["trainer.progress=none", "trainer.threads=1", f"method={method}", f"paths.runs={folder}"]
        record = run(compose(*settings))
        _REAL[method] = json.loads((folder / record.run_id / RECORD_FILE).read_text(encoding="utf-8"))
    return deepcopy(_REAL[method])


@pytest.fixture
def content(compose, tmp_path) -> dict:
    return real(compose, tmp_path, "kd")


def test_the_published_schema_is_the_generated_one():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("method", ["kd", "scratch", "born_again", "byot", "kd_at"])
def test_real_records_satisfy_the_published_schema(compose, tmp_path, method):
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(real(compose, tmp_path, method))


def test_a_real_record_is_read_back_exactly(content, tmp_path):
    path = tmp_path / "copy.json"
    record = Record.model_validate_json(json.dumps(content))
    write_record(record, path)
    assert read_record(path) == record
    assert json.loads(path.read_text(encoding="utf-8")) == content


def test_numbers_survive_bit_for_bit(content, tmp_path):
    generator = random.Random(0)
    values = [generator.random() * 10.0 ** generator.randint(-300, 300) for _ in range(500)]
    values += [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 1 / 3, -0.0]
    content["history"] = [{"epoch": 1.0, **{f"train/{position}": value for position, value in enumerate(values)}}]
    record = Record.model_validate_json(json.dumps(content))
    write_record(record, tmp_path / "numbers.json")
    read = read_record(tmp_path / "numbers.json").history[0]
    assert [read[f"train/{position}"].hex() for position in range(len(values))] == [value.hex() for value in values]


def changed(content: dict, path: str, value: object) -> dict:
    *parents, last = path.split("/")
    node = content
    for parent in parents:
        node = node[parent]
    node[last] = value
    return content


def problems_of(content: dict, folder: Path) -> str:
    path = folder / "changed.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(IntegrityError) as caught:
        read_record(path)
    line = str(caught.value)
    assert caught.value.exit_code == 4
    assert line.startswith(f"{path} is not a valid record: ")
    assert "\n" not in line
    return line


TOP1 = "metrics/last/test/top1"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (TOP1, math.nan, "metrics.last.test.top1: Input should be a finite number"),
        (TOP1, math.inf, "metrics.last.test.top1: Input should be"),
        (TOP1, 1.7, "metrics.last.test.top1: Input should be less than or equal to 1"),
        (TOP1, -0.1, "metrics.last.test.top1: Input should be greater than or equal to 0"),
        (TOP1, "0.93", "metrics.last.test.top1: Input should be a valid number"),
        (TOP1, None, "metrics.last.test.top1: Input should be a valid number"),
        (TOP1, True, "metrics.last.test.top1: Input should be a valid number"),
        ("metrics/last/test/nll", math.nan, "metrics.last.test.nll: "),
        ("metrics/last/test/retention", "n/a", "metrics.last.test.retention: "),
        ("metrics/last/epoch", -1, "metrics.last.epoch: Input should be greater than or equal to 0"),
        ("metrics/last/epoch", 1.5, "metrics.last.epoch: "),
        ("seed", "3", "seed: Input should be a valid integer"),
        ("seed", -1, "seed: Input should be greater than or equal to 0"),
        ("seeds", 3, "seeds: Extra inputs are not permitted"),
        ("teacher/accuracy", 0.9, "teacher.accuracy: Extra inputs are not permitted"),
        ("run_id", "../../etc/passwd", "run_id: String should match pattern"),
        ("student/weights_sha256", "abc", "student.weights_sha256: String should match pattern"),
        ("student/parameters", 1.5, "student.parameters: Input should be a valid integer"),
        ("schema_version", 1, "schema_version: Input should be 2"),
        ("role", "winner", "role: Input should be 'student' or 'teacher'"),
        ("selection", "best", "selection: Input should be 'last', 'best_on_validation', 'best_on_test' or 'ema'"),
        ("selection", "best_on_test", "file: Value error, metrics.best_on_test belongs to selection=best_on_test"),
        ("times/train_seconds", -1.0, "times.train_seconds: "),
        ("times/started_at", "yesterday", "times.started_at: "),
        ("history", [{"train/loss": math.nan}], "history.0.train/loss: "),
        ("artifacts", {"student.safetensors": "0" * 63}, "artifacts.student.safetensors: "),
        ("dataset/num_classes", 1, "dataset.num_classes: "),
        ("dataset/image_size", [8], "dataset.image_size: "),
    ],
)
def test_a_record_that_is_not_right_is_refused(content, tmp_path, path, value, expected):
    assert expected in problems_of(changed(content, path, value), tmp_path)


def test_the_published_schema_refuses_the_same(content):
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    for path, value in ((TOP1, 1.7), (TOP1, "0.93"), (TOP1, None), ("seeds", 3), ("run_id", "x"), ("role", "winner")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed(deepcopy(content), path, value), schema)


@pytest.mark.parametrize("path", ["seed", "metrics", "dataset/content_sha256", "metrics/last/test/ece", "teacher"])
def test_a_missing_key_is_named(content, tmp_path, path):
    *parents, last = path.split("/")
    node = content
    for parent in parents:
        node = node[parent]
    del node[last]
    assert f"{path.replace('/', '.')}: Field required" in problems_of(content, tmp_path)


def test_all_problems_are_listed_at_once(content, tmp_path):
    for path, value in ((TOP1, 1.7), ("seed", "3"), ("seeds", 1), ("run_id", "x"), ("metrics/last/test/nll", math.nan)):
        changed(content, path, value)
    del content["recipe"]
    line = problems_of(content, tmp_path)
    listed = {problem.split(": ")[0] for problem in line.split(" is not a valid record: ")[1].split("; ")}
    assert listed == {"metrics.last.test.top1", "seed", "seeds", "run_id", "metrics.last.test.nll", "recipe"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{'single': 'quotes'}"])
def test_what_is_no_json_object_is_one_line(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(IntegrityError, match="is not a valid record: file: ") as caught:
        read_record(tmp_path / "r.json")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"study": "\xe9"}')
    for path in (tmp_path / "latin.json", tmp_path / "nothing.json", tmp_path):
        with pytest.raises(IntegrityError, match="cannot be read"):
            read_record(path)


def test_a_written_record_has_sorted_out_types(content):
    """What a reader in another language sees: numbers are numbers, times carry their zone, unmeasured is null."""
    assert isinstance(content["metrics"]["last"]["test"]["top1"], float)
    assert content["times"]["started_at"].endswith("Z")
    assert content["method"]["trained_from"] == []
    assert content["study"] is None


KEY_TWICE = [
    ('"schema_version": 2', '"schema_version": 1, "schema_version": 2', "schema_version"),
    ('"role": "student"', '"role": "student", "r\\u006fle": "student"', "role"),
    ('"history": [', '"history": [{"epoch": 1.0, "epoch": 2.0}, ', "epoch"),
    ('"config": {', '"config": {"a\\\\": ":", "b": {"c": 1, "c": 1}, ', "c"),
    ('"config": {', '"config": {"x\\"y": "z", "b": {"c" : 1, "c": "1"}, ', "c"),
    ('"packages": {', '"packages": {"torch" : ": ", "torch": "2", ', "torch"),
]


@pytest.mark.parametrize(("place", "text", "key"), KEY_TWICE)
def test_a_key_that_stands_twice_is_named(content, tmp_path, place, text, key):
    """Also behind escapes and odd spaces, where counting quotes does not tell."""
    whole = json.dumps(content)
    assert whole.count(place) == 1
    path = tmp_path / RECORD_FILE
    path.write_text(whole.replace(place, text), encoding="utf-8")
    with pytest.raises(IntegrityError, match=f": {key}: stands twice in one object"):
        read_record(path)


@pytest.mark.parametrize("text", ["plain", 'quo"te', "back\\slash", ": colon", "漢", ""])
def test_texts_of_any_kind_are_no_key_that_stands_twice(content, tmp_path, text):
    content["config"]["text"] = {text: [text, {text: text}]}
    for ascii_only in (True, False):
        path = tmp_path / RECORD_FILE
        path.write_text(json.dumps(content, ensure_ascii=ascii_only, indent=2), encoding="utf-8")
        assert read_record(path).config["text"] == {text: [text, {text: text}]}
