"""Preview of a pair before anything is trained: sizes, cost, stages, pairing, memory of a step."""

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from kd_bench.config.schema import RunConfig
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.data.samplers import SAMPLERS
from kd_bench.evaluation import efficiency
from kd_bench.methods.base import Method, TrainingSet
from kd_bench.models.features import FeatureTap, Outputs, paired_stages
from kd_bench.training.loop import torch_threads
from kd_bench.training.module import DistillationModule
from kd_bench.training.pair import Pair, build, make_module

Facts = dict[str, Any]
TRIAL_SAMPLES = 1024  # of a training set that is not loaded
TRIAL_MACS = 3e9  # of a step that is measured; a larger batch is measured in part
TRIAL_IMAGES = 2  # at least: methods compare images
AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}  # by trainer.precision
LONG_SECONDS = 0.3  # of a step that is measured once: noise is small beside it
_COUNTED: dict[tuple[str, tuple[int, int], int], int] = {}


def inspect(config: RunConfig) -> Facts:
    """Return facts of a configured pair; no data set is loaded.

    Raises:
        ConfigError: as ``build``.
    """
    pair = build(config)
    with torch_threads(config.trainer.threads):
        networks = {
            role: _network(tap, pair)
            for role, tap in (("teacher", pair.teacher), ("student", pair.student))
            if tap is not None
        }
        return {
            "dataset": config.names.dataset,
            "num_classes": pair.spec.num_classes,
            "image_size": list(pair.spec.image_size),
            "method": config.names.method,
            "paper": pair.method.paper,
            **networks,
            "stage_pairs": None if pair.source is None else paired_stages(pair.student, pair.source),
            "adapter_parameters": efficiency.adapter_parameters(pair.method),
            "step": step_cost(config, pair),
        }


def _network(tap: FeatureTap, pair: Pair) -> Facts:
    method = pair.method if tap is pair.student else None
    return {
        "name": tap.name,
        "input_size": list(tap.input_size),
        "parameters": efficiency.parameters(tap, method),
        "macs": efficiency.macs(tap, pair.spec, method),
        "stages": [list(shape) for shape in tap.stage_shapes],
        "embedding": tap.embedding_size,
        "pre_activations": tap.has_pre_activations,
    }


def step_cost(config: RunConfig, pair: Pair, trial_macs: float = TRIAL_MACS) -> Facts:
    """Estimate memory and time of one training step from a step on random images, without weights from anywhere.

    A batch that takes more than ``trial_macs`` multiply-accumulates is measured on its first ``images`` and scaled: the
    MACs of a step, and what autograd keeps of it, are proportional to the number of images. ``seconds`` are those of
    the fastest of up to three steps.
    """
    batch_size = config.recipe.batch_size
    fitting = int(trial_macs / max(1, step_macs(pair)))
    images = min(batch_size, max(TRIAL_IMAGES, fitting - fitting % 2))
    recipe = config.recipe.model_copy(update={"batch_size": images})
    step = TrialStep(config.model_copy(update={"recipe": recipe}), pair)
    memory = step.memory()
    activations = memory["activation_bytes"] * batch_size // images
    return {
        "batch_size": batch_size,
        "images": images,
        "teacher_macs": teacher_macs(pair),
        **(memory | {"activation_bytes": activations}),
        "seconds": step.fastest() * batch_size / images,
        "threads": torch.get_num_threads(),
    }


def step_macs(pair: Pair) -> int:
    """Count the multiply-accumulates of a training step for one image: backward costs twice the forward pass."""
    views = 4 if pair.method.requires.rotations else pair.method.requires.views
    return views * (teacher_macs(pair) + 3 * _macs(pair.student, pair.spec))


def teacher_macs(pair: Pair) -> int:
    """Count the multiply-accumulates of the teacher for one image of a training step.

    They are those of a whole pass, unless the method shows the teacher less.
    """
    if pair.source is None:
        return 0
    if type(pair.method).observe is Method.observe:
        return _macs(pair.source, pair.spec)
    return efficiency.teacher_macs(pair.source, pair.spec, pair.student, pair.method)


def _macs(tap: FeatureTap, spec: DataSpec) -> int:
    """Count the multiply-accumulates of an image, once for each network: counting takes longer than computing."""
    key = (tap.name, tap.input_size, efficiency.parameters(tap))
    if key not in _COUNTED:
        _COUNTED[key] = efficiency.macs(tap, spec)
    return _COUNTED[key]


class TrialStep:
    """One training step of a pair, without the optimizer, that can be repeated on the same random images."""

    def __init__(self, config: RunConfig, pair: Pair) -> None:
        self.module = make_module(config, pair)
        targets = torch.arange(max(TRIAL_SAMPLES, config.recipe.batch_size)) % pair.spec.num_classes
        passes = lambda: _outputs(self.module, pair.spec, targets, config.recipe.batch_size)  # noqa: E731
        pair.method.prepare(TrainingSet(targets, pair.spec.num_classes, passes, passes))
        self.module.trainer = _Standing()  # type: ignore[assignment]
        self.module.train()
        self._batch = _batch(config, pair, targets)
        self._precision = config.trainer.precision

    def _forward(self) -> Tensor:
        """Return the loss, computed in the precision of the configuration."""
        with torch.autocast("cpu", AUTOCAST.get(self._precision), enabled=self._precision in AUTOCAST):
            return self.module.training_step(self._batch, 0)

    def loss(self) -> float:
        """Run a step and return its loss; parameters then have their gradients, added to those of earlier steps."""
        loss = self._forward()
        torch.autograd.backward(loss)
        return float(loss.detach())

    def memory(self) -> dict[str, int]:
        """Return the bytes that a step holds, by what holds them."""
        weights = _weights(self.module)
        kept = _Kept(weights)
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            loss = self._forward()
        torch.autograd.backward(loss)
        return {
            "activation_bytes": kept.bytes,
            "weight_bytes": _size(weights),
            "gradient_bytes": _size([weight for weight in weights if weight.requires_grad]),
        }

    def seconds(self) -> float:
        """Return the seconds of one step on an idle machine: no more than the processor was busy with it."""
        started, busy = time.perf_counter(), time.process_time()
        torch.autograd.backward(self._forward())
        return min(time.perf_counter() - started, time.process_time() - busy)

    def fastest(self) -> float:
        """Return the seconds of the fastest of three steps, or of the first if it is long."""
        first = self.seconds()
        return first if first > LONG_SECONDS else min(first, self.seconds(), self.seconds())


