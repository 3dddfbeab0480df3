"""Measurement of the cost of a training step relative to one of ``scratch``."""

import statistics
from functools import cache

import torch

from kd_bench.cli.method_pages.step_costs import BATCH_SIZE, STUDENT, TEACHER, Cost
from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.config.schema import RunConfig
from kd_bench.errors import ConfigError
from kd_bench.evaluation.efficiency import adapter_parameters
from kd_bench.runs.preview import TrialStep
from kd_bench.training.pair import build

ROUNDS = 7
CNNS: tuple[str, ...] = (f"teacher={TEACHER}", f"student={STUDENT}")
VITS: tuple[str, ...] = (
    "teacher.name=deit_tiny_patch16_224",
    "+teacher.kwargs={img_size: 32, patch_size: 4, depth: 6}",
    "student.name=deit_tiny_distilled_patch16_224",
    "+student.kwargs={img_size: 32, patch_size: 4, depth: 3}",
)
WORDS = {VITS: "deit_tiny_patch16_224 of 6 blocks to deit_tiny_distilled_patch16_224 of 3, patches of 4x4 pixels"}


def measure(method: str) -> Cost:
    """Run steps of the method and of ``scratch`` in turns, so that what else the machine does affects both.

    The networks are CNNs, or transformers for a method that refuses those.
    """
    networks = CNNS
    try:
        pair = build(_config(method, networks))
    except ConfigError:
        networks = VITS
        pair = build(_config(method, networks))
    config, baseline = _config(method, networks), _config("scratch", networks)
    step, plain = TrialStep(config, pair), TrialStep(baseline, build(baseline))
    memory = sum(step.memory().values()) / sum(plain.memory().values())
    ratios = [step.seconds() / plain.seconds() for _ in range(ROUNDS)]
    cost = Cost(
        adapter_parameters=adapter_parameters(pair.method),
        time=round(statistics.median(ratios), 2),
        memory=round(memory, 2),
        threads=torch.get_num_threads(),
    )
    if networks in WORDS:
        cost["networks"] = WORDS[networks]
    return cost


@cache
def _config(method: str, networks: tuple[str, ...]) -> RunConfig:
    return check(compose_run([*networks, "dataset=cifar100", f"recipe.batch_size={BATCH_SIZE}", f"method={method}"]))
