"""Prices: from seconds of a machine to the cost of predictions, and the volume from which distilling pays."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from kd_bench.config.folders import read_yaml
from kd_bench.config.paths import CONF
from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.errors import ConfigError
from kd_bench.results.records.measured import Strict
from kd_bench.results.records.record import Record, problems_in

SHIPPED = CONF / "prices.yaml"
MILLION = 1e6
HOUR = 3600.0  # seconds


class Prices(Strict):
    """The price table: ``conf/prices.yaml`` or a file of the user's."""

    currency: Annotated[str, Field(pattern=r"^\w{1,8}$")]
    core_hour: Positive
    gpu_hour: Positive


class Distilling(Strict):
    """The cost of making a student, from the training seconds of its record."""

    student: NonNegative
    teacher: Annotated[NonNegative | None, Field(description="null where the teacher was not trained here")]
    basis: str


class BreakEven(Strict):
    """Predictions after which the student has saved what it cost; null where the student costs more per prediction.

    The first number is for those who have the teacher anyway, the second also pays for the teacher's training.
    """

    predictions: NonNegative | None
    with_teacher: Annotated[NonNegative | None, Field(description="null also where the teacher's cost is not known")]


def read_prices(path: Path) -> Prices:
    """Read a price table.

    Raises:
        ConfigError: it cannot be read, or a key is missing, unknown or no price.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no table; allowed keys: {', '.join(Prices.model_fields)}")
    try:
        return Prices.model_validate_strings(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(problems_in(error))}") from None


def per_million(images_per_second: float, threads: int, prices: Prices) -> float:
    """Return the cost of a million predictions on as many cores as there are threads, all of them busy."""
    return MILLION / images_per_second / HOUR * threads * prices.core_hour


def distilling(record: Record, prices: Prices) -> Distilling | None:
    """Return what training a student cost; None where its record does not say how long it took."""
    if record.times.train_seconds is None:
        return None
    if record.hardware.device == "cpu":
        rate, basis = record.hardware.threads * prices.core_hour, f"{record.hardware.threads} CPU cores"
    else:
        trainer = record.config.get("trainer")
        devices = trainer.get("devices", 1) if isinstance(trainer, dict) else 1
        rate, basis = devices * prices.gpu_hour, f"{devices} GPUs"
    taught = record.times.teacher_train_seconds
    return Distilling(
        student=record.times.train_seconds / HOUR * rate,
        teacher=None if taught is None else taught / HOUR * rate,
        basis=basis,
    )


def break_even(cost: Distilling, student: float, teacher: float) -> BreakEven:
    """Return the volume at which the cost of a student is regained.

    Args:
        student, teacher: cost of a million predictions.
    """
    saved = (teacher - student) / MILLION
    if saved <= 0:
        return BreakEven(predictions=None, with_teacher=None)
    both = None if cost.teacher is None else (cost.student + cost.teacher) / saved
    return BreakEven(predictions=cost.student / saved, with_teacher=both)
