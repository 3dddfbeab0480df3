"""Tiny ImageNet in its official layout: what it holds, how it is prepared, and what is refused."""

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd_bench.data import tiny_imagenet as module
from kd_bench.data.tiny_imagenet import TinyImageNet

from .formats import below, encoded, pixels, place, tiny_imagenet, zipped

FOLDER, ARCHIVE, PREPARED = "tiny-imagenet-200", "tiny-imagenet-200.zip", "tiny-imagenet-200.safetensors"


def load(root: Path, **options):
    return TinyImageNet(str(root), **{"verify": False, **options}).load()


def archived(root: Path, files: dict | None = None, *members) -> Path:
    return zipped(root / ARCHIVE, below(FOLDER, files or tiny_imagenet()), *members).parent


def test_the_arrays_are_what_the_lists_say(tmp_path):
    files = tiny_imagenet()
    arrays = load(archived(tmp_path, files))
    wnids = sorted(files["wnids.txt"].decode().split())
    train = [(n, wnids.index(n.split("/")[1])) for n in sorted(files) if n.startswith("train/") and n.endswith("JPEG")]
    lines = [line.split("\t") for line in files["val/val_annotations.txt"].decode().splitlines()]
    test = [(f"val/images/{name}", wnids.index(wnid)) for name, wnid, *_ in lines]
    for split, expected in ((arrays.train, train), (arrays.test, test)):
        assert split.targets.tolist() == [label for _, label in expected]
        for image, (name, _) in zip(split.images, expected, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(io.BytesIO(files[name]))))
    assert arrays.class_names == [f"thing {wnid[-2:]}" for wnid in wnids]
    arrays.check("tiny_imagenet", 3, (64, 64))


def test_folder_archive_and_prepared_file_are_the_same_data(tmp_path):
    files = tiny_imagenet()
    roots = [
        archived(tmp_path / "zip", files),
        place(tmp_path / "folder", below(FOLDER, files)),
        place(tmp_path / "content", files),
    ]
    first = [load(root).content_sha256 for root in roots]
    shutil.rmtree(tmp_path / "folder" / FOLDER)
    assert len({*first, *(load(root).content_sha256 for root in roots)}) == 1


