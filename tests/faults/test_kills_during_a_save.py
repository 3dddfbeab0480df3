"""A kill at any moment of a save leaves a checkpoint that loads, wherever temporary files would go."""

import os

import pytest
from support.kills import killed

from .conftest import fill

KILLS = 200


@pytest.mark.slow
@pytest.mark.parametrize("temporary", ["as it is", "on another file system", "on a full disk"])
def test_two_hundred_kills_leave_a_checkpoint_that_loads(tmp_path, disk, figure, temporary):
    environment = dict(os.environ)
    if temporary != "as it is":
        elsewhere = disk((64 if temporary == "on another file system" else 1) << 20)
        assert os.stat(elsewhere).st_dev != os.stat(tmp_path).st_dev
        environment["TMPDIR"] = str(elsewhere)
    if temporary == "on a full disk":
        fill(elsewhere)
    (tmp_path / "run").mkdir()
    found = killed(tmp_path / "run", KILLS, environment)
    behind = sum(not kill["saved"] <= kill["epoch"] <= kill["saved"] + 1 for kill in found)
    figure(
        "R1",
        {
            "SIGKILLs during saves": len(found),
            "TMPDIR": temporary,
            "saves torn by them": found[-1]["torn"],
            "checkpoints that did not load": sum(not kill["whole"] for kill in found),
            "kills that cost more than the save under way": behind,
        },
    )
    assert all(kill["whole"] for kill in found)
    assert not behind
    assert max(kill["files"] for kill in found) <= 3
    assert found[-1]["torn"]
