"""The command line. Each command imports what it needs when it runs: ``kd-bench --help`` must not wait for torch."""

import argparse
import errno
import importlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from kd_bench import __version__
from kd_bench.errors import Interrupted, KDBenchError
from kd_bench.results.text.escape import visible

# Those to begin with first; the modules are named as the commands.
COMMANDS = {
    module.rstrip("_").replace("_", "-"): module
    for module in (
        "demo",
        "train",
        "study",
        "status",
        "leaderboard",
        "publish",
        "reproduce",
        "compare",
        "check",
        "trace",
        "evaluate",
        "verify",
        "export",
        "profile",
        "gate",
        "card",
        "monitor",
        "show",
        "list",
        "import_",
        "cache",
        "convert",
        "new_method",
    )
}
EXIT_CODES = """exit codes:
  0 done; 1 a run failed; 2 wrong configuration or usage; 3 not enough evidence; 4 data or checkpoint
  integrity; 5 part of a sweep failed; 130 interrupted; 143 pre-empted, resumable"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``kd-bench`` with ``argv``, by default the arguments of the process; return the exit code."""
    # OpenMP threads spin while they wait: on busy cores that makes small steps ten times slower. Torch reads this once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an encoding that lacks a character of a board ends no command
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _dispatch(arguments)
    except (KDBenchError, Interrupted) as error:
        return _report(error, error.exit_code, debug)
    except KeyboardInterrupt as error:
        return _report(error, 130, debug, "interrupted")
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if "AF_UNIX path too long" in str(error):  # of multiprocessing, which has no number for it
            text = f"TMPDIR={tempfile.gettempdir()}: is too long for the names of sockets; name a folder of at most 70"
            return _report(error, 2, debug, f"{text} characters")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        return _report(error, 4, debug)


def _report(error: BaseException, code: int, debug: bool, text: str = "") -> int:
    if debug:
        traceback.print_exception(error)
    print(f"kd-bench: {visible(' '.join((text or str(error)).split()))}", file=sys.stderr)
    return code


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["train"] and not {"-h", "--help"} & set(arguments):
        from kd_bench.cli.hydra_app import train

        return train(arguments[1:])
    if arguments and arguments[0] in ("-sc", "--shell-completion", "--shell_completion"):
        from kd_bench.cli.hydra_app import complete

        return complete(arguments, sorted(COMMANDS))
    options = _parsed(_parser(), arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Parse as ``parse_args``, which would refuse overrides on both sides of an option."""
    options, rest = parser.parse_known_args(arguments)
    takes_overrides = hasattr(options, "overrides")
    if unknown := [argument for argument in rest if argument.startswith("-") or not takes_overrides]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="kd-bench",
        description="Distil image classifiers and compare methods with numbers that can be trusted.",
        epilog=f"example:\n  kd-bench demo\n  kd-bench train method=at seed=1\n\n{EXIT_CODES}",
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"kd-bench {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (of any command)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = importlib.import_module(f"kd_bench.cli.{module}")
        sub = commands.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=raw,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=getattr(command, "run", None))  # Hydra runs `train`
    return parser
