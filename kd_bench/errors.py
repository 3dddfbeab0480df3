"""Expected failures: each is one line that says what to do, and carries the exit code of the command that meets it."""

import difflib
import signal
from collections.abc import Iterable


class KDBenchError(Exception):
    """A run or a gate failed."""

    exit_code = 1


class Diverged(KDBenchError):
    """The loss or the logits are no longer finite: there is no number to publish."""


class ConfigError(KDBenchError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class NotEnoughEvidence(KDBenchError):
    """The runs that there are cannot answer what is asked."""

    exit_code = 3


class IntegrityError(KDBenchError):
    """Data or a checkpoint is missing, damaged or not what it claims to be."""

    exit_code = 4


class SweepError(KDBenchError):
    """A part of a sweep failed; the rest is done."""

    exit_code = 5


class Interrupted(BaseException):
    """The user stopped the run (SIGINT). It can be resumed.

    Not an ``Exception``: a sweep must stop here, not go on to its next job.
    """

    exit_code = 130


class Preempted(Interrupted):
    """The scheduler stopped the run (SIGTERM, SIGUSR1 or SIGUSR2: ``number``). It can be resumed."""

    exit_code = 143

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.number = number


def nearest(name: str, choices: Iterable[str], count: int = 3) -> str:
    """Return a hint such as ``; did you mean 'kd', 'dkd'?``, empty where nothing is close."""
    known = sorted(set(choices))
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    return "; did you mean " + ", ".join(repr(choice) for choice in close) + "?" if close else ""
