"""Export of a student to files for other programs."""

import argparse

from kd_bench.cli.deploy_options import add_student, require_onnx
from kd_bench.cli.plugin_options import use_config_dir
from kd_bench.cli.verify import run_directory
from kd_bench.errors import KDBenchError

HELP = "Export a student to ONNX, torch.export and safetensors, and compare the files with PyTorch on the test split."
EXAMPLE = "kd-bench export runs/demo/3d72eb2bdc1c9aba --int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_student(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--int8", action="store_true", help="quantise it too, as a run of its own that boards show")
    action.add_argument("--check", action="store_true", help="compare the files of an earlier export again")


def run(options: argparse.Namespace) -> int:
    """Write the files, or compare those that are there, and print how they compare; return the exit code."""
    directory = run_directory(options).resolve()
    require_onnx("export")
    use_config_dir(options)
    from kd_bench.deploy.exporting import FOLDER, REPORT_FILE, check, described, export, failure
    from kd_bench.results.text.escape import visible
    from kd_bench.results.text.formats import percent, size

    def say(text: str) -> None:
        print(visible(text), flush=True)

    if options.check:
        if problems := check(directory, options.overrides, say):
            more = f"; and {len(problems) - 1} more problems" if len(problems) > 1 else ""
            raise KDBenchError(f"{problems[0]}{more}")
        say(f"{directory / FOLDER}: the files are unchanged and agree with PyTorch")
        return 0
    report = export(directory, options.overrides, options.int8, say)
    for name, info in report.files.items():
        say(f"{name}: {size(info.bytes)}, sha256 {info.sha256[:16]}...")
        for parity in report.parity:
            if parity.file == name:
                say(f"  {described(parity)}")
    if (found := report.int8) is not None:
        say(
            f"int8: {size(found.bytes)}, test top-1 {percent(found.test_top1)} % (float: "
            f"{percent(found.float_test_top1)} %), the same class on {percent(found.agreement)} % of the test images"
        )
        say(f"  run {found.run_id}: {directory.parent / found.run_id}")
    say(f"report: {directory / FOLDER / REPORT_FILE}")
    if failures := report.failures:
        raise KDBenchError(f"parity fails: {failure(failures[0])}")
    return 0
