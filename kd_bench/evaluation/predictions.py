"""The logits of every held-out sample, saved once; all metrics can be recomputed from them without the model.

``predictions.safetensors`` holds, for ``validation`` and ``test``: ``<split>/targets`` (N,), ``<split>/index`` (N,),
``<split>/last`` and ``<split>/best_on_validation`` (N, K) student logits, and ``<split>/teacher`` (N, K) where the pair
has a teacher. Logits are float32.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kd_bench.data.augmentation import as_float
from kd_bench.data.batch import Batch
from kd_bench.errors import Diverged, IntegrityError
from kd_bench.methods.base import Method
from kd_bench.models.features import FeatureTap


@torch.inference_mode()
def predict(tap: FeatureTap, batches: Iterable[Batch], method: Method | None = None) -> Tensor:
    """Logits (N, K), float32 on the CPU, of a network in eval mode, through the method's head if it has its own.

    Raises:
        Diverged: a logit is not finite.
    """
    modules = [tap] if method is None else [tap, method]
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    device = tap.mean.device
    logits = []
    for batch in batches:
        outputs = tap(as_float(batch.images.to(device)))
        logits.append((outputs.logits if method is None else method.predict(outputs)).float().cpu())
    for module, mode in zip(modules, modes, strict=True):
        module.train(mode)
    result = torch.cat(logits)
    if not result.isfinite().all():
        raise Diverged(f"{tap.name} gives logits that are not finite")
    return result


def load_predictions(path: Path) -> dict[str, Tensor]:
    try:
        predictions: dict[str, Tensor] = load_file(path)
        return predictions
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
