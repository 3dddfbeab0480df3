"""Folders of images, in memory and on disk: the same data, checked once, whoever decodes them."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd_bench.data import image_files
from kd_bench.data.image_folder import ImageFolder, ImageNet
from kd_bench.data.splits import carve

from .formats import encoded, image_folder, pixels, place

ON_DISK = {"in_memory_bytes": 0}
PARTS = {"train": 4, "test": 2}
CHECKED = ".kd_bench-checked.npz"


def load(root: Path, kind: type = ImageFolder, **options):
    return kind(str(root), **{"image_size": [12, 12], **options}).load()


@pytest.fixture
def root(tmp_path) -> Path:
    return place(tmp_path / "data", image_folder(PARTS))


def test_the_arrays_are_those_of_the_files(root):
    arrays = load(root, image_size=[20, 20])
    assert arrays.class_names == ["a", "b", "c"]
    assert arrays.train.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert arrays.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    first = Image.open(root / "train" / "a" / "0.jpg")
    assert np.array_equal(arrays.train.images[0].permute(1, 2, 0).numpy(), np.asarray(first))
    second = np.asarray(Image.open(root / "train" / "a" / "1.png"))  # one row higher: the middle 20 of 21
    middle = Image.fromarray(second).resize((20, 20), Image.Resampling.BILINEAR, box=(0, 0.5, 20, 20.5))
    assert np.array_equal(arrays.train.images[1].permute(1, 2, 0).numpy(), np.asarray(middle))
    arrays.check("mine", 3, (20, 20))


def test_in_memory_and_on_disk_are_the_same_data(root):
    memory, disk = load(root), load(root, **ON_DISK)
    assert memory.train.in_memory
    assert not disk.train.in_memory
    assert disk.train.images.shape == tuple(memory.train.images.shape) == (12, 3, 12, 12)
    assert disk.content_sha256 == memory.content_sha256
    for part in ("train", "test"):
        ours, theirs = getattr(memory, part), getattr(disk, part)
        assert torch.equal(theirs.images[torch.arange(len(ours))], ours.images)
        assert torch.equal(theirs.targets, ours.targets)
    some = torch.tensor([5, 0, 7])
    assert torch.equal(disk.train.subset(some).images[torch.tensor([2, 1])], memory.train.images[torch.tensor([7, 0])])


@pytest.mark.parametrize(("bytes_", "in_memory"), [(18 * 3 * 144, True), (18 * 3 * 144 - 1, False)])
def test_the_limit_counts_decoded_bytes(root, bytes_, in_memory):
    assert load(root, in_memory_bytes=bytes_).train.in_memory is in_memory


@pytest.mark.parametrize("options", [{}, ON_DISK])
def test_the_content_hash_is_of_names_and_bytes_and_of_no_place(root, tmp_path, options):
    first = load(root, **options).content_sha256
    os.utime(root / "train" / "a" / "0.jpg", (1, 1))
    (root / "train" / "a" / "notes.txt").write_text("no image")
    assert load(root, **options).content_sha256 == first
    assert load(place(tmp_path / "else" / "where", image_folder(PARTS)), **options).content_sha256 == first
    (root / "train" / "a" / "0.jpg").rename(root / "train" / "a" / "00.jpg")
    assert load(root, **options).content_sha256 != first
    (root / "train" / "a" / "00.jpg").rename(root / "train" / "a" / "0.jpg")
    (root / "test" / "c" / "1.png").write_bytes(encoded(pixels(20, 20, 99)))
    assert load(root, **options).content_sha256 != first


def test_the_content_hash_is_frozen(tmp_path):
    """By the description: shapes, names, sha256 of the files, targets."""
    arrays = load(place(tmp_path, image_folder({"train": 1, "test": 1}, "ab")))
    digest = hashlib.sha256()
    for part in ("train", "test"):
        names = [f"{part}/{name}/0.jpg" for name in "ab"]
        digest.update(b"2 files;" + "\0".join(names).encode() + b"(2, 32) torch.uint8;")
        for name in names:
            digest.update(hashlib.sha256((tmp_path / name).read_bytes()).digest())
        digest.update(b"(2,) torch.int64;" + np.array([0, 1]).tobytes())
    assert arrays.content_sha256 == digest.hexdigest()


@pytest.mark.parametrize("options", [{}, ON_DISK])
def test_a_test_split_is_carved_where_there_is_no_folder_for_it(tmp_path, options):
    root = place(tmp_path, image_folder({"train": 10}))
    arrays = load(root, test_fraction=0.2, **options)
    assert torch.bincount(arrays.test.targets).tolist() == [2, 2, 2]
    assert len(arrays.train) == 24
    names = [set(split.files.names.tolist()) for split in (arrays.train, arrays.test)]
    assert not names[0] & names[1]
    everything = torch.arange(30) // 10
    expected = carve(everything, 6, "image_folder/test")[0].tolist()
    files = sorted(f"train/{name}/{i}.{('jpg', 'png')[i % 2]}" for name in "abc" for i in range(10))
    assert [name.decode() for name in arrays.test.files.names] == [files[position] for position in expected]


def test_val_is_the_test_split_where_there_is_no_test(tmp_path):
    arrays = load(place(tmp_path, image_folder({"train": 2, "val": 1})))
    assert [name.decode() for name in arrays.test.files.names] == ["val/a/0.jpg", "val/b/0.jpg", "val/c/0.jpg"]


def test_imagenet_tests_on_val_alone(tmp_path, refused):
    place(tmp_path, image_folder({"train": 2, "val": 1, "test": 1}, "ab"))
    arrays = load(tmp_path, ImageNet)
    assert [name.decode() for name in arrays.test.files.names] == ["val/a/0.jpg", "val/b/0.jpg"]
    with refused("ImageNet (ILSVRC2012) is absent", f" at {tmp_path / 'none'} ", "https://image-net.org"):
        load(tmp_path / "none", ImageNet)


def test_folders_within_a_class_belong_to_it(tmp_path):
    files = {
        "train/a/images/0.jpg": b"",
        "train/b/deep/er/1.JPEG": b"",
        "train/b/.hidden.jpg": b"x",
        "train/.git/x": b"",
    }
    content = encoded(pixels(9, 9), "JPEG")
    place(tmp_path, {name: content if name.endswith(("0.jpg", "JPEG")) else each for name, each in files.items()})
    place(tmp_path, {"test/a/0.jpg": content, "test/b/0.jpg": content})
    with pytest.warns(UserWarning, match="2 of 2 test images are trained on too"):
        (arrays := load(tmp_path)).check("mine", 2, (12, 12))
    assert arrays.train.files.names.tolist() == [b"train/a/images/0.jpg", b"train/b/deep/er/1.JPEG"]


# --- Refused ---


def test_absent_data_say_what_to_place_where(tmp_path, refused):
    with refused("the image folder is absent: place the folders train/<class>/", f"at {tmp_path / 'none'}"):
        load(tmp_path / "none")


@pytest.mark.parametrize("options", [{}, ON_DISK])
def test_unreadable_images_are_counted_and_named(root, refused, options):
    names = ["train/a/0.jpg", "train/b/1.png", "test/a/0.jpg", "test/c/1.png"]
    contents = [b"<html>", (root / names[1]).read_bytes()[:200], b"", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    for name, content in zip(names, contents, strict=True):
        (root / name).write_bytes(content)
    (root / "train/c/9.jpg").symlink_to(root / "nowhere")
    with refused(
        f"{root}: 5 images cannot be read: ", "train/a/0.jpg (no image), train/b/1.png (", "truncated", ", ..."
    ):
        load(root, **options)


def test_empty_classes_and_strangers_are_named(root, refused):
    (root / "train" / "empty").mkdir()
    (root / "train" / "notes").mkdir()
    (root / "train" / "notes" / "x.txt").write_text("x")
    with refused(f"{root / 'train'}: 2 of 5 classes have no image (.jpg, ", "empty, notes"):
        load(root)
    for name in ("empty", "notes"):
        place(root, {f"test/{name}/0.png": encoded(pixels(9, 9))})
        (root / "train" / name).rename(root / name)
    with refused(f"{root / 'test'}: 2 folders are no classes of train: empty, notes"):
        load(root)


def test_a_class_that_is_not_tested_is_named(tmp_path, refused):
    place(tmp_path, {**image_folder({"train": 2}), **image_folder({"test": 1}, "ab", side=9)})
    with refused("mine: the test split has no image of 1 of 3 classes: c"):
        load(tmp_path).check("mine", 3, (12, 12))


def test_a_folder_without_classes_is_refused(tmp_path, refused):
    (tmp_path / "train").mkdir()
    with refused("there is no folder of a class"):
        load(tmp_path)


@pytest.mark.parametrize("options", [{}, ON_DISK])
def test_a_file_that_would_fill_the_memory_is_refused_by_name(root, refused, options):
    os.mkfifo(root / "train" / "a" / "pipe.png")
    Image.new("1", (9_000, 9_000)).save(root / "train" / "b" / "0.jpg", "PNG")
    with refused(
        f"{root}: 2 images cannot be read: train/a/pipe.png (is no regular file), ",
        "train/b/0.jpg (has 9000x9000 pixels, more than the 80,000,000 allowed)",
    ):
        load(root, **options)


HIDDEN = {
    "a bell": ("bell\a", "'bell\\x07'"),
    "backwards": ("x\u202ey", "'x\\u202ey'"),
    "no UTF-8": ("\udcff", "udcff"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_class_with_a_hidden_name_is_refused(tmp_path, refused, name):
    written, shown = HIDDEN[name]
    place(tmp_path, image_folder({"train": 4, "test": 2}))
    for part in ("train", "test"):
        (tmp_path / part / "a").rename(tmp_path / part / written)
    with refused("mine: 1 names of classes have characters that cannot be seen: ", shown):
        load(tmp_path).check("mine", 3, (12, 12))


def test_letters_of_every_script_name_a_class(tmp_path):
    place(tmp_path, image_folder({"train": 4, "test": 2}))
    for part in ("train", "test"):
        (tmp_path / part / "a").rename(tmp_path / part / "می\u200cخواهم né")
    load(tmp_path).check("mine", 3, (12, 12))


# --- Checked once ---


@pytest.fixture
def decoded(monkeypatch) -> list[bytes]:
    """The contents that were decoded."""
    contents: list[bytes] = []
    decode = image_files.decode
    monkeypatch.setattr(image_files, "decode", lambda content, fit: contents.append(content) or decode(content, fit))
    return contents


def test_files_on_disk_are_checked_once(root, decoded):
    first = load(root, **ON_DISK)
    assert len(decoded) == 18
    assert load(root, **ON_DISK).content_sha256 == first.content_sha256
    assert len(decoded) == 18
    changed = encoded(pixels(30, 30, 5))
    (root / "train" / "b" / "1.png").write_bytes(changed)
    place(root, {"train/c/9.png": changed})
    again = load(root, **ON_DISK)
    assert decoded[18:] == [changed, changed]
    assert again.content_sha256 == load(root).content_sha256 != first.content_sha256
    assert not list(root.glob("*.tmp"))


def test_a_bad_file_does_not_undo_the_check_of_the_others(root, decoded, refused):
    bad = root / "train" / "b" / "1.png"
    good = bad.read_bytes()
    bad.write_bytes(b"x")
    with refused("1 images cannot be read: train/b/1.png (no image)"):
        load(root, **ON_DISK)
    bad.write_bytes(good)
    load(root, **ON_DISK)
    assert len(decoded) == 19


def test_a_damaged_list_of_checked_files_is_made_again(root, decoded):
    load(root, **ON_DISK)
    (root / CHECKED).write_bytes((root / CHECKED).read_bytes()[:100])
    load(root, **ON_DISK)
    assert len(decoded) == 36


def test_the_list_may_lie_elsewhere(root, tmp_path, refused):
    load(root, cache=str(tmp_path / "cache"), **ON_DISK)
    assert (tmp_path / "cache" / CHECKED).exists()
    assert not (root / CHECKED).exists()
    (tmp_path / "file").write_bytes(b"")
    with refused(str(tmp_path / "file"), "cannot be written"):
        load(root, cache=str(tmp_path / "file"), **ON_DISK)


def test_a_jpeg_of_the_right_size_is_not_resampled(root):
    content = (root / "train" / "a" / "0.jpg").read_bytes()
    arrays = load(root, image_size=[20, 20], **ON_DISK)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(arrays.train.images[torch.tensor([0])][0].permute(1, 2, 0).numpy(), expected)
