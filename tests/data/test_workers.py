"""Images on disk, decoded by any number of processes: the same batches, and errors of one line."""

import errno
import os
import time
from pathlib import Path

import pytest
import torch

from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.image_files import ImageFiles
from kd_bench.data.image_folder import ImageFolder
from kd_bench.errors import IntegrityError, KDBenchError

from .formats import image_folder, place

ON_DISK = {"in_memory_bytes": 0}


def load(root: Path, **options):
    return ImageFolder(str(root), **{"image_size": [12, 12], **options}).load()


@pytest.fixture
def root(tmp_path) -> Path:
    return place(tmp_path / "data", image_folder({"train": 4, "test": 2}))


def module(root: Path, workers: int) -> ImageDataModule:
    spec = DataSpec(3, (12, 12), (0.5,) * 3, (0.5,) * 3)
    return ImageDataModule(load(root, **ON_DISK), spec, Augmentation(2, True), 3, 0, 0.25, workers=workers)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine with one core
def test_the_number_of_workers_changes_nothing(root):
    modules = [module(root, workers) for workers in (0, 1, 2)]
    for loader in (ImageDataModule.train_dataloader, lambda each: each.val_dataloader()[0]):
        first, *others = (list(loader(each)) for each in modules)
        for other in others:
            for ours, theirs in zip(first, other, strict=True):
                assert torch.equal(ours.images, theirs.images)
                assert torch.equal(ours.targets, theirs.targets)
                assert torch.equal(ours.index, theirs.index)
    tests = [list(each.evaluation_loader(each.test)) for each in modules]
    assert torch.equal(tests[0][0].images, tests[2][0].images)


def test_images_in_memory_need_no_workers(root):
    arrays = load(root)
    spec = DataSpec(3, (12, 12), (0.5,) * 3, (0.5,) * 3)
    data = ImageDataModule(arrays, spec, Augmentation(), 3, 0, 0.25, workers=4)
    assert data.train_dataloader().num_workers == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_while_training_is_one_line(root, refused, workers):
    data = module(root, workers)
    (root / "test" / "b" / "1.png").write_bytes(b"x")
    with refused():
        list(data.evaluation_loader(data.test))
    with pytest.raises(IntegrityError) as caught:
        list(data.evaluation_loader(data.test))
    assert str(caught.value) == f"{root / 'test' / 'b' / '1.png'} cannot be read: no image"


def test_a_worker_that_dies_is_one_line(root, monkeypatch):
    data = module(root, 1)
    monkeypatch.setattr(ImageFiles, "__getitem__", lambda self, index: os._exit(3))
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)  # how long torch waits for the dead
    with pytest.raises(KDBenchError, match=r"^loading data failed: .*; trainer\.workers=0 works") as caught:
        list(data.evaluation_loader(data.test))
    assert "\n" not in str(caught.value)


def test_a_worker_that_hangs_is_not_waited_for(root, monkeypatch):
    monkeypatch.setattr("kd_bench.data.datamodule.WORKER_SECONDS", 1.0)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    data = module(root, 1)
    monkeypatch.setattr(ImageFiles, "__getitem__", lambda self, index: time.sleep(600))
    with pytest.raises(KDBenchError, match=r"^loading data failed: DataLoader timed out after 1.0 seconds; trainer"):
        list(data.evaluation_loader(data.test))


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.EAGAIN, errno.ENOSPC])
def test_without_resources_for_workers_there_are_the_same_batches_and_a_warning(root, monkeypatch, reason):
    """Too many open files, no more processes, no shared memory."""

    def refused(*arguments):
        raise OSError(reason, os.strerror(reason))

    expected = list(module(root, 0).train_dataloader())
    loader = module(root, 2).train_dataloader()
    monkeypatch.setattr("multiprocessing.context.ForkProcess.start", refused)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refused)
    with pytest.warns(UserWarning, match=f"no worker processes can be started, .*{os.strerror(reason)}"):
        found = list(loader)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.index, theirs.index)
    assert len(list(loader)) == len(expected)  # the next epoch does not try again


def test_large_images_are_evaluated_in_smaller_batches(root):
    arrays = load(root, image_size=[1024, 1024])
    spec = DataSpec(3, (1024, 1024), (0.5,) * 3, (0.5,) * 3)
    data = ImageDataModule(arrays, spec, Augmentation(), 3, 0, 0.25)
    assert [len(batch.index) for batch in data.evaluation_loader(data.test)] == [6]
    assert data.evaluation_loader(data.test).sampler.batch_size == 8


# --- A run ---

RUN = [
    "dataset=image_folder", "dataset.num_classes=3", "dataset.image_size=[16,16]", "dataset.source.in_memory_bytes=0",
    "student=resnet8_cifar", "teacher=none", "teacher.name=null", "method=scratch", "recipe.epochs=1",
    "recipe.batch_size=8", "logger=none", "trainer.progress=none", "trainer.threads=1",
]  # fmt: skip


def test_a_run_is_the_same_wherever_its_images_lie_and_whoever_decodes_them(compose, tmp_path):
    from kd_bench.runs.run import run

    records = []
    for number, more in enumerate(
        (["trainer.workers=0"], ["trainer.workers=1"], ["dataset.source.in_memory_bytes=1000000"])
    ):
        root = place(tmp_path / f"data{number}", image_folder({"train": 8, "test": 2}))
        where = [f"dataset.source.root={root}", f"paths.runs={tmp_path / f'runs{number}'}"]
        records.append(run(compose(*RUN, *where, *more)))
    assert len({record.run_id for record in records}) == 1
    assert len({record.student.weights_sha256 for record in records}) == 1
    assert len({record.metrics.model_dump_json() for record in records}) == 1
    assert "data0" not in records[0].model_dump_json(exclude={"artifacts"})
