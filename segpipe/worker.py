"""What a local worker does when it starts; a module of its own, since workers load it first."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from typing import Any

NUMBER = "SEGPIPE_WORKER"
"""Variable with the number of a worker on its machine, by which workers share GPUs."""
QUIET = ("distributed", "distributed.client", "tornado.application", "tifffile")
"""Loggers of what a closing worker may fail to say; what matters comes as an error."""


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C, which reaches all processes, to the client (Dask calls this in workers)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hush()
    os.environ[NUMBER] = str(worker.name)


def hush() -> None:
    """Let Dask say to nobody what is meant for developers; a forked worker gets no settings of it.

    The address of the dashboard that is printed is the right one, whatever port was taken; a busy
    machine is no network file system.
    """
    for message in (r"\s*Port \d+ is already in use", "Creating scratch directories is taking"):
        warnings.filterwarnings("ignore", message, UserWarning)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
