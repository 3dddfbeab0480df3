"""Predictions: the logits of every held-out sample, saved once. All metrics follow from them without the model.

``predictions.safetensors`` holds, for ``validation`` and ``test``: ``<split>/targets`` (N,), ``<split>/index`` (N,),
``<split>/last`` and ``<split>/best_on_validation`` (N, K) student logits, and ``<split>/teacher`` (N, K) where the pair
has a teacher. Logits are float32.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kd_bench.data.augmentation import as_float
from kd_bench.data.batch import Batch
from kd_bench.errors import Diverged, IntegrityError
from kd_bench.methods.base import Method
from kd_bench.models.features import FeatureTap, Outputs


def predict(tap: FeatureTap, batches: Iterable[Batch], method: Method | None = None) -> Tensor:
    """Return logits (N, K), float32 on the CPU, of a network in eval mode, through the method's head if it has one.

    Raises:
        Diverged: a logit is not finite.
    """
    modules: list[nn.Module] = [tap] if method is None else [tap, method]
    return _passed(tap, batches, modules, "logits", lambda o: method.predict(o) if method else o.logits)


def embed(tap: FeatureTap, batches: Iterable[Batch]) -> Tensor:
    """Return embeddings (N, D), as ``predict`` does logits."""
    return _passed(tap, batches, [tap], "embeddings", lambda o: o.embedding)


@torch.inference_mode()
def _passed(
    tap: FeatureTap, batches: Iterable[Batch], modules: list[nn.Module], what: str, of: Callable[[Outputs], Tensor]
) -> Tensor:
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    device = tap.mean.device
    values = [of(tap(as_float(batch.images.to(device)))).float().cpu() for batch in batches]
    for module, mode in zip(modules, modes, strict=True):
        module.train(mode)
    result = torch.cat(values)
    if not result.isfinite().all():
        raise Diverged(f"{tap.name} gives {what} that are not finite")
    return result


def load_predictions(path: Path) -> dict[str, Tensor]:
    """Read ``predictions.safetensors``.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    try:
        predictions: dict[str, Tensor] = load_file(path)
        return predictions
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
