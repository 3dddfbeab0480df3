"""Networks for tests, built as a run builds them."""

from typing import Any

from kd_bench.config.schema import StudentConfig
from kd_bench.data.batch import DataSpec
from kd_bench.models.factory import create_tap
from kd_bench.models.features import FeatureTap


def make_tap(name: str, spec: DataSpec, seed: int = 0, key: str = "student", **config: Any) -> FeatureTap:
    return create_tap(key, StudentConfig(name=name, **config), spec, seed, True)
