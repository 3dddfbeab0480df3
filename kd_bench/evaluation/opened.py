"""A run as objects, whether it was just trained or is read back: what every measurement is made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from kd_bench.config.schema import RunConfig
from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.source import ImageArrays
from kd_bench.evaluation.predictions import predict
from kd_bench.training.pair import Pair
from kd_bench.training.teachers import TeacherWeights


@dataclass(frozen=True)
class OpenedRun:
    """A run with its networks and its data.

    Attributes:
        pair: with the headline weights, once they are trained or loaded.
        arrays: the data set; ``data`` has its splits.
        directory: of the run, where its weights are saved.
        teachers: where the weights of the pair's teacher are, network by network; empty until they have been found.
    """

    config: RunConfig
    pair: Pair
    arrays: ImageArrays
    data: ImageDataModule
    directory: Path
    teachers: list[TeacherWeights]

    def student_logits(self, batches: Iterable[Batch]) -> Tensor:
        """Return logits (N, K) of the student, through the method's head if it has its own."""
        return predict(self.pair.student, batches, self.pair.method)
