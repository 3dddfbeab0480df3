"""How long boards of many records take, beside the least that reading them takes.

    python benchmarks/leaderboard_build.py RECORD [--records 10000]

Copies of RECORD, which any finished run leaves, get names, seeds and accuracies of 50 methods x 5 seeds on as many
pairs as it takes. The ratio is CPU time over that of reading the files and parsing their JSON alone, on the same
machine in the same minute.
"""

import argparse
import hashlib
import json
import random
import tempfile
import time
from pathlib import Path

from kd_bench.results.leaderboard.pages.index import html_page
from kd_bench.results.write import read_leaderboard, write_leaderboard

METHODS, SEEDS = 50, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="a record.json of a student")
    parser.add_argument("--records", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "records"), Path(name, "out")
        populate(folder, json.loads(options.record.read_text()), options.records)
        least, _ = timed(lambda: [json.loads(path.read_bytes()) for path in folder.rglob("record.json")])
        spent: dict[str, float] = {}
        spent["read, check and compute"], leaderboard = timed(lambda: read_leaderboard(folder))
        spent["page"], _ = timed(lambda: html_page(leaderboard, run_pages=False))
        started = time.perf_counter()
        total, summary = timed(lambda: write_leaderboard(folder, out))
        wall = time.perf_counter() - started
        print(f"{summary}; {len(summary.boards)} boards")
        print(f"read and parse alone: {least:.1f} CPU s")
        for what, seconds in spent.items():
            print(f"{what}: {seconds:.1f} CPU s")
        print(f"all of it: {total:.1f} CPU s, {wall:.1f} s; {total / least:.1f} times reading and parsing alone")
        for path in summary.files:
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        more, _ = timed(lambda: write_leaderboard(folder, out, all_run_pages=True))
        size = sum(path.stat().st_size for path in (out / "run-pages").iterdir())
        print(f"with a page for every run: {more:.1f} CPU s, {size / 1e6:.0f} MB")


def timed(work):
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def populate(folder: Path, template: dict, records: int) -> None:
    random.seed(0)
    for number in range(records):
        pair, rest = divmod(number, METHODS * SEEDS)
        method, seed = divmod(rest, SEEDS)
        name = ("scratch", "kd")[method] if method < 2 else f"method{method:02d}"
        value = min(1.0, 0.6 + 0.005 * pair + 0.001 * method + random.gauss(0, 0.003))
        digest = hashlib.sha256(repr((pair, method, seed)).encode()).hexdigest()
        template["run_id"], template["seed"] = digest[:16], seed
        template["student"] |= {"name": f"student{pair}", "weights_sha256": digest, "parameters": 1000 * (pair + 1)}
        weights = hashlib.sha256(f"teacher{pair}".encode()).hexdigest()
        template["teacher"] |= {"name": f"teacher{pair}", "weights_sha256": weights}
        template["method"] |= {"name": name}
        set_accuracy(template, value)
        path = folder / digest[:16] / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(template, indent=1))


def set_accuracy(record: dict, top1: float) -> None:
    """Give every split the accuracy nearest to ``top1`` that a model can have, and the teacher 98 %."""
    for selected in record["metrics"].values():
        for split in ("validation", "test") if selected else ():
            size = record["dataset"][f"{split}_samples"]
            teacher = size - size // 50
            right = min(round(top1 * size), teacher)
            shares = {"top1": right, "top5": size, "negative_flips": teacher - right, "positive_flips": 0}
            shares["teacher_agreement"] = size - (teacher - right)
            selected[split] |= {name: count / size for name, count in shares.items()}
            selected[split] |= {"retention": right / teacher, "nll": 1.0}
    record["teacher"]["test_top1"] = teacher / size


if __name__ == "__main__":
    main()
