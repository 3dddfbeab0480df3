"""The command ``list``: what there is to choose from."""

import argparse
import json
import re

from kd_bench.cli.plugin_options import add_config_dir, use_config_dir
from kd_bench.errors import ConfigError

HELP = "List what there is to choose from, or print the page of a method."
EXAMPLE = "kd-bench list methods dkd"
WIDTH = 100  # of a page, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("what", choices=["methods", "models", "datasets", "studies"])
    parser.add_argument("name", nargs="?", help="a method: print its loss, hyperparameters with ranges, needs and cost")
    parser.add_argument("overrides", nargs="*", help="plugins=[NAME]: modules of your own, which bring methods")
    add_config_dir(parser)
    parser.add_argument("--like", default="", metavar="TEXT", help="only names that contain TEXT")
    parser.add_argument(
        "--params",
        type=float,
        default=None,
        metavar="N",
        help="models: only those with at most N parameters, such as 1e6; shows parameters and MACs",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects (methods, --params) or of names")
    parser.add_argument("--classes", type=int, default=100, metavar="K", help="models: classes (default: 100)")


def run(options: argparse.Namespace) -> int:
    """Print the list or the page; return the exit code.

    Raises:
        ConfigError: there is no such method, or a name that is not a method's.
    """
    plugins = _plugins(options)
    use_config_dir(options)
    if options.name is not None and (options.what != "methods" or options.json):
        raise ConfigError(f"{options.name}: only a method has a page, and no JSON of it; --like TEXT chooses by name")
    if options.name is not None:
        _print_page(options.name, plugins)
    elif options.what == "methods":
        _print_methods(options.like, options.json, plugins)
    elif options.what == "models" and options.params is not None:
        _print_sizes(options)
    else:
        from kd_bench.cli.listing import names

        found = names(options.what, options.like)
        if found or options.json:
            print(json.dumps(found, indent=1) if options.json else "\n".join(found))
    return 0


def _plugins(options: argparse.Namespace) -> list[str]:
    """Take ``plugins=[...]`` out of the words of the command line, wherever it stands."""
    words = [word for word in (options.name, *options.overrides) if word is not None]
    names = [word for word in words if "=" not in word]
    options.name = names[0] if names else None
    if strange := [*names[1:], *(word for word in words if "=" in word and not word.startswith("plugins="))]:
        raise ConfigError(f"{strange[0]}: a list takes one name and plugins=[...], nothing else")
    given = [word for word in words if word.startswith("plugins=")]
    if not given:
        return []
    from kd_bench.config.overrides import compose_run

    return [str(name) for name in compose_run(given).plugins or ()]


def _print_page(name: str, plugins: list[str]) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from kd_bench.cli.method_pages.pages import page

    text = re.sub(
        r"\[([^\]]+)\]\((?!https:)[^)]*\)", r"\1", page(name, plugins)
    )  # links to other pages lead nowhere here
    console = Console()
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    with console.capture() as captured:
        console.print(Markdown(text, hyperlinks=False))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _print_methods(like: str, as_json: bool, plugins: list[str]) -> None:
    from kd_bench.cli.method_pages.catalogue import as_lines, catalogue

    entries = catalogue(like, plugins)
    print(json.dumps(entries, indent=1) if as_json else "\n".join(as_lines(entries)))


def _print_sizes(options: argparse.Namespace) -> None:
    from kd_bench.cli.listing import sizes

    rows = sizes(options.like, options.params, options.classes)
    if options.json:
        print(json.dumps([{"name": name, "parameters": count, "macs": macs} for name, count, macs in rows], indent=1))
        return
    note = f"({options.classes} classes, one image of its own size)"
    print(f"{'network':<40}{'parameters':>14}{'MACs':>18}   {note}")
    for name, parameters, macs in rows:
        print(f"{name:<40}{parameters:>14,}{'-' if macs is None else format(macs, ','):>18}", flush=True)
