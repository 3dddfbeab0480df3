"""Pairs: from a checked configuration to objects. Whatever is wrong is found here, before any data is touched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from kd_bench.config.schema import DatasetConfig, MemberConfig, RunConfig, TrainerConfig
from kd_bench.data.batch import DataSpec
from kd_bench.data.randomness import derive_seed
from kd_bench.data.samplers import SAMPLERS
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, given_teacher
from kd_bench.models.ensemble import Ensemble, taps_of
from kd_bench.models.factory import create_tap
from kd_bench.models.features import ABILITIES, FeatureTap, paired_stages
from kd_bench.models.weights import load_strictly, read_weights
from kd_bench.results.records.directory import HEAD_FILE, WEIGHTS_FILE
from kd_bench.training.module import ADAPTERS, COMPANION, INITIALISATION, DistillationModule
from kd_bench.training.optimization import WeightAverage, check_recipe, optimizer_maker, schedule_of
from kd_bench.training.stopping import requested
from kd_bench.training.teacher_kinds import TEACHER_KINDS, Networks, TeacherKind
from kd_bench.training.teachers import Teacher, TeacherWeights

SMALL_IMAGE = 16  # pixels; weights that were tuned on 32x32 images do harm below


@dataclass(frozen=True)
class Pair:
    """The networks and the method of a run.

    Attributes:
        teacher: the network that the student is compared with; without its weights until they are loaded.
        previous: networks of earlier runs that the method learns from: the generation before, or assistants.
        source: the network that the method learns from, made of the others; None where it needs none.
        generation: 0, or the position in a chain of runs.
    """

    spec: DataSpec
    student: FeatureTap
    teacher: FeatureTap | None
    previous: list[FeatureTap]
    source: FeatureTap | None
    method: Method
    generation: int

    @property
    def kind(self) -> TeacherKind:
        """The row of the kind of teacher that the method asks for."""
        return TEACHER_KINDS[self.method.requires.teacher]


def build(
    config: RunConfig, device_here: bool = True, role: str = "student", create: Callable[..., FeatureTap] = create_tap
) -> Pair:
    """Build and check a pair.

    Args:
        device_here: whether this machine is the one that will train, so that it must have the device.
        role: the part of the user's configuration that the student comes from, for messages.
        create: makes a network, as ``create_tap``.

    Raises:
        ConfigError: a network cannot be built or cannot take the images, or the pair lacks what the method requires.
    """
    if device_here:
        check_device(config.trainer)
    spec = _data_spec(config.dataset)
    method = _method(config)
    kind = TEACHER_KINDS[method.requires.teacher]
    generation = config.chain.generations or kind.first_generation
    kind.check(config.names.method, config.teacher, generation)
    _check_requirements(config, method, spec)
    if config.trainer.devices > 1:
        _check_processes(config, method)
    student = create(role, config.student, spec, derive_seed(config.seed, INITIALISATION, generation), True)
    teacher = _teacher(config, spec, create)
    previous = _previous(config, spec, method, generation, create)
    source = kind.source(Networks(student, teacher, previous, lambda: _companion(config, spec, create)))
    pair = Pair(spec, student, teacher, previous, source, method, generation)
    if method.requires.pre_activations:
        _check_pre_activations(config, pair)
    _check_abilities(config, pair)
    student.stage_pairs = _stage_pairs(config, pair)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, ADAPTERS, generation))
        method.build_adapters(student, given_teacher(method, source), spec)
    check_recipe(config.recipe)
    requested(config.trainer)
    return pair


def make_module(config: RunConfig, pair: Pair) -> DistillationModule:
    """Make the module that trains a pair, whose weights are loaded by now."""
    recipe = config.recipe
    teacher = None if pair.source is None else pair.kind.wrapped(pair.source, pair.method.requires)
    module = DistillationModule(
        pair.student,
        pair.method,
        teacher,
        optimizer_maker(recipe, [tap.network for tap in _trained(pair, teacher)]),
        schedule_of(recipe),
        config.seed,
        config.trainer.log_every_n_steps,
        WeightAverage(recipe.ema_decay) if recipe.ema_decay else None,
        recipe.label_smoothing,
    )
    if config.trainer.compile in ("teacher", "both") and teacher is not None:
        teacher.tap.compile()
    if config.trainer.compile in ("student", "both"):
        module.compile_student()
    if config.trainer.channels_last:
        for network in (module.student, teacher):
            if network is not None:
                network.to(memory_format=torch.channels_last)
    return module


def _trained(pair: Pair, teacher: Teacher | None) -> list[FeatureTap]:
    """List the networks whose parameters the optimizer may get."""
    return [pair.student, *([teacher.tap] if teacher is not None and teacher.changes else [])]


def notes(config: RunConfig, pair: Pair) -> list[str]:
    """Return what was decided for the user: which network sees images of another size, and how stages are paired."""
    height, width = pair.spec.image_size
    named = {"student": pair.student, "teacher": pair.source}
    lines = [
        f"{role} {tap.name} gets {height}x{width} images resized to {tap.input_size[0]}x{tap.input_size[1]}"
        for role, tap in named.items()
        if tap is not None and tap.input_size != pair.spec.image_size
    ]
    if pair.source is not None:
        pairs = ", ".join(f"{i}-{j}" for i, j in paired_stages(pair.student, pair.source))
        automatic = "by resolution or depth; stage_pairs=[[0,0],...] changes it"
        how = "as configured" if pair.student.stage_pairs else automatic
        lines.append(f"stages, student-teacher: {pairs} ({how})")
    return lines + _tuned_elsewhere(pair)


def _tuned_elsewhere(pair: Pair) -> list[str]:
    """Warn of published weights that were tuned on larger images."""
    height, width = pair.spec.image_size
    return [
        f"method.{f'{path}.{name}'.lstrip('.')}={value:g} was tuned on 32x32 images and may drown the labels on "
        f"{height}x{width}; in proportion to the pixels: {value * height * width / 32**2:g}"
        for path, part in pair.method.named_modules()
        if isinstance(part, Method) and max(height, width) < SMALL_IMAGE
        for name, value in part.tuned_on_32x32.items()
        if getattr(part, name) == value
    ]


def _data_spec(data: DatasetConfig) -> DataSpec:
    if data.num_classes is None:
        raise ConfigError("dataset.num_classes: is missing")
    height, width = data.image_size
    return DataSpec(data.num_classes, (height, width), _triple(data.mean), _triple(data.std))


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def _method(config: RunConfig) -> Method:
    try:
        method: Method = instantiate(config.method, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(f"method: {str(error).splitlines()[0]}") from error
    return method


def _teacher(config: RunConfig, spec: DataSpec, create: Callable[..., FeatureTap]) -> FeatureTap | None:
    teacher = config.teacher
    taps = [create("teacher", network, spec, 0, False) for network in teacher.networks()]
    if not teacher.members:
        return taps[0] if taps else None
    weights = [member.weight for member in teacher.members.values()]
    return Ensemble(str(teacher.name), taps, weights, teacher.average)


def _previous(
    config: RunConfig, spec: DataSpec, method: Method, generation: int, create: Callable[..., FeatureTap]
) -> list[FeatureTap]:
    if generation:
        return [create("student", config.student, spec, 0, False)]
    return [create("method.assistants", MemberConfig(name=name), spec, 0, False) for name in method.assistants]


def _companion(config: RunConfig, spec: DataSpec, create: Callable[..., FeatureTap]) -> FeatureTap:
    """Make an untrained network of the teacher's kind."""
    return create("teacher", config.teacher.networks()[0], spec, derive_seed(config.seed, COMPANION), True)


