"""The cache of teacher outputs: what is read is what was computed, whatever happens to the files."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_bench.errors import IntegrityError
from kd_bench.models.features import Outputs
from kd_bench.training import cache as cache_module
from kd_bench.training.cache import (
    Store,
    TeacherCache,
    damaged_blocks,
    describe,
    last_used,
    make_room,
    read_block,
    size_of,
    stores,
    write_block,
)

KEY = {"teacher": ["resnet20_cifar", []], "dataset": [{"num_classes": 3}, "0" * 64], "seed": 1}


class Network:
    """Counts how often it is asked, and gives what follows from the images alone."""

    def __init__(self, members: int = 0) -> None:
        self.calls, self.members = 0, members

    def __call__(self, images: Tensor) -> Outputs:
        self.calls += 1
        return self.outputs(images, self.members)

    def outputs(self, images: Tensor, members: int) -> Outputs:
        flat = images.flatten(1)
        return Outputs(
            flat[:, :3].exp(),
            [images.to(torch.bfloat16), images.contiguous(memory_format=torch.channels_last) * 2],
            flat.sin(),
            members=[self.outputs(images + 1 + i, 0) for i in range(members)] or None,
        )


def batches(epoch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(epoch)
    return [torch.randn(size, 2, 4, 4, generator=generator) for size in (5, 5, 5, 2)]


def passed(cache: TeacherCache, network: Network, epochs: range) -> list[Outputs]:
    """Go through epochs as a run does."""
    seen = []
    for epoch in epochs:
        images = batches(epoch)
        cache.begin(epoch, len(images))
        seen += [cache.outputs(step, batch, network) for step, batch in enumerate(images)]
    cache.close()
    return seen


def opened(folder: Path, stages: bool = True, step_bytes: int = 1 << 20) -> TeacherCache:
    return TeacherCache(Store(folder, KEY), step_bytes, stages)


def tensors_of(outputs: Outputs) -> list[Tensor]:
    own = [outputs.logits, outputs.embedding, *outputs.stages]
    return own + [tensor for member in outputs.members or () for tensor in tensors_of(member)]


@pytest.mark.parametrize("members", [0, 2])
@pytest.mark.parametrize("step_bytes", [1 << 20, 1 << 23, 1 << 40], ids=["one block", "two steps a block", "a step"])
def test_outputs_that_are_read_are_those_that_were_computed(tmp_path: Path, members: int, step_bytes: int) -> None:
    live, idle = Network(members), Network(members)
    computed = passed(opened(tmp_path, step_bytes=step_bytes), live, range(2))
    again = opened(tmp_path, step_bytes=step_bytes)
    read = passed(again, idle, range(2))
    assert (live.calls, idle.calls) == (8, 0)
    for ours, theirs in zip(read, computed, strict=True):
        for mine, its in zip(tensors_of(ours), tensors_of(theirs), strict=True):
            assert mine.dtype == its.dtype
            assert mine.stride() == its.stride()
            assert torch.equal(mine, its)
    assert again.seconds_saved > 0


def test_without_stages_only_logits_and_embedding_are_kept(tmp_path: Path) -> None:
    passed(opened(tmp_path, stages=False), Network(), range(1))
    (read,) = {len(outputs.stages) for outputs in passed(opened(tmp_path, stages=False), Network(), range(1))}
    assert read == 0


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "gone"])
def test_a_damaged_block_is_computed_again(tmp_path: Path, harm: str) -> None:
    computed = passed(opened(tmp_path), Network(), range(2))
    store = Store(tmp_path, KEY).directory
    block = store / "00001-00000.safetensors"
    content = block.read_bytes()
    if harm == "gone":
        block.unlink()
    else:
        flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
        block.write_bytes({"cut": content[:-9], "flipped": flipped, "empty": b""}[harm])
        assert list(damaged_blocks(store)) == [block]
        with pytest.raises(IntegrityError, match=block.name):
            read_block(block)
    network = Network()
    if harm == "gone":
        again = passed(opened(tmp_path), network, range(2))
    else:
        with pytest.warns(UserWarning, match="computed again"):
            again = passed(opened(tmp_path), network, range(2))
    assert network.calls == 4  # one epoch of two
    assert all(torch.equal(a.embedding, b.embedding) for a, b in zip(again, computed, strict=True))
    assert block.read_bytes()[-40:] == content[-40:]
    assert not list(damaged_blocks(store))


def test_a_run_that_stops_within_a_block_leaves_whole_blocks_alone(tmp_path: Path) -> None:
    cache, network = opened(tmp_path, step_bytes=1 << 23), Network()  # blocks of two steps
    cache.begin(0, 4)
    for step, images in enumerate(batches(0)[:3]):
        cache.outputs(step, images, network)
    cache.close()
    assert [path.name for path in sorted(Store(tmp_path, KEY).directory.glob("*.safetensors"))] == [
        "00000-00000.safetensors"
    ]
    later = Network()
    passed(opened(tmp_path, step_bytes=1 << 23), later, range(1))
    assert later.calls == 2


def test_one_run_writes_at_a_time_and_the_other_computes(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    networks = Network(), Network()
    first.begin(0, 4)
    second.begin(0, 4)
    for step, images in enumerate(batches(0)):
        ours = first.outputs(step, images, networks[0])
        theirs = second.outputs(step, images, networks[1])
        assert torch.equal(ours.logits, theirs.logits)
    assert [network.calls for network in networks] == [4, 4]
    second.begin(1, 4)  # the first still holds the store
    second.outputs(0, batches(1)[0], networks[1])
    assert len(list(Store(tmp_path, KEY).directory.glob("*.safetensors"))) == 1
    first.close()
    second.begin(1, 4)
    for step, images in enumerate(batches(1)):
        second.outputs(step, images, networks[1])
    assert len(list(Store(tmp_path, KEY).directory.glob("*.safetensors"))) == 2


def test_a_full_disk_ends_the_keeping_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "write_block", full)
    network, cache = Network(), opened(tmp_path)
    with pytest.warns(UserWarning, match="not kept.*No space left"):
        passed(cache, network, range(3))
    assert network.calls == 12
    with pytest.warns(UserWarning, match="not kept"):
        held = Store(tmp_path, KEY).remembered(lambda: {"test": torch.ones(2)})
    assert torch.equal(held["test"], torch.ones(2))


def test_held_out_outputs_are_computed_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path, KEY), []

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        return {"test": torch.arange(6.0).view(2, 3)}

    first, second = store.remembered(compute), store.remembered(compute)
    assert len(calls) == 1
    assert torch.equal(first["test"], second["test"])


def test_stores_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    made = []
    for age in range(3):
        store = Store(tmp_path, {**KEY, "seed": age})
        store.used()
        write_block(store.directory / "00000-00000.safetensors", {"0.logits": torch.zeros(1000)}, 1.0)
        os.utime(store.directory / "key.json", (1e9 - age, 1e9 - age))
        made.append(store.directory)
    each = size_of(made[0])
    assert make_room(tmp_path, tmp_path / "new", each, 3 * each)  # of three the oldest goes
    assert stores(tmp_path) == sorted(made[:2])
    assert make_room(tmp_path, made[1], each, 2 * each)  # what it has counts
    assert stores(tmp_path) == sorted(made[:2])
    assert not make_room(tmp_path, made[1], 5 * each, 2 * each)
    assert stores(tmp_path) == sorted(made[:2])
    assert last_used(made[1]) == 1e9 - 1
    assert "resnet20_cifar on 3 classes, seed 1, 1 epochs" in describe(made[1])
