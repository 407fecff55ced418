"""Start a training where it belongs: in this process, or in one process per GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from segpipe.errors import RunError
from segpipe.nets.training import recipe
from segpipe.nets.training.loop import Tell
from segpipe.nets.training.train import train


def launch(
    config: str | Path,
    changes: Sequence[str] = (),
    output: str | None = None,
    tell: Tell = lambda row: None,
    *,
    finish: bool = False,
) -> dict[str, str]:
    """Train as the YAML says; on several GPUs by torchrun, with DistributedDataParallel.

    Parameters
    ----------
    config
        The YAML of the training.
    changes
        ``key.key=value`` that win over it.
    output
        Folder, instead of the YAML's.
    tell
        See `segpipe.nets.training.train.train`; several processes print all this themselves.
    finish
        Train no further: make the model of the best look so far.
    """
    chosen = recipe.load(config, changes, output)
    number = processes(chosen)
    if number > 1 and not finish:
        _by_torchrun(number, config, changes, chosen.output)
        finish = True
    return train(chosen, tell, finish=finish)


def processes(chosen: recipe.Recipe) -> int:
    """Return how many processes train: as many as GPUs, if they can share the batch evenly."""
    rule = chosen.schedule
    if rule.device == "cpu" or "WORLD_SIZE" in os.environ:
        return 1
    gpus = torch.cuda.device_count()
    return max(n for n in range(1, max(gpus, 1) + 1) if rule.batch % n == 0)


def _by_torchrun(number: int, config: str | Path, changes: Sequence[str], output: str) -> None:
    """Run ``segpipe train`` in several processes; a signal that stops us stops them."""
    with subprocess.Popen(command(number, config, changes, output)) as running:
        try:
            code = running.wait()
        except KeyboardInterrupt:
            running.send_signal(signal.SIGTERM)
            running.wait()
            raise
    if code:
        raise RunError(
            f"training on {number} GPUs ended with exit code {code}, see above; the same command"
            " goes on from the last checkpoint"
        )


def command(number: int, config: str | Path, changes: Sequence[str], output: str) -> list[str]:
    """Return the command line that trains in several processes of this machine."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    ours = ["-m", "segpipe", "train", str(config), "--output", output]
    return [sys.executable, *torchrun, *ours, *(f"--set={change}" for change in changes)]
