"""Speed of one process that decodes and crops photographs, against a plain pipeline of torchvision.

    python benchmarks/loading.py

Both read the same JPEG files of 500x400 pixels, which are written first, and give batches of 64 windows of 224x224
pixels as bytes. Torchvision's pipeline is that of its training reference: decode, RandomResizedCrop, flip, stack. Both
have one thread and take turns; the ratio is that of images per CPU second, median over the rounds, and more than 1 is
faster than torchvision. Prints JSON, kept in ``loading.json``.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.image_folder import ImageFolder

FILES, BATCH, ROUNDS, SIZE = 256, 64, 9, 224


def write_photographs(root: Path) -> None:
    """Write files that compress about as photographs do: smooth colours and a little noise."""
    generator = np.random.default_rng(0)
    for number in range(FILES + 8):
        folder = root / ("train" if number < FILES else "test") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (40, 50, 3), np.uint8)).resize((500, 400))
        noise = generator.integers(-12, 13, (400, 500, 3))
        pixels = np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photographs(root)
        size = sum(path.stat().st_size for path in root.rglob("*.jpg")) / (FILES + 8)
        arrays = ImageFolder(folder, [SIZE, SIZE], crop_share=0.875, full_resolution=True).load()
        spec = DataSpec(2, (SIZE, SIZE), (0.5,) * 3, (0.5,) * 3)
        augmentation = Augmentation(resized_crop=[0.08, 1.0], horizontal_flip=True)
        ours = ImageDataModule(arrays, spec, augmentation, BATCH, 0, 2 / FILES)
        plain = v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()])
        theirs = torch.utils.data.DataLoader(TorchvisionFolder(str(root / "train"), plain), BATCH, shuffle=True)
        seconds: dict[str, list[float]] = {"kd_bench": [], "torchvision": []}
        for _ in range(ROUNDS + 1):
            for name, loader in (("kd_bench", ours.train_dataloader()), ("torchvision", theirs)):
                started, images = time.process_time(), 0
                for batch in loader:
                    images += len(batch[1])
                seconds[name].append((time.process_time() - started) / images)
    found = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first warms the cache up
    ratios = [b / a for a, b in zip(seconds["kd_bench"][1:], seconds["torchvision"][1:], strict=True)]
    result = {
        "images_per_cpu_second": {name: round(1 / value, 1) for name, value in found.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "rounds": ROUNDS,
        "kilobytes_per_file": round(size / 1000),
        "versions": {"torch": torch.__version__, "pillow": Image.__version__},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
