"""Checks of a composed configuration.

``check`` turns what Hydra composed into a ``RunConfig`` or raises one line that names the key, the value and what is
allowed, before any data is touched. Nothing changes a value afterwards.
"""

import importlib
import inspect
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Union, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from kd_bench.config.interpolations import check_interpolations, leaves
from kd_bench.config.plugins import load_plugins
from kd_bench.config.schema import Node, RunConfig
from kd_bench.errors import ConfigError, nearest

CALLBACKS = ("EarlyStopping", "LearningRateMonitor", "DeviceStatsMonitor", "Timer")
OPTIMIZERS_OF_TIMM = "timm.optim.create_optimizer_v2"
# Where a `_target_` may point, by its place in the configuration: into a module, which ends with a dot, or to one name.
# Modules named in `plugins` may stand in two of them.
ALLOWED_TARGETS: dict[str, tuple[str, ...]] = {
    "method": ("kd_bench.methods.",),
    "dataset.source": ("kd_bench.data.",),
    "recipe.optimizer": ("torch.optim.", OPTIMIZERS_OF_TIMM),
    "recipe.scheduler": ("torch.optim.lr_scheduler.", "timm.scheduler.create_scheduler_v2"),
    "trainer.callbacks": tuple(f"pytorch_lightning.callbacks.{name}" for name in CALLBACKS),
    "logger": ("kd_bench.training.trackers.",),
    "metrics": ("torchmetrics.classification.",),
}
_PLUGIN_SLOTS = ("method", "dataset.source")
# Hydra's other ways to say what becomes of a node.
INSTANTIATION_KEYS = ("_partial_", "_args_", "_recursive_", "_convert_")


def check(cfg: DictConfig) -> RunConfig:
    """Check a composed configuration as far as that is possible without building anything.

    Raises:
        ConfigError: says every problem found in one line.
    """
    return check_resolved(resolved(cfg))


def check_resolved(container: Node) -> RunConfig:
    """Check a configuration that ``resolved`` gave, as ``check`` does."""
    _check_values(container)
    config: RunConfig = _validated(RunConfig, container, "")
    if bool(config.tuning.trials) != bool(config.tuning.space):
        found = f"tuning.trials={config.tuning.trials}, tuning.space={config.tuning.space}"
        raise ConfigError(f"{found}: a search has both, the number of its runs and what they chose from")
    load_plugins(config.plugins)
    slots = {
        "method": config.method,
        "dataset.source": config.dataset.source,
        "recipe.optimizer": config.recipe.optimizer,
        "recipe.scheduler": config.recipe.scheduler,
        "logger": config.logger,
        **{f"trainer.callbacks.{name}": node for name, node in (config.trainer.callbacks or {}).items()},
        **{f"metrics.{name}": node for name, node in config.metrics.items()},
    }
    targets: set[str] = set()
    checked = {
        slot: _checked_node(slot, node, config.plugins, targets) for slot, node in slots.items() if node is not None
    }
    _check_no_other_targets(container, targets)
    recipe = config.recipe.model_copy(
        update={"optimizer": checked["recipe.optimizer"], "scheduler": checked.get("recipe.scheduler")}
    )
    dataset = config.dataset.model_copy(update={"source": checked["dataset.source"]})
    callbacks = config.trainer.callbacks and {
        name: checked[f"trainer.callbacks.{name}"] for name in config.trainer.callbacks
    }
    trainer = config.trainer.model_copy(update={"callbacks": callbacks})
    update = {"method": checked["method"], "logger": checked["logger"], "recipe": recipe, "dataset": dataset}
    update["trainer"] = trainer
    update["metrics"] = {name: checked[f"metrics.{name}"] for name in config.metrics}
    return config.model_copy(update=update)


def check_metric(name: str, node: Node) -> Node:
    """Check a metric that stands outside of a configuration, as in a record, which anybody may write.

    Raises:
        ConfigError: it is no class of the allowed module, or has arguments that the class does not take.
    """
    targets: set[str] = set()
    checked = _checked_node(f"metrics.{name}", node, [], targets)
    _check_no_other_targets({"metrics": {name: node}}, targets)
    return checked


