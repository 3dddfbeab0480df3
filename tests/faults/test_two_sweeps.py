"""Two sweeps that start together share neither a run nor a folder."""

import subprocess
import sys

import pytest

from kd_bench.results.records.record import RECORD_FILE, read_record

SWEEP = [
    *("recipe.epochs=1", "student=resnet8_cifar", "dataset.train_samples=100", "method=scratch", "teacher=none"),
    *("logger=none", "trainer.progress=none", "trainer.threads=1", "paths.runs=runs"),
]


@pytest.mark.slow
def test_two_sweeps_that_start_together_have_folders_of_their_own(tmp_path, figure):
    def start(seeds: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "kd_bench", "train", "-m", *SWEEP, f"seed={seeds}"]
        return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    sweeps = [start("0,1"), start("2,3")]
    ends = [(sweep.communicate()[1], sweep.returncode) for sweep in sweeps]
    assert [code for _, code in ends] == [0, 0], ends
    seeds = sorted(read_record(path).seed for path in (tmp_path / "runs").glob(f"*/{RECORD_FILE}"))
    figure("R4", {"sweeps started together": 2, "jobs of each": 2, "records": len(seeds)})
    assert seeds == [0, 1, 2, 3]