def _stage_pairs(config: RunConfig, pair: Pair) -> list[tuple[int, int]] | None:
    """Return the pairing that the configuration asks for.

    Raises:
        ConfigError: it names a stage that a network does not have, with those that there are.
    """
    if config.stage_pairs is None or pair.source is None:
        return None
    pairs = [(student, teacher) for student, teacher in config.stage_pairs]
    for position, tap in enumerate((pair.student, pair.source)):
        stages = len(tap.stage_shapes)
        if any(chosen[position] >= stages for chosen in pairs):
            raise ConfigError(
                f"stage_pairs={config.stage_pairs}: {tap.name} has stages 0 to {stages - 1}: {tap.stage_shapes}"
            )
    return pairs


def _check_requirements(config: RunConfig, method: Method, spec: DataSpec) -> None:
    name, classes, requires = config.names.method, spec.num_classes, method.requires
    if classes < requires.min_classes:
        raise ConfigError(f"method={name} needs at least {requires.min_classes} classes; dataset.num_classes={classes}")
    height, width = spec.image_size
    if requires.rotations and height != width:
        raise ConfigError(f"method={name} turns images by 90 degrees: dataset.image_size={height}x{width} is no square")
    augmentation = config.recipe.augmentation
    if augmentation.mixing is not None and not requires.soft_targets:
        raise ConfigError(
            f"method={name} reads hard labels, which mixed images lack: recipe.augmentation.mixing should be null"
        )
    if config.recipe.label_smoothing and not requires.soft_targets:
        raise ConfigError(
            f"method={name} reads hard labels, which cannot be smoothed: recipe.label_smoothing should be null"
        )
    if augmentation.teacher_steps is not None and method.chooses_images:
        raise ConfigError(
            f"method={name} chooses what the networks see: recipe.augmentation.teacher_steps should be null"
        )
    divisor, batch_size = SAMPLERS[requires.sampler].divisor, config.recipe.batch_size
    if batch_size % divisor:
        raise ConfigError(f"method={name} needs a recipe.batch_size that {divisor} divides, not {batch_size}")


