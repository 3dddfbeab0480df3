"""Jobs that do nothing but end, each in its own way. They run in real processes, as runs do."""

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from omegaconf import DictConfig

from kd_bench.errors import ConfigError, Diverged
from kd_bench.runs.studies.tasks import Done, Epoch
from kd_bench.runs.studies.worker import _reporting
from kd_bench.training.signals import stop_signals


def enter(target: str, folders: list[str], connection: Connection, cfg: DictConfig, role: str, log: Path) -> None:
    """Stands for ``scheduling._enter``."""
    with Path(cfg.attempts).open("a") as file:
        file.write(f"{cfg.name}\n")
    with _reporting(connection, log):
        globals()[cfg.does](connection, cfg)


def finishes(connection: Connection, cfg: DictConfig) -> None:
    connection.send(Epoch(f"run-{cfg.name}", 1, 1))
    connection.send(Done(f"run-{cfg.name}", 0.75))


def raises(connection: Connection, cfg: DictConfig) -> None:
    raise RuntimeError("no luck\nat all")


def is_wrong(connection: Connection, cfg: DictConfig) -> None:
    raise ConfigError("seed=-1: should be greater than or equal to 0")


def diverges(connection: Connection, cfg: DictConfig) -> None:
    raise Diverged("loss term kd is not finite")


def leaves(connection: Connection, cfg: DictConfig) -> None:
    sys.exit(0)


def vanishes(connection: Connection, cfg: DictConfig) -> None:
    os._exit(0)


def is_killed(connection: Connection, cfg: DictConfig) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(connection: Connection, cfg: DictConfig) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def gets_a_signal_without_name(connection: Connection, cfg: DictConfig) -> None:
    os.kill(os.getpid(), 40)
    time.sleep(60)


def runs_out_of_memory(connection: Connection, cfg: DictConfig) -> None:
    raise MemoryError


def is_terminated(connection: Connection, cfg: DictConfig) -> None:
    """By someone else than the study."""
    with stop_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def trains_for_ever(connection: Connection, cfg: DictConfig) -> None:
    with stop_signals():
        connection.send(Epoch(f"run-{cfg.name}", 1, 1000))
        time.sleep(60)


def ignores_every_signal(connection: Connection, cfg: DictConfig) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send(Epoch(f"run-{cfg.name}", 1, 1000))
    time.sleep(60)


def closes_its_connection_and_stays(connection: Connection, cfg: DictConfig) -> None:
    os.close(connection.fileno())
    time.sleep(60)


def finishes_and_stays(connection: Connection, cfg: DictConfig) -> None:
    finishes(connection, cfg)
    time.sleep(60)


def leaves_a_process_behind(connection: Connection, cfg: DictConfig) -> None:
    """As a data worker, which holds the connection open for as long as it lives."""
    if not os.fork():
        time.sleep(20)
        os._exit(0)
    os._exit(3)


def fails_once(connection: Connection, cfg: DictConfig) -> None:
    if Path(cfg.attempts).read_text().split().count(cfg.name) == 1:
        raise RuntimeError("the first attempt")
    finishes(connection, cfg)
