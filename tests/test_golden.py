"""Losses and gradients against vectors of the published reference implementations.

The folders are ``tests/golden`` and ``tests/golden_2``, or the one that the environment variable ``KD_BENCH_GOLDEN``
names. Every case of a manifest is run in float32, at the manifest's tolerances, and in float64, where scalar losses
must agree to nine digits.
"""

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from golden_rows import ROWS
from golden_rows.given import Arrays, Case, Row, Settings, only
from torch import Tensor

SHIPPED = [Path(__file__).with_name(name) for name in ("golden", "golden_2")]
NAMED = os.environ.get("KD_BENCH_GOLDEN")
FOLDERS = [Path(NAMED).expanduser()] if NAMED else SHIPPED
EXACT = 1e-9  # relative difference of scalar losses in float64


def fail(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)


def read_cases(folder: Path) -> list[Case]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        cases = manifest["cases"] if manifest["format"] == 1 else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"{path} cannot be read: {type(error).__name__}: {error}")
    if not isinstance(cases, list) or not cases:
        fail(f"{path} lists no case in format 1")
    return [{**case, "folder": folder} for case in cases]


class Inputs:
    """What goes into a row: floating arrays in ``dtype``, asking for a gradient where the manifest speaks of one.

    ``without_gradient`` are those of the student that must not receive any, so that a missing ``detach`` shows.
    """

    def __init__(self, case: Case, stored: dict[str, np.ndarray], dtype: torch.dtype) -> None:
        self.arrays: Arrays = {}
        self.without_gradient: list[str] = []
        listed = {name.removeprefix("grad_total_").removeprefix("grad_") for name in stored if name.startswith("grad_")}
        for name, description in case["arrays"].items():
            if description["role"] == "output":
                continue
            tensor = torch.from_numpy(stored[name])
            tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
            if name not in listed and "no gradient" in description["meaning"] and not name.startswith("teacher_"):
                self.without_gradient.append(name)
            self.arrays[name] = tensor.requires_grad_(name in listed or name in self.without_gradient)
        self.teacher = {name: copy.deepcopy(array) for name, array in self.arrays.items() if name.startswith("teacher")}

    def gradient(self, loss: Tensor, name: str) -> Tensor:
        """Of ``loss``; zeros where it does not depend on the array."""
        array = self.arrays[name]
        (gradient,) = torch.autograd.grad(loss, array, retain_graph=True, allow_unused=True)
        return torch.zeros_like(array) if gradient is None else gradient


def read_arrays(case: Case) -> dict[str, np.ndarray]:
    path = case["folder"] / case["file"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != case["sha256"]:
        fail(f"{case['id']}: {path} is not the file of the manifest: its sha256 differs")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in case["arrays"]}


def outputs_of(case: Case, rows: dict[str, Row], arrays: Arrays) -> dict[str, Tensor]:
    """Run the row of the case, which must exist and read every setting."""
    if case["method"] not in rows:
        fail(f"no golden row for method {case['method']!r}: tests/golden_rows/ needs one")
    settings = Settings(case["hyperparameters"])
    outputs = rows[case["method"]]({**case, "hyperparameters": settings}, arrays)
    unknown = [f"{name}={settings[name]!r}" for name in settings if name not in settings.read]
    if unknown:
        fail(f"{case['id']}: the golden row of {case['method']!r} does not know the setting {', '.join(unknown)}")
    return outputs


def check(case: Case, rows: dict[str, Row], dtype: torch.dtype) -> None:
    """Fail, naming the case and the output, unless a row gives all that the case lists."""
    stored = read_arrays(case)
    inputs = Inputs(case, stored, dtype)
    outputs = outputs_of(case, rows, inputs.arrays)
    for name, description in case["arrays"].items():
        if description["role"] == "output":
            compare(case, name, computed(case, name, outputs, inputs), stored[name], dtype)
    for name in inputs.without_gradient:
        if inputs.gradient(outputs.get("loss_total", outputs["loss"]), name).any():
            fail(f"{case['id']}: {name} must receive no gradient")
    for name, before in inputs.teacher.items():
        if inputs.arrays[name].grad is not None or not torch.equal(inputs.arrays[name], before):
            fail(f"{case['id']}: {name} must stay as it is and receive no gradient")


