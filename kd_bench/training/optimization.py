"""Optimizers, schedules of the learning rate and the moving average of weights, as a recipe describes them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from hydra.utils import get_object
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from kd_bench.config.schema import RecipeConfig
from kd_bench.errors import ConfigError

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


def target_of(node: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the callable that a checked node names, and its arguments."""
    return get_object(node["_target_"]), {name: value for name, value in node.items() if name != "_target_"}


def optimizer_maker(recipe: RecipeConfig, networks: Sequence[nn.Module] = ()) -> MakeOptimizer:
    """Return what makes the optimizer of parameters.

    Args:
        networks: those that have the parameters; timm's factory groups them by its own rules for each network.
    """
    target, arguments = target_of(recipe.optimizer)
    if target is not create_optimizer_v2:
        return lambda parameters: target(parameters, **arguments)

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        groups, others = parameter_groups(list(parameters), networks, **arguments)
        optimizer: Optimizer = create_optimizer_v2(groups, **others)
        if recipe.scheduler is None or target_of(recipe.scheduler)[0] is not create_scheduler_v2:
            for group in optimizer.param_groups:  # which torch's schedules know nothing of
                group["lr"] = group["lr"] * group.pop("lr_scale", 1.0)
        return optimizer

    return make


def parameter_groups(
    parameters: list[nn.Parameter],
    networks: Sequence[nn.Module],
    weight_decay: float = 0.0,
    filter_bias_and_bn: bool = True,
    layer_decay: float | None = None,
    layer_decay_min_scale: float = 0.0,
    **others: Any,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Group parameters as timm's factory groups those of one model; what is left are adapters, with the whole rate.

    Args:
        weight_decay: of parameters that are neither biases nor norms nor what the network itself exempts.
        filter_bias_and_bn: whether those are exempt.
        layer_decay: factor of the learning rate for each layer below the head.

    Returns:
        The groups, and the arguments that are left for the optimizer.
    """

    def of_network(network: nn.Module) -> list[dict[str, Any]]:
        exempt = getattr(network, "no_weight_decay", lambda: ())()
        shared: dict[str, Any] = {"no_weight_decay_list": exempt, "weight_decay_exclude_1d": filter_bias_and_bn}
        if layer_decay is None:
            return list(param_groups_weight_decay(network, weight_decay, **shared))
        return list(
            param_groups_layer_decay(
                network, weight_decay, layer_decay=layer_decay, min_scale=layer_decay_min_scale, **shared
            )
        )

    wanted = {id(parameter) for parameter in parameters}
    groups = [group for network in networks for group in of_network(network)]
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) in wanted]
        wanted -= {id(parameter) for parameter in group["params"]}
    adapters = [parameter for parameter in parameters if id(parameter) in wanted]
    for exempt, decay in ((False, weight_decay), (True, 0.0)):
        chosen = [each for each in adapters if (filter_bias_and_bn and each.ndim <= 1) == exempt]
        groups.append({"params": chosen, "weight_decay": decay})
    return [group for group in groups if group["params"]], others


@dataclass(frozen=True)
class Schedule:
    """A schedule of the learning rate.

    Attributes:
        by: the interval after which it moves.
    """

    node: Mapping[str, Any]
    by: Literal["epoch", "step"]

    def start(self, optimizer: Optimizer, steps_per_epoch: Callable[[], int]) -> LRScheduler | Scheduler:
        """Set the learning rate of the first interval.

        Args:
            steps_per_epoch: asked only where the schedule depends on it.

        Raises:
            ConfigError: it watches a metric, or is none.
        """
        target, arguments = target_of(self.node)
        refusal = ConfigError("recipe.scheduler._target_: needs a schedule that watches no metric; null is none")
        if target is create_scheduler_v2:
            if arguments.get("sched") in ("plateau", "none"):
                raise refusal
            steps = steps_per_epoch() if self.by == "step" else 0
            made, _ = create_scheduler_v2(
                optimizer, **arguments, step_on_epochs=self.by == "epoch", updates_per_epoch=steps
            )
            assert made is not None
            return made
        if target is OneCycleLR and "total_steps" not in arguments:
            arguments.setdefault("steps_per_epoch", steps_per_epoch() if self.by == "step" else 1)
        made = target(optimizer, **{name: _with_schedules(value, optimizer) for name, value in arguments.items()})
        if not isinstance(made, LRScheduler) or isinstance(made, ReduceLROnPlateau):
            raise refusal
        return made


def advance(schedule: LRScheduler | Scheduler, epochs: int, steps: int) -> None:
    """Set the learning rate after ``epochs`` and ``steps`` of a stage."""
    if isinstance(schedule, Scheduler):  # of timm; it knows which of the two it follows
        schedule.step(epochs)
        schedule.step_update(steps)
    else:
        schedule.step()


def _with_schedules(value: Any, optimizer: Optimizer) -> Any:
    """Make the schedules that another one consists of."""
    if not isinstance(value, list) or not any(isinstance(each, Mapping) for each in value):
        return value
    parts = [target_of(each) for each in value]
    return [target(optimizer, **arguments) for target, arguments in parts]


def schedule_of(recipe: RecipeConfig) -> Schedule | None:
    """Return the schedule of a recipe; None keeps the learning rate."""
    return None if recipe.scheduler is None else Schedule(recipe.scheduler, recipe.schedule_by or "epoch")


def check_recipe(recipe: RecipeConfig) -> None:
    """Run the optimizer and the whole schedule once, on a single number, to hear what they say of their values.

    Raises:
        ConfigError: one of them refuses its values.
    """
    network = nn.ParameterDict({"weight": nn.Parameter(torch.zeros(1, 1))})
    try:
        optimizer = optimizer_maker(recipe)(network.parameters())
    except (ValueError, TypeError, RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(f"recipe.optimizer: {_last_cause(error)}") from error
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(
            f"recipe.optimizer.opt={recipe.optimizer['opt']}: needs second derivatives, which are not made"
        )
    if optimizer.param_groups[0]["lr"] == 0:
        raise ConfigError("recipe.optimizer.lr=0: should be greater than 0")
    schedule = schedule_of(recipe)
    if schedule is None:
        return
    try:
        scheduler = schedule.start(optimizer, lambda: 1)
        for epoch in range(recipe.epochs):
            optimizer.step(lambda: 0.0)  # a closure, for optimizers that want one
            advance(scheduler, epoch + 1, epoch + 1)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"recipe.scheduler: {_last_cause(error)}") from error


def _last_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0]


class WeightAverage:
    """An exponential moving average of named tensors: what is no floating number, such as counters, is taken over.

    Polyak & Juditsky 1992; the average of timm's ``ModelEmaV3``, running statistics of batch norms included. It starts
    as a copy.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def follow(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        """Go ``1 - decay`` of the way to ``tensors``."""
        for name, value in tensors:
            average = self.tensors.get(name)
            if average is None or not value.is_floating_point():
                self.tensors[name] = value.detach().clone()
            else:
                average.lerp_(value, 1 - self.decay)
