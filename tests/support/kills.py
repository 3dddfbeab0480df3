"""Kills in the middle of saving a checkpoint, and what they leave."""

import json
import subprocess
import sys
from pathlib import Path

# Forks children that do nothing but save, kills each at a random moment, and reports what a resumed run would find.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from kd_bench.training.checkpoints import AtomicCheckpointIO, checkpoint_stem, latest_checkpoint

torch.set_num_threads(1)  # a pool of threads does not survive a fork
directory, kills = Path(sys.argv[1]), int(sys.argv[2])
NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "kd_bench")
chance = random.Random(0)
found, epoch = [], 0
for _ in range(kills):
    ready, says = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)  # nothing may be left behind, whatever becomes of the parent
        for later in range(epoch + 1, epoch + 10_000):
            content = {**dict.fromkeys(NEEDED), "epoch": later, "weights": torch.full((100_000,), float(later))}
            AtomicCheckpointIO().save_checkpoint(content, checkpoint_stem(directory, 1, later))
            os.write(says, b".")
    os.close(says)
    os.read(ready, 1)
    time.sleep(chance.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved = epoch + 1 + len(os.read(ready, 100_000))
    path = latest_checkpoint(directory).path
    content = AtomicCheckpointIO().load_checkpoint(path)
    whole = bool((content["weights"] == content["epoch"]).all()) and len(content["weights"]) == 100_000
    epoch = content["epoch"]
    files, torn = len(list(directory.glob("*.ckpt"))), len(list(directory.glob(".*.tmp")))
    found.append({"whole": whole, "epoch": epoch, "saved": saved, "files": files, "torn": torn})
    os.close(ready)
print(json.dumps(found))
"""


def killed(directory: Path, kills: int, environment: dict[str, str] | None = None) -> list[dict]:
    """What a resumed run would find after each kill."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", KILLER, str(directory), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == kills
    return found
