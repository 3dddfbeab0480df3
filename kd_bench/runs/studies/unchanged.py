"""The hash of a finished study: as long as it stays the same, nothing has to be planned again. Needs no torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kd_bench
from kd_bench.config.interpolations import leaves
from kd_bench.config.schema import Node
from kd_bench.data.presence import PLACES
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.records.record import RECORD_FILE
from kd_bench.results.records.states import STATE_FILE, read_state
from kd_bench.runs.studies.grid import StudyRun

WITHOUT_FILES = "kd_bench.data.digits.Digits"
LIBRARIES = ("torch", "timm", "torchvision", "numpy", "scikit-learn", "scipy", "pytorch-lightning", "hydra-core")


def hash_of_points(points: Iterable[StudyRun]) -> str | None:
    """Return a hash of all that the plan of a grid rests on: points, files of the data, code and libraries.

    Returns:
        None where that cannot be told at a glance: plugins, weights from files, data in folders, or a point that is
        refused.
    """
    found = hashlib.sha256(_code().encode())
    for point in points:
        try:
            resolved = point.written.resolved()
        except ConfigError:
            return None
        data = _data(resolved)
        if data is None or _takes_more(resolved):
            return None
        found.update(json.dumps([point.label, resolved, data], sort_keys=True, default=repr).encode())
    return found.hexdigest()


def hash_of_runs(runs: Path, run_ids: Iterable[str | None]) -> str | None:
    """Return a hash of what runs have left; None if one is not finished or was stopped before it had tidied up."""
    found = hashlib.sha256()
    for run_id in run_ids:
        if run_id is None or not _is_over(runs / run_id):
            return None
        directory = runs / run_id
        found.update(json.dumps([run_id, sorted(_files(directory))]).encode())
        for name in (RECORD_FILE, STATE_FILE):
            found.update(hashlib.sha256((directory / name).read_bytes()).digest())
    return found.hexdigest()


def _takes_more(resolved: Node) -> bool:
    """Return whether a run depends on code or weights that its configuration only names."""
    return any(
        (key.startswith("plugins") and value)
        or (key.endswith("checkpoint") and value not in ("auto", None))
        or (key.endswith(("pretrained", ".init")) and value)
        for key, value in leaves(resolved)
    )


def _data(resolved: Node) -> list[Any] | None:
    """Return names, sizes and times of the files of the data; None where they are not known or lie in folders."""
    source: Any = resolved["dataset"]["source"]
    target, root = str(source.get("_target_")), source.get("root")
    if target == WITHOUT_FILES:
        return []
    if target not in PLACES or not isinstance(root, str):
        return None
    paths = PLACES[target].find(Path(root).expanduser().absolute())
    if not paths or not all(path.is_file() for path in paths):
        return None
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def _is_over(directory: Path) -> bool:
    """Return whether a run has its record, is completed and has left no checkpoint."""
    try:
        completed = read_state(directory).state == "completed"
    except IntegrityError:
        return False
    return completed and (directory / RECORD_FILE).is_file() and not any(directory.glob("*.ckpt"))


def _files(directory: Path) -> Iterator[tuple[str, int]]:
    return ((path.name, path.stat().st_size) for path in directory.iterdir() if path.is_file())


@cache
def _code() -> str:
    """Return a hash of this package's sources and the versions of the libraries that it computes with."""
    folder = Path(kd_bench.__file__).parent
    found = hashlib.sha256(json.dumps([version(name) for name in LIBRARIES]).encode())
    for path in sorted(folder.rglob("*.py")):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
