"""Figures of promises whose tests stand elsewhere."""

import random
import re
import subprocess
import sys

import pytest
from results.leaderboard.test_write import build_elsewhere, populate

from kd_bench.config.paths import CHECKOUT

HOSTILE = ["tests/untrusted/test_inputs.py", "tests/models/test_conversion.py", "tests/models/test_weight_formats.py"]
TRACED = ["tests/results/test_trace.py", "tests/runs/test_verify.py", "tests/checking"]
BUILDS = 6
PLACES = [("UTC", "C"), ("Asia/Kolkata", "de_DE.UTF-8"), ("America/New_York", "C.UTF-8")]


def outcomes(files: list[str]) -> tuple[int, int]:
    """How many tests of some files pass, and how many do not."""
    command = [sys.executable, "-m", "pytest", *files, "-v", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=900)
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    return counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0)


@pytest.mark.slow
def test_no_hostile_input_runs_anything(figure):
    """Every test of these files fails if its canary appears."""
    passed, failed = outcomes(HOSTILE)
    figure("R6", {"tests with hostile input": passed + failed, "that ran something or broke": failed})
    assert passed
    assert not failed


@pytest.mark.slow
def test_cells_lead_to_runs_that_can_be_computed_again(figure):
    passed, failed = outcomes(TRACED)
    figure("R9", {"tests that trace a cell or compute a run again": passed + failed, "that did not succeed": failed})
    assert passed
    assert not failed


@pytest.mark.slow
def test_a_leaderboard_is_a_function_of_its_records(tmp_path, figure):
    built = []
    for number in range(BUILDS):
        order = list(range(26))
        random.Random(number).shuffle(order)
        records = tmp_path / f"records{number}"
        records.mkdir()
        populate(records, order)
        zone, language = PLACES[number % len(PLACES)]
        out = tmp_path / f"out{number}"
        built.append(build_elsewhere(records, out, TZ=zone, LC_ALL=language, PYTHONHASHSEED=str(number)))
    different = sum(each != built[0] for each in built)
    figure("R7", {"builds in other orders, locales and time zones": BUILDS, "with other bytes": different})
    assert not different
