"""Files of data sets: where they go and where they are published. Needs no torch and opens no connection."""

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path
from typing import Any

from kd_bench.errors import IntegrityError


@dataclass(frozen=True)
class Place:
    """The place of one data set's files.

    Attributes:
        title: the data set's own name.
        wanted: what to place there, in words.
        file: where to place it, relative to the root; empty for the root itself.
        published: where to get it; empty where only the user knows.
        ways: sets of paths relative to the root, any of which is enough; the first complete one is used.
        fetched: whether ``dataset.source.download=true`` can get it.
    """

    title: str
    wanted: str
    file: str
    published: str
    ways: tuple[tuple[str, ...], ...]
    fetched: bool = False

    def find(self, root: Path) -> list[Path] | None:
        """Return the paths of the first complete way, or None."""
        # Normalised: a root that does not exist has no parent to go to.
        candidates = ([Path(normpath(root / path)) for path in way] for way in self.ways)
        return next((paths for paths in candidates if all(path.exists() for path in paths)), None)

    def advice(self, root: Path) -> str:
        """Return what the user can do where nothing is found."""
        published = f" (published at {self.published})" if self.published else ""
        return f"place {self.wanted} at {root / self.file}{published}"

    def require(self, root: Path) -> list[Path]:
        """Return the paths of the first complete way.

        Raises:
            IntegrityError: no way is complete.
        """
        if (paths := self.find(root)) is None:
            fetch = ", or let dataset.source.download=true fetch it" if self.fetched else ""
            raise IntegrityError(f"{self.title} is absent: {self.advice(root)}{fetch}")
        return paths


CIFAR10_FOLDER, CIFAR100_FOLDER = "cifar-10-batches-py", "cifar-100-python"
CIFAR10_MEMBERS = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
CIFAR100_MEMBERS = ("train", "test", "meta")
FASHION_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_FASHION_FOLDERS = (".", "raw", "FashionMNIST/raw", "../FashionMNIST/raw", "/usr/share/datasets/fashion-mnist")
TINY_FOLDER, TINY_ARCHIVE, TINY_PREPARED = "tiny-imagenet-200", "tiny-imagenet-200.zip", "tiny-imagenet-200.safetensors"
_TINY_PARTS = ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt")


def _cifar(title: str, folder: str, members: tuple[str, ...]) -> Place:
    archive = f"{folder.removesuffix('-batches-py').removesuffix('-python')}-python.tar.gz"
    ways = (tuple(f"{folder}/{member}" for member in members), (archive,))
    return Place(title, archive, archive, f"https://www.cs.toronto.edu/~kriz/{archive}", ways, fetched=True)


CIFAR10 = _cifar("CIFAR-10", CIFAR10_FOLDER, CIFAR10_MEMBERS)
CIFAR100 = _cifar("CIFAR-100", CIFAR100_FOLDER, CIFAR100_MEMBERS)
FASHION_MNIST = Place(
    "Fashion-MNIST",
    ", ".join(f"{name}.gz" for name in FASHION_FILES),
    "",
    "https://github.com/zalandoresearch/fashion-mnist, or apt-get install dataset-fashion-mnist",
    tuple(tuple(f"{at}/{name}{end}" for name in FASHION_FILES) for at in _FASHION_FOLDERS for end in ("", ".gz")),
    fetched=True,
)
TINY_IMAGENET = Place(
    "Tiny ImageNet",
    TINY_ARCHIVE,
    TINY_ARCHIVE,
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    ((TINY_PREPARED,), tuple(f"{TINY_FOLDER}/{part}" for part in _TINY_PARTS), _TINY_PARTS, (TINY_ARCHIVE,)),
    fetched=True,
)
IMAGENET = Place(
    "ImageNet (ILSVRC2012)",
    "the folders train/<wnid>/ and val/<wnid>/ with the JPEG files",
    "",
    "https://image-net.org/download.php, for registered users",
    (("train", "val"),),
)
IMAGE_FOLDER = Place(
    "the image folder",
    "the folders train/<class>/ (and test/<class>/ if there is an official test split)",
    "",
    "",
    (("train",),),
)
PLACES = {
    "kd_bench.data.cifar.Cifar10": CIFAR10,
    "kd_bench.data.cifar.Cifar100": CIFAR100,
    "kd_bench.data.fashion_mnist.FashionMnist": FASHION_MNIST,
    "kd_bench.data.tiny_imagenet.TinyImageNet": TINY_IMAGENET,
    "kd_bench.data.image_folder.ImageNet": IMAGENET,
    "kd_bench.data.image_folder.ImageFolder": IMAGE_FOLDER,
}


def require(source: Any) -> None:
    """Refuse a configured data set whose files are absent, before anything slow is imported.

    Args:
        source: the node ``dataset.source``. One that this module does not know, or whose root is missing, is left to
            the checks that come later.

    Raises:
        IntegrityError: the files are absent and are not to be fetched.
    """
    if not isinstance(source, Mapping):
        return
    place, root = PLACES.get(str(source.get("_target_"))), source.get("root")
    if place is not None and isinstance(root, str) and source.get("download") is not True:
        place.require(Path(root).expanduser())


def state(target: str, root: str | None) -> str:
    """Return ``present``, or ``absent`` with what to do.

    Args:
        target: dotted name of the source's class; one that is not known here needs no files.
        root: its data directory; None where the configuration leaves it to the user.
    """
    place = PLACES.get(target)
    if place is None:
        return "present"
    if root is None:
        return f"absent: place {place.wanted} anywhere and set dataset.source.root"
    folder = Path(root).expanduser()
    return "present" if place.find(folder) else f"absent: {place.advice(folder)}"
