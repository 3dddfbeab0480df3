"""What a refusal is: one line, exit code 4, and no code of a stranger's file run."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from kd_bench.errors import IntegrityError


class Payload:
    """Pickled, it runs a command when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path) -> Iterator[Path]:
    """A file that no test may bring into being."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "a stranger's code was run"


@pytest.fixture
def payload(canary) -> Payload:
    return Payload(canary)


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[None]]:
    """``with refused("a.zip", "points out"):`` what is done inside fails with one line that has all these words."""

    @contextmanager
    def of(*words: str) -> Iterator[None]:
        with pytest.raises(IntegrityError) as caught:
            yield
        message = str(caught.value)
        assert caught.value.exit_code == 4
        assert "\n" not in message
        for word in words:
            assert word in message

    return of
