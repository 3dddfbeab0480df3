"""Ranges of hyperparameters, for the signatures of methods and data sources. The configuration is checked against them.

An annotation such as ``temperature: Positive`` is all that a new method needs for ``method.temperature=0`` to be
refused with one line.
"""

from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # generators take 64 bits of it, and tables and trackers 63
ImageSize = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]  # height, width
Selection = Literal["last", "best_on_validation", "best_on_test", "ema"]  # whose weights the headline reports
Section = Literal["embeddings", "train_fidelity", "corruptions", "transfer", "latency"]  # of a full evaluation
