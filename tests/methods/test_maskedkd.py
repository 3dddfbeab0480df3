"""MaskedKD: the teacher's outputs against a ViT that is fed by hand, the choice of patches, and what it saves."""

import pytest
import torch
from golden_rows.embeddings import SPEC, Given

from kd_bench.cli.method_pages.pages import page
from kd_bench.errors import ConfigError
from kd_bench.methods.combined import Combined
from kd_bench.methods.kd import KD
from kd_bench.methods.maskedkd import MaskedKD, most_attended
from kd_bench.runs.preview import as_text, inspect, step_macs, teacher_macs

from .pairs import built


def test_the_most_attended_patches_are_those_of_the_highest_mean_over_heads():
    attention = torch.tensor([[[0.1, 0.5, 0.2, 0.0], [0.4, 0.1, 0.3, 0.2]]])  # means 0.25, 0.3, 0.25, 0.1
    assert most_attended(attention, 1).tolist() == [[1]]
    assert sorted(most_attended(attention, 3)[0].tolist()) == [0, 1, 2]


def test_the_teacher_sees_what_the_student_attends_to(compose):
    made = built(compose, "maskedkd")
    images = made.batch().images
    student, teacher = made.outputs(made.batch())
    attention = made.student.class_attention(student)
    kept = most_attended(attention, 8)
    network = made.teacher.tap.network
    with torch.no_grad():
        patches = network.patch_embed((images - made.teacher.tap.mean) / made.teacher.tap.std)
        rows = []
        for sample, chosen in zip(patches, kept.tolist(), strict=True):
            tokens = [network.cls_token[0, 0] + network.pos_embed[0, 0]]
            tokens += [sample[place] + network.pos_embed[0, 1 + place] for place in sorted(chosen)]
            rows.append(torch.stack(tokens))
        final = network.norm(network.blocks(torch.stack(rows)))
        wanted = network.head(final[:, 0])
    assert attention.shape == (6, 3, 16)
    assert torch.allclose(teacher.logits, wanted, atol=1e-5)
    assert not torch.allclose(teacher.logits, made.teacher(images).logits, atol=1e-5)
    assert teacher.stages == []


def test_with_all_patches_the_teacher_gives_what_it_gives_alone(compose):
    made = built(compose, "maskedkd")
    made.method.kept_fraction = 1.0
    batch = made.batch()
    assert torch.allclose(made.outputs(batch)[1].logits, made.teacher(batch.images).logits, atol=1e-5)


def test_the_student_sees_everything_and_no_gradient_flows_through_the_choice(compose):
    made = built(compose, "maskedkd")
    batch = made.batch()
    student, _ = made.outputs(batch)
    assert not made.student.class_attention(student).requires_grad
    made.student.eval()
    assert torch.equal(made.outputs(batch)[0].logits, made.student(batch.images).logits)


def test_the_saved_share_of_the_teachers_work_is_counted(compose):
    made = built(compose, "maskedkd")
    whole = built(compose, "maskedkd")
    whole.method.kept_fraction = 1.0
    saved = teacher_macs(made.pair) / teacher_macs(whole.pair)
    # 8 of 16 patches beside the class token: 9 of 17 tokens, and less than that of their products.
    assert 0.45 < saved < 9 / 17 + 0.05
    assert step_macs(whole.pair) - step_macs(made.pair) == teacher_macs(whole.pair) - teacher_macs(made.pair)


def test_the_preview_and_the_page_say_what_the_teacher_takes(compose):
    made = built(compose, "maskedkd")
    facts = inspect(made.config)
    share = teacher_macs(made.pair) / facts["teacher"]["macs"]
    assert f"the teacher of a step does {teacher_macs(made.pair):,} MACs an image, {share:.0%} of a whole pass" in (
        as_text(facts)
    )
    assert "MACs an image, 100%" not in as_text(inspect(built(compose, "kd").config))
    assert "deit_tiny_patch16_224 of 6 blocks" in page("maskedkd").replace("\\", "")


@pytest.mark.parametrize(("fraction", "patches", "kept"), [(0.5, 196, 98), (0.25, 36, 9), (0.01, 16, 1), (1.0, 7, 7)])
def test_a_fraction_is_rounded_down_to_one_at_least(fraction, patches, kept):
    assert MaskedKD(0.5, 0.5, 1.0, fraction).kept(patches) == kept


def test_networks_with_other_patches_are_refused():
    with pytest.raises(ConfigError, match="maskedkd needs networks that cut an image into the same patches"):
        MaskedKD(0.5, 0.5, 1.0, 0.5).build_adapters(
            Given([torch.rand(2, 3, 4, 4)]), Given([torch.rand(2, 3, 2, 2)]), SPEC
        )


def test_a_combination_shows_the_teacher_what_its_part_chooses(compose):
    made = built(compose, "maskedkd")
    whole = Combined({"masked": made.method, "kd": KD(0.0, 1.0, 4.0)})
    assert whole.requires.student_has == ("class attention",)
    assert whole.reads is None
    made.student.eval()
    images = made.batch().images
    (_, one), (_, other) = (m.observe(made.student, made.teacher, images) for m in (whole, made.method))
    assert torch.equal(one.logits, other.logits)
    with pytest.raises(ConfigError, match="one choose what the networks see"):
        Combined({"one": MaskedKD(0.5, 0.5, 1.0, 0.5), "other": MaskedKD(0.5, 0.5, 1.0, 0.25)})
