"""The run ids of the demo name published records: no change of the code may move them."""

import pytest

from kd_bench.config.check import check
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.runs.lineage import learns_from, load_arrays, teacher_run
from kd_bench.runs.studies.grid import open_study
from kd_bench.training.pair import build

TEACHER = "4f923cb14a2b1fb2"
TEACHER_WEIGHTS = "8f059a4c64cbed33db21d2d3023aa6cf373730fc0b682f6495a858a1562aa536"
STUDENTS = {
    "at_8x8": ["78f5146ad37a9f3f", "6ba45360f2afb2c7", "d50bc3c3690a3680"],
    "byot": ["1a769e32374aaca9", "8caa76a67488935a", "e434b484698a7ebc"],
    "fitnet": ["694c61a8d0365f02", "e2e09814f924ae83", "82c4a57ded77a58b"],
    "kd": ["2af2026b685abde5", "c97ba09d0c1d1aed", "e2328c307ca5bb14"],
    "scratch": ["bd8c88b87e3a785d", "e1fdc7ac10c5207b", "85d59e6feb92f505"],
}


def run_id(cfg, teachers):
    config = check(cfg)
    pair = build(config)
    assert learns_from(cfg, pair) == []
    return fingerprint(config, load_arrays(config, pair).content_sha256, [teachers, []], pair.generation)


@pytest.fixture(scope="module")
def points():
    return {(run.cfg.names.method, run.cfg.seed): run.cfg for run in open_study("demo", []).points}


def test_the_teacher_of_the_demo_keeps_its_run_id(points):
    cfg = points["kd", 0]
    assert run_id(teacher_run(cfg, check(cfg).teacher.networks()[0]), []) == TEACHER


def test_the_students_of_the_demo_keep_their_run_ids(points):
    found = {method: [run_id(points[method, seed], [TEACHER_WEIGHTS]) for seed in (0, 1, 2)] for method in STUDENTS}
    assert found == STUDENTS
