"""How long boards and checks of many records take, beside the least that reading them takes.

    python benchmarks/leaderboard_build.py RECORD [--records 10000]

Copies of RECORD, the complete one of a finished run of a student without its own run's teacher among them, get names,
seeds and accuracies of 50 methods x 5 seeds on as many pairs as it takes. They are valid: boards show all of them, and
the check finds nothing. Ratios are of CPU time to that of reading the files and parsing their JSON alone, on the same
machine in the same minute.
"""

import argparse
import hashlib
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from kd_bench.results.checking.collection import check_records, find_records, read_all
from kd_bench.results.checking.configuration import expected_run_id
from kd_bench.results.leaderboard.pages.index import html_page
from kd_bench.results.records.command import to_record
from kd_bench.results.records.record import Record
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
        print(f"read and parse alone: {least:.1f} CPU s")

        def report(what, work):
            seconds, result = timed(work)
            print(f"{what}: {seconds:.1f} CPU s, {seconds / least:.1f} times as long; peak so far {peak():.2f} GB")
            return result

        summary = report("boards, all of it", lambda: write_leaderboard(folder, out))
        assert (summary.records, summary.rejected) == (options.records, 0), summary
        print(f"{summary}; {len(summary.boards)} boards")
        for path in summary.files:
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        leaderboard = report("of it to read and compute", lambda: read_leaderboard(folder))
        report("of it the page", lambda: html_page(leaderboard, run_pages=False))
        problems = report("check", lambda: [one.problems for one in check(folder) if one.problems])
        assert not problems, problems[0]
        report("boards with a page for every run", lambda: write_leaderboard(folder, out, all_run_pages=True))
        size = sum(path.stat().st_size for path in (out / "run-pages").iterdir())
        print(f"run-pages: {size / 1e6:.0f} MB")


def check(folder: Path):
    """Do what ``kd-bench check`` does where no predictions are at hand."""
    return check_records(read_all(find_records([folder])), lambda record, predictions: [])


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def timed(work):
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


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
