"""Bad files under known names, beside good ones: each command that reads records names them and goes on."""

import json
import os
import time
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import state_content

from kd_bench.cli.main import main

RESULTS = Path(__file__).parents[2] / "results" / "records"
CELL = Path("digits") / "wrn_16_2_cifar--resnet8_cifar"
NAMES = ("record.json", "seed7.json", "state.json", "seed0.evaluation.json", "curves-demo.csv.gz")
SECONDS = 20  # of all commands on one bad file; a FIFO would hold them for ever
RUN_ID = "0123456789abcdef"


def good(folder: Path) -> Path:
    """Two seeds of two methods, as published."""
    for method in ("kd", "fitnet"):
        for name in ("seed0.json", "seed1.json"):
            target = folder / "records" / CELL / method / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((RESULTS / CELL / method / name).read_bytes())
    return folder / "records"


def place_of(records: Path, name: str) -> Path:
    folder = {"seed0.evaluation.json": CELL / "kd", "curves-demo.csv.gz": Path()}.get(name, Path(RUN_ID))
    (records / folder).mkdir(exist_ok=True)
    return records / folder / name


def shorten(path: Path) -> None:
    """Make a record one whose learning curves lie in the table of its study."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "history": [], "history_sha256": "0" * 64}), encoding="utf-8")


def commands(records: Path) -> dict[str, int]:
    started = time.monotonic()
    where = str(records)
    calls = {
        "leaderboard": ["--records", where, "--out", str(records.parent / "out"), "--run-pages"],
        "check": [where],
        "compare": ["kd", "fitnet", "--records", where],
        "trace": [(CELL / "fitnet" / "seed1").as_posix(), "--records", where],
        "publish": ["demo", "--runs", where, "--results", str(records.parent / "results")],
    }
    if not any(records.rglob("record.json")):
        del calls["publish"]  # it takes records of run directories alone
    codes = {name: main([name, *arguments]) for name, arguments in calls.items()}
    assert time.monotonic() - started < SECONDS
    return codes


def check_codes(records: Path) -> dict[str, int]:
    codes = commands(records)
    assert {name for name, code in codes.items() if code not in (0, 4, 5)} <= {"publish", "compare"}, codes
    assert codes.get("publish", 4) in (0, 2, 4)  # 2: no valid run of the study
    assert codes["compare"] in (0, 2, 3)  # 2 and 3: a valid record of other settings is to be compared
    return codes


def fifo(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse


KINDS = {
    "fifo": fifo,
    "huge": huge,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "loop": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_listed_and_the_others_are_read(tmp_path, capsys, name, kind):
    records = good(tmp_path)
    if name == "curves-demo.csv.gz":
        shorten(records / CELL / "kd" / "seed1.json")
    KINDS[kind](place_of(records, name))
    codes = check_codes(records)
    assert codes["leaderboard"] == codes["compare"] == codes["trace"] == 0
    shown = capsys.readouterr().out
    assert "4 records" in shown
    rejected = 2 if (kind, name) == ("folder", "seed0.evaluation.json") else 1  # a folder, and beside a record
    assert f"{rejected} rejected" in shown


def leaves_of(node: object, key: tuple = ()) -> list[tuple]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [*([key] if key else []), *(leaf for name, child in pairs for leaf in leaves_of(child, (*key, name)))]


def changed(content: dict, key: tuple, value: object) -> dict:
    content = deepcopy(content)
    node = content
    for part in key[:-1]:
        node = node[part]
    node[key[-1]] = value
    return content


RECORD = json.loads((RESULTS / CELL / "kd" / "seed2.json").read_text(encoding="utf-8"))
STATE = state_content()
ODD = st.one_of(
    st.sampled_from(
        [
            *(None, True, 0, -1, 10**20, 10**400, 1e308, -1e308, 5e-324, "", "x" * 1000, [], [[]], {}, {"": None}),
            *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "\x1b[2J\u202e"),
        ]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
)
BOUNDED = settings(
    max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@BOUNDED
@given(key=st.sampled_from(leaves_of(RECORD)), value=ODD)
def test_an_odd_value_anywhere_in_a_record_ends_no_command(tmp_path_factory, key, value):
    records = good(tmp_path_factory.mktemp("odd"))
    text = json.dumps(changed(RECORD, key, value))
    (records / CELL / "kd" / "seed2.json").write_text(text, encoding="utf-8")
    place_of(records, "record.json").write_text(text, encoding="utf-8")
    check_codes(records)


DATES = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59"]
ENDS = [
    *((key, date) for date in DATES for key in (("times", "started_at"), ("times", "finished_at"))),
    *((("metrics", "last", "test", name), 1e308) for name in ("nll", "retention_over_chance", "retention", "kl")),
    *((("times", name), 1e308) for name in ("train_seconds", "evaluation_seconds", "teacher_train_seconds")),
    *((("cost", name), 10**400) for name in ("peak_memory_bytes",)),
    (("student", "file_bytes"), 10**400),
    (("config",), {}),
    (("config", "method"), []),
]


@pytest.mark.parametrize(("key", "value"), ENDS, ids=lambda each: str(each)[:40])
def test_ends_of_numbers_and_of_the_calendar_end_no_command(tmp_path, key, value):
    """In both records of a cell, so that sums and means are formed of them."""
    records = good(tmp_path)
    for seed in (0, 1, 2):
        path = records / CELL / "kd" / f"seed{seed}.json"
        content = json.loads((RESULTS / CELL / "kd" / path.name).read_text(encoding="utf-8"))
        path.write_text(json.dumps(changed(content, key, value)), encoding="utf-8")
    codes = commands(records)
    assert codes["leaderboard"] == codes["trace"] == 0
    assert codes["compare"] in (0, 2, 3)  # 2: there is no KD left
    assert codes["check"] in (0, 4)


@BOUNDED
@given(key=st.sampled_from(leaves_of(STATE)), value=ODD)
def test_an_odd_value_anywhere_in_a_state_ends_no_command(tmp_path_factory, key, value):
    records = good(tmp_path_factory.mktemp("state"))
    place_of(records, "state.json").write_text(json.dumps(changed(STATE, key, value)), encoding="utf-8")
    check_codes(records)


@BOUNDED
@given(name=st.sampled_from(NAMES), content=st.binary(max_size=200), kept=st.integers(0, 4000))
def test_bytes_under_any_known_name_end_no_command(tmp_path_factory, name, content, kept):
    """Noise behind the beginning of a real record."""
    records = good(tmp_path_factory.mktemp("bytes"))
    text = json.dumps(RECORD).encode()[:kept] if name.endswith(".json") else b""
    place_of(records, name).write_bytes(text + content)
    check_codes(records)
