"""ViTKD: its two distances against loops, and a pair of ViTs, which it is made for."""

import pytest
import torch
from golden_rows.embeddings import SPEC, Given, built
from golden_rows.given import outputs, run
from torch import Tensor
from torch.nn import functional as F

from kd_bench.errors import ConfigError
from kd_bench.methods.vitkd import ViTKD, mimicking_loss, random_mask

from . import pairs, test_contract
from .pairs import PAIRS

TINY = {"img_size": 8, "patch_size": 2}
VITS = {
    "teacher.name": "deit_tiny_patch16_224",
    "teacher.kwargs": {**TINY, "depth": 4},
    "student.name": "vit_tiny_patch16_224",
    "student.kwargs": {**TINY, "depth": 3, "embed_dim": 96},
}


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def squares(own: Tensor, other: Tensor, position: Tensor | None = None) -> float:
    """Summed over channels and the positions asked for."""
    total = 0.0
    for b in range(len(own)):
        for y in range(own.shape[2]):
            for x in range(own.shape[3]):
                if position is None or position[b, 0, y, x]:
                    total += sum((own[b, c, y, x].item() - other[b, c, y, x].item()) ** 2 for c in range(own.shape[1]))
    return total


def test_vitkd_mimics_the_first_stages_and_generates_the_last():
    own = [random_map(2, 2, 2, 3, seed=seed) for seed in range(4)]
    other = [random_map(2, 4, 2, 3, seed=9 + seed) for seed in range(5)]
    method = built(ViTKD(0.0, 0.3, 0.2, shallow_stages=2, masked_fraction=0.5), Given(own), Given(other))
    method.token.data.normal_(generator=torch.Generator().manual_seed(1))
    torch.manual_seed(7)
    terms = run(method, outputs(own), outputs(other))
    torch.manual_seed(7)
    mask = random_mask(2, 2, 3, masked=3, device=torch.device("cpu"))
    aligned = [
        torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], stage) + layer.bias[:, None, None]
        for layer, stage in zip(method.align, [own[0], own[1], own[3]], strict=True)
    ]
    mimicking = squares(aligned[0], other[0]) + squares(aligned[1], other[1])
    filled = aligned[2].clone()
    for b, _, y, x in mask.nonzero().tolist():
        filled[b, :, y, x] = method.token[0, :, 0, 0]
    first, second = method.generator[0], method.generator[2]
    hidden = F.conv2d(filled, first.weight, first.bias, padding=1).relu()
    generated = F.conv2d(hidden, second.weight, second.bias, padding=1)
    assert terms["mimicking"].item() == pytest.approx(0.3 * mimicking / 2, rel=1e-9)
    assert terms["generation"].item() == pytest.approx(0.2 * squares(generated, other[4], mask) / 2 / 0.5, rel=1e-9)


def test_a_mask_has_the_same_number_of_positions_for_each_sample_but_not_the_same_ones():
    mask = random_mask(40, 3, 4, masked=5, device=torch.device("cpu"))
    assert mask.shape == (40, 1, 3, 4)
    assert (mask.sum(dim=(1, 2, 3)) == 5).all()
    assert len({tuple(sample.flatten().tolist()) for sample in mask}) > 1


@pytest.mark.parametrize("same_width", [False, True])
def test_a_pair_of_vits_is_trained(compose, monkeypatch, same_width):
    student = {**VITS["student.kwargs"], "embed_dim": 192 if same_width else 96}
    monkeypatch.setitem(PAIRS, "vits", {**VITS, "student.kwargs": student})
    test_contract.test_training_reaches_the_student_and_the_adapters_and_leaves_the_teacher_alone(
        compose, "vitkd", "vits"
    )
    test_contract.test_two_classes_and_two_samples_are_enough(compose, "vitkd", "vits")


def test_the_generated_map_is_the_last_block_after_the_final_norm_and_the_others_are_raw(compose, monkeypatch):
    monkeypatch.setitem(PAIRS, "vits", VITS)
    made = pairs.built(compose, "vitkd", "vits")
    made.student.eval()
    batch = made.batch()
    normed, raw = [], []
    for tap in (made.student, made.pair.teacher):
        images = (batch.images - tap.mean) / tap.std
        normed.append(tap.network.forward_intermediates(images, norm=True)[1])
        raw.append(tap.network.forward_intermediates(images)[1])
    torch.manual_seed(3)
    terms = made.terms(False, *made.outputs(batch), batch)
    torch.manual_seed(3)
    generation = made.method.generation(made.method.align[-1](normed[0][-1]), normed[1][-1])
    aligned = [align(stage) for align, stage in zip(made.method.align, raw[0][:2], strict=False)]
    assert terms["generation"].item() == pytest.approx(3e-6 * generation.item() / 0.5, rel=1e-5)
    assert terms["mimicking"].item() == pytest.approx(3e-5 * mimicking_loss(aligned, raw[1][:2]).item(), rel=1e-5)
    assert not torch.allclose(normed[0][-1], raw[0][-1], rtol=0.1)


def test_maps_of_other_sizes_and_masks_of_everything_are_refused():
    method = ViTKD(1.0, 1.0, 1.0, shallow_stages=2, masked_fraction=0.5)
    large, small, point = (Given([random_map(2, 4, size, size)] * 3) for size in (4, 2, 1))
    with pytest.raises(ConfigError, match=r"needs maps of one size .*\(4, 4, 4\).*\(4, 2, 2\)"):
        method.build_adapters(large, small, SPEC)
    with pytest.raises(ConfigError, match=r"method.masked_fraction=0.5 masks all 1 positions of the last stage"):
        method.build_adapters(point, point, SPEC)
