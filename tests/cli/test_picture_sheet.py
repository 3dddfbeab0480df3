"""``kd-bench show --augmentation``: a sheet of pictures, each where it belongs."""

import numpy as np
import torch
from PIL import Image

from kd_bench.cli.main import main
from kd_bench.config.augmentation_keys import Cutout, Mixing
from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.picture_sheet import GAP, TITLE, parts, picture_sheet
from kd_bench.data.source import ImageArrays, Split


def test_the_first_column_is_the_sample_and_others_are_its_epochs():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 64, 64), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(40) % 4)
    spec = DataSpec(4, (64, 64), (0.5,) * 3, (0.5,) * 3)
    data = ImageDataModule(ImageArrays(split, split, list("abcd")), spec, Augmentation(4), 4, 0, 0.25)
    page = np.asarray(picture_sheet(data, samples=2, epochs=3))
    assert page.shape == (2 * (TITLE + 2 * (64 + GAP)) + GAP, 4 * (64 + GAP) + GAP, 3)
    for row, position in enumerate((0, len(data.train) - 1)):
        for column in range(4):
            top, left = TITLE + GAP + row * (64 + GAP), GAP + column * (64 + GAP)
            found = torch.from_numpy(page[top : top + 64, left : left + 64].copy()).permute(2, 0, 1)
            stored, index = data.train.images[position : position + 1], torch.tensor([position])
            expected = stored if column == 0 else Augmentation(4)(stored, index, 0, column - 1)
            assert torch.equal(found, expected[0])


def test_every_part_has_its_block():
    step = Cutout(kind="cutout")
    augmentation = Augmentation(4, True, None, [step], [step, step], [], Mixing(mixup=1.0), (1,))
    titles = [title for title, _ in parts(augmentation)]
    assert [title.split()[0] for title in titles] == [
        "crop_padding", "horizontal_flip", "steps:", "strong_steps:", "strong_steps:", "mixing:", "all", "all", "all",
    ]  # fmt: skip
    strong, teacher = (dict(parts(augmentation))[f"all together, {name}"] for name in ("strong view", "teacher"))
    assert strong.strong_views == (0,)
    assert list(teacher.steps) == []


def test_the_command_needs_no_pair(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["dataset=digits", "recipe.augmentation.mixing={mixup: 1.0}"]
    assert main(["show", "--augmentation", "sheet.png", *options]) == 0
    assert "sheet.png: 4 samples" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.height == 3 * (TITLE + 4 * (64 + GAP)) + GAP


def test_another_kind_of_file_a_missing_folder_and_a_missing_pair_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (["--augmentation", "sheet.jpg"], "should be the name of a .png file"),
        (["--augmentation", "nowhere/sheet.png", "dataset=digits"], "cannot be written"),
        ([], "pair: is missing"),
    ):
        assert main(["show", *arguments]) == 2
        shown = capsys.readouterr().err
        assert words in shown
        assert "Traceback" not in shown
