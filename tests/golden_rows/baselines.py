"""Golden rows of baselines."""

from torch import Tensor

from kd_bench.methods.label_smoothing import LabelSmoothing

from .given import Arrays, Case, Row, on_logits, run, total


def label_smoothing(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    method = LabelSmoothing(**case["hyperparameters"])
    return {"loss": total(run(method, on_logits(arrays["student_logits"]), labels=arrays["labels"]))}


ROWS: dict[str, Row] = {
    "label_smoothing": label_smoothing,
}

ORACLES: dict[str, str] = {
    "scratch": "tests/methods/test_logits.py::test_scratch_is_cross_entropy_alone",
}
