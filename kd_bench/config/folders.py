"""Folders of configurations that somebody else may have written: read as text before anything acts on them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import yaml

from kd_bench.config.composition import choices
from kd_bench.config.interpolations import check_interpolations
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError

MOST_FILES, MOST_BYTES, MOST_NODES, DEEPEST = 10_000, 1 << 20, 100_000, 50
_LEVELS = 4  # of folders, which is one more than Hydra's own groups have


def check_folder(folder: Path) -> None:
    """Look at every YAML file of a folder before Hydra does.

    Raises:
        ConfigError: names a file that has the name of a shipped choice, cannot be read, is too large, or whose text
            would make Hydra look for code or print what the environment holds.
    """
    if folder == CONF or not folder.is_dir():
        return
    files = list(_yaml_files(folder))
    if doubles := [str(path) for path in files if _is_shipped(path.relative_to(folder))]:
        raise ConfigError(f"{', '.join(doubles)}: kd-bench ships a choice of that name; give yours another one")
    for path in files:
        _check_file(path, folder)


def _is_shipped(path: Path) -> bool:
    return (CONF / path).is_file() or (bool(path.parent.name) and path.stem in choices(path.parent.as_posix()))


def _yaml_files(folder: Path) -> Iterator[Path]:
    """Yield what Hydra may read, folder by folder. Folders of runs and hidden ones hold no configurations."""
    found = 0
    for top, folders, names in os.walk(folder):
        deep = len(Path(top).relative_to(folder).parts)
        folders[:] = [] if deep + 1 >= _LEVELS else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(".yaml"):
                found += 1
                if found > MOST_FILES:
                    raise ConfigError(
                        f"{folder}: has more than {MOST_FILES} YAML files; name a folder of configurations"
                    )
                yield Path(top, name)


def _check_file(path: Path, folder: Path) -> None:
    node = read_yaml(path)
    if not isinstance(node, dict):
        return
    check_interpolations(node.get("defaults"), f"{path}: defaults")
    hydra = node.get("hydra")
    search = hydra.get("searchpath") if isinstance(hydra, dict) else node.get("hydra.searchpath")
    allowed = {f"file://{folder}", f"file://{folder.resolve()}"}
    for place in search if isinstance(search, list) else [search]:
        if place is not None and place not in allowed:
            raise ConfigError(f"{path}: hydra.searchpath={place!r}: is not allowed here; allowed: file://{folder}")


def read_yaml(path: Path) -> object:
    """Read a YAML file of bounded size as plain data. Aliases count as often as they are used.

    Raises:
        ConfigError: it is no regular file, too large, no UTF-8 or no YAML, or nested too deeply, in one line.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: is no regular file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path}: is larger than {MOST_BYTES >> 20} MiB, which no configuration is")
        text = content.decode("utf-8")
        _check_size(path, text)
        return yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes text, lists and dictionaries, and nothing else
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8, at byte {error.start}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())[:200]}") from error


def _check_size(path: Path, text: str) -> None:
    """Walk over the events of a file, in which nothing is built yet."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    nodes = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, nodes))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = nodes - before + 1
        if len(open_nodes) > DEEPEST or nodes > MOST_NODES:
            limit = f"deeper than {DEEPEST} levels" if len(open_nodes) > DEEPEST else f"of more than {MOST_NODES} nodes"
            raise ConfigError(f"{path}: is {limit}, which no configuration is")
