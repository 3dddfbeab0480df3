"""From a checked configuration to objects. Whatever is wrong with a pair is found here, before any data is touched."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kd_bench.config import RecipeConfig, RunConfig, TrainerConfig
from kd_bench.data.batch import DataSpec
from kd_bench.data.randomness import derive_seed
from kd_bench.distillation import ADAPTERS, INITIALISATION, DistillationModule
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method
from kd_bench.models.factory import create_tap
from kd_bench.models.features import FeatureTap
from kd_bench.teachers import FrozenTeacher


@dataclass(frozen=True)
class Pair:
    """The networks and the method of a run.

    Attributes:
        teacher: of the pair, what the student is compared with; without its weights until they are loaded.
        previous: the network of the generation before, which a method with an ``own`` teacher or a chain learns from.
        generation: 0, or the position in a chain of runs.
    """

    spec: DataSpec
    student: FeatureTap
    teacher: FeatureTap | None
    previous: FeatureTap | None
    method: Method
    generation: int

    @property
    def source(self) -> FeatureTap | None:
        """The network that the method learns from; None where it needs none."""
        if self.method.requires.teacher == "none":
            return None
        return self.previous if self.generation else self.teacher


def build(config: RunConfig) -> Pair:
    """Build and check a pair.

    Raises:
        ConfigError: a network cannot be built or cannot take the images, or the pair lacks what the method requires.
    """
    check_device(config.trainer)
    data, student = config.dataset, config.student
    height, width = data.image_size
    spec = DataSpec(data.num_classes, (height, width), _triple(data.mean), _triple(data.std))
    method = _method(config)
    generation = config.chain.generations or int(method.requires.teacher == "own")
    _check_requirements(config, method, generation)
    seed = derive_seed(config.seed, INITIALISATION, generation)
    tap = create_tap("student", student.name, spec, seed, student.pretrained, student.kwargs)
    pair = Pair(spec, tap, _teacher(config, spec), _previous(config, spec, generation), method, generation)
    if method.requires.pre_activations:
        _check_pre_activations(config, pair)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, ADAPTERS, generation))
        method.build_adapters(pair.student, pair.source, spec)
    check_recipe(config.recipe)
    return pair


def make_module(config: RunConfig, pair: Pair, source: FrozenTeacher | None) -> DistillationModule:
    recipe = config.recipe
    module = DistillationModule(
        pair.student,
        pair.method,
        source,
        _optimizer(recipe),
        _scheduler(recipe),
        config.seed,
        config.trainer.log_every_n_steps,
    )
    if config.trainer.channels_last:
        for network in (module.student, source):
            if network is not None:
                network.to(memory_format=torch.channels_last)
    return module


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def _method(config: RunConfig) -> Method:
    try:
        method = instantiate(config.method, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(f"method: {str(error).splitlines()[0]}") from error
    if not isinstance(method, Method):
        raise ConfigError(f"method._target_={config.method['_target_']!r}: is not a kd_bench.methods.base.Method")
    return method


def _teacher(config: RunConfig, spec: DataSpec) -> FeatureTap | None:
    teacher = config.teacher
    if teacher.name is None:
        return None
    return create_tap("teacher", teacher.name, spec, 0, False, teacher.kwargs)


def _previous(config: RunConfig, spec: DataSpec, generation: int) -> FeatureTap | None:
    student = config.student
    return create_tap("student", student.name, spec, 0, False, student.kwargs) if generation else None


def _check_requirements(config: RunConfig, method: Method, generation: int) -> None:
    name, classes, requires = config.names.method, config.dataset.num_classes, method.requires
    if requires.teacher == "frozen" and config.teacher.name is None and not generation:
        raise ConfigError(
            f"method={name} needs a teacher, but teacher.name is null; choose one: teacher=resnet20_cifar"
        )
    if requires.teacher == "none" and generation:
        raise ConfigError(f"method={name} learns from no network, so chain.generations={generation} has no meaning")
    if classes < requires.min_classes:
        raise ConfigError(f"method={name} needs at least {requires.min_classes} classes; dataset.num_classes={classes}")


def _check_pre_activations(config: RunConfig, pair: Pair) -> None:
    lacking = [tap.name for tap in (pair.student, pair.source) if tap is not None and not tap.has_pre_activations]
    if lacking:
        raise ConfigError(
            f"method={config.names.method} needs stage maps before the last ReLU, which {' and '.join(lacking)} "
            "do not give; networks ending in _cifar do"
        )


def check_device(trainer: TrainerConfig) -> None:
    """Raise ConfigError unless this machine has the device, and the device the precision."""
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator='gpu': torch finds no GPU here; trainer=cpu")
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        raise ConfigError("trainer.precision='16-mixed': needs a GPU; a CPU has 32-true and bf16-mixed")


def check_recipe(recipe: RecipeConfig) -> None:
    """Run the optimizer and the whole schedule once, on a single number, to hear what they say of their values."""
    make_optimizer, make_scheduler = _optimizer(recipe), _scheduler(recipe)
    try:
        optimizer = make_optimizer([nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"recipe.optimizer: {_last_cause(error)}") from error
    if optimizer.param_groups[0]["lr"] == 0:
        raise ConfigError("recipe.optimizer.lr=0: should be greater than 0")
    if make_scheduler is None:
        return
    try:
        scheduler = make_scheduler(optimizer)
        if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
            raise ConfigError("recipe.scheduler._target_: needs a schedule that steps by epoch and watches no metric")
        for _ in range(recipe.epochs):
            optimizer.step(lambda: 0.0)  # a closure, for optimizers that want one
            scheduler.step()
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"recipe.scheduler: {_last_cause(error)}") from error


def _last_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0]


def _optimizer(recipe: RecipeConfig) -> Callable[[Any], Optimizer]:
    target, arguments = target_of(recipe.optimizer)
    return lambda parameters: target(parameters, **arguments)


def _scheduler(recipe: RecipeConfig) -> Callable[[Optimizer], LRScheduler] | None:
    if recipe.scheduler is None:
        return None
    target, arguments = target_of(recipe.scheduler)
    return lambda optimizer: target(optimizer, **arguments)


def target_of(node: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The callable that a checked node names, and its arguments."""
    return get_object(node["_target_"]), {name: value for name, value in node.items() if name != "_target_"}
