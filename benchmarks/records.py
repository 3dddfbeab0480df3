"""How long commands take that look at many records, beside the least that reading these takes.

    python benchmarks/records.py RECORD [--sizes 100 1000 10000] [--out benchmarks/records.json]

Copies of RECORD, the complete one of a finished run of a student without its own run's teacher among them, get names,
seeds and accuracies of 50 methods x 5 seeds on as many pairs as it takes. They are valid: boards show all of them, and
the check finds nothing. Commands run as whole processes, from start to exit. A ratio is their CPU time over that of a
process that reads the same files and parses their JSON, measured before and after each command. ``load`` is that of
the machine in the last minute: on a busy one CPU times are longer, ratios less so.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kd_bench.results.checking.configuration import expected_run_id
from kd_bench.results.records.command import to_record
from kd_bench.results.records.record import Record

METHODS, SEEDS = 50, 5
MOST_PUBLISHED = 1000
COMMAND = ("-m", "kd_bench")
PARSE = (
    "-c",
    "import json, pathlib, sys\n"
    "for path in pathlib.Path(sys.argv[1]).rglob('record.json'): json.loads(path.read_bytes())",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="a record.json of a student")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="numbers of records")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            populate(Path(name, "records"), json.loads(options.record.read_text()), size)
            for command in commands(Path(name), size):
                row = {"records": size, **measured(command, Path(name))}
                row["growth"] = growth(row, rows)
                rows.append(row)
                print(json.dumps(row), flush=True)
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def commands(folder: Path, size: int) -> list[list[str]]:
    records = str(folder / "records")
    found = [["check", records], ["leaderboard", "--records", records, "--out", str(folder / "out")]]
    publish = ["publish", "--runs", records, "--results", str(folder / "results")]
    return [*found, publish] if size <= MOST_PUBLISHED else found


def measured(command: list[str], folder: Path) -> dict[str, Any]:
    before, _ = process([*PARSE, str(folder / "records")])
    seconds, gigabytes = process([*COMMAND, *command])
    after, _ = process([*PARSE, str(folder / "records")])
    least = (before + after) / 2
    return {
        "command": command[0],
        "ratio": round(seconds / least, 2),
        "cpu_seconds": round(seconds, 2),
        "parse_cpu_seconds": round(least, 2),
        "peak_gigabytes": round(gigabytes, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def growth(row: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    """Return how many times longer the command takes than for the number of records before."""
    before = [each for each in rows if each["command"] == row["command"]]
    return round(row["cpu_seconds"] / before[-1]["cpu_seconds"], 1) if before else None


def process(arguments: list[str]) -> tuple[float, float]:
    """Run Python; return its CPU seconds and its peak of resident memory in gigabytes."""
    started = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(started.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(arguments)}: exit code {code}")
    started.returncode = 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def populate(folder: Path, template: dict, records: int) -> None:
    random.seed(0)
    config, overrides = template["config"], to_record(template["config"])
    assert overrides is not None, "the configuration of the record cannot be written as overrides"
    for number in range(records):
        pair, rest = divmod(number, METHODS * SEEDS)
        method, seed = divmod(rest, SEEDS)
        name = ("scratch", "kd")[method] if method < 2 else f"method{method:02d}"
        value = min(0.95, 0.6 + 0.005 * pair + 0.001 * method + random.gauss(0, 0.003))
        digest = hashlib.sha256(repr((pair, method, seed)).encode()).hexdigest()
        config["seed"] = template["seed"] = seed
        config["names"]["method"] = template["method"]["name"] = name
        config["student"]["name"], config["teacher"]["name"] = f"student{pair}", f"teacher{pair}"
        named = [f"student.name=student{pair}", f"teacher.name=teacher{pair}", f"names.method={name}", f"seed={seed}"]
        template["overrides"] = [*overrides, *named]
        template["student"] |= {"name": f"student{pair}", "weights_sha256": digest, "parameters": 1000 * (pair + 1)}
        weights = hashlib.sha256(f"teacher{pair}".encode()).hexdigest()
        template["teacher"] |= {"name": f"teacher{pair}", "weights_sha256": weights}
        set_accuracy(template, value)
        run_id = expected_run_id(Record.model_validate_json(json.dumps(template)), lambda _: None)
        assert run_id is not None, "the record is of a method that learns from earlier runs, or of a plugin"
        template["run_id"] = run_id
        path = folder / run_id / "record.json"
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
        if selected and selected["classes"]:
            set_classes(selected, right, teacher - right)
    record["teacher"]["test_top1"] = teacher / size
    set_history(record)


def set_classes(selected: dict, right: int, negative_flips: int) -> None:
    """Spread right answers and flips over the classes, as many of each share of a class as of any other."""
    classes = selected["classes"]
    size, samples, correct, flips, seen = sum(classes["samples"]), classes["samples"], [], [], 0
    for count in samples:
        before, seen = seen, seen + count
        correct.append(right * seen // size - right * before // size)
        flips.append(negative_flips * seen // size - negative_flips * before // size)
    shares = [one / count for one, count in zip(correct, samples, strict=True)]
    classes |= {"correct": correct, "negative_flips": flips, "positive_flips": [0] * len(samples)}
    classes["worst_top1"], selected["test"]["macro_top1"] = min(shares), sum(shares) / len(shares)
    if selected["exemplars"]:
        selected["exemplars"]["total"] = negative_flips


def set_history(record: dict) -> None:
    """Let every epoch be as accurate, and the chosen one have the least loss."""
    chosen = record["metrics"]["best_on_validation"]
    for row in record["history"]:
        row["val/top1"] = chosen["validation"]["top1"]
        row["val/nll"] = 0.5 if row["epoch"] == chosen["epoch"] else 1.0


if __name__ == "__main__":
    main()
