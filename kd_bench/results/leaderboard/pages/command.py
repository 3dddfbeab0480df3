"""The command line that makes a run again."""

import shlex

from kd_bench.errors import ConfigError
from kd_bench.results.checking.configuration import config_problems
from kd_bench.results.records.command import command_words
from kd_bench.results.records.record import Record


def reproduce_command(record: Record) -> str:
    """Return the line that ``kd-bench trace`` prints. It stands in the record; for older records it is composed.

    Raises:
        ConfigError: as ``reproduce_words``.
    """
    return shlex.join(reproduce_words(record))


def reproduce_words(record: Record) -> list[str]:
    """Return the words of that line.

    Raises:
        ConfigError: the configuration of the record is none that composes; anybody may write one.
    """
    if problems := config_problems(record):
        raise ConfigError(problems[0])
    try:
        return command_words(record)
    except (KeyError, TypeError) as error:  # a part that records have is missing, or is something else
        raise ConfigError(f"config: {error}") from error
