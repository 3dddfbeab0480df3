"""A kill, a full disk or a damaged file never costs more than the work since the checkpoint before."""

import errno
import hashlib
import io
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from support.kills import killed

from kd_bench import __version__
from kd_bench.errors import IntegrityError
from kd_bench.training.checkpoints import (
    AtomicCheckpointIO,
    check_space,
    checkpoint_stem,
    delete_checkpoints,
    latest_checkpoint,
)

NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "kd_bench")


def save(directory: Path, epoch: int, stage: int = 1, size: int = 10) -> None:
    content = {**dict.fromkeys(NEEDED), "epoch": epoch, "weights": torch.full((size,), float(epoch))}
    AtomicCheckpointIO().save_checkpoint(content, checkpoint_stem(directory, stage, epoch))


def epoch_of(path: Path) -> int:
    content = AtomicCheckpointIO().load_checkpoint(path)
    assert content["weights"].unique().tolist() == [content["epoch"]]
    return content["epoch"]


def newest(directory: Path) -> tuple[int, int]:
    """Epoch and stage of what a resumed run would start from."""
    found = latest_checkpoint(directory)
    assert found.epochs == epoch_of(found.path)
    return found.epochs, found.stage


def test_a_kill_at_any_moment_leaves_the_last_finished_checkpoint(tmp_path):
    """Two hundred kills: tests/faults/test_kills_during_a_save.py."""
    found = killed(tmp_path, 15)
    for kill in found:
        assert kill["whole"]
        assert kill["saved"] <= kill["epoch"] <= kill["saved"] + 1  # a kill may come between the rename and the report
        assert kill["files"] <= 3
    assert found[-1]["torn"]  # some kills did come in the middle of writing


def test_a_checkpoint_that_comes_too_soon_is_held_and_written_when_the_run_stops(tmp_path):
    writer = AtomicCheckpointIO(seconds=1000)
    content = {**dict.fromkeys(NEEDED), "epoch": 1, "weights": torch.ones(3), "history": [{"loss": 1.0}]}
    writer.save_checkpoint(content, checkpoint_stem(tmp_path, 1, 1))
    content["weights"].fill_(5)  # training goes on
    content["history"].append({"loss": 0.5})
    assert latest_checkpoint(tmp_path) is None
    writer.write_held()
    assert newest(tmp_path) == (1, 1)
    assert AtomicCheckpointIO().load_checkpoint(latest_checkpoint(tmp_path).path)["history"] == [{"loss": 1.0}]
    writer.write_held()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_is_written_once_the_time_has_passed(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("kd_bench.training.checkpoints.time.monotonic", lambda: clock[0])
    writer = AtomicCheckpointIO(seconds=20)
    for epoch in range(1, 8):
        clock[0] += 6
        content = {**dict.fromkeys(NEEDED), "epoch": epoch, "weights": torch.full((2,), float(epoch))}
        writer.save_checkpoint(content, checkpoint_stem(tmp_path, 1, epoch))
    names = sorted(path.name[:18] for path in tmp_path.iterdir())
    assert names == ["checkpoint-1-00004"]  # 24 seconds; the next after 48
    writer.write_held()
    assert newest(tmp_path) == (7, 1)


def test_the_two_newest_are_kept_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "last.ckpt").write_text("someone else's")
    for epoch in range(1, 12):
        save(tmp_path, epoch)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:18] for name in names] == ["checkpoint-1-00010", "checkpoint-1-00011", "last.ckpt"]
    assert newest(tmp_path) == (11, 1)
    delete_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_later_stage_is_newer_than_any_epoch_of_an_earlier_one(tmp_path):
    save(tmp_path, 20, stage=0)
    save(tmp_path, 1, stage=1)
    assert newest(tmp_path) == (1, 1)


def test_the_name_carries_the_hash_of_the_content(tmp_path):
    save(tmp_path, 3)
    (path,) = tmp_path.iterdir()
    assert path.name == f"checkpoint-1-00003-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.ckpt"


