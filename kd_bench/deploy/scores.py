"""Predictions to monitor: logits or probabilities from safetensors, CSV or Parquet, whatever a service writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from scipy.special import entr, softmax

from kd_bench.deploy.columnar import Array, numbers, read_table
from kd_bench.errors import ConfigError, IntegrityError

SUFFIXES = (".safetensors", ".csv", ".parquet")
SUM_TOLERANCE = 1e-3  # of probabilities that were rounded
NAMED = ("logits", "probabilities")
COLUMN = re.compile(r"(?:logit|probability|class)_(\d+)")
EMBEDDING = re.compile(r"embedding_(\d+)")


@dataclass(frozen=True)
class Scores:
    """Predictions of N images: probabilities (N, K), and embeddings (N, D) where there are some."""

    probabilities: Array
    embeddings: Array | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Predicted classes (N,)."""
        predicted: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def confidence(self) -> Array:
        """Probability of the predicted class (N,)."""
        confidence: Array = self.probabilities.max(axis=1)
        return confidence

    @property
    def entropy(self) -> Array:
        """Entropy (N,) in nats."""
        entropy: Array = entr(self.probabilities).sum(axis=1)
        return entropy

    @property
    def margin(self) -> Array:
        """Probability of the likeliest class less that of the second (N,)."""
        largest = np.partition(self.probabilities, -2, axis=1)[:, -2:]
        margin: Array = largest[:, 1] - largest[:, 0]
        return margin


def scores_of(values: npt.ArrayLike, embeddings: Array | None = None) -> Scores:
    """Make scores of logits or probabilities (N, K): rows of numbers in [0, 1] that sum to 1 are probabilities.

    Raises:
        ValueError: a number is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all() or (embeddings is not None and not np.isfinite(embeddings).all()):
        raise ValueError("holds numbers that are not finite")
    sums = np.abs(array.sum(axis=1) - 1).max(initial=0.0) <= SUM_TOLERANCE
    given = sums and array.min(initial=0.0) >= 0 and array.max(initial=0.0) <= 1
    return Scores(array if given else softmax(array, axis=1), embeddings)


def read_scores(path: Path, class_names: Sequence[str], rule: str) -> Scores:
    """Read predictions of a network with these classes.

    Tables have a column a class, named after it or ``logit_0``, ``probability_0`` or ``class_0``, and may have columns
    ``embedding_0``. Files of safetensors hold ``logits`` or ``probabilities`` and may hold ``embeddings``;
    ``predictions.safetensors`` of a run does as well.

    Args:
        rule: the rule that selects the epoch of a run's predictions.

    Raises:
        ConfigError: there is no such file, or it is of another kind.
        IntegrityError: it cannot be read, or does not hold numbers of this shape.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        raise ConfigError(f"--against {path}: should be a file that ends in one of {', '.join(SUFFIXES)}")
    tensors = path.suffix == ".safetensors"
    values, embeddings = _of_tensors(path, rule) if tensors else _of_table(path, class_names)
    if values.ndim != 2 or values.shape[1] != len(class_names):
        raise IntegrityError(f"{path}: predictions of shape {values.shape}, not (N, {len(class_names)})")
    if embeddings is not None and (embeddings.ndim != 2 or len(embeddings) != len(values)):
        raise IntegrityError(f"{path}: embeddings of shape {embeddings.shape} for {len(values)} predictions")
    try:
        return scores_of(values, embeddings)
    except ValueError as error:
        raise IntegrityError(f"{path}: {error}") from None


def _of_tensors(path: Path, rule: str) -> tuple[Array, Array | None]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            name = next((each for each in (*NAMED, f"test/{rule}") if each in names), None)
            if name is None:
                raise IntegrityError(f"{path}: holds neither {' nor '.join(NAMED)} but {sorted(names)[:5]}")
            embeddings = file.get_tensor("embeddings") if "embeddings" in names else None
            return file.get_tensor(name), None if embeddings is None else np.asarray(embeddings, dtype=np.float64)
    except (OSError, SafetensorError, TypeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None


def _of_table(path: Path, class_names: Sequence[str]) -> tuple[Array, Array | None]:
    table = read_table(path)
    names: list[str] = table.column_names
    if set(class_names) <= set(names):
        chosen = list(class_names)
    else:
        numbered = {int(match[1]): name for name in names if (match := COLUMN.fullmatch(name))}
        if sorted(numbered) != list(range(len(class_names))):
            raise IntegrityError(
                f"{path}: should have a column a class, by name or as logit_0 to logit_{len(class_names) - 1}; "
                f"it has {', '.join(names[:8])}"
            )
        chosen = [numbered[label] for label in range(len(class_names))]
    embedding = sorted((int(match[1]), name) for name in names if (match := EMBEDDING.fullmatch(name)))
    vectors = numbers(table, [name for _, name in embedding], path) if embedding else None
    return numbers(table, chosen, path), vectors
