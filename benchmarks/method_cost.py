"""Time losses of kd_bench against their formulas as the papers write them: forward and backward, ratios in one run.

Sizes are those of CIFAR-100 at batch 64. Each pair takes turns. Prints a table and writes method_cost.json beside this.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.methods.crd import drawn_products, products_with_all
from kd_bench.methods.kdsvd import right_singular_vectors
from kd_bench.methods.nst import nst_loss
from kd_bench.methods.rkd import rkd_angle_loss

BATCH, SAMPLES = 64, 50_000
RESULT = Path(__file__).with_suffix(".json")


@dataclass
class Comparison:
    """Two ways to one number.

    Attributes:
        leaf: what backward gives a gradient to.
        tolerance: of the two gradients, relative to the largest entry.
    """

    name: str
    sizes: str
    leaf: Tensor
    naive: Callable[[], Tensor]
    ours: Callable[[], Tensor]
    tolerance: float = 1e-3


# The formulas as written.


def collected_products(vectors: Tensor, memory: Tensor, drawn: Tensor) -> Tensor:
    """CRD: collect the drawn rows (B, 1 + M, D), then multiply."""
    rows = memory.index_select(0, drawn.flatten()).view(*drawn.shape, -1)
    return torch.bmm(rows, vectors[:, :, None]).squeeze(2)


def cosines_of_differences(embedding: Tensor) -> Tensor:
    """RKD: all differences (B, B, D), each normalised, then their products (B, B, B)."""
    sides = F.normalize(embedding[None] - embedding[:, None], dim=2)
    return torch.bmm(sides, sides.mT)


def polynomial_kernel(one: Tensor, other: Tensor) -> Tensor:
    """NST: every pair of channel patterns multiplied position by position, (B, C, C', H * W)."""
    return (one[:, :, None] * other[:, None]).sum(dim=3).pow(2).mean()


def naive_nst(student_stage: Tensor, teacher_stage: Tensor) -> Tensor:
    student, teacher = (F.normalize(stage.flatten(2), dim=2) for stage in (student_stage, teacher_stage))
    same = polynomial_kernel(student, student) + polynomial_kernel(teacher, teacher)
    return same - 2 * polynomial_kernel(student, teacher)


def vectors_by_svd(matrix: Tensor, count: int) -> Tensor:
    """KD-SVD: the whole decomposition, differentiated by torch."""
    return torch.linalg.svd(matrix, full_matrices=False).Vh[:, :count].mT


# The comparisons.


def crd_scores(negatives: int, whole: bool) -> Comparison:
    """By ``drawn_products``, or by a product with the whole memory whatever the number of negatives."""
    memory, drawn = F.normalize(torch.randn(SAMPLES, 128), dim=1), torch.randint(SAMPLES, (BATCH, 1 + negatives))
    vectors, weights = torch.randn(BATCH, 128).requires_grad_(), torch.randn(BATCH, 1 + negatives)

    def ours() -> Tensor:
        products = (
            products_with_all(vectors, memory).gather(1, drawn) if whole else drawn_products(vectors, memory, drawn)
        )
        return (products * weights).sum()

    def naive() -> Tensor:
        return (collected_products(vectors, memory, drawn) * weights).sum()

    name = "CRD scores, whole memory" if whole else "CRD scores"
    return Comparison(name, f"N={SAMPLES} M={negatives} D=128", vectors, naive, ours)


def rkd_angles() -> Comparison:
    student, teacher = torch.randn(BATCH, 256).requires_grad_(), torch.randn(BATCH, 256)

    def naive() -> Tensor:
        return F.smooth_l1_loss(cosines_of_differences(student), cosines_of_differences(teacher))

    return Comparison("RKD angles", "D=256", student, naive, lambda: rkd_angle_loss(student, teacher))


def nst(channels: int, size: int) -> Comparison:
    student, teacher = (
        torch.randn(BATCH, channels, size, size).requires_grad_(),
        torch.randn(BATCH, channels, size, size),
    )
    return Comparison(
        "NST",
        f"C={channels} {size}x{size}",
        student,
        lambda: naive_nst(student, teacher),
        lambda: nst_loss(student, teacher),
    )


def kd_svd(channels: int, size: int) -> Comparison:
    """Four vectors, as for a student; by size, since a vector may be turned around."""
    stage = torch.randn(BATCH, size * size, channels).requires_grad_()
    return Comparison(
        "KD-SVD vectors",
        f"C={channels} {size}x{size}",
        stage,
        lambda: vectors_by_svd(stage, 4).abs().sum(),
        lambda: right_singular_vectors(stage, 4)[1].abs().sum(),
        tolerance=2e-2,
    )


COMPARISONS: list[Callable[[], Comparison]] = [
    lambda: crd_scores(16384, whole=False),
    lambda: crd_scores(2048, whole=True),
    rkd_angles,
    lambda: nst(32, 32),
    lambda: nst(128, 8),
    lambda: kd_svd(128, 8),
]


def timed(loss: Callable[[], Tensor], leaf: Tensor) -> tuple[float, Tensor]:
    """Seconds of forward and backward, and the gradient."""
    leaf.grad = None
    start = time.perf_counter()
    loss().backward()
    seconds = time.perf_counter() - start
    return seconds, leaf.grad


def measure(comparison: Comparison, repetitions: int) -> dict[str, object]:
    naive, ours = [], []
    for repetition in range(repetitions + 1):  # the first warms up, and shows that both are one function
        naive_seconds, expected = timed(comparison.naive, comparison.leaf)
        our_seconds, found = timed(comparison.ours, comparison.leaf)
        if repetition == 0:
            difference = float((expected - found).abs().max() / expected.abs().max())
            assert difference < comparison.tolerance, f"{comparison.name}: gradients differ by {difference:.1e}"
            continue
        naive.append(naive_seconds)
        ours.append(our_seconds)
    first, second = (statistics.median(seconds) for seconds in (naive, ours))
    return {
        "name": comparison.name,
        "sizes": comparison.sizes,
        "naive_ms": round(1e3 * first, 2),
        "ours_ms": round(1e3 * second, 2),
        "ratio": round(second / first, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{'':26}{'sizes':24}{'naive ms':>10}{'ours ms':>10}{'ratio':>8}")
    rows = []
    for make in COMPARISONS:
        row = measure(make(), arguments.repetitions)
        print("{name:26}{sizes:24}{naive_ms:10}{ours_ms:10}{ratio:8}".format(**row), flush=True)
        rows.append(row)
    about = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "batch": BATCH,
        "repetitions": arguments.repetitions,
    }
    RESULT.write_text(json.dumps({**about, "results": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