def test_no_checkpoint_at_all_is_a_fresh_start(tmp_path):
    assert latest_checkpoint(tmp_path) is None


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of a weight: torch would load it without a word."""
    changed = bytearray(content)
    changed[content.index(torch.full((3,), 2.0).numpy().tobytes())] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b""], ids=["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = latest_checkpoint(tmp_path).path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{path.name} is damaged; falling back to the checkpoint before it"):
        assert newest(tmp_path) == (1, 1)


@pytest.mark.filterwarnings("ignore:.*is damaged; falling back")  # tested above
def test_starting_again_is_the_users_decision(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(IntegrityError, match="no checkpoint is intact; delete the directory to start again") as caught:
        latest_checkpoint(tmp_path)
    assert caught.value.exit_code == 4
    assert str(tmp_path) in str(caught.value)


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def foreign_checkpoint(directory: Path, content: bytes) -> Path:
    """A file whose name claims a valid hash, as an attacker would give it."""
    path = directory / f"checkpoint-1-00009-{hashlib.sha256(content).hexdigest()[:16]}.ckpt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_checkpoint_never_runs_code(tmp_path, form):
    canary = tmp_path / "canary"
    buffer = io.BytesIO()
    if form == "torch":
        torch.save({"weights": Payload(canary)}, buffer)
    else:
        pickle.dump(Payload(canary), buffer, protocol=2)  # torch warns of others before it refuses the content
    foreign_checkpoint(tmp_path, buffer.getvalue())
    path = latest_checkpoint(tmp_path).path
    with pytest.raises(IntegrityError) as caught:
        AtomicCheckpointIO().load_checkpoint(path)
    assert not canary.exists()
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_full_disk_costs_the_new_checkpoint_only(tmp_path, monkeypatch):
    save(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(IntegrityError, match="cannot be written: No space left on device") as caught:
            save(tmp_path, 2)
    assert caught.value.exit_code == 4
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save(tmp_path, 2)  # there is space again
    assert newest(tmp_path) == (2, 1)


def test_a_disk_of_one_megabyte(disk):
    """With a temporary folder elsewhere: nothing may go through it."""
    small_disk = disk(1 << 20)
    for epoch in (1, 2):
        save(small_disk, epoch, size=90_000)  # 360 KB each
    for epoch in (3, 4):
        with pytest.raises(IntegrityError, match="cannot be written"):
            save(small_disk, epoch, size=90_000)
        assert newest(small_disk) == (2, 1)
        assert len(list(small_disk.iterdir())) == 2
    save(small_disk, 5)
    assert newest(small_disk) == (5, 1)


def test_a_directory_that_is_gone_is_an_error_not_silence(tmp_path):
    with pytest.raises(IntegrityError, match="cannot be written"):
        save(tmp_path / "nothing", 1)


# --- Checkpoints that belong elsewhere ---


def refusal(path: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        AtomicCheckpointIO().load_checkpoint(path)
    assert caught.value.exit_code == 4
    line = str(caught.value)
    assert line.startswith(f"{path} ")
    assert line.endswith(f"; delete {path.parent} to start again")
    return line.removeprefix(f"{path} ").partition(";")[0]


def rewritten(path: Path, change) -> Path:
    """The same checkpoint with other content, under a name whose hash is right."""
    content = torch.load(path, weights_only=True)
    change(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return foreign_checkpoint(path.parent, buffer.getvalue())


def test_a_checkpoint_of_another_run_is_refused_and_both_are_named(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    save(tmp_path / "theirs", 3)
    (path,) = (tmp_path / "theirs").iterdir()
    assert refusal(path.rename(tmp_path / "mine" / path.name)) == "belongs to run theirs, not to mine"


def test_a_checkpoint_of_another_format_is_refused_with_its_version(tmp_path):
    save(tmp_path, 1)
    (path,) = tmp_path.iterdir()
    newer = rewritten(path, lambda content: content["kd_bench_stamp"].update(format=2, version="9.1"))
    assert refusal(newer) == f"has format 2 (kd_bench 9.1), kd_bench {__version__} reads format 1"


@pytest.mark.parametrize("stamp", [None, 3, "x"])
def test_a_checkpoint_without_a_stamp_is_refused(tmp_path, stamp):
    """As those of kd_bench before it had one, and of Lightning's own."""
    save(tmp_path, 1)
    (path,) = tmp_path.iterdir()
    older = rewritten(path, lambda content: content.update(kd_bench_stamp=stamp))
    assert refusal(older) == "is no checkpoint of this version of kd_bench"


@pytest.mark.parametrize("name", ["optimizer_states", "lr_schedulers", "loops", "kd_bench", "state_dict"])
def test_a_checkpoint_without_the_optimizers_state_is_refused(tmp_path, name):
    save(tmp_path, 1)
    (path,) = tmp_path.iterdir()
    assert refusal(rewritten(path, lambda content: content.pop(name))) == f"lacks {name}"


def test_a_disk_that_is_too_small_is_told_of_before_training(tmp_path, monkeypatch):
    weights = [torch.zeros(1000, 1000), torch.zeros(500, 1000, dtype=torch.float64)]  # 8 MB
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=71_900_000))
    with pytest.raises(IntegrityError, match=r"need about 72\.0 MB, 71\.9 MB are free$"):
        check_space(tmp_path, weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=72_000_000))
    check_space(tmp_path, weights)
