"""CIFAR in the format of the official files: what they hold, and what is refused."""

import gzip
import hashlib
import os
import pickle
import shutil
import struct
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from kd_bench.data import cifar
from kd_bench.data.cifar import Cifar10, Cifar100
from kd_bench.data.reading.pickles import read_pickle

from .formats import below, cifar10, cifar100, cifar_images, place, python2_pickle, tar_gz

FOLDERS = {Cifar10: "cifar-10-batches-py", Cifar100: "cifar-100-python"}
ARCHIVES = {Cifar10: "cifar-10-python.tar.gz", Cifar100: "cifar-100-python.tar.gz"}
FILES = {Cifar10: cifar10, Cifar100: cifar100}


def archived(root: Path, kind: type, files: dict | None = None, *members) -> Path:
    return tar_gz(root / ARCHIVES[kind], below(FOLDERS[kind], files or FILES[kind]()), *members).parent


def unpacked(root: Path, kind: type, files: dict | None = None) -> Path:
    return place(root, below(FOLDERS[kind], files or FILES[kind]()))


def load(kind: type, root: Path, **options):
    return kind(str(root), **{"verify": False, **options}).load()


def test_the_test_files_are_what_python_and_numpy_read():
    """The pickles of these tests are real ones: Python's own unpickler agrees."""
    content = pickle.loads(cifar10()["data_batch_2"], encoding="bytes")  # noqa: S301 - our own
    assert content[b"labels"] == [i % 10 for i in range(20)]
    assert np.array_equal(content[b"data"], cifar_images(20, 1))
    assert content[b"filenames"][3] == b"image_3.png"


@pytest.mark.parametrize("make", [archived, unpacked])
def test_cifar10(tmp_path, make):
    arrays = load(Cifar10, make(tmp_path, Cifar10))
    expected = np.concatenate([cifar_images(20, seed) for seed in range(5)]).reshape(100, 3, 32, 32)
    assert arrays.train.images.dtype == torch.uint8
    assert np.array_equal(arrays.train.images.numpy(), expected)
    assert np.array_equal(arrays.test.images.numpy(), cifar_images(20, 5).reshape(20, 3, 32, 32))
    assert arrays.train.targets.tolist() == [i % 10 for i in range(20)] * 5
    assert arrays.train.targets.dtype == torch.int64
    assert arrays.class_names[:3] == ["airplane", "automobile", "bird"]
    arrays.check("cifar10", 10, (32, 32))


@pytest.mark.parametrize("make", [archived, unpacked])
def test_cifar100_has_the_fine_labels(tmp_path, make):
    arrays = load(Cifar100, make(tmp_path, Cifar100))
    assert arrays.train.images.shape == (200, 3, 32, 32)
    assert arrays.test.targets.tolist() == list(range(100))
    assert arrays.class_names[42] == "fine_42"
    arrays.check("cifar100", 100, (32, 32))


def test_pixels_are_where_the_description_says(tmp_path):
    """ "The first 1024 entries contain the red channel values [...] in row-major order"."""
    row = load(Cifar10, unpacked(tmp_path, Cifar10)).train.images[7]
    flat = cifar_images(20, 0)[7]
    assert [int(row[0, 0, 5]), int(row[0, 1, 0]), int(row[1, 0, 0]), int(row[2, 31, 31])] == [
        int(flat[place]) for place in (5, 32, 1024, 3071)
    ]


def test_python_3s_pickles_and_arrays_by_column_are_read_too(tmp_path):
    def python3(value) -> bytes:
        value = {k: np.asfortranarray(v) if isinstance(v, np.ndarray) else v for k, v in value.items()}
        return pickle.dumps({key.decode(): each for key, each in value.items()}, protocol=2)

    official = load(Cifar10, unpacked(tmp_path / "2", Cifar10))
    assert load(Cifar10, unpacked(tmp_path / "3", Cifar10, cifar10(pickled=python3))).content_sha256 == (
        official.content_sha256
    )
    turned = {**cifar10(), "test_batch": python2_pickle({b"data": np.asfortranarray(cifar_images(20, 5)),
                                                         b"labels": [i % 10 for i in range(20)]})}  # fmt: skip
    assert load(Cifar10, unpacked(tmp_path / "f", Cifar10, turned)).content_sha256 == official.content_sha256


