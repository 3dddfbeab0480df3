"""Measurement of the cost of a training step relative to one of ``scratch``."""

import statistics
from functools import cache

import torch

from kd_bench.cli.method_pages.step_costs import BATCH_SIZE, STUDENT, TEACHER, Cost
from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.evaluation.efficiency import adapter_parameters
from kd_bench.runs.preview import TrialStep
from kd_bench.training.pair import build

ROUNDS = 7


def measure(method: str) -> Cost:
    """Run steps of the method and of ``scratch`` in turns, so that what else the machine does affects both."""
    config, baseline = _config(method), _config("scratch")
    pair = build(config)
    step, plain = TrialStep(config, pair), TrialStep(baseline, build(baseline))
    memory = sum(step.memory().values()) / sum(plain.memory().values())
    ratios = [step.seconds() / plain.seconds() for _ in range(ROUNDS)]
    return Cost(
        adapter_parameters=adapter_parameters(pair.method),
        time=round(statistics.median(ratios), 2),
        memory=round(memory, 2),
        threads=torch.get_num_threads(),
    )


@cache
def _config(method: str) -> RunConfig:
    pair = [f"teacher={TEACHER}", f"student={STUDENT}", "dataset=cifar100", f"recipe.batch_size={BATCH_SIZE}"]
    return check(compose_run([*pair, f"method={method}"]))