def test_nothing_is_unpacked(tmp_path):
    load(archived(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{PREPARED}.lock", PREPARED, ARCHIVE]


def test_images_are_decoded_once(tmp_path, monkeypatch):
    first = load(archived(tmp_path))
    monkeypatch.setattr(module, "decode_all", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(load(tmp_path).train.images, first.train.images)


PREPARE = """
import sys, time, torch
torch.set_num_threads(1)
from kd_bench.data import tiny_imagenet as module
decode_all = module.decode_all
def logged(*arguments):
    print("decoded", flush=True)
    time.sleep(1)
    return decode_all(*arguments)
module.decode_all = logged
print(module.TinyImageNet(sys.argv[1], verify=False).load().content_sha256)
"""


def test_two_processes_prepare_once(tmp_path):
    archived(tmp_path)
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(map(len, outputs)) == [1, 2]
    assert outputs[0][-1] == outputs[1][-1]
    assert not list(tmp_path.glob("*.tmp"))


def test_the_prepared_file_can_be_read_by_whoever_can_read_the_folder(tmp_path):
    (tmp_path / "usual").touch()
    load(archived(tmp_path))
    assert (tmp_path / PREPARED).stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_kill_while_decoding_leaves_nothing_that_counts(tmp_path):
    archived(tmp_path)
    (tmp_path / f".{PREPARED}.tmp").write_bytes(b"half of it")
    load(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_prepared_file_that_changed_is_refused(tmp_path, refused):
    load(archived(tmp_path))
    prepared = tmp_path / PREPARED
    content = bytearray(prepared.read_bytes())
    content[-1000] ^= 1
    prepared.write_bytes(content)
    with refused(str(prepared), "has changed since it was made; delete it"):
        load(tmp_path)
    prepared.write_bytes(content[:1000])
    with refused(str(prepared), "cannot be read", "delete it"):
        load(tmp_path)
    prepared.unlink()
    load(tmp_path)


def test_grey_images_become_three_equal_channels(tmp_path):
    """Some of the official ones are grey."""
    files = tiny_imagenet()
    name = next(name for name in sorted(files) if name.endswith("_0.JPEG"))
    grey = Image.fromarray(pixels(64, 64)).convert("L")
    arrays = load(archived(tmp_path, {**files, name: encoded(grey, "JPEG")}))
    assert torch.equal(arrays.train.images[0, 0], arrays.train.images[0, 2])


def test_absent_data_say_what_to_place_where(tmp_path, refused):
    path = tmp_path / "none" / ARCHIVE
    with refused(f"place {ARCHIVE} at {path} ", "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "download=true"):
        load(path.parent)
    assert not path.parent.exists()


def test_another_archive_does_not_pass_for_the_official_one(tmp_path, refused):
    with refused(ARCHIVE, "md5 is", "90528d7ca1a48142e341f4ef8d21d0de was published"):
        load(archived(tmp_path), verify=True)
    assert not (tmp_path / PREPARED).exists()


def member(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


ZIPS = {
    "parent": (member(f"{FOLDER}/../../x"), "points out of the archive"),
    "absolute": (member("/etc/x"), "points out of the archive"),
    "drive": (member("C:/x"), "points out of the archive"),
    "symlink": (member(f"{FOLDER}/words2.txt", 0o120777), "is a link"),
    "device": (member(f"{FOLDER}/null", 0o020666), "is a link, a device"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_an_archive_with_a_dangerous_member_is_refused(tmp_path, refused, name):
    info, reason = ZIPS[name]
    with refused(str(tmp_path), repr(info.filename), reason):
        load(archived(tmp_path, None, info))


def test_a_bomb_is_refused(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(module, "UNPACKED_LIMIT", 5_000_000)
    with refused(f"{FOLDER}/zeros", "more than the 5000000 allowed"):
        load(archived(tmp_path, {**tiny_imagenet(), "zeros": bytes(10_000_000)}))


def changed(**changes) -> dict[str, bytes]:
    files = tiny_imagenet()
    return {**files, **{name.replace("__", "/"): content for name, content in changes.items()}}


def without(part: str) -> dict[str, bytes]:
    return {name: content for name, content in tiny_imagenet().items() if part not in name}


def with_image(content: bytes) -> dict[str, bytes]:
    files = tiny_imagenet()
    return {**files, "val/images/val_1.JPEG": content}


JPEG = encoded(pixels(64, 64), "JPEG")
BAD = {
    "no list": (without("wnids.txt"), "wnids.txt cannot be read"),
    "wandering id": (changed(**{"wnids.txt": b"n10000007\n../../etc\n"}), "wnids.txt is no list"),
    "id twice": (changed(**{"wnids.txt": b"n10000007\nn10000007\n"}), "wnids.txt is no list"),
    "no utf-8": (changed(**{"words.txt": b"\xff\xfe\xff"}), "words.txt cannot be read"),
    "empty class": (without("train/n10000014/images"), "1 of 3 classes have no training image: n10000014"),
    "unknown class": (
        changed(**{"val/val_annotations.txt": b"val_0.JPEG\tn99999999\t0\t0\t1\t1\n"}),
        "1 lines of no known class: val_0.JPEG",
    ),
    "wandering file": (
        changed(**{"val/val_annotations.txt": b"../../../../etc/passwd\tn10000007\n"}), "1 lines of no known class"
    ),
    "no annotation": (changed(**{"val/val_annotations.txt": b""}), "0 lines of no known class"),
    "missing image": (without("val_3.JPEG"), "1 images cannot be read: val/images/val_3.JPEG"),
    "cut off": (with_image(JPEG[: len(JPEG) // 2]), "1 images cannot be read: val/images/val_1.JPEG (", "truncated"),
    "empty image": (with_image(b""), "val/images/val_1.JPEG (no image)"),
    "text": (with_image(b"<html>404</html>"), "val/images/val_1.JPEG (no image)"),
    "other format": (with_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "(no image)"),
    "wrong size": (with_image(encoded(pixels(32, 64), "JPEG")), "val/images/val_1.JPEG (is 32x64, not 64x64)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_and_named(tmp_path, refused, name):
    files, *reasons = BAD[name]
    with refused(str(tmp_path), *reasons):
        load(archived(tmp_path, files))
    assert not (tmp_path / PREPARED).exists()


def test_many_bad_images_are_counted_and_the_first_named(tmp_path, refused):
    files = {
        name: b"x" if "val_" in name and "txt" not in name else content for name, content in tiny_imagenet().items()
    }
    with refused("6 images cannot be read: val/images/val_0.JPEG (no image), ", "val_2.JPEG (no image), ..."):
        load(place(tmp_path, below(FOLDER, files)))


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"<html>"])
def test_a_damaged_archive_is_refused(tmp_path, refused, damage):
    archive = archived(tmp_path) / ARCHIVE
    archive.write_bytes(damage(archive.read_bytes()))
    with refused(str(archive), "is refused"):
        load(tmp_path)