def test_the_content_hash_does_not_depend_on_place_or_packing(tmp_path):
    hashes = {
        load(Cifar100, make(tmp_path / place, Cifar100)).content_sha256
        for make, place in ((archived, "a"), (unpacked, "b"), (archived, "c/d"))
    }
    assert len(hashes) == 1
    assert load(Cifar100, unpacked(tmp_path / "e", Cifar100, cifar100(3))).content_sha256 not in hashes


def test_the_home_directory_may_be_abbreviated(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    archived(tmp_path / "data", Cifar10)
    assert len(load(Cifar10, Path("~/data")).test) == 20


# --- Verified ---


class Published:
    """As much of torchvision's class as is used, with the checksums of these small files."""

    def __init__(self, archive: Path, files: dict[str, bytes]) -> None:
        sums = [[name, hashlib.md5(content, usedforsecurity=False).hexdigest()] for name, content in files.items()]
        self.train_list, self.test_list = sums[:-2], sums[-2:-1]
        self.meta = {"filename": sums[-1][0], "md5": sums[-1][1], "key": "label_names"}
        self.tgz_md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    root = archived(tmp_path, Cifar10)
    sums = Published(root / ARCHIVES[Cifar10], cifar10())
    monkeypatch.setattr(Cifar10, "_published", lambda self: sums)
    return root


def test_files_with_the_published_checksums_pass(published):
    assert len(load(Cifar10, published, verify=True).train) == 100
    unpacked(published, Cifar10)
    assert len(load(Cifar10, published, verify=True).train) == 100


def test_an_archive_with_another_checksum_is_refused(published, refused):
    archive = published / ARCHIVES[Cifar10]
    sums = Cifar10("")._published()
    archive.write_bytes(archive.read_bytes() + b"\0")
    actual = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    with refused(str(archive), actual, sums.tgz_md5):
        load(Cifar10, published, verify=True)
    assert archive.exists()


def test_a_file_with_another_checksum_is_refused_before_it_is_read(published, payload, refused):
    unpacked(published, Cifar10, {**cifar10(), "data_batch_3": pickle.dumps(payload)})
    with refused("CIFAR-10: data_batch_3: md5 is ", "was published"):
        load(Cifar10, published, verify=True)


def test_small_sets_do_not_pass_for_the_official_ones(tmp_path, refused):
    with refused("md5 is", "c58f30108f718f92721af3b95e74349a was published"):
        load(Cifar10, archived(tmp_path, Cifar10), verify=True)
    with refused("CIFAR-100: train: md5 is", "16019d7e3df5f24257cddd939b257f8d was published"):
        load(Cifar100, unpacked(tmp_path, Cifar100), verify=True)


# --- Absent, damaged, hostile ---


@pytest.mark.parametrize("kind", [Cifar10, Cifar100])
def test_absent_data_say_what_to_place_where(tmp_path, kind, refused):
    path = tmp_path / "none" / ARCHIVES[kind]
    with refused(f"place {path.name} at {path} ", f"https://www.cs.toronto.edu/~kriz/{path.name}", "download=true"):
        load(kind, path.parent, verify=True)
    assert not path.parent.exists()


def batch(**changes) -> bytes:
    content = {b"data": cifar_images(20, 0), b"labels": [i % 10 for i in range(20)], **changes}
    return python2_pickle({key.encode() if isinstance(key, str) else key: each for key, each in content.items()})


def calling(module: str, name: str, argument: str) -> bytes:
    """Protocol 4, where names come from the stack."""
    texts = [b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name, argument)]
    return b"\x80\x04" + texts[0] + texts[1] + b"\x93" + texts[2] + b"\x85R."


