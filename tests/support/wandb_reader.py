"""Reads what an offline W&B run left on the disk, without W&B's service.

A ``.wandb`` file is a header of seven bytes and then LevelDB's log format: blocks of 32 KiB, cut into fragments with a
checksum (4 bytes), a length (2) and a kind (1: whole, 2: first, 3: middle, 4: last) before each. Every record that the
fragments make up is a serialised ``Record`` of W&B's protocol.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, MAGIC = 32_768, b":W&B"
FRAGMENT = struct.Struct("<IHB")
WHOLE, LAST = 1, 4


@dataclass
class OfflineRun:
    """What a W&B server would be told."""

    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # name, type, MD5 of each file


def payloads(content: bytes) -> Iterator[bytes]:
    """The serialised records of a file; a record that is still being written is left out."""
    if not content.startswith(MAGIC):
        raise ValueError("not a .wandb file")
    position, record = 7, b""
    while len(content) - position >= FRAGMENT.size:
        rest_of_block = BLOCK - position % BLOCK
        _, length, kind = FRAGMENT.unpack_from(content, position) if rest_of_block >= FRAGMENT.size else (0, 0, 0)
        if not kind:  # padding
            position += rest_of_block
            continue
        start = position + FRAGMENT.size
        position = start + length
        if position > len(content):
            return
        record += content[start:position]
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def read(path: Path) -> OfflineRun:
    """The run in a ``run-<id>.wandb`` file."""
    run = OfflineRun()
    for payload in payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id, run.name, run.project = record.run.run_id, record.run.display_name, record.run.project
            run.group, run.job_type, run.tags = record.run.run_group, record.run.job_type, list(record.run.tags)
            run.config.update(_values(record.run.config.update))
        elif kind == "config":
            run.config.update(_values(record.config.update))
        elif kind == "history":
            run.history.append(_values(record.history.item))
        elif kind == "summary":
            run.summary.update(_values(record.summary.update))
        elif kind == "artifact" or (kind == "request" and record.request.HasField("log_artifact")):
            artifact = record.artifact if kind == "artifact" else record.request.log_artifact.artifact
            digests = {entry.path: entry.digest for entry in artifact.manifest.contents}
            run.artifacts.append((artifact.name, artifact.type, digests))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def runs_in(directory: Path) -> list[OfflineRun]:
    """Every offline run below the directory of a run of ours, oldest first."""
    return [read(path) for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))]


def _values(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
