"""A network as files: ONNX, torch.export and safetensors, each with what a prediction needs and nothing else.

Every file takes float images (B, 3, H, W) in [0, 1] of the data set's size and gives logits (B, K): resizing to the
network's own size, normalisation, the network and the method's head are part of it.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kd_bench.data.batch import DataSpec
from kd_bench.errors import KDBenchError
from kd_bench.methods.base import Method
from kd_bench.models.features import FeatureTap

OPSET = 20
INPUT, OUTPUT = "images", "logits"
EXAMPLE_BATCH = 2  # a dynamic batch that was traced at 1 is taken to be always 1 by some networks


class Predictor(nn.Module):
    """From float images (B, 3, H, W) in [0, 1] to logits (B, K), in eval mode.

    Its parameters and buffers are those that a prediction needs: adapters that only train are left out.
    """

    def __init__(self, tap: FeatureTap, method: Method | None = None) -> None:
        super().__init__()
        self.tap = tap
        self.heads = nn.ModuleList(method.test_time_modules() if method else [])
        self._method = (method,)  # a tuple hides the adapters
        if method is not None:
            method.eval()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        (method,) = self._method
        outputs = self.tap(images)
        logits: Tensor = outputs.logits if method is None else method.predict(outputs)
        return logits


def traced(predictor: Predictor, spec: DataSpec) -> ExportedProgram:
    """Return the program of a network for batches of any size.

    Raises:
        KDBenchError: torch cannot trace it, with torch's reason.
    """
    example = (spec.example(EXAMPLE_BATCH),)
    with _quietly(), torch.no_grad():
        try:
            return torch.export.export(predictor, example, dynamic_shapes=({0: Dim("batch")},), strict=False)
        except Exception as error:  # the tracer raises whatever the network's operations raise
            raise KDBenchError(_refused(predictor, "torch.export", error)) from error


def as_onnx(predictor: Predictor, program: ExportedProgram, spec: DataSpec, metadata: Mapping[str, str]) -> bytes:
    """Return the ONNX model of a traced network, of opset ``OPSET``, weights included.

    Names of files on this machine, which the exporter notes for each node, are left out.

    Raises:
        KDBenchError: an operation has no counterpart in ONNX, with torch's reason.
    """
    with _quietly(), torch.no_grad():
        try:
            exported = torch.onnx.export(
                program,
                (spec.example(EXAMPLE_BATCH),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: "batch"},),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # as in `traced`
            raise KDBenchError(_refused(predictor, "torch.onnx", error)) from error
    assert exported is not None  # of dynamo=True
    model = exported.model_proto
    for each in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del each.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    onnx.helper.set_model_props(model, dict(metadata))
    content: bytes = model.SerializeToString()
    return content


def as_program(program: ExportedProgram) -> bytes:
    """Return a traced network as the content of a file of ``torch.export.save``."""
    buffer = io.BytesIO()
    with _quietly():
        torch.export.save(program, buffer)
    return buffer.getvalue()


def as_weights(predictor: Predictor, metadata: Mapping[str, str]) -> bytes:
    """Return the weights of a network and of the method's head as the content of a safetensors file with metadata."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in predictor.state_dict().items()}
    content: bytes = save(tensors, metadata=dict(metadata))
    return content


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the exporters say of their own future from people who cannot change it."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _refused(predictor: Predictor, exporter: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{predictor.tap.name} cannot be exported: {exporter} says: {lines[0][:300]}"