HOSTILE = {
    "os.system": (lambda payload: pickle.dumps(payload, protocol=2), "posix.system"),
    "eval": (lambda p: calling("builtins", "eval", f"open({str(p.canary)!r},'w')"), "builtins.eval"),
    "numpy.load": (lambda p: calling("numpy", "load", "x.npy"), "numpy.load"),
    "in a list": (lambda p: pickle.dumps({"data": [[p]], "labels": []}, protocol=2), "posix.system"),
    "instance": (lambda p: b"(S'touch'\niposix\nsystem\n.", "posix.system"),
    "objects": (lambda p: pickle.dumps({"data": np.array([p], object)}, protocol=2), "not of bytes"),
    "object array": (lambda p: pickle.dumps({"data": np.array([{}], object)}, protocol=2), "not of bytes"),
    "floats": (lambda p: batch(data=cifar_images(20, 0).astype(np.float64)), "not of bytes"),
    "encoding": (lambda p: calling("_codecs", "encode", "x")[:-3] + b"\x8c\x03rot\x86R.", "'rot'"),
    "truncated": (lambda p: batch()[:-100], "not enough data"),
    "empty": (lambda p: b"", "pickle exhausted before seeing STOP"),
    "text": (lambda p: b"<html>404</html>", "data_batch_1 is refused"),
    "no dictionary": (lambda p: python2_pickle([1, 2]), "no dictionary"),
    "no data": (lambda p: python2_pickle({b"labels": [1]}), "no images of 3x32x32"),
    "wrong width": (lambda p: batch(data=cifar_images(20, 0)[:, :3000]), "no images of 3x32x32"),
    "wrong shape": (lambda p: batch().replace(b"J\x14\0\0\0J\0\x0c\0\0", b"J\x15\0\0\0J\0\x0c\0\0", 1), "reshape"),
    "too few labels": (lambda p: batch(labels=[0] * 19), "not one label for each of its 20 images"),
    "labels out of range": (
        lambda p: batch(labels=[*[i % 10 for i in range(15)], 10, -1, 99, 10, 11]),
        "5 labels out of range: 10 of image 15, -1 of image 16, 99 of image 17, ...",
    ),
    "text as label": (lambda p: batch(labels=[b"cat"] * 20), "20 labels out of range: b'cat' of image 0"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_file_is_refused_without_running_it(tmp_path, payload, refused, name):
    make, reason = HOSTILE[name]
    files = {**cifar10(), "data_batch_1": make(payload)}
    for root in (archived(tmp_path / "a", Cifar10, files), unpacked(tmp_path / "b", Cifar10, files)):
        with refused("CIFAR-10: ", "data_batch_1", reason):
            load(Cifar10, root)


def test_the_payload_of_these_tests_works(tmp_path, payload):
    """The canary would be seen: Python's own unpickler runs the command."""
    pickle.loads(pickle.dumps(payload))  # noqa: S301 - our own
    payload.canary.unlink()


@pytest.mark.parametrize("names", [[], [1, 2], b"cat", None])
def test_class_names_that_are_none_are_refused(tmp_path, refused, names):
    files = {**cifar10(), "batches.meta": python2_pickle({b"label_names": names})}
    with refused("CIFAR-10: the file of class names holds none"):
        load(Cifar10, unpacked(tmp_path, Cifar10, files))


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def big(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


TARS = {
    "parent": (tarfile.TarInfo("cifar-10-batches-py/../../x"), "points out of the archive"),
    "absolute": (tarfile.TarInfo("/etc/x"), "points out of the archive"),
    "drive": (tarfile.TarInfo("C:\\x"), "points out of the archive"),
    "symlink": (link("cifar-10-batches-py/readme", tarfile.SYMTYPE), "is a link"),
    "hard link": (link("cifar-10-batches-py/readme", tarfile.LNKTYPE), "is a link"),
    "device": (link("cifar-10-batches-py/null", tarfile.CHRTYPE), "is a link, a device"),
    "bomb": (big("cifar-10-batches-py/zeros", 3_000_000), "more than the 2000000 allowed"),
}


@pytest.mark.parametrize("name", TARS)
def test_an_archive_with_a_dangerous_member_is_refused(tmp_path, monkeypatch, refused, name):
    monkeypatch.setattr(cifar, "UNPACKED_LIMIT", 2_000_000)
    member, reason = TARS[name]
    with refused(str(tmp_path), repr(member.name), reason):
        load(Cifar10, archived(tmp_path, Cifar10, None, member))


def test_a_bomb_in_a_header_is_refused(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(cifar, "UNPACKED_LIMIT", 2_000_000)
    member = tarfile.TarInfo("cifar-10-batches-py/x")
    member.pax_headers = {"comment": "0" * 3_000_000}
    with refused(str(tmp_path), "unpacks to more than was allowed"):
        load(Cifar10, archived(tmp_path, Cifar10, None, member))


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: c[:9], lambda c: b"", lambda c: b"<html>"])
def test_a_damaged_archive_is_refused(tmp_path, refused, damage):
    archive = archived(tmp_path, Cifar10) / ARCHIVES[Cifar10]
    archive.write_bytes(damage(archive.read_bytes()))
    with refused(str(archive)):
        load(Cifar10, tmp_path)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


STRANGE = {pipe: "it is no regular file", folder: "it is no regular file", device: "it is no regular file"}
STRANGE[huge] = "it is larger than "


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize(
    ("make", "name", "verify"),
    [
        (archived, ARCHIVES[Cifar10], True),
        (archived, ARCHIVES[Cifar10], False),
        (unpacked, "cifar-10-batches-py/test_batch", False),
    ],
)
def test_what_is_no_file_of_a_sensible_size_is_refused_at_once(tmp_path, refused, make, name, strange, verify):
    """Nobody waits for a pipe, reads a device to its end, or computes the checksum of a terabyte."""
    path = make(tmp_path, Cifar10) / name
    path.unlink()
    strange(path)
    with refused(f"{path} is refused: {STRANGE[strange]}"):
        load(Cifar10, tmp_path, verify=verify)


def test_an_archive_of_zeros_is_not_unpacked(tmp_path, refused):
    """600 MB that take 600 kB: the size that the member announces is refused before it is read."""
    member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    member.size = 600 << 20
    path = tmp_path / ARCHIVES[Cifar10]
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(600):
            file.write(bytes(1 << 20))
    with peak_memory() as peak, refused(str(path), "more than the 536870912 allowed"):
        load(Cifar10, tmp_path)
    assert peak[0] < 50 << 20


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most bytes that Python had at a time within the block, in a list once it is left."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def test_a_pickle_that_makes_room_for_billions_of_values_is_refused(refused):
    """Eleven bytes, for which the unpickler would take 34 GB and write all of it."""
    content = pickle.PROTO + b"\x02" + pickle.NONE + pickle.LONG_BINPUT + struct.pack("<I", 2**31 - 1) + pickle.STOP
    with refused("x is refused: it remembers a value under the number 2147483647"):
        read_pickle(content, "x")


def test_a_missing_file_is_named(tmp_path, refused):
    files = cifar10()
    del files["data_batch_4"]
    with refused(str(tmp_path), "data_batch_4 missing"):
        load(Cifar10, archived(tmp_path, Cifar10, files))
    shutil.rmtree(tmp_path / FOLDERS[Cifar10], ignore_errors=True)
    (tmp_path / ARCHIVES[Cifar10]).unlink()
    with refused("CIFAR-10 is absent"):
        load(Cifar10, unpacked(tmp_path, Cifar10, files))


def test_nothing_is_written(tmp_path):
    archived(tmp_path, Cifar10)
    load(Cifar10, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVES[Cifar10]]


def test_a_pickle_of_numbers_is_read(tmp_path):
    assert read_pickle(python2_pickle({b"a": [1, -2, None, True], b"b": b"text"}), "x") == {
        "a": [1, -2, None, True],
        "b": b"text",
    }
