"""Processes of local workers: forked from one that has imported what all of them need.

That one starts while a run is planned, when a core is idle, and ends with the process that started
it. Each worker then takes hundredths of a second instead of one, at the start and after a crash.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

PATH_ONLY = {"PYTHONSAFEPATH": "1"}
"""What lies in the working directory is data, and no module, whatever its name."""
ONE_WISH = 0.3
"""Seconds within which a second signal is the first one again: shells, `timeout` and launchers
signal a process and its group."""
NEEDED = ["distributed", "distributed.nanny", "distributed.worker", "segpipe.jobs"]
ONE_THREAD = {
    # a task is one thread; parallel work comes from the number of workers
    name: "1"
    for name in (
        "NUMBA_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "VIPS_CONCURRENCY",
    )
} | {
    # keep freed memory for the next tile: asking the kernel for fresh pages costs as much as the
    # codecs (half of a tile's reading and writing); the peak is that of one tile anyway. Arenas of
    # other threads cannot hold large arrays, so all share the first.
    "MALLOC_ARENA_MAX": "1",
    # what matters reaches the user as an error of the run
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "DASK_LOGGING__TORNADO": "critical",
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
}
"""Environment of a worker; most of it counts only from the start of a process."""


_begun_with: dict[str, str] | None = None
"""Environment of this process when it started the one that workers are forked from."""


def start_ahead() -> str:
    """Start the process that workers are forked from, if it is not there; do not wait for it.

    Returns
    -------
    str
        How `multiprocessing` starts a worker: "spawn" where there can be no such process, or where
        it has begun with another environment than this process has now.
    """
    global _begun_with
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    if _begun_with is None:
        _begun_with = dict(os.environ)
    elif _begun_with != dict(os.environ):
        return "spawn"
    try:
        with environment(ONE_THREAD | PATH_ONLY), _without_interrupts():
            multiprocessing.get_context("forkserver").set_forkserver_preload(NEEDED)
            forkserver.ensure_running()
    except OSError:  # it listens on a socket in the temporary folder, whose path may be too long
        return "spawn"
    return "forkserver"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Have what is started inside not hear Ctrl-C, which would end it with a traceback."""
    resource_tracker.ensure_running()  # starting it later would take the signal off the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def environment(more: Mapping[str, str]) -> Iterator[None]:
    """Add variables for a while, then take back whatever else was set meanwhile, too."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
