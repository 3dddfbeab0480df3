"""Reference statistics of a student on the frozen test split, as a table: one row a number."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_bench.deploy.columnar import Array, metadata_of, read_table, write_parquet
from kd_bench.deploy.scores import Scores
from kd_bench.errors import IntegrityError
from kd_bench.results.records.record import Record

REFERENCE_FILE = "reference_stats.parquet"
BINS = 10
SCHEMA = "1"
SAMPLED = ("confidence", "entropy", "margin")  # kept image by image, for tests of distributions


@dataclass(frozen=True)
class Reference:
    """Statistics of a student on the test split of N images and K classes.

    Attributes:
        samples: confidence, entropy and margin (N,), each sorted.
        edges: (BINS + 1,) edges of the histogram of confidence, at its quantiles; the outer ones are 0 and 1.
        prior: (K,) counts of predicted classes.
        agreement: share of images on which the teacher predicts the same class; None without a teacher.
        embedding_mean, embedding_covariance: (D,) and (D, D).
    """

    run_id: str
    weights_sha256: str
    samples: dict[str, Array]
    edges: Array
    histogram: Array
    prior: Array
    agreement: float | None
    embedding_mean: Array
    embedding_covariance: Array


def make_reference(record: Record, scores: Scores, agreement: float | None) -> Reference:
    """Compute the statistics of predictions on the test split, with embeddings."""
    assert scores.embeddings is not None
    confidence = scores.confidence
    inner = np.quantile(confidence, np.linspace(0, 1, BINS + 1)[1:-1])
    edges = np.unique(np.concatenate([[0.0], inner, [1.0]]))
    return Reference(
        run_id=record.run_id,
        weights_sha256=record.student.weights_sha256,
        samples={name: np.sort(getattr(scores, name)) for name in SAMPLED},
        edges=edges,
        histogram=histogram(confidence, edges),
        prior=np.bincount(scores.predicted, minlength=record.dataset.num_classes).astype(np.float64),
        agreement=agreement,
        embedding_mean=scores.embeddings.mean(axis=0),
        embedding_covariance=np.atleast_2d(np.cov(scores.embeddings, rowvar=False)),
    )


def histogram(confidence: Array, edges: Array) -> Array:
    """Count confidences by bin; a bin holds its lower edge, the last one both."""
    counts, _ = np.histogram(np.clip(confidence, edges[0], edges[-1]), edges)
    return counts.astype(np.float64)


def write_reference(reference: Reference, path: Path) -> None:
    """Write the statistics as Parquet with columns ``statistic``, ``row``, ``column`` and ``value``.

    Of the covariance, which is symmetric, the table holds the upper triangle.

    Raises:
        IntegrityError: the file cannot be written.
    """
    rows, columns = np.triu_indices(len(reference.embedding_mean))
    series = {
        **reference.samples,
        "confidence_edge": reference.edges,
        "confidence_histogram": reference.histogram,
        "predicted_class": reference.prior,
        "teacher_agreement": np.array([] if reference.agreement is None else [reference.agreement]),
        "embedding_mean": reference.embedding_mean,
    }
    names = [name for name, values in series.items() for _ in values] + ["embedding_covariance"] * len(rows)
    positions = [np.arange(len(values)) for values in series.values()]
    zeros = np.zeros(len(names) - len(rows), dtype=np.int32)
    table = {
        "statistic": names,
        "row": np.concatenate([*positions, rows]).astype(np.int32),
        "column": np.concatenate([zeros, columns]).astype(np.int32),
        "value": np.concatenate([*series.values(), reference.embedding_covariance[rows, columns]]),
    }
    about = {"run_id": reference.run_id, "weights_sha256": reference.weights_sha256, "version": SCHEMA}
    write_parquet(path, table, {"kd_bench": json.dumps(about)})


def read_reference(path: Path, record: Record) -> Reference:
    """Read the statistics of a run.

    Raises:
        IntegrityError: the file cannot be read, or belongs to other weights.
    """
    table = read_table(path)
    try:
        about = json.loads(metadata_of(table)["kd_bench"])
        names = np.asarray(table.column("statistic").to_pylist())
        values = np.asarray(table.column("value").to_numpy(), dtype=np.float64)
        found = {name: values[names == name] for name in dict.fromkeys(names.tolist())}
        reference = _assembled(about, found)
    except (KeyError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path} holds no reference statistics: {error}") from None
    if (reference.run_id, reference.weights_sha256) != (record.run_id, record.student.weights_sha256):
        raise IntegrityError(f"{path} belongs to run {reference.run_id} or to other weights; delete it to make it anew")
    return reference


def _assembled(about: dict[str, str], found: dict[str, Array]) -> Reference:
    mean = found["embedding_mean"]
    covariance = np.zeros((len(mean), len(mean)))
    covariance[np.triu_indices(len(mean))] = found["embedding_covariance"]
    agreement = found.get("teacher_agreement", np.array([]))
    return Reference(
        run_id=about["run_id"],
        weights_sha256=about["weights_sha256"],
        samples={name: found[name] for name in SAMPLED},
        edges=found["confidence_edge"],
        histogram=found["confidence_histogram"],
        prior=found["predicted_class"],
        agreement=float(agreement[0]) if len(agreement) else None,
        embedding_mean=mean,
        embedding_covariance=covariance + np.triu(covariance, 1).T,
    )
