"""Provenance of a run: code, packages, machine."""

import os
import platform
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

if sys.platform != "win32":
    import resource

from kd_bench import __version__
from kd_bench.config.paths import CHECKOUT
from kd_bench.results.records.record import CodeInfo, Environment, Hardware

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "pytorch-lightning",
    "hydra-core",
    "wandb",
    "numpy",
    "scikit-learn",
    "pillow",
)


# No program runs that the repository's settings name; git writes nothing.
_GIT = ("git", "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_GIT_SECONDS = 10


@cache
def code() -> CodeInfo:
    """Return the version and, in a git checkout, commit and whether anything differs from it: both or neither."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain") if commit else None
    if changes is None:  # no checkout, or too slow a disk
        return CodeInfo(version=__version__, commit=None, dirty=None)
    return CodeInfo(version=__version__, commit=commit, dirty=bool(changes))


def _git(*arguments: str) -> str | None:
    if not (CHECKOUT / ".git").exists():
        return None
    # Variables of git's own may name another repository, and settings that are commands.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command: list[str | Path] = [*_GIT, "-C", CHECKOUT, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, env=clean)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def environment() -> Environment:
    """Return the versions of Python and of the packages that numbers depend on."""
    return Environment(python=platform.python_version(), packages={name: version(name) for name in _PACKAGES})


def hardware(device: torch.device) -> Hardware:
    """Return this machine and the number of threads that torch uses on it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return Hardware(
        host=socket.gethostname(),
        system=platform.platform(),
        processor=_processor(),
        device=name,
        threads=torch.get_num_threads(),
    )


def peak_memory_bytes() -> int | None:
    """Return the most memory that this process has held so far; None where the system does not say."""
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()} x{os.cpu_count()}"
