"""One measuring process of a profile: exported networks timed in turn, or one of them from a cold start.

Run as a module: a job as JSON on standard input, measurements as JSON on standard output. It imports torch only for
.pt2 files and onnxruntime only for .onnx files, and nothing else of this package: the start of a process is measured.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform != "win32":
    import resource

POWERCAP = Path("/sys/class/powercap")
Prediction = Callable[[np.ndarray[Any, Any]], Any]


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the networks of a job.

    Args:
        job: ``files`` by name; ``threads``; ``shape`` (3, H, W) of an image; ``spawned``, the time at which the process
            was asked for; ``timings`` of a single image, 0 for a cold start alone, after ``warm_ups``; ``batch`` and
            ``seconds`` of the throughput.

    Returns:
        ``cold_start`` in seconds until the first prediction of the first network, ``peak_memory`` in bytes, and by
        network ``timings_ms``, ``images_per_second`` and ``joules_per_image`` (null where it cannot be measured).
    """
    image = np.random.default_rng(0).random((1, *job["shape"]), dtype=np.float32)
    networks: dict[str, Prediction] = {}
    cold_start = 0.0
    for name, file in job["files"].items():
        networks[name] = opened(file, job["threads"])
        networks[name](image)
        cold_start = cold_start or time.time() - job["spawned"]
    found: dict[str, Any] = {"cold_start": cold_start, "peak_memory": peak_memory(), "networks": {}}
    if not job["timings"]:
        return found
    timings = in_turn(networks, image, job["timings"], job["warm_ups"])
    images = np.repeat(image, job["batch"], axis=0)
    for name, prediction in networks.items():
        rate, joules = throughput(prediction, images, job["seconds"])
        found["networks"][name] = {
            "timings_ms": timings[name],
            "images_per_second": rate,
            "joules_per_image": joules,
        }
    return found


def opened(file: str, threads: int) -> Prediction:
    """Load an exported network; the file was made by the process that asks."""
    if file.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        return lambda images: session.run(None, {given.name: images})
    import torch

    torch.set_num_threads(threads)
    module = torch.export.load(file).module()

    def predict(images: np.ndarray[Any, Any]) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(images))

    return predict


def in_turn(
    networks: Mapping[str, Prediction], image: np.ndarray[Any, Any], timings: int, warm_ups: int
) -> dict[str, list[float]]:
    """Return milliseconds of each network on a single image, one after the other, after warm-ups that do not count."""
    found: dict[str, list[float]] = {name: [] for name in networks}
    for round_ in range(warm_ups + timings):
        for name, prediction in networks.items():
            started = time.perf_counter()
            prediction(image)
            if round_ >= warm_ups:
                found[name].append(1000 * (time.perf_counter() - started))
    return found


def throughput(prediction: Prediction, images: np.ndarray[Any, Any], seconds: float) -> tuple[float, float | None]:
    """Return images a second over at least ``seconds``, and joules an image of all processors of the machine."""
    prediction(images)
    before, started, done = energy(), time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds or not done:
        prediction(images)
        done += len(images)
    joules = spent(before, energy())
    return done / elapsed, None if joules is None else joules / done


def energy(powercap: Path = POWERCAP) -> dict[str, tuple[int, int]]:
    """Read the energy counters of the processors (RAPL) and where each begins anew, in microjoules, as far as allowed.

    Counters of parts of a processor are left out: its own includes them.
    """
    found = {}
    for folder in sorted(powercap.glob("intel-rapl:*")):
        if folder.name.count(":") == 1:
            try:
                ends = int((folder / "max_energy_range_uj").read_text())
                found[folder.name] = int((folder / "energy_uj").read_text()), ends
            except (OSError, ValueError):  # most systems let only root read it
                continue
    return found


def spent(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float | None:
    """Return the joules between two readings; None where no processor has a counter, or one was lost."""
    if not before or before.keys() != after.keys():
        return None
    differences = [(after[name][0] - count, ends) for name, (count, ends) in before.items()]
    return sum(each if each >= 0 else each + ends for each, ends in differences) / 1e6


def peak_memory() -> int | None:
    """Return the most memory that this process has held, in bytes; None where the system does not say.

    Linux counts in ``ru_maxrss`` what the parent held before this program began, but not in its status file.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(lines[0].split()[1]) if lines else None
    if sys.platform == "win32":
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.stdin.read()))))
