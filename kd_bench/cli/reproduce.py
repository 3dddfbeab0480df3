"""The command ``reproduce``: the runs of a published table, and its numbers beside ours."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kd_bench.errors import ConfigError

if TYPE_CHECKING:
    from kd_bench.results.checking.load import Collection
    from kd_bench.runs.reproduction.cells import Cell

HELP = "Run a published table by its authors' protocol, and show the paper's numbers beside ours."
EXAMPLE = "kd-bench reproduce crd_table1 --method kd --pair wrn_40_2--wrn_16_2 --dry-run"
FILTERS = ("method", "pair")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("table", nargs="?", help="see --list")
    parser.add_argument("overrides", nargs="*", help="of every run, as for train: trainer=gpu paths.runs=DIR")
    parser.add_argument("--list", action="store_true", help="list the tables")
    parser.add_argument("--method", action="append", default=[], metavar="NAME", help="only this method (repeatable)")
    parser.add_argument(
        "--pair", action="append", default=[], metavar="TEACHER--STUDENT", help="only this pair (repeatable)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="the same: --only method=kd, --only pair=..."
    )
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help="of each cell (default: as published)")
    parser.add_argument(
        "--teachers", type=Path, default=None, metavar="DIR", help="weight files (default: teachers are trained first)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and their estimated cost, train nothing")
    parser.add_argument("--board", action="store_true", help="show published numbers, ours, and the verdict")
    parser.add_argument("--records", type=Path, default=None, metavar="DIR", help="(default: where the runs go)")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="pages (default: RECORDS/tables)")
    parser.add_argument(
        "--margin", type=float, default=0.5, metavar="POINTS", help="that still counts as the same (default: 0.5)"
    )


def run(options: argparse.Namespace) -> int:
    """Run a table, or print the tables, its cells' cost or its board; exit code 5 if runs failed."""
    from kd_bench.runs.reproduction.cells import chosen_cells, table_cells

    if options.list:
        return _list()
    if options.table is None:
        raise ConfigError("reproduce: which table? kd-bench reproduce --list shows them")
    if options.seeds is not None and options.seeds < 1:
        raise ConfigError(f"--seeds {options.seeds}: should be at least 1")
    _read_filters(options)
    cells = chosen_cells(table_cells(options.table), options.method, options.pair)
    return _board(options, cells) if options.board else _run(options, cells)


def _read_filters(options: argparse.Namespace) -> None:
    for text in options.only:
        key, separator, value = text.partition("=")
        if key not in FILTERS or not separator:
            raise ConfigError(f"--only {text!r}: should be method=NAME or pair=TEACHER--STUDENT")
        getattr(options, key).append(value)


def _list() -> int:
    from kd_bench.runs.reproduction.cells import table_cells
    from kd_bench.runs.reproduction.tables import all_tables

    for name, table in all_tables().tables.items():
        cells = table_cells(name)
        print(f"{name:<20}{len(cells):>4} cells {sum(cell.runs for cell in cells):>5} runs   {table.title}")
    return 0


def _run(options: argparse.Namespace, cells: "list[Cell]") -> int:
    from kd_bench.data.presence import require
    from kd_bench.runs.reproduction.cells import composed_cells, seeded
    from kd_bench.runs.studies.grid import Study
    from kd_bench.runs.studies.running import run_study
    from kd_bench.runs.studies.scheduling import Options, check_options

    how = Options(options.jobs)
    check_options(how)
    composed = composed_cells(cells, options.overrides, options.teachers)
    runs = Path(composed[0].cfg.paths.runs).expanduser()
    if options.dry_run:
        from kd_bench.runs.reproduction.estimate import cost_lines

        for line in cost_lines(cells, composed, options.seeds, _found(runs).records, options.jobs):
            print(line, flush=True)
        return 0
    require(composed[0].cfg.dataset.source)
    points = [
        point for cell, one in zip(cells, composed, strict=True) for point in seeded(one, options.seeds or cell.runs)
    ]
    run_study(Study(options.table, runs, lambda: points), how)
    print(f"all runs are finished; beside the paper: kd-bench reproduce {options.table} --board --records {runs}")
    return 0


def _board(options: argparse.Namespace, cells: "list[Cell]") -> int:
    from kd_bench.runs.reproduction.board_pages import plain, write_board
    from kd_bench.runs.reproduction.cells import RUNS
    from kd_bench.runs.reproduction.verdicts import build_board

    if options.overrides:
        raise ConfigError(f"--board: {options.overrides[0]!r}: takes no overrides: runs of the protocol alone count")
    if not options.margin > 0:
        raise ConfigError(f"--margin {options.margin}: should be more than 0 points")
    folder = options.records or RUNS
    found = _found(folder, options.records is not None)
    board = build_board(options.table, cells, found, options.margin / 100)
    print(plain(board))
    for path in write_board(board, options.out or folder / "tables"):
        print(path)
    return 0


def _found(folder: Path, must_exist: bool = False) -> "Collection":
    """Return the runs so far."""
    from kd_bench.results.checking.load import Collection, load

    return load(folder) if must_exist or folder.is_dir() else Collection((), (), ())
