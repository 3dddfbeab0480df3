"""Static quantisation to int8 with onnxruntime: weights by channel, activations by their range on training images."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kd_bench.data.augmentation import as_float
from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.splits import carve
from kd_bench.deploy.graph import INPUT
from kd_bench.errors import KDBenchError

CALIBRATION_SAMPLES = 256


def quantized(content: bytes, data: ImageDataModule) -> bytes:
    """Return an ONNX model in int8, calibrated on training images as they are, without augmentation.

    Convolutions and matrix products read and give 8 bits (QDQ format, weights symmetric by channel, activations
    unsigned); the input and the logits stay float.

    Raises:
        KDBenchError: onnxruntime cannot quantise it.
    """
    with tempfile.TemporaryDirectory(prefix="kd-bench-int8-") as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        source, prepared, target = (Path(temporary, f"{name}.onnx") for name in ("float", "prepared", "int8"))
        try:
            source.write_bytes(content)
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                _Calibration(calibration_batches(data)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return target.read_bytes()
        except OSError:
            raise
        except Exception as error:  # it raises whatever a node makes it raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise KDBenchError(f"--int8: onnxruntime cannot quantise the network: {reason[:300]}") from error
        finally:
            logging.disable(logging.NOTSET)


def calibration_batches(data: ImageDataModule) -> Iterable[Batch]:
    """Return the training images that ranges are taken from: ``CALIBRATION_SAMPLES`` at most, stratified, fixed."""
    samples = min(CALIBRATION_SAMPLES, len(data.train))
    chosen, _ = carve(data.train.targets, samples, "calibration")
    return data.evaluation_loader(data.train.subset(chosen))


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches: Iterator[Batch] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: as_float(batch.images).numpy()}
