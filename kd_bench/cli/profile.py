"""The cost of a student's predictions, beside its teacher's."""

import argparse
from pathlib import Path

from kd_bench.cli.deploy_options import add_student, require_onnx
from kd_bench.cli.plugin_options import use_config_dir
from kd_bench.cli.verify import run_directory
from kd_bench.errors import ConfigError

HELP = "Measure latency, throughput, memory, start, size, energy and cost of a student and its teacher, as deployed."
EXAMPLE = "kd-bench profile runs/demo/3d72eb2bdc1c9aba --prices my_prices.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_student(parser)
    parser.add_argument("--quick", action="store_true", help="two rounds of few timings: an impression")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="images of a batch for the throughput")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of a prediction (default: 1)")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="price table (default: conf/prices.yaml)")


def run(options: argparse.Namespace) -> int:
    """Measure both networks, print the table and where report and plot are; return the exit code."""
    directory = run_directory(options).resolve()
    for name in ("batch", "threads"):
        if not 1 <= getattr(options, name) <= 4096:
            raise ConfigError(f"--{name}={getattr(options, name)}: should be between 1 and 4096")
    require_onnx("profile")
    use_config_dir(options)
    from kd_bench.deploy.prices import SHIPPED, read_prices

    prices = read_prices(options.prices or SHIPPED)
    from kd_bench.deploy.profile_report import as_text
    from kd_bench.deploy.profiling import FOLDER, PLOT_FILE, REPORT_FILE, Settings, profile
    from kd_bench.results.text.escape import visible

    extent = Settings(batch=options.batch, threads=options.threads)
    if options.quick:
        extent = extent._replace(processes=2, starts=1, timings=50, seconds=0.1)
    found = profile(directory, options.overrides, prices, extent, lambda text: print(visible(text), flush=True))
    print(f"\n{as_text(found)}\n")
    print(f"report: {directory / FOLDER / REPORT_FILE}; plot: {directory / FOLDER / PLOT_FILE}")
    return 0
