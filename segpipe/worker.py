"""What a local worker does when it starts; a module of its own, since workers load it first."""

from __future__ import annotations

import signal


def dask_setup(_worker: object) -> None:
    """Leave Ctrl-C, which reaches all processes, to the client (Dask calls this in workers)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