def computed(case: Case, name: str, outputs: dict[str, Tensor], inputs: Inputs) -> Tensor:
    """An output of the row, or the gradient of its ``loss`` or ``loss_total``."""
    wanted = name
    if name.startswith("grad_"):
        wanted = "loss_total" if name.startswith("grad_total_") else "loss"
    if wanted not in outputs:
        fail(f"{case['id']}: the row gives no {wanted!r}; it gives {', '.join(sorted(outputs))}")
    if wanted == name:
        return outputs[name].detach()
    return inputs.gradient(outputs[wanted], name.removeprefix("grad_total_").removeprefix("grad_"))


def compare_form(case: Case, name: str, got: Tensor, stored: np.ndarray, dtype: torch.dtype) -> None:
    wanted = dtype if np.issubdtype(stored.dtype, np.floating) else torch.int64
    if got.dtype != wanted:
        fail(f"{case['id']}: {name} is {got.dtype}, not {wanted}")
    if got.shape != stored.shape:
        fail(f"{case['id']}: {name} has shape {tuple(got.shape)}, the reference {stored.shape}")


def compare(case: Case, name: str, got: Tensor, stored: np.ndarray, dtype: torch.dtype) -> None:
    compare_form(case, name, got, stored, dtype)
    allowed = case["tolerance"].get(name, {"rtol": 0.0, "atol": 0.0})  # indices are exact
    expected, tolerance = stored, {key: allowed[key] for key in ("rtol", "atol")}
    # A reference whose runs in both types agree to the last bit computes in float32 whatever it is given.
    precise = allowed.get("float32_vs_float64_max_abs", 1.0) > 0
    if dtype == torch.float64 and name in case["loss_float64"] and precise:
        expected, tolerance = np.float64(case["loss_float64"][name]), {"rtol": EXACT, "atol": 0.0}
    difference = np.abs(got.numpy() - expected)
    # Written so that NaN fails.
    if not (difference <= tolerance["atol"] + tolerance["rtol"] * np.abs(expected)).all():
        fail(f"{case['id']}: {name} differs from the reference by up to {difference.max():.3g}, allowed {tolerance}")


try:
    CASES = [case for folder in FOLDERS for case in read_cases(folder)]
    UNREADABLE = ""
except pytest.fail.Exception as error:
    CASES, UNREADABLE = [], str(error)


def test_the_manifest_is_readable():
    assert not UNREADABLE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_golden(case: Case, dtype: torch.dtype):
    check(case, ROWS, dtype)


# Methods whose vectors are not distributed: their rows take the arrays that are listed, and give all outputs.

WITHOUT_VECTORS: list[Case] = [
    {**case, "id": case["method"]}
    for folder in SHIPPED
    for case in json.loads((folder / "without_vectors.json").read_text(encoding="utf-8"))["cases"]
]