def _check_processes(config: RunConfig, method: Method) -> None:
    """Raise ConfigError unless several processes can share the run."""
    world, batch_size = config.trainer.devices, config.recipe.batch_size
    if method.requires.memory:
        raise ConfigError(
            f"method={config.names.method} keeps a memory of all training samples, which several processes would each "
            f"have their own of: trainer.devices={world} has to be 1"
        )
    parts = world * SAMPLERS[method.requires.sampler].divisor
    if batch_size % parts or batch_size < 2 * parts:
        raise ConfigError(
            f"recipe.batch_size={batch_size}: with trainer.devices={world} it should be a multiple of {parts} and at "
            f"least {2 * parts}"
        )


def _check_pre_activations(config: RunConfig, pair: Pair) -> None:
    lacking = [tap.name for tap in (pair.student, pair.source) if tap is not None and not tap.has_pre_activations]
    if lacking:
        raise ConfigError(
            f"method={config.names.method} needs stage maps before the last ReLU, which {' and '.join(lacking)} "
            "do not give; networks ending in _cifar do"
        )


def _check_abilities(config: RunConfig, pair: Pair) -> None:
    requires = pair.method.requires
    for role, tap, wanted in (
        ("student", pair.student, requires.student_has),
        ("teacher", pair.source, requires.teacher_has),
    ):
        lacking = [ABILITIES[ability] for ability in wanted if tap is not None and ability not in tap.abilities]
        if tap is not None and lacking:
            raise ConfigError(
                f"method={config.names.method} needs a {role} with {'; and '.join(lacking)}: {tap.name} has none"
            )


def check_device(trainer: TrainerConfig) -> None:
    """Raise ConfigError unless this machine has the device, and the device the precision."""
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator='gpu': torch finds no GPU here; trainer=cpu")
    if trainer.accelerator == "gpu" and torch.cuda.device_count() < trainer.devices:
        raise ConfigError(f"trainer.devices={trainer.devices}: torch finds {torch.cuda.device_count()} GPUs here")
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        raise ConfigError("trainer.precision='16-mixed': needs a GPU; a CPU has 32-true and bf16-mixed")


def load_student(pair: Pair, directory: Path) -> None:
    """Load the headline weights of a run, those of the method's head included.

    Raises:
        IntegrityError: a file is missing or does not fit.
    """
    path = directory / WEIGHTS_FILE
    load_strictly(pair.student.network, read_weights(path), str(path))
    if heads := pair.method.test_time_modules():
        path = directory / HEAD_FILE
        load_strictly(nn.ModuleList(heads), read_weights(path), str(path))


def load_teachers(teacher: FeatureTap, weights: Sequence[TeacherWeights]) -> None:
    """Load the weights of a pair's teacher, network by network.

    Raises:
        IntegrityError: a file is missing, has changed or does not fit.
    """
    for tap, saved in zip(taps_of(teacher), weights, strict=True):
        saved.load(tap)
