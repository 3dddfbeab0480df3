"""Time kd_bench's training against hand-written loops and other libraries: ratios of CPU seconds in one run.

Three parts: training steps of pairs of CIFAR networks, whole epochs of small runs, and a sweep of methods and seeds
that share a teacher. All loops see the same images in the same order with the same augmentation and optimizer, on one
thread; they take turns, so that other work on the machine harms all of them alike. Writes training_speed.json beside
this, and docs/speed.md with its plot from it.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from loops import METHODS, BareLoop, TimmLoop, TorchdistillLoop
from pytorch_lightning.callbacks import Callback
from speed_page import write_page
from torch import Tensor

from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.data.source import ImageArrays, Split
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.runs.run import data_module, prepared
from kd_bench.training.cache import Store, TeacherCache
from kd_bench.training.loop import fit
from kd_bench.training.pair import build

RESULT = Path(__file__).with_suffix(".json")
PAIRS = {
    "resnet32x4-resnet8x4": ("resnet32x4_cifar", "resnet8x4_cifar"),
    "wrn_40_2-wrn_16_2": ("wrn_40_2_cifar", "wrn_16_2_cifar"),
}
BATCH, CLASSES, SAMPLES = 64, 100, 50_000
FAST = ["trainer=fast"]
WARM_UP = 1  # steps of a loop that are not timed
SWEEP = ("kd", "dkd", "dist", "logit_regression")


class Enough(Exception):
    """Ends a fit once the steps that are timed are done."""


class Clock(Callback):
    """A callback that times steps, or whole epochs, from the start of the first to the end of the last."""

    def __init__(self, warm_up: int, count: int, epochs: bool = False) -> None:
        self._warm_up, self._last, self._epochs, self._done = warm_up, warm_up + count, epochs, 0
        self.seconds = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._epochs:
            self._tick()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self._epochs:
            self._tick()

    def _tick(self) -> None:
        if self._done == self._warm_up:
            self._started = time.process_time()
        if self._done == self._last:
            self.seconds = (time.process_time() - self._started) / (self._last - self._warm_up)
            raise Enough
        self._done += 1


def images(samples: int, classes: int = CLASSES, size: int = 32) -> ImageArrays:
    """Make random images, as many in a class as in any other."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
        return Split(pixels, torch.arange(count) % classes)

    return ImageArrays(split(samples), split(2 * classes), [str(each) for each in range(classes)])