def _batch(config: RunConfig, pair: Pair, targets: Tensor) -> Batch:
    """Make random images as the method's sampler, views and rotations would give them."""
    requires, size = pair.method.requires, config.recipe.batch_size
    index = SAMPLERS[requires.sampler].trial(size)
    views = 4 if requires.rotations else requires.views
    images = torch.rand(views, len(index), 3, *pair.spec.image_size)
    return Batch(images[0] if views == 1 else images, targets[index], index)


def _outputs(
    module: DistillationModule, spec: DataSpec, targets: Tensor, batch_size: int
) -> Iterator[tuple[Batch, Outputs]]:
    """Yield a pass over random images that stand for the training samples."""
    assert module.teacher is not None  # a method that asks has one
    for index in torch.split(torch.arange(len(targets)), batch_size):
        images = torch.rand(len(index), 3, *spec.image_size)
        yield Batch(images, targets[index], index), module.teacher(images)


def _weights(module: DistillationModule) -> list[Tensor]:
    """Return parameters and buffers of all networks, each once: a teacher that learns is a part of the module."""
    parts = [module] if module.teacher is None else [module, module.teacher]
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    return list({id(tensor): tensor for tensor in tensors}.values())


class _Kept:
    """A hook that counts the storages that autograd keeps for the backward pass, those of the weights left out."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.bytes = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in weights}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


class _Standing:
    """As much of a trainer as a training step asks for."""

    max_epochs, num_training_batches, current_epoch, global_step = 1, 1, 0, 0


def _size(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def as_text(facts: Facts) -> str:
    """Write the facts as a page for a terminal."""
    roles = [role for role in ("teacher", "student") if role in facts]
    height, width = facts["image_size"]
    lines = [
        f"{facts['dataset']}: {facts['num_classes']} classes, {height}x{width} images",
        f"method {facts['method']} ({facts['paper']})",
        "",
        *_columns([["", *roles], *([title, *(form(facts[role]) for role in roles)] for title, form in _ROWS)]),
        "",
    ]
    if len(roles) == 2:
        parameters, macs = (_ratio(facts["teacher"][key], facts["student"][key]) for key in ("parameters", "macs"))
        lines.append(f"the student has {parameters} parameters and {macs} MACs")
    if facts["stage_pairs"] is not None:
        pairs = ", ".join(f"{student}-{teacher}" for student, teacher in facts["stage_pairs"])
        lines.append(f"stages, student-teacher: {pairs}; stage_pairs=[[0,0],...] changes it")
    lines.append(f"adapters, trained and thrown away: {facts['adapter_parameters']:,} parameters")
    step = facts["step"]
    if "teacher" in facts and 0 < step["teacher_macs"] < facts["teacher"]["macs"]:
        share = step["teacher_macs"] / facts["teacher"]["macs"]
        lines.append(f"the teacher of a step does {step['teacher_macs']:,} MACs an image, {share:.0%} of a whole pass")
    total = step["activation_bytes"] + step["weight_bytes"] + step["gradient_bytes"]
    lines.append(
        f"a training step of {step['batch_size']} images: {_mib(total)} (activations {_mib(step['activation_bytes'])}, "
        f"weights {_mib(step['weight_bytes'])}, gradients {_mib(step['gradient_bytes'])}; the optimizer's state comes "
        f"on top), {1000 * step['seconds']:.0f} ms here with {step['threads']} threads"
        + (f" (scaled from {step['images']} images)" if step["images"] < step["batch_size"] else "")
    )
    return "\n".join(lines)


_ROWS: list[tuple[str, Any]] = [
    ("network", lambda facts: facts["name"]),
    ("input", lambda facts: "x".join(map(str, facts["input_size"]))),
    ("parameters", lambda facts: f"{facts['parameters']:,}"),
    ("MACs an image", lambda facts: f"{facts['macs']:,}"),
    ("stages", lambda facts: _shapes(facts["stages"])),
    ("embedding", lambda facts: str(facts["embedding"])),
    ("pre-activations", lambda facts: "yes" if facts["pre_activations"] else "no"),
]


def _shapes(stages: list[list[int]]) -> str:
    """Write stages as ``16x8x8 2 of 32x4x4``: runs of equal shapes, such as those of a transformer, are counted."""
    runs = [(shape, len(list(run))) for shape, run in groupby("x".join(map(str, stage)) for stage in stages)]
    return " ".join(shape if count == 1 else f"{count} of {shape}" for shape, count in runs)


def _ratio(teacher: int, student: int) -> str:
    if student > teacher:
        return f"{student / max(1, teacher):.1f} times more"
    return f"{teacher / max(1, student):.1f} times fewer"


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
