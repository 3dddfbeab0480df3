"""Drift tests against scipy and formulas written out, their false alarms, and files of predictions."""

import math
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file
from scipy import special, stats
from support.records import make_record

from kd_bench.deploy.drift import drift_tests, population_stability_index
from kd_bench.deploy.policy import DriftBounds
from kd_bench.deploy.reference import Reference, make_reference, read_reference, write_reference
from kd_bench.deploy.scores import Scores, read_scores, scores_of
from kd_bench.errors import ConfigError, IntegrityError, NotEnoughEvidence

NAMES = ["a", "b", "c", "d"]  # of the records that tests make
BOUNDS = DriftBounds()


def sample(images: int, seed: int, shift: float = 0.0, temperature: float = 1.0) -> Scores:
    """Predictions of a network on images of four classes; ``shift`` moves the embedding and the first logit."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(images, 6)) + shift
    logits = random.normal(size=(images, 4)) * 2 / temperature
    logits[:, 0] += shift
    return scores_of(logits, embeddings)


def reference(images: int = 1000) -> Reference:
    return make_reference(make_record(), sample(images, 0), 0.9)


def test_the_population_stability_index_is_its_sum():
    expected, found = np.array([10.0, 30.0, 60.0]), np.array([20.0, 20.0, 10.0])
    slow = sum((q - p) * math.log(q / p) for p, q in ((0.1, 0.4), (0.3, 0.4), (0.6, 0.2)))
    assert population_stability_index(expected, found) == pytest.approx(slow)
    assert population_stability_index(expected, 2 * expected) == 0
    assert math.isfinite(population_stability_index(expected, np.array([0.0, 0.0, 9.0])))


def test_scores_are_those_of_the_probabilities():
    logits = np.array([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 3.0, 0.0]])
    p = special.softmax(logits, axis=1)
    scores = scores_of(logits)
    assert scores.predicted.tolist() == [0, 2]
    assert scores.confidence == pytest.approx(p.max(axis=1))
    assert scores.entropy == pytest.approx(stats.entropy(p, axis=1))
    assert scores.margin == pytest.approx([p[0, 0] - p[0, 1], p[1, 2] - p[1, 0]])
    assert scores_of(p).probabilities == pytest.approx(p)  # not normalised twice
    unit = np.array([[0.5, 0.25, 0.1, 0.9]])  # logits that lie in [0, 1] are no probabilities
    assert scores_of(unit).probabilities == pytest.approx(special.softmax(unit, axis=1))


def test_sizes_and_p_values_are_those_of_scipy():
    before, after = sample(1000, 0), sample(400, 1, shift=0.3, temperature=2.0)
    found = {test.name: test for test in drift_tests(reference(), after, BOUNDS, NAMES)}
    kolmogorov = stats.ks_2samp(before.confidence, after.confidence, method="asymp")
    test = found["confidence (Kolmogorov-Smirnov)"]
    assert (test.size, test.p_value) == pytest.approx((kolmogorov.statistic, kolmogorov.pvalue))
    counts = [np.bincount(one.predicted, minlength=4) for one in (before, after)]
    prior = found["predicted classes (chi-square)"]
    assert prior.p_value == pytest.approx(stats.chi2_contingency(counts, correction=False).pvalue)
    shares = [count / count.sum() for count in counts]
    assert prior.size == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    assert before.embeddings is not None
    assert after.embeddings is not None
    deviations = np.abs(after.embeddings.mean(0) - before.embeddings.mean(0)) / before.embeddings.std(0, ddof=1)
    assert found["embedding means (z)"].size == pytest.approx(deviations.max())
    assert all(test.adjusted >= test.p_value for test in found.values())


def test_hardly_any_alarm_without_drift_and_one_with_it():
    """New images of the same kind raise an alarm in at most 5 of 100 samples, also where a sample is small."""
    for images in (100, 300):
        alarms = [
            any(test.drifted for test in drift_tests(reference(), sample(images, seed), BOUNDS, NAMES))
            for seed in range(1, 101)
        ]
        assert sum(alarms) <= 5
    assert any(test.drifted for test in drift_tests(reference(), sample(300, 1, temperature=3.0), BOUNDS, NAMES))


def test_a_significant_change_within_its_bound_is_no_drift():
    many = sample(50_000, 3, shift=0.1)
    found = drift_tests(reference(50_000), many, BOUNDS, NAMES)
    assert any(test.adjusted < 0.01 for test in found)
    assert not any(test.drifted for test in found)
    tight = DriftBounds(population_stability=0.0, kolmogorov_smirnov=0.0, prior=0.0, embedding=0.0)
    assert any(test.drifted for test in drift_tests(reference(50_000), many, tight, NAMES))


def test_too_few_predictions_tell_nothing():
    with pytest.raises(NotEnoughEvidence, match="20 predictions"):
        drift_tests(reference(), sample(20, 1), BOUNDS, NAMES)


def test_a_class_that_never_comes_and_constant_embeddings_are_no_error():
    logits = np.tile([[5.0, 0.0, 0.0, 0.0]], (200, 1))
    constant = scores_of(logits, np.ones((200, 2)))
    own = make_reference(make_record(), constant, None)
    assert not any(test.drifted for test in drift_tests(own, constant, BOUNDS, NAMES))
    moved = scores_of(np.roll(logits, 1, axis=1), np.ones((200, 2)))
    assert any(test.drifted for test in drift_tests(own, moved, BOUNDS, NAMES))


def test_statistics_are_read_back_as_they_were_written(tmp_path):
    record = make_record()
    made, path = make_reference(record, sample(300, 0), 0.9), tmp_path / "reference.parquet"
    write_reference(made, path)
    found = read_reference(path, record)
    for name, value in vars(made).items():
        assert np.array_equal(getattr(found, name), value) if isinstance(value, np.ndarray) else True
    assert found.samples.keys() == made.samples.keys()
    assert found.agreement == 0.9
    embeddings = sample(300, 0).embeddings
    assert embeddings is not None
    assert found.embedding_covariance == pytest.approx(np.cov(embeddings.T))
    assert found.histogram.sum() == 300
    with pytest.raises(IntegrityError, match="belongs to run"):
        read_reference(path, make_record(seed=1))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_reference(path, record)


def written(folder: Path, suffix: str, scores: Scores, names: list[str]) -> Path:
    path = folder / f"predictions{suffix}"
    if suffix == ".safetensors":
        assert scores.embeddings is not None
        save_file({"probabilities": scores.probabilities, "embeddings": scores.embeddings}, path)
        return path
    assert scores.embeddings is not None
    columns = dict(zip(names, scores.probabilities.T, strict=True))
    columns |= {f"embedding_{k}": column for k, column in enumerate(scores.embeddings.T)}
    table = pyarrow.table({"id": np.arange(len(scores)), **columns})
    (pyarrow.csv.write_csv if suffix == ".csv" else pyarrow.parquet.write_table)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".safetensors"])
@pytest.mark.parametrize("names", [NAMES, ["probability_0", "probability_1", "probability_2", "probability_3"]])
def test_predictions_are_read_from_every_kind_of_file(tmp_path, suffix, names):
    scores = sample(120, 5)
    found = read_scores(written(tmp_path, suffix, scores, names), NAMES, "last")
    assert found.probabilities == pytest.approx(scores.probabilities)
    assert found.embeddings == pytest.approx(scores.embeddings)


def test_files_that_are_no_predictions_are_refused(tmp_path):
    for name, content, match in (
        ("a.csv", "x,y\n1,2\n", "should have a column a class, .* it has x, y"),
        ("b.csv", "a,b,c,d\n1,2,3,x\n", "column 'd' holds values that are no numbers"),
        ("c.csv", "a,b,c,d\n1,2,3,nan\n", "not finite"),
        ("d.parquet", "no parquet", "cannot be read"),
        ("e.safetensors", "no tensors", "cannot be read"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(IntegrityError, match=match):
            read_scores(tmp_path / name, NAMES, "last")
    save_file({"logits": np.zeros((5, 3))}, tmp_path / "f.safetensors")
    with pytest.raises(IntegrityError, match=r"shape \(5, 3\), not \(N, 4\)"):
        read_scores(tmp_path / "f.safetensors", NAMES, "last")
    for name in ("none.csv", "f.txt"):
        with pytest.raises(ConfigError, match="should be a file that ends in"):
            read_scores(tmp_path / name, NAMES, "last")
