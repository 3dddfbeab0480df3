"""Tables of learning curves: nothing is lost on the way, and what is wrong with one is told."""

import csv
import gzip
import random

import pytest
from support.records import measured_content, record_content

from kd_bench.errors import IntegrityError
from kd_bench.results.checking.load import load
from kd_bench.results.records import curves
from kd_bench.results.records.compact import as_lines, shortened
from kd_bench.results.records.curves import Curves, as_table, history_sha256, read_table, table_name, table_of
from kd_bench.results.records.directory import published_path
from kd_bench.results.records.record import Record, read_record

ONE, OTHER = "0" * 16, "f" * 16


def make(seed: int = 0, study: str | None = "mine") -> Record:
    content = measured_content(record_content(seed=seed)) | {"study": study}
    return Record.model_validate(content, strict=False)


def publish(folder, *records: Record):
    """Records in short and their table; returns the table's path."""
    table = folder / table_name("mine")
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(as_table({record.run_id: record.history for record in records}))
    for record in records:
        path = folder / published_path(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_lines(shortened(record)), encoding="utf-8")
    return table


def test_numbers_survive_bit_for_bit_and_absent_ones_stay_absent(tmp_path):
    generator = random.Random(0)
    values = [generator.random() * 10.0 ** generator.randint(-300, 300) for _ in range(500)]
    values += [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 1 / 3, -0.0, 0.0]
    one = [{"epoch": float(epoch), "train/loss": value} for epoch, value in enumerate(values)]
    other = [{"epoch": 1.0, 'odd, "name"\n': -1.0}, {"val/top1": 0.5}, {"epoch": 2.0, "run_id": 3.0}]
    (tmp_path / "table").write_bytes(as_table({OTHER: other, ONE: one}))
    found = read_table(tmp_path / "table")
    assert [row["train/loss"].hex() for row in found[ONE]] == [value.hex() for value in values]
    assert found == {ONE: one, OTHER: other}


def test_the_table_is_plain_csv_and_the_same_bytes_in_any_order(tmp_path):
    rows = [{"epoch": 1.0, "val/top1": 0.25, "lr": 0.1}]
    table = as_table({OTHER: rows, ONE: [{"lr": 0.2, "epoch": 1.0}]})
    assert table == as_table({ONE: [{"epoch": 1.0, "lr": 0.2}], OTHER: [dict(reversed(rows[0].items()))]})
    lines = list(csv.reader(gzip.decompress(table).decode().splitlines()))
    assert lines == [
        ["run_id", "epoch", "lr", "val/top1"],
        [ONE, "1.0", "0.2", ""],
        [OTHER, "1.0", "0.1", "0.25"],
    ]


def test_a_history_has_one_hash_whatever_the_order_of_its_names():
    assert history_sha256([{"a": 1.0, "b": 2.0}]) == history_sha256([{"b": 2.0, "a": 1.0}])
    assert history_sha256([{"a": 1.0}]) != history_sha256([{"a": 1.0000000000000002}])


@pytest.mark.parametrize(("study", "name"), [("mine", "curves-mine.csv.gz"), ("../a b", "curves-_a_b.csv.gz")])
def test_a_study_names_its_table_and_no_other_folder(study, name):
    assert table_name(study) == name


def test_a_published_record_gets_its_curves_back(tmp_path):
    records = [make(0), make(1)]
    publish(tmp_path, *records)
    for record in records:
        path = tmp_path / published_path(record)
        assert Curves().attached(path, read_record(path)).history == record.history


def test_a_complete_record_needs_no_table(tmp_path):
    assert Curves().attached(tmp_path / "record.json", make()) == make()


def test_the_table_may_lie_beside_the_record_or_where_one_works(tmp_path, monkeypatch):
    record = make()
    table = publish(tmp_path, record)
    path = tmp_path / published_path(record)
    monkeypatch.chdir(path.parent)
    assert table_of(type(path)(path.name), record) == table
    (path.parent / table.name).write_bytes(table.read_bytes())
    assert table_of(path, record) == path.parent / table.name


HEADER = "run_id,epoch,val/top1\n"
DAMAGED = {
    "no gzip": b"run_id,epoch\n",
    "nothing": b"",
    "cut off": as_table({ONE: [{"epoch": 1.0}] * 500})[:-20],
    "no text": gzip.compress(b"\xff\xfe"),
    "no table": gzip.compress(b""),
    "a word for a number": gzip.compress(f"{HEADER}{ONE},1.0,high\n".encode()),
    "a short row": gzip.compress(f"{HEADER}{ONE},1.0\n".encode()),
    "an endless field": gzip.compress(b"a" * 200_000),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_table_is_one_line(tmp_path, content):
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(IntegrityError, match=f"^{tmp_path / 'table'} is damaged: ") as caught:
        read_table(tmp_path / "table")
    assert "\n" not in str(caught.value)


def test_a_table_that_would_fill_the_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "LARGEST", 1000)
    (tmp_path / "table").write_bytes(gzip.compress(b"," * 1001))
    with pytest.raises(IntegrityError, match="it holds more than 1000 bytes"):
        read_table(tmp_path / "table")


def test_boards_read_curves_only_up_to_the_number_that_was_said(tmp_path):
    records = [make(seed) for seed in range(3)]
    publish(tmp_path, *records)
    assert [record.history for record in load(tmp_path, 2).records] == [[]] * 3
    found = load(tmp_path, 3)
    assert {record.run_id: record.history for record in found.records} == {r.run_id: r.history for r in records}
    assert found.rejected == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.unlink(), "is not there; it holds learning curves of published records"),
        (lambda table: table.write_bytes(b"x"), "is damaged: "),
        (
            lambda table: table.write_bytes(as_table({make(0).run_id: make(0).history[:-1]})),
            "does not have the learning curves that the record of ",
        ),
        (
            lambda table: table.write_bytes(gzip.compress(f"{HEADER}{make(0).run_id},1.0,nan\n".encode())),
            "does not have the learning curves that the record of ",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_rejected_and_its_records_are_not(tmp_path, change, reason):
    record = make(0)
    change(publish(tmp_path, record))
    found = load(tmp_path, 10)
    assert found.records == (shortened(record),)
    (rejected,) = found.rejected
    assert rejected.path == "curves-mine.csv.gz"
    assert rejected.reason.startswith(reason)


def test_of_a_complete_and_a_published_copy_the_complete_one_counts(tmp_path):
    record = make(0)
    publish(tmp_path, record)
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "record.json").write_text(record.model_dump_json(), encoding="utf-8")
    found = load(tmp_path)
    assert (found.records, found.rejected) == ((record,), ())


def test_a_record_cannot_have_its_curves_in_two_places():
    content = measured_content(record_content()) | {"history_sha256": "0" * 64}
    with pytest.raises(ValueError, match="history_sha256 belongs to a record without history"):
        Record.model_validate(content, strict=False)
