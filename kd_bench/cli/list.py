"""What there is to choose from."""

import argparse
import json

HELP = "List what there is to choose from."
EXAMPLE = "kd-bench list models --like resnet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["methods", "models", "datasets", "studies"])
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
    if options.what == "methods":
        from kd_bench.cli.catalogue import as_lines, catalogue

        entries = catalogue(options.like)
        print(json.dumps(entries, indent=1) if options.json else "\n".join(as_lines(entries)))
        return 0
    from kd_bench.cli.listing import names, sizes

    if options.what == "models" and options.params is not None:
        rows = sizes(options.like, options.params, options.classes)
        if options.json:
            print(
                json.dumps([{"name": name, "parameters": count, "macs": macs} for name, count, macs in rows], indent=1)
            )
            return 0
        note = f"({options.classes} classes, one image of its own size)"
        print(f"{'network':<40}{'parameters':>14}{'MACs':>18}   {note}")
        for name, parameters, macs in rows:
            print(f"{name:<40}{parameters:>14,}{'-' if macs is None else format(macs, ','):>18}", flush=True)
        return 0
    found = names(options.what, options.like)
    print(json.dumps(found, indent=1) if options.json else "\n".join(found), end="\n" if found or options.json else "")
    return 0