def arbitrary(description: dict[str, Any], seed: int) -> np.ndarray:
    """Numbers of the listed shape and type; integers are class indices."""
    generator, shape = np.random.default_rng(seed), tuple(description["shape"])
    if description["dtype"].startswith("int"):
        return generator.integers(2, size=shape)
    return np.asarray(generator.standard_normal(shape), dtype=description["dtype"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", WITHOUT_VECTORS, ids=[case["method"] for case in WITHOUT_VECTORS])
def test_a_row_without_vectors_takes_and_gives_what_is_listed(case: Case, dtype: torch.dtype):
    stored = {name: arbitrary(case["arrays"][name], seed) for seed, name in enumerate(case["arrays"])}
    inputs = Inputs(case, stored, dtype)
    outputs = outputs_of(case, ROWS, inputs.arrays)
    for name, description in case["arrays"].items():
        if description["role"] == "output":
            got = computed(case, name, outputs, inputs)
            compare_form(case, name, got, stored[name], dtype)
            assert got.isfinite().all(), name
            assert got.any(), f"{name} is zero"
    assert all(torch.equal(inputs.arrays[name], before) for name, before in inputs.teacher.items())


# The tests below are of the check itself: it must fail, and say why.


@pytest.fixture
def kd_case() -> Case:
    return copy.deepcopy(next(case for case in read_cases(SHIPPED[0]) if case["id"] == "kd_a"))


def changed(name: str, change: Any) -> Row:
    """The row of KD with one output changed."""

    def row(case: Case, arrays: Arrays) -> dict[str, Tensor]:
        outputs = ROWS["kd"](case, arrays)
        return {**outputs, name: change(outputs[name])}

    return row


def expect_failure(message: str, case: Case, row: Row | None) -> None:
    rows = {} if row is None else {"kd": row}
    with pytest.raises(pytest.fail.Exception, match=message):
        check(case, rows, torch.float32)


def test_a_method_without_a_row_fails_by_name(kd_case):
    expect_failure("no golden row for method 'kd'", kd_case, None)


def test_a_setting_that_the_row_does_not_know_fails_by_name(kd_case):
    kd_case["hyperparameters"]["margin"] = 0.5
    expect_failure("kd_a: the golden row of 'kd' does not know the setting margin=0.5", kd_case, ROWS["kd"])


def test_a_value_that_the_row_cannot_take_fails_by_name(kd_case):
    def row(case: Case, arrays: Arrays) -> dict[str, Tensor]:
        only(case, "temperature", 4.0, 5.0)
        return ROWS["kd"](case, arrays)

    check(kd_case, {"kd": row}, torch.float32)
    kd_case["hyperparameters"]["temperature"] = 2.0
    expect_failure("kd_a: temperature=2.0 is no setting of kd_bench's 'kd': it has 4.0 or 5.0", kd_case, row)


def test_an_output_that_the_row_lacks_fails_by_name(kd_case):
    def row(case: Case, arrays: Arrays) -> dict[str, Tensor]:
        outputs = ROWS["kd"](case, arrays)
        del outputs["loss_weighted"]
        return outputs

    expect_failure("kd_a: the row gives no 'loss_weighted'", kd_case, row)


def test_a_wrong_loss_fails_by_name(kd_case):
    expect_failure("kd_a: loss_weighted differs", kd_case, changed("loss_weighted", lambda loss: 1.001 * loss))


def test_a_loss_that_is_not_a_number_fails(kd_case):
    expect_failure("kd_a: loss_ce differs", kd_case, changed("loss_ce", lambda loss: loss * float("nan")))


def test_a_right_loss_with_a_wrong_gradient_fails(kd_case):
    def halved(loss: Tensor) -> Tensor:
        return loss / 2 + loss.detach() / 2

    expect_failure("kd_a: grad_student_logits differs", kd_case, changed("loss", halved))
    expect_failure("kd_a: grad_total_student_logits differs", kd_case, changed("loss_total", halved))


def test_a_gradient_to_what_must_be_detached_fails(kd_case):
    del kd_case["arrays"]["grad_student_logits"], kd_case["arrays"]["grad_total_student_logits"]
    kd_case["arrays"]["student_logits"]["meaning"] += ", no gradient"
    expect_failure("kd_a: student_logits must receive no gradient", kd_case, ROWS["kd"])


def test_a_teacher_changed_in_place_fails(kd_case):
    def row(case: Case, arrays: Arrays) -> dict[str, Tensor]:
        outputs = ROWS["kd"](case, {**arrays, "teacher_logits": arrays["teacher_logits"].clone()})
        arrays["teacher_logits"] += 1
        return outputs

    expect_failure("kd_a: teacher_logits must stay as it is", kd_case, row)


def test_a_file_that_is_not_the_manifests_fails(kd_case, tmp_path):
    content = (kd_case["folder"] / kd_case["file"]).read_bytes()
    (tmp_path / kd_case["file"]).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    expect_failure("kd_a: .* is not the file of the manifest", {**kd_case, "folder": tmp_path}, ROWS["kd"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: FileNotFoundError"),
        ("", "cannot be read: JSONDecodeError"),
        ("[]", "cannot be read: TypeError"),
        ("{}", "cannot be read: KeyError"),
        ('{"format": 1, "cases": []}', "lists no case"),
        ('{"format": 2, "cases": [{"id": "kd_a"}]}', "lists no case in format 1"),
    ],
)
def test_an_unreadable_manifest_fails_clearly(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(pytest.fail.Exception, match=reason):
        read_cases(tmp_path)