class Workbench:
    """A configured run that can be fitted again and again, each time from the start."""

    def __init__(self, folder: Path, arrays: ImageArrays | None, *overrides: str) -> None:
        base = ["logger=none", "trainer.progress=none", "trainer.threads=1", f"paths.runs={folder}"]
        self.config: RunConfig = check(compose_run([*base, *overrides]))
        self.folder = folder
        self.arrays = arrays if arrays is not None else self._loaded()

    def _loaded(self) -> ImageArrays:
        from kd_bench.runs.lineage import load_arrays

        return load_arrays(self.config, build(self.config))

    def opened(self) -> OpenedRun:
        pair = build(self.config)
        directory = Path(tempfile.mkdtemp(dir=self.folder))
        return OpenedRun(self.config, pair, self.arrays, data_module(self.config, pair, self.arrays), directory, [])

    def timed(self, warm_up: int, count: int, epochs: bool = False, cache: Path | None = None) -> float:
        """Return the CPU seconds of a step, or of an epoch."""
        opened, clock = self.opened(), Clock(warm_up, count, epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = prepared(opened)
            if cache is not None:
                store = Store(cache, {"seed": self.config.seed, "trainer": self.config.trainer.precision})
                reads = module.method.reads or ()
                module.cache = TeacherCache(store, self._step_bytes(opened, "stages" in reads), "stages" in reads)
            with contextlib.suppress(Enough):
                fit(
                    module,
                    opened.data,
                    self.config.recipe,
                    self.config.trainer,
                    opened.directory,
                    [],
                    [lambda: [clock]],
                    lambda epoch: None,
                )
        if module.cache is not None:
            module.cache.close()
        return clock.seconds

    def _step_bytes(self, opened: OpenedRun, stages: bool) -> int:
        tap = opened.pair.source
        assert tap is not None
        maps = sum(c * h * w for c, h, w in tap.stage_shapes) if stages else 0
        return 4 * self.config.recipe.batch_size * (tap.embedding_size + CLASSES + maps)


# Part 1: steps of pairs.


def steps_of_pairs(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    arrays = images(SAMPLES)
    for name in options.pairs:
        for method in options.methods:
            loops = pair_loops(folder, arrays, name, method, options)
            seconds = in_turns(loops, options.repeats)
            for loop, found in ratios(seconds, "bare").items():
                rows.append({"pair": name, "method": method, "loop": loop, **found})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def pair_loops(
    folder: Path, arrays: ImageArrays, name: str, method: str, options: argparse.Namespace
) -> dict[str, Callable[[], float]]:
    """Return what times a step of each loop."""
    teacher, student = PAIRS[name]
    base = ["dataset=cifar100", f"teacher={teacher}", f"student={student}", "recipe=crd", f"method={method}"]
    exact, fast = Workbench(folder, arrays, *base), Workbench(folder, arrays, *base, *FAST)
    count = options.steps

    def bare(fast: bool) -> float:
        return BareLoop(exact.opened(), method, fast).seconds(WARM_UP, count)

    loops: dict[str, Callable[[], float]] = {
        "bare": lambda: bare(False),
        "bare with the levers of fast": lambda: bare(True),
        "exact": lambda: exact.timed(WARM_UP, count),
        "fast": lambda: fast.timed(WARM_UP, count),
    }
    for label, bench in (("exact, cached", exact), ("fast, cached", fast)):
        cache = Path(tempfile.mkdtemp(dir=folder))
        fill(bench, cache, WARM_UP + count)
        loops[label] = lambda bench=bench, cache=cache: bench.timed(WARM_UP, count, cache=cache)
    if method == "kd":
        loops["timm.task"] = lambda: TimmLoop(exact.opened()).seconds(WARM_UP, count)
        if importlib.util.find_spec("torchdistill"):
            loops["torchdistill"] = lambda: TorchdistillLoop(exact.opened()).seconds(WARM_UP, count)
    return loops


def fill(bench: Workbench, cache: Path, steps: int) -> None:
    """Write the blocks that hold the first steps of a run."""
    opened = bench.opened()
    module = prepared(opened)
    stages = "stages" in (module.method.reads or ())
    step_bytes = bench._step_bytes(opened, stages)
    per_block = max(1, (16 << 20) // step_bytes)
    whole = -(-steps // per_block) * per_block
    store = Store(cache, {"seed": bench.config.seed, "trainer": bench.config.trainer.precision})
    kept = TeacherCache(store, step_bytes, stages)
    kept.begin(0, whole)
    given: Any = None
    assert module.teacher is not None
    for step in range(whole):  # outputs of one batch stand for those of all: reading takes as long

        def compute(batch: Tensor) -> Any:
            nonlocal given
            if given is None:
                with torch.autocast("cpu", torch.bfloat16, enabled=bench.config.trainer.precision == "bf16-mixed"):
                    given = module.teacher(batch)
                given = given._replace(logits=given.logits.float(), embedding=given.embedding.float())
            return given

        kept.outputs(step, torch.rand(BATCH, 3, 32, 32), compute)
    kept.close()


# Part 2: whole epochs of small runs.


def small_runs(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for steps, extra in ((14, []), (2, ["dataset.train_samples=128"])):
        bench = Workbench(folder, None, "teacher=resnet20_cifar", "student=resnet8_cifar", "method=kd", *extra)
        epochs = options.epochs * (1 if steps > 2 else 4)
        loops: dict[str, Callable[[], float]] = {
            "bare": lambda bench=bench, epochs=epochs: BareLoop(bench.opened(), "kd", False).epochs(1, epochs),
            "exact": lambda bench=bench, epochs=epochs: bench.timed(1, epochs, epochs=True),
        }
        seconds = in_turns(loops, options.small_repeats)
        for loop, found in ratios(seconds, "bare").items():
            rows.append({"steps": steps, "loop": loop, **found})
            print(json.dumps(rows[-1]), flush=True)
    return rows


# Part 3: a sweep.


def sweep(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time 4 methods x 2 seeds with shared teacher outputs against 8 bare loops, an epoch each."""
    arrays = images(-(-(options.sweep_steps * BATCH + 100) // 100) * 112)
    teacher, student = PAIRS["resnet32x4-resnet8x4"]
    base = [
        "dataset=cifar100",
        f"teacher={teacher}",
        f"student={student}",
        "recipe=crd",
        "dataset.validation_fraction=0.01",
    ]
    base.append(f"dataset.train_samples={options.sweep_steps * BATCH}")

    def benches(*extra: str) -> list[Workbench]:
        return [
            Workbench(folder, arrays, *base, f"method={method}", f"seed={seed}", *extra)
            for method in SWEEP
            for seed in (0, 1)
        ]

    def shared(*extra: str) -> float:
        cache = Path(tempfile.mkdtemp(dir=folder))
        return sum(bench.timed(0, 1, epochs=True, cache=cache) for bench in benches("recipe.epochs=2", *extra))

    def bare() -> float:
        return sum(BareLoop(bench.opened(), "kd", False).seconds(0, options.sweep_steps) for bench in benches()) * (
            options.sweep_steps
        )

    seconds = in_turns({"8 bare": bare, "8 exact": shared, "8 fast": lambda: shared(*FAST)}, options.sweep_repeats)
    rows = [{"loop": loop, **found} for loop, found in ratios(seconds, "8 bare").items()]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def in_turns(loops: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            seconds[name].append(loop())
    return seconds


def ratios(seconds: dict[str, list[float]], reference: str) -> dict[str, dict[str, Any]]:
    """Return median, least and greatest ratio of turns, and the median of the seconds."""
    found = {}
    for name, values in seconds.items():
        each = [value / base for value, base in zip(values, seconds[reference], strict=True)]
        found[name] = {
            "ratio": round(statistics.median(each), 3),
            "least": round(min(each), 3),
            "most": round(max(each), 3),
            "cpu_seconds": round(statistics.median(values), 4),
        }
    return found


def gemm_peak() -> float:
    """Return the most floating-point operations a second that a product of float32 matrices reaches on one thread."""
    best = 0.0
    for size in (512, 1024, 2048):
        left, right = torch.rand(size, size), torch.rand(size, size)
        for _ in range(4):
            started = time.process_time()
            left @ right
            best = max(best, 2 * size**3 / (time.process_time() - started))
    return best


def about(options: argparse.Namespace) -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "torch": torch.__version__,
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": "avx512_bf16" in Path("/proc/cpuinfo").read_text()
        if Path("/proc/cpuinfo").exists()
        else None,
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "gemm_gflops": round(gemm_peak() / 1e9, 1),
        "threads": 1,
        "steps": options.steps,
        "repeats": options.repeats,
    }


PARTS = {"pairs": steps_of_pairs, "small": small_runs, "sweep": sweep}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: one pair, KD and CRD, two turns")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="others keep their results")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--epochs", type=int, default=10, help="timed epochs of a small run with 14 steps")
    parser.add_argument("--small-repeats", type=int, default=5)
    parser.add_argument("--sweep-steps", type=int, default=3)
    parser.add_argument("--sweep-repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--page", action="store_true", help="write docs/speed.md from the results there are, and stop")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.methods, options.steps, options.repeats = options.pairs[:1], ["kd", "crd"], 1, 2
        options.small_repeats, options.epochs, options.parts = 3, 5, ["pairs", "small"]
    return options


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    if not options.page:
        for part in options.parts:
            with tempfile.TemporaryDirectory() as folder:
                rows = PARTS[part](Path(folder), options)
            result[part] = {**about(options), "rows": merged(result.get(part, {}).get("rows", []), rows)}
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_page(result)


def merged(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows, and those of before for pairs and methods that were not measured now."""
    measured = {(row.get("pair"), row.get("method"), row.get("steps")) for row in rows}
    return [row for row in before if (row.get("pair"), row.get("method"), row.get("steps")) not in measured] + rows


if __name__ == "__main__":
    main()
