"""Options that the commands on a finished student share, and what they need installed."""

import argparse
from importlib.util import find_spec

from kd_bench.cli.plugin_options import add_config_dir
from kd_bench.cli.verify import add_run
from kd_bench.errors import ConfigError

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def add_student(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a finished run and say what its record does not hold."""
    add_run(parser)
    add_config_dir(parser)
    parser.add_argument("overrides", nargs="*", help="paths.data=DIR, where the data are; plugins=[NAME] of the run")


def require_onnx(command: str) -> None:
    """Raise ConfigError unless the packages of the extra ``deploy`` that read and write ONNX are installed."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f"{command}: needs {', '.join(missing)}; pip install 'kd-bench[deploy]'")
