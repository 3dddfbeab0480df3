"""What is present, what to do where it is not, and that the places of data determine nothing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd_bench.cli.main import main
from kd_bench.config.check import check
from kd_bench.config.paths import CONF
from kd_bench.data import cifar, presence
from kd_bench.errors import ConfigError
from kd_bench.results.records.fingerprint import determining, fingerprint

from .formats import below, cifar10, fashion, place, tar_gz, tiny_imagenet

CHOICES = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))
NEEDED = {"image_folder": ["dataset.source.root=x", "dataset.num_classes=3"]}
ELSEWHERE = [choice for choice in CHOICES if choice != "digits"]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_composes_and_passes_the_check(compose, choice):
    config = check(compose(f"dataset={choice}", *NEEDED.get(choice, [])))
    assert config.names.dataset == choice
    source = config.dataset.source
    assert source.get("image_size", config.dataset.image_size) == config.dataset.image_size
    if choice in ELSEWHERE:
        assert source["_target_"] in presence.PLACES
        assert source["root"] == "x" or source["root"].endswith(f".cache/kd_bench/{choice}")


@pytest.mark.parametrize("choice", ELSEWHERE)
def test_every_parameter_of_a_source_stands_in_its_file(choice):
    """So that each can be overridden without a plus."""
    import inspect
    from importlib import import_module

    source = OmegaConf.load(CONF / "dataset" / f"{choice}.yaml").source
    module, _, name = source["_target_"].rpartition(".")
    parameters = {*inspect.signature(getattr(import_module(module), name)).parameters}
    unused = {"test_fraction"} if choice == "imagenet" else set()
    assert {*source} - {"_target_"} == parameters - unused


@pytest.mark.parametrize(
    "override",
    [
        "dataset.source.in_memory_bytes=-1",
        "dataset.source.resize=squeeze",
        "dataset.source.crop_share=0",
        "dataset.source.test_fraction=1",
        "dataset.source.image_size=[8]",
    ],
)
def test_values_out_of_range_are_refused(compose, override):
    with pytest.raises(ConfigError, match=r"^dataset\.source\." + override.split(".")[2].split("=")[0]):
        check(compose("dataset=image_folder", *NEEDED["image_folder"], override))


@pytest.mark.parametrize("choice", ["cifar100", "image_folder"])
def test_places_are_neither_recorded_nor_part_of_the_fingerprint(compose, choice):
    more = {"cifar100": ["dataset.source.download=true"], "image_folder": ["dataset.source.in_memory_bytes=0"]}[choice]
    first = check(compose(f"dataset={choice}", *NEEDED.get(choice, [])))
    other = check(compose(f"dataset={choice}", *NEEDED.get(choice, []), "dataset.source.root=elsewhere", *more))
    assert first.dataset.source != other.dataset.source
    assert determining(first) == determining(other)
    assert fingerprint(first, "a", [], 0) == fingerprint(other, "a", [], 0)
    assert "root" not in first.recorded()["dataset"]["source"]
    assert first.dataset.source["root"]
    assert determining(check(compose(f"dataset={choice}", *NEEDED.get(choice, []), "dataset.validation_fraction=0.3")))[
        "dataset"
    ] != determining(first)["dataset"]  # fmt: skip


def test_workers_are_no_part_of_the_fingerprint(compose):
    first, other = check(compose()), check(compose("trainer.workers=3"))
    assert (first.trainer.workers, other.trainer.workers) == (0, 3)
    assert fingerprint(first, "a", [], 0) == fingerprint(other, "a", [], 0)


def test_absent_data_are_exit_code_4_at_once_and_without_a_connection(compose, tmp_path, capsys, monkeypatch):
    def connect(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("socket.getaddrinfo", connect)
    for kind in (cifar.Cifar10, cifar.Cifar100):
        started = time.monotonic()
        with pytest.raises(Exception, match="is absent: place ") as caught:
            kind(str(tmp_path / "none")).load()
        assert caught.value.exit_code == 4
        assert time.monotonic() - started < 1 or "torchvision" not in sys.modules
    assert main(["train", "dataset=cifar10", f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]) == 4
    path = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    assert f"kd-bench: CIFAR-10 is absent: place {path.name} at {path} (published at" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# --- kd-bench list datasets ---


def listed(capsys) -> dict[str, str]:
    assert main(["list", "datasets"]) == 0
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kd_bench"


def test_the_list_says_what_is_present(data, capsys):
    shown = listed(capsys)
    assert list(shown) == CHOICES
    assert shown["digits"] == "present"
    archive = data / "cifar10" / "cifar-10-python.tar.gz"
    assert shown["cifar10"] == (
        f"absent: place {archive.name} at {archive} (published at https://www.cs.toronto.edu/~kriz/{archive.name})"
    )
    assert shown["image_folder"].endswith("anywhere and set dataset.source.root")
    tar_gz(archive, below("cifar-10-batches-py", cifar10()))
    place(data / "cifar100" / "cifar-100-python", {"train": b"", "test": b"", "meta": b""})
    place(data / "FashionMNIST" / "raw", fashion(packed=False))
    place(data / "tiny_imagenet" / "tiny-imagenet-200", tiny_imagenet())
    place(data / "imagenet", {"train/n0/x.JPEG": b"", "val/n0/x.JPEG": b""})
    assert {name for name, state in listed(capsys).items() if state != "present"} == {"image_folder"}
    assert main(["list", "datasets", "--like", "cifar"]) == 0
    assert capsys.readouterr().out == "cifar10         present\ncifar100        present\n"


def test_the_list_needs_no_torch():
    code = (
        "import sys; from kd_bench.cli.main import main; main(['list', 'datasets']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode == 0


def test_a_set_that_is_half_there_is_absent(tmp_path):
    files = cifar10()
    del files["test_batch"]
    place(tmp_path, below("cifar-10-batches-py", files))
    assert presence.CIFAR10.find(tmp_path) is None
    assert presence.state("kd_bench.data.cifar.Cifar10", str(tmp_path)).startswith(
        "absent: place cifar-10-python.tar.gz"
    )
    assert presence.state("my_plugin.Source", None) == "present"
