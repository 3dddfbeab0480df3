"""Sixteen processes write records at once, half of them are killed and started again: none is lost, none is doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd_bench.results.checking.load import load

from .writers import RECORDS, run_id

WRITERS = 16
TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_sixteen_writers_of_which_half_are_killed_lose_and_double_nothing(tmp_path, figure):
    """Boards are read all the while, and never see half a file."""
    runs = tmp_path / "runs"
    runs.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    def start(writer: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "faults.writers", str(runs), str(writer)]
        return subprocess.Popen(command, env=environment, cwd=TESTS.parent)

    processes = [start(writer) for writer in range(WRITERS)]
    chance = random.Random(0)
    reads = rejected = 0
    left: list[int] = []
    moments = sorted(chance.randrange(1, 90) for _ in range(WRITERS // 2))
    for writer, minimum in zip(range(0, WRITERS, 2), moments, strict=True):
        while len(list(runs.glob(f"{writer:08x}*/record.json"))) < minimum:
            time.sleep(0.01)
        processes[writer].send_signal(signal.SIGKILL)
        processes[writer].wait()
        left.append(len(list(runs.glob(f"{writer:08x}*/record.json"))))
        seen = load(runs)
        reads, rejected = reads + 1, rejected + len(seen.rejected)
        processes[writer] = start(writer)
    while any(process.poll() is None for process in processes):
        seen = load(runs)
        reads, rejected = reads + 1, rejected + len(seen.rejected)
    assert [process.returncode for process in processes] == [0] * WRITERS
    found = load(runs)
    ids = [record.run_id for record in found.records]
    expected = {run_id(writer, number) for writer in range(WRITERS) for number in range(RECORDS)}
    figure(
        "R4",
        {
            "processes": WRITERS,
            "records of each": RECORDS,
            "processes killed on the way and started again": sum(count < RECORDS for count in left),
            "records after": len(ids),
            "lost": len(expected - set(ids)),
            "doubled": len(ids) - len(set(ids)),
            "boards read meanwhile": reads,
            "files that they could not read": rejected,
        },
    )
    assert any(0 < count < RECORDS for count in left)
    assert (len(ids), set(ids)) == (1600, expected)
    assert {record.run_id: record.seed for record in found.records} == {
        run_id(writer, number): 1000 * writer + number for writer in range(WRITERS) for number in range(RECORDS)
    }
    assert rejected == 0 == len(found.rejected)
