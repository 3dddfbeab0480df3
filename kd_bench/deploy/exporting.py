"""Export of a finished run: files for other programs, and the report that says how far they can be trusted."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kd_bench import __version__
from kd_bench.config.files import file_sha256, write_atomically
from kd_bench.config.ranges import Count, Fraction
from kd_bench.deploy.graph import INPUT, OPSET, OUTPUT, Predictor, as_onnx, as_program, as_weights, traced
from kd_bench.deploy.parity import THREADS, Parity, compared, onnx_logits, program_logits
from kd_bench.deploy.quantize import CALIBRATION_SAMPLES, quantized
from kd_bench.deploy.variants import INT8_FILE, add_variant
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.evaluation.evaluate import SPLITS
from kd_bench.evaluation.machine import code, hardware
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.results.records.measured import Strict
from kd_bench.results.records.reading import read_text
from kd_bench.results.records.record import (
    RECORD_FILE,
    CodeInfo,
    Hardware,
    Record,
    RunId,
    Sha256,
    Time,
    problems_in,
    read_record,
)
from kd_bench.results.records.states import now
from kd_bench.runs.restore import check_data, load_weights, rebuilt, recomposed

FOLDER = "export"
ONNX_FILE, PROGRAM_FILE, WEIGHTS_FILE = "student.onnx", "student.pt2", "student.safetensors"
REPORT_FILE = "export.json"
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors")

Say = Callable[[str], None]


class FileInfo(Strict):
    """A file as it was written."""

    sha256: Sha256
    bytes: Count


class Int8(Strict):
    """The quantised student, evaluated as a run of its own."""

    run_id: Annotated[RunId, Field(description="its directory lies beside that of the run")]
    sha256: Sha256
    bytes: Count
    calibration_samples: Annotated[Count, Field(description="training images that ranges were taken from")]
    test_top1: Fraction
    float_test_top1: Fraction
    agreement: Annotated[Fraction, Field(description="share of test images on which int8 and float say the same")]


class ExportReport(Strict):
    """The content of ``export.json``: what was exported, from what, and how it compares with PyTorch."""

    schema_version: Literal[1] = 1
    run_id: RunId
    exported_at: Time
    code: CodeInfo
    packages: dict[str, str]
    hardware: Hardware
    opset: Count
    input: str
    output: str
    uses: Annotated[list[str], Field(description="what a prediction needs: the network, and modules of the method")]
    files: dict[str, FileInfo]
    parity: list[Parity]
    int8: Int8 | None = None

    @property
    def failures(self) -> list[Parity]:
        """The comparisons that lie beyond a bound."""
        return [each for each in self.parity if not each.passed]


def export(directory: Path, overrides: list[str], int8: bool, say: Say) -> ExportReport:
    """Write the student of the finished run in ``directory`` to ``export/`` in it, and hold the files against PyTorch.

    The report is written last, also where a comparison fails.

    Args:
        overrides: of the configuration, for what records do not hold: ``paths.data=DIR``, ``plugins=[NAME]``.
        int8: quantise it too, as a run of its own beside this one.
        say: is told each step.

    Raises:
        ConfigError, IntegrityError: as ``opened_student``.
        KDBenchError: the network has an operation that cannot be exported.
    """
    record, opened = opened_student(directory, overrides)
    predictor, spec = Predictor(opened.pair.student, opened.pair.method), opened.pair.spec
    metadata = _metadata(record, opened)
    say(f"tracing {record.student.name}")
    program = traced(predictor, spec)
    contents = {
        ONNX_FILE: as_onnx(predictor, program, spec, metadata),
        PROGRAM_FILE: as_program(program),
        WEIGHTS_FILE: as_weights(predictor, metadata),
    }
    folder = directory / FOLDER
    _make(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    say(f"comparing with PyTorch on {len(opened.data.test)} test images")
    reference = opened.student_logits(opened.data.evaluation_loader(opened.data.test))
    again = program_logits(contents[PROGRAM_FILE], opened.data.evaluation_loader(opened.data.test))
    parity = [
        *onnx_parity(folder / ONNX_FILE, opened, reference),
        compared(PROGRAM_FILE, "torch.export", None, reference, again),
    ]
    report = _report(metadata, folder, list(contents), parity)
    if int8 and not report.failures:
        say("quantising to int8")
        report = report.model_copy(update={"int8": _int8(record, opened, contents[ONNX_FILE], reference)})
    write_atomically(folder / REPORT_FILE, report.model_dump_json(indent=1) + "\n")
    return report


def _report(metadata: Mapping[str, str], folder: Path, names: Sequence[str], parity: list[Parity]) -> ExportReport:
    return ExportReport(
        run_id=metadata["run_id"],
        exported_at=now(),
        code=code(),
        packages={name: version(name) for name in PACKAGES},
        hardware=hardware(torch.device("cpu")),
        opset=OPSET,
        input=metadata["input"],
        output=metadata["output"],
        uses=json.loads(metadata["uses"]),
        files={
            name: FileInfo(sha256=file_sha256(folder / name), bytes=(folder / name).stat().st_size) for name in names
        },
        parity=parity,
    )


def opened_student(directory: Path, overrides: list[str]) -> tuple[Record, OpenedRun]:
    """Build the student of a finished run on the CPU with its headline weights; its teacher need not be at hand.

    Raises:
        ConfigError: an override that there is not, or a plugin that was not asked for.
        IntegrityError: data or weights are absent or not those of the record.
    """
    record = read_record(directory / RECORD_FILE)
    if record.variant_of is not None:
        raise ConfigError(
            f"run {record.run_id}: is {record.method.name}; name the run that it was made of, {record.variant_of}"
        )
    opened = rebuilt(recomposed(record, directory.parent, overrides), directory, device_here=False)
    check_data(record, opened)
    load_weights(record, opened)
    return record, opened


def onnx_parity(path: Path, opened: OpenedRun, reference: Tensor) -> list[Parity]:
    """Hold an ONNX file against logits (N, K) of the test split, with each number of threads in ``THREADS``."""
    found = []
    for threads in THREADS:
        try:
            logits: Tensor | str = onnx_logits(
                path.read_bytes(), opened.data.evaluation_loader(opened.data.test), threads
            )
        except IntegrityError as error:
            logits = str(error)
        found.append(compared(path.name, "onnxruntime", threads, reference, logits))
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise IntegrityError(f"{folder} cannot be written: {error.strerror or error}") from error


def _metadata(record: Record, opened: OpenedRun) -> dict[str, str]:
    """Say in each file what it is, as texts."""
    height, width = opened.pair.spec.image_size
    heads = opened.pair.method.test_time_modules()
    uses = [record.student.name, *(f"{type(each).__name__} of {record.method.name}" for each in heads)]
    return {
        "made_by": f"kd-bench {__version__}",
        "run_id": record.run_id,
        "dataset": record.dataset.name,
        "method": record.method.name,
        "student": record.student.name,
        "weights_sha256": record.student.weights_sha256,
        "classes": json.dumps(record.dataset.class_names),
        "input": f"{INPUT}: float32 (batch, 3, {height}, {width}), RGB in [0, 1]",
        "output": f"{OUTPUT}: float32 (batch, {record.dataset.num_classes})",
        "uses": json.dumps(uses),
    }


def _int8(record: Record, opened: OpenedRun, content: bytes, reference: Tensor) -> Int8:
    data = opened.data
    small = quantized(content, data)
    logits = {split: onnx_logits(small, data.evaluation_loader(getattr(data, split)), 1) for split in SPLITS}
    variant = add_variant(record, opened.directory, small, logits)
    path = opened.directory.parent / variant.run_id / INT8_FILE
    return Int8(
        run_id=variant.run_id,
        sha256=variant.artifacts[INT8_FILE],
        bytes=path.stat().st_size,
        calibration_samples=min(CALIBRATION_SAMPLES, len(data.train)),
        test_top1=variant.headline().test.top1,
        float_test_top1=record.headline().test.top1,
        agreement=float((logits["test"].argmax(1) == reference.argmax(1)).double().mean()),
    )


def check(directory: Path, overrides: list[str], say: Say) -> list[str]:
    """Hold the exported files of a run against their report and against PyTorch again; nothing is written.

    A .pt2 file is only hashed: to load one that somebody else may have written could run code.

    Returns:
        What does not hold.

    Raises:
        ConfigError: the run has not been exported.
        IntegrityError: the report cannot be read, or as ``opened_student``.
    """
    report = read_report(directory)
    record, opened = opened_student(directory, overrides)
    folder = directory / FOLDER
    problems = _unlike(report.files, folder)
    if report.int8 is not None:
        variant = directory.parent / report.int8.run_id
        info = FileInfo(sha256=report.int8.sha256, bytes=report.int8.bytes)
        problems += _unlike({INT8_FILE: info}, variant)
    if report.run_id != record.run_id:
        problems.append(f"{REPORT_FILE}: is of run {report.run_id}, not of {record.run_id}")
    say(f"comparing with PyTorch on {len(opened.data.test)} test images")
    if (folder / ONNX_FILE).is_file():
        reference = opened.student_logits(opened.data.evaluation_loader(opened.data.test))
        problems += [failure(each) for each in onnx_parity(folder / ONNX_FILE, opened, reference) if not each.passed]
    if (folder / WEIGHTS_FILE).is_file():
        problems += _other_weights(folder / WEIGHTS_FILE, Predictor(opened.pair.student, opened.pair.method))
    return problems


def read_report(directory: Path) -> ExportReport:
    """Read the report of a run's export.

    Raises:
        ConfigError: there is none.
        IntegrityError: it cannot be read or is none.
    """
    path = directory / FOLDER / REPORT_FILE
    if not path.is_file():
        raise ConfigError(f"{directory}: has not been exported; kd-bench export {directory} does it")
    try:
        return ExportReport.model_validate_json(read_text(path))
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a valid report: {'; '.join(problems_in(error))}") from None


def failure(parity: Parity) -> str:
    """Say in one line by how much a file fails."""
    where = f"{parity.file}: {described(parity)}"
    return f"{where}; allowed: {parity.allowed:.1g}" if parity.problem is None else where


def described(parity: Parity) -> str:
    """Say in one line how a file compares with PyTorch."""
    threads = "" if parity.threads is None else f", {parity.threads} thread{'s' if parity.threads > 1 else ''}"
    if parity.problem is not None:
        return f"{parity.runtime}{threads}: {parity.problem}"
    return (
        f"{parity.runtime}{threads}: logits differ by at most {parity.largest_difference:.1g}, the class is the same "
        f"on {100 * (parity.agreement or 0):.2f} % of {parity.samples} images"
    )


def _unlike(files: Mapping[str, FileInfo], folder: Path) -> list[str]:
    """List files that are absent or others than those of the report."""
    problems = []
    for name, info in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: is not there")
        elif (found := file_sha256(path)) != info.sha256:
            problems.append(f"{path}: has sha256 {found[:16]}..., the report says {info.sha256[:16]}...")
    return problems


def _other_weights(path: Path, predictor: Predictor) -> list[str]:
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        return [f"{path}: cannot be read: {error}"]
    own = predictor.state_dict()
    same = saved.keys() == own.keys() and all(torch.equal(saved[name], own[name]) for name in own)
    return [] if same else [f"{path}: does not hold the weights of the run"]
