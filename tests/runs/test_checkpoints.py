"""A kill, a full disk or a damaged file never costs more than the work since the checkpoint before."""

import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kd_bench.errors import IntegrityError
from kd_bench.runs.checkpoints import AtomicCheckpointIO, checkpoint_stem, delete_checkpoints, latest_checkpoint


def save(directory: Path, epoch: int, stage: int = 1, size: int = 10) -> None:
    content = {"epoch": epoch, "weights": torch.full((size,), float(epoch))}
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


# Forks children that do nothing but save, kills each at a random moment, and reports what a resumed run would find.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from kd_bench.runs.checkpoints import AtomicCheckpointIO, checkpoint_stem, latest_checkpoint

torch.set_num_threads(1)  # a pool of threads does not survive a fork
directory, kills = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(0)
found, epoch = [], 0
for _ in range(kills):
    ready, says = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)  # nothing may be left behind, whatever becomes of the parent
        for later in range(epoch + 1, epoch + 10_000):
            content = {"epoch": later, "weights": torch.full((100_000,), float(later))}
            AtomicCheckpointIO().save_checkpoint(content, checkpoint_stem(directory, 1, later))
            os.write(says, b".")
    os.close(says)
    os.read(ready, 1)
    time.sleep(chance.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved = epoch + 1 + len(os.read(ready, 100_000))
    path = latest_checkpoint(directory).path
    content = AtomicCheckpointIO().load_checkpoint(path)
    whole = bool((content["weights"] == content["epoch"]).all()) and len(content["weights"]) == 100_000
    epoch = content["epoch"]
    files, torn = len(list(directory.glob("*.ckpt"))), len(list(directory.glob(".*.tmp")))
    found.append({"whole": whole, "epoch": epoch, "saved": saved, "files": files, "torn": torn})
    os.close(ready)
print(json.dumps(found))
"""


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_the_last_finished_checkpoint(tmp_path, kills):
    command = [sys.executable, "-W", "error::UserWarning", "-c", KILLER, str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == kills
    for kill in found:
        assert kill["whole"]
        assert kill["saved"] <= kill["epoch"] <= kill["saved"] + 1  # a kill may come between the rename and the report
        assert kill["files"] <= 3
    assert found[-1]["torn"]  # some kills did come in the middle of writing


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


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_of_one_megabyte(small_disk):
    """With a temporary folder elsewhere: nothing may go through it."""
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
