"""Parity: whether exported files give the logits that PyTorch gives, over a whole split."""

import io
from collections.abc import Iterable

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from kd_bench.config.ranges import Count, Fraction, NonNegative, Positive
from kd_bench.data.augmentation import as_float
from kd_bench.data.batch import Batch
from kd_bench.deploy.graph import INPUT
from kd_bench.errors import IntegrityError
from kd_bench.results.records.measured import Strict

# How far a logit may lie from PyTorch's, relative to the largest of them, and how many classes must be the same.
LOGITS_APART = 1e-4
LEAST_AGREEMENT = 0.999
THREADS = (1, 2)


class Parity(Strict):
    """One exported file held against PyTorch on every image of the test split.

    ``largest_difference`` is of a logit, and ``allowed`` what it may be; ``agreement`` is the share of images with the
    same class. Both are null where the file gave no finite logits, for the reason in ``problem``.
    """

    file: str
    runtime: str
    threads: Count | None
    samples: Count
    largest_difference: NonNegative | None
    allowed: Positive
    agreement: Fraction | None
    passed: bool
    problem: str | None = None


def compared(file: str, runtime: str, threads: int | None, reference: Tensor, logits: Tensor | str) -> Parity:
    """Hold logits (N, K) against those of PyTorch.

    Args:
        logits: or the reason why there are none.
    """
    allowed = LOGITS_APART * max(1.0, float(reference.abs().max()))
    problem = logits if isinstance(logits, str) else _defect(logits, reference)
    if isinstance(logits, str) or problem:
        difference = agreement = None
        passed = False
    else:
        difference = float((logits.double() - reference.double()).abs().max())
        agreement = float((logits.argmax(1) == reference.argmax(1)).double().mean())
        passed = difference <= allowed and agreement >= LEAST_AGREEMENT
    return Parity(
        file=file,
        runtime=runtime,
        threads=threads,
        samples=len(reference),
        largest_difference=difference,
        allowed=allowed,
        agreement=agreement,
        passed=passed,
        problem=problem or None,
    )


def _defect(logits: Tensor, reference: Tensor) -> str:
    if logits.shape != reference.shape:
        return f"gives logits of shape {tuple(logits.shape)} instead of {tuple(reference.shape)}"
    return "" if logits.isfinite().all() else "gives logits that are not finite"


def session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Open an ONNX model on the CPU.

    Raises:
        IntegrityError: it is damaged, with the runtime's reason.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise IntegrityError(f"onnxruntime cannot load it: {_first_line(error)}") from error


def onnx_logits(content: bytes, batches: Iterable[Batch], threads: int) -> Tensor:
    """Return the logits (N, K) of an ONNX model in onnxruntime.

    Raises:
        IntegrityError: the model is damaged or cannot take the images.
    """
    opened = session(content, threads)
    parts = []
    for batch in batches:
        try:
            (logits,) = opened.run(None, {INPUT: as_float(batch.images).numpy()})
        except Exception as error:  # as above
            raise IntegrityError(f"onnxruntime cannot run it: {_first_line(error)}") from error
        parts.append(torch.from_numpy(np.asarray(logits, dtype=np.float32)))
    return torch.cat(parts)


@torch.inference_mode()
def program_logits(content: bytes, batches: Iterable[Batch]) -> Tensor:
    """Return the logits (N, K) of the content of a .pt2 file.

    Args:
        content: made by this process. A file of somebody else's could run code when it is loaded.
    """
    module = torch.export.load(io.BytesIO(content)).module()
    return torch.cat([module(as_float(batch.images)).float() for batch in batches])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