def resolved(cfg: DictConfig) -> Node:
    """Return a composed configuration, without Hydra's part, in plain containers.

    Raises:
        ConfigError: a value is missing, cannot be resolved, or would bring in what must not be stored.
    """
    check_interpolations(OmegaConf.to_container(cfg, resolve=False))
    try:
        container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "the configuration"
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    container.pop("hydra", None)
    return {str(key): value for key, value in container.items()}


def _check_values(container: Node) -> None:
    for key, value in leaves(container):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: must be a finite number")


def _validated(model: type[BaseModel], value: Any, key: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(model, dict(e), key) for e in error.errors())) from None


def _problem(model: type[BaseModel], error: dict[str, Any], prefix: str) -> str:
    path = ".".join(str(part) for part in error["loc"])
    key = f"{prefix}.{path}" if prefix else path
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        hint = nearest(str(error["loc"][-1]), known) or f"; allowed: {', '.join(known) or 'none'}"
        return f"{key}: unknown key{hint}"
    if error["type"] == "missing":
        return f"{key}: is missing"
    message = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{key}={error['input']!r}: {message}"


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def _checked_node(key: str, node: Any, plugins: list[str], targets: set[str]) -> Node:
    """Check a node with a ``_target_`` against the allow-list and the target's signature.

    Args:
        targets: collects the keys of the ``_target_``s that were checked.
    """
    if not isinstance(node, dict):
        raise ConfigError(f"{key}={node!r}: should be a node with a _target_")
    targets.add(f"{key}._target_")
    slot = slot_of(key)
    assert slot is not None  # the slots themselves are the ones that are checked, and what lies in them
    target = _allowed_target(key, node, slot, plugins)
    nested = {name: value for name, value in node.items() if name != "_target_" and _has_target(value)}
    plain = {name: value for name, value in node.items() if name != "_target_" and name not in nested}
    further = _optimizer_of_timm(key, node) if node["_target_"] == OPTIMIZERS_OF_TIMM else None
    model = _signature_model(target, frozenset(nested), further)
    dump = _validated(model, {**plain, **dict.fromkeys(nested)}, key).model_dump(exclude_unset=True)
    for name, value in nested.items():
        if isinstance(value, list):
            dump[name] = [
                _checked_node(f"{key}.{name}[{part}]", child, plugins, targets) for part, child in enumerate(value)
            ]
        else:
            dump[name] = {
                part: _checked_node(f"{key}.{name}.{part}", child, plugins, targets) for part, child in value.items()
            }
    return {"_target_": node["_target_"], **dump}


def _has_target(value: Any) -> bool:
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(isinstance(child, Mapping) and "_target_" in child for child in children)


def _optimizer_of_timm(key: str, node: Node) -> Any:
    """Return the class that timm's factory hands further arguments to."""
    timm, name = importlib.import_module("timm.optim"), node.get("opt", "sgd")
    known = timm.list_optimizers()
    if not isinstance(name, str) or name.removeprefix("lookahead_") not in known:
        hint = nearest(str(name), known) or f"; allowed: {', '.join(known)}"
        raise ConfigError(f"{key}.opt={name!r}: is no optimizer of timm{hint}")
    return timm.get_optimizer_class(name.removeprefix("lookahead_"), bind_defaults=False)


def slot_of(key: str) -> str | None:
    """Return the slot of ``ALLOWED_TARGETS`` that a key lies in."""
    return next((name for name in ALLOWED_TARGETS if f"{key}.".startswith(f"{name}.")), None)


def allowed_targets(slot: str, plugins: list[str]) -> tuple[str, ...]:
    """Return the prefixes that a ``_target_`` in a slot may have."""
    return ALLOWED_TARGETS[slot] + tuple(f"{name}." for name in plugins if slot in _PLUGIN_SLOTS)


def is_allowed(path: str, allowed: tuple[str, ...]) -> bool:
    """Return whether a ``_target_`` is one of the names or lies in one of the modules."""
    return path in allowed or path.startswith(tuple(each for each in allowed if each.endswith(".")))


def shown_target(allowed: str) -> str:
    """Return a name or a module as messages show it."""
    return f"{allowed}*" if allowed.endswith(".") else allowed


