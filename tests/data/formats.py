"""Small data sets in the formats of the real ones, and files that nobody should trust."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

Files = dict[str, bytes]


# --- CIFAR: pickles as Python 2 wrote them, protocol 2, with byte strings ---


def python2_pickle(value) -> bytes:
    return pickle.PROTO + b"\x02" + _python2(value) + pickle.STOP


def _python2(value) -> bytes:
    if isinstance(value, np.ndarray):
        dtype = _call("numpy", "dtype", (value.dtype.str.lstrip("|<").encode(), 0, 1))
        dtype += _python2((3, b"|", None, None, None, -1, -1, 0)) + pickle.BUILD
        start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _python2((0,)) + _python2(b"b") + b"tR"
        fortran = not value.flags.c_contiguous
        raw = value.tobytes(order="F" if fortran else "C")
        state = pickle.MARK + _python2(1) + _python2(value.shape) + dtype + _python2(fortran) + _python2(raw) + b"t"
        return start + state + pickle.BUILD
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, dict):
        items = b"".join(_python2(key) + _python2(each) for key, each in value.items())
        return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    if isinstance(value, list):
        return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(_python2, value)) + pickle.APPENDS
    if isinstance(value, tuple):
        return pickle.MARK + b"".join(map(_python2, value)) + pickle.TUPLE
    if value is None or isinstance(value, bool):
        return {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value]
    return pickle.BININT + struct.pack("<i", value)


def _call(module: str, name: str, arguments: tuple) -> bytes:
    return f"c{module}\n{name}\n".encode() + _python2(arguments) + pickle.REDUCE


def cifar_images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


def cifar10(per_file: int = 20, pickled=python2_pickle) -> Files:
    """Six files of ``per_file`` images, the labels counting up; every class is there."""
    files = {}
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = [i % 10 for i in range(per_file)]
        names = [f"image_{i}.png".encode() for i in range(per_file)]
        content = {b"batch_label": name.encode(), b"labels": labels, b"data": cifar_images(per_file, seed)}
        files[name] = pickled({**content, b"filenames": names})
    kinds = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    files["batches.meta"] = pickled({b"num_cases_per_batch": per_file, b"label_names": kinds, b"num_vis": 3072})
    return files


def cifar100(per_class: int = 2, pickled=python2_pickle) -> Files:
    """Two files; the coarse labels are a fifth of the fine ones."""
    files = {}
    for seed, (name, count) in enumerate({"train": 100 * per_class, "test": 100}.items()):
        fine = [i % 100 for i in range(count)]
        coarse = [label // 5 for label in fine]
        files[name] = pickled({b"coarse_labels": coarse, b"fine_labels": fine, b"data": cifar_images(count, seed)})
    names = [f"fine_{i}".encode() for i in range(100)]
    files["meta"] = pickled({b"fine_label_names": names, b"coarse_label_names": [f"{i}".encode() for i in range(20)]})
    return files


# --- Archives and folders ---


def place(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar_gz(path: Path, files: Files, *members: tarfile.TarInfo) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def zipped(path: Path, files: Files, *members: zipfile.ZipInfo) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for member in members:
            archive.writestr(member, b"/etc/passwd")
    return path


def below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": content for name, content in files.items()}


# --- idx ---


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def fashion(packed: bool = True, train: int = 40, test: int = 20) -> Files:
    files = {}
    for seed, (part, count) in enumerate({"train": train, "t10k": test}.items()):
        images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28))
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            content = idx(array)
            files[f"{part}-{kind}-ubyte" + (".gz" if packed else "")] = gzip.compress(content) if packed else content
    return files


# --- Images ---


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiny_imagenet(classes: int = 3, train: int = 4, test: int = 2) -> Files:
    """The official layout; words.txt holds more than the classes, and the ids are not sorted."""
    wnids = [f"n{10000000 + 7 * (classes - i)}" for i in range(classes)]
    words = [f"{wnid}\tthing {wnid[-2:]}, something" for wnid in [*wnids, "n00001740"]]
    files = {"wnids.txt": "\n".join(wnids).encode(), "words.txt": "\n".join(words).encode()}
    annotations, seed = [], 0
    for wnid in wnids:
        for i in range(train):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = encoded(pixels(64, 64, seed := seed + 1), "JPEG")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for _ in range(test):
            name = f"val_{len(annotations)}.JPEG"
            annotations.append(f"{name}\t{wnid}\t0\t32\t44\t62")
            files[f"val/images/{name}"] = encoded(pixels(64, 64, seed := seed + 1), "JPEG")
    return {**files, "val/val_annotations.txt": "\n".join(annotations).encode() + b"\n"}


def image_folder(parts: dict[str, int], classes: str = "abc", side: int = 20) -> Files:
    """``parts``: images of each class in each folder, alternating JPEG and PNG."""
    files, seed = {}, 0
    for part, count in parts.items():
        for name in classes:
            for i in range(count):
                kind, ending = (("JPEG", "jpg"), ("PNG", "png"))[i % 2]
                files[f"{part}/{name}/{i}.{ending}"] = encoded(pixels(side + i, side, seed := seed + 1), kind)
    return files
