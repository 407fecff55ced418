"""What a local worker does when it starts; a module of its own, since workers load it first."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

NUMBER = "SEGPIPE_WORKER"
"""Variable with the number of a worker on its machine, by which workers share GPUs."""


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C, which reaches all processes, to the client (Dask calls this in workers)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a worker that is closing may fail to say that it is alive; what matters comes as an error
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)
    os.environ[NUMBER] = str(worker.name)
