"""The step at which a run diverged, computed again."""

import torch

from kd_bench.config.overrides import compose_run
from kd_bench.errors import ConfigError
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.models.ensemble import taps_of
from kd_bench.runs.lineage import Unfinished, finished_run, prepare, resolve
from kd_bench.runs.run import data_module, prepared
from kd_bench.training.divergence import STEP_FILE, Step, read_step
from kd_bench.training.module import DistillationModule


def replay(overrides: list[str]) -> tuple[DistillationModule, Step, dict[str, float]]:
    """Compute the loss terms of the step at which a run diverged.

    Args:
        overrides: those of ``kd-bench train``, which describe the run.

    Returns:
        The module with the weights before the step and the gradients of the loss, the step, and its weighted terms.

    Raises:
        ConfigError: a run that this one learns from is not here.
        IntegrityError: the run has left no step.
    """
    cfg = compose_run(overrides)
    config, pair, arrays = prepare(cfg)
    try:
        teachers, previous, run_id = resolve(cfg, config, pair, arrays, finished_run)
    except Unfinished as error:
        raise ConfigError(str(error)) from error
    step = read_step(config.runs / run_id / STEP_FILE)
    for tap, weights in zip([*taps_of(pair.teacher), *pair.previous], [*teachers, *previous], strict=True):
        weights.load(tap)
    directory = config.runs / run_id
    module = prepared(OpenedRun(config, pair, arrays, data_module(config, pair, arrays), directory, teachers))
    module.load_state_dict(step.weights, strict=not step.left_out)
    module.pretraining = step.pretraining
    module.train()
    torch.set_rng_state(step.generator)
    losses = module.losses(step.batch, step.progress)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    return module, step, {name: float(value.detach()) for name, value in losses.items()}