def _allowed_target(key: str, node: Node, slot: str, plugins: list[str]) -> Any:
    path = node.get("_target_")
    prefixes = allowed_targets(slot, plugins)
    if not isinstance(path, str) or not is_allowed(path, prefixes):
        allowed = ", ".join(map(shown_target, prefixes))
        hint = " (a module of your own goes into plugins=[...])" if slot in _PLUGIN_SLOTS else ""
        raise ConfigError(f"{key}._target_={path!r}: is not allowed here; allowed: {allowed}{hint}")
    module, _, attribute = path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ConfigError(f"{key}._target_={path!r}: there is no such class") from None
    # An imported name such as kd_bench.methods.kd.torch would lead out of the allowed modules again.
    is_class = isinstance(target, type) or (slot == "logger" and inspect.isfunction(target))
    if path not in prefixes and not (is_class and f"{target.__module__}.".startswith(prefixes)):
        raise ConfigError(f"{key}._target_={path!r}: is not a class of an allowed module")
    if unfit := _unfit(slot, target):
        raise ConfigError(f"{key}._target_={path!r}: {unfit}")
    return target


def _unfit(slot: str, target: Any) -> str:
    """Return why a class does not fit its slot, empty if it does. It is not instantiated: that may do anything."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in getattr(target, "__mro__", ())}
    if slot == "method" and "kd_bench.methods.base.Method" not in bases:
        return "is not a kd_bench.methods.base.Method"
    if slot == "dataset.source" and not callable(getattr(target, "load", None)):
        return "is no data source: it has no method `load`"
    if slot == "metrics" and not target.__name__.startswith("Multiclass"):
        return "is no metric of one label out of several classes; those begin with Multiclass"
    return ""


# Arguments that the program itself passes, or that only a program can.
_SUPPLIED = frozenset(
    (
        *("self", "params", "optimizer", "run", "model_or_params", "param_group_fn", "fallback_list"),
        *("fallback_no_weight_decay", "layer_decay_no_opt_scale", "step_on_epochs", "updates_per_epoch"),
    )
)


@lru_cache
def _signature_model(target: Any, nested: frozenset[str], further: Any = None) -> type[BaseModel]:
    """Make a pydantic model of a callable's keyword arguments, without those that the program itself passes.

    Args:
        further: a class whose arguments the callable takes as well.
    """
    of_torch = target.__module__.startswith(("torch.", "timm.", "pytorch_lightning.", "torchmetrics."))
    supplied = _SUPPLIED | ({"num_classes"} if target.__module__.startswith("torchmetrics.") else set())
    fields: dict[str, Any] = {}
    parameters = {**(inspect.signature(further).parameters if further else {})}
    parameters |= inspect.signature(target, eval_str=not of_torch).parameters
    for parameter in parameters.values():
        if parameter.name in supplied or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        untyped = parameter.annotation is parameter.empty or isinstance(parameter.annotation, str)
        annotation = Any if untyped or parameter.name in nested else _without_tensor(parameter.annotation)
        fields[parameter.name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    # torch's annotations ask for tuples, which YAML does not have.
    config = ConfigDict(extra="forbid", strict=not of_torch, arbitrary_types_allowed=True)
    try:
        return create_model(target.__name__, __config__=config, **fields)
    except PydanticUserError as error:
        raise ConfigError(f"{target.__module__}.{target.__name__}: its signature cannot be checked: {error}") from error


def _without_tensor(annotation: Any) -> Any:
    """Turn ``float | Tensor``, as torch's optimizers have it, into ``float``: YAML has no tensors."""
    members = get_args(annotation)
    if not any(getattr(member, "__name__", "") == "Tensor" for member in members):
        return annotation
    return Union[tuple(member for member in members if getattr(member, "__name__", "") != "Tensor")]  # noqa: UP007


def _check_no_other_targets(container: Node, targets: set[str]) -> None:
    """Refuse every ``_target_`` but those that were checked, and Hydra's other instantiation keys anywhere."""
    for key, value in leaves(container):
        name = key.rpartition(".")[2]
        later = key.startswith("teacher.") and ".overrides.recipe." in key  # checked as a part of the teacher's own run
        if name in INSTANTIATION_KEYS or (name == "_target_" and key not in targets and not later):
            raise ConfigError(f"{key}={value!r}: is not allowed here")
