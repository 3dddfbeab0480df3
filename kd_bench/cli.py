"""The commands. What a command needs is imported inside it: ``kd-bench --help`` must not wait for torch."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from kd_bench import __version__
from kd_bench.errors import Interrupted, KDBenchError

EXIT_CODES = """exit codes:
  0 done; 1 a run failed; 2 wrong configuration or usage; 4 data or checkpoint integrity; 5 part of a sweep failed;
  130 interrupted; 143 pre-empted, resumable"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``kd-bench``; returns the exit code."""
    # OpenMP threads spin while they wait: on busy cores that makes small steps ten times slower. Torch reads this once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        return _report(error, 4, debug)


def _report(error: BaseException, code: int, debug: bool, text: str = "") -> int:
    if debug:
        traceback.print_exception(error)
    print(f"kd-bench: {' '.join((text or str(error)).split())}", file=sys.stderr)
    return code


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["train"] and not {"-h", "--help"} & set(arguments):
        from kd_bench.hydra_app import train

        return train(arguments[1:])
    if arguments and arguments[0] in ("-sc", "--shell-completion", "--shell_completion"):
        from kd_bench.hydra_app import complete

        return complete(arguments, sorted(_COMMANDS))
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="kd-bench",
        description="Distil image classifiers and compare methods with numbers that can be trusted.",
        epilog=f"example:\n  kd-bench demo\n  kd-bench train method=at seed=1\n\n{EXIT_CODES}",
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"kd-bench {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (of any command)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (help_text, example, add_arguments) in _COMMANDS.items():
        sub = commands.add_parser(
            name, help=help_text, description=help_text, epilog=f"example:\n  {example}", formatter_class=raw
        )
        add_arguments(sub)
    return parser


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=None, help="where the runs go (default: runs/demo)")

    def command(options: argparse.Namespace) -> int:
        from kd_bench.study import demo

        demo(options.runs)
        return 0

    parser.set_defaults(command=command)


def _train(parser: argparse.ArgumentParser) -> None:
    """For ``--help`` alone, in a tenth of the time that Hydra takes for its own; Hydra takes everything else."""
    from kd_bench.listing import groups

    choices = "\n".join(f"  {group}={'|'.join(names)}" for group, names in groups().items())
    parser.usage = "kd-bench train [GROUP=CHOICE ...] [KEY=VALUE ...] [-m] [--cfg job] [--config-dir DIR]"
    parser.description = f"""{parser.description}

choose:
{choices}
change any value that `kd-bench train --cfg job` shows:
  recipe.epochs=10 method.temperature=2 student.name=ANY_TIMM_MODEL
sweep with -m over lists of values:
  kd-bench train -m method=scratch,kd seed=0,1,2
complete with TAB:
  eval "$(kd-bench -sc install=bash)"
everything that Hydra offers: kd-bench train --hydra-help"""


def _leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help="where the pages go (default: RECORDS/leaderboard)",
    )

    def command(options: argparse.Namespace) -> int:
        from kd_bench.leaderboard import write_leaderboard

        out = options.out or options.records / "leaderboard"
        summary = write_leaderboard(options.records, out)
        print(f"{summary}\n{out / 'index.html'}")
        return 0

    parser.set_defaults(command=command)


def _publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", help="name of the study whose finished runs are published")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")

    def command(options: argparse.Namespace) -> int:
        from kd_bench.publishing import publish

        copied, summary = publish(options.study, options.runs, options.results)
        print(
            f"{copied} records copied to {options.results / 'records'}\n{options.results / 'leaderboard.md'}: {summary}"
        )
        return 0

    parser.set_defaults(command=command)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["methods", "models", "datasets", "studies"])
    parser.add_argument("--like", default="", metavar="TEXT", help="only names that contain TEXT")

    def command(options: argparse.Namespace) -> int:
        from kd_bench.listing import names

        for name in names(options.what, options.like):
            print(name)
        return 0

    parser.set_defaults(command=command)


_COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("Distil real digits with five methods and show the leaderboard.", "kd-bench demo", _demo),
    "train": (
        "Train one run, or a sweep with -m: a Hydra application.",
        "kd-bench train student.name=mobilenetv3_small_050 teacher=resnet18 method=kd recipe.epochs=10",
        _train,
    ),
    "leaderboard": (
        "Turn records into Markdown, CSV and one HTML page.",
        "kd-bench leaderboard --records runs --out board",
        _leaderboard,
    ),
    "publish": (
        "Copy the finished records of a study, never weights, to results/ and rebuild its boards.",
        "kd-bench publish demo",
        _publish,
    ),
    "list": ("List what there is to choose from.", "kd-bench list models --like resnet", _list),
}
