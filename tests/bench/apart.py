"""Processes for benches: of a function its own, for time and memory; begun as a run's workers."""

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from segpipe.processes import ONE_THREAD

KEPT_MEMORY = {key: value for key, value in ONE_THREAD.items() if key.startswith("MALLOC_")}
"""Variables that let a process keep the memory it has freed, as the workers of a run do."""


def begin_with(variables):
    """Start this program anew with variables that count only from the start of a process."""
    if not variables.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | variables)


def apart(function, small, given, runs, keep=True):
    """Return (best CPU seconds, bytes above what the input took, result) of function(*given).

    A first call on a small input compiles and warms up. The process reads `given`, a list of
    arrays, from files: what it took to make them is not counted. The result is None unless kept.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        for name, arrays in (("small", small), ("given", given)):
            for i, array in enumerate(arrays):
                np.save(Path(folder) / f"{name}{i}.npy", array)
        worker = context.Process(target=_work, args=(send, function, folder, runs, keep))
        worker.start()
        send.close()  # so that a worker that dies ends the waiting
        found = receive.recv()
        worker.join()
    return found


def _work(send, function, folder, runs, keep):
    small, given = (
        [np.load(path) for path in sorted(Path(folder).glob(f"{name}*.npy"))]
        for name in ("small", "given")
    )
    function(*small)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # the high-water mark starts here, not at compiling
    seconds = []
    for _ in range(runs):
        result = None
        start = time.process_time()
        result = function(*given)
        seconds.append(time.process_time() - start)
    send.send((min(seconds), _status("VmHWM") - before, result if keep else None))


def _status(name):
    # ru_maxrss starts at what the parent had; the kernel's own mark does not
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def table(rows, pixels):
    """Print Mpx/s, ratio of times and bytes per pixel of {name: (seconds, bytes)}; first is ours."""
    ours = next(iter(rows.values()))
    print(f"{'':34}{'Mpx/s':>8}{'time':>9}{'peak B/px':>11}{'memory':>9}")
    for name, (seconds, peak) in rows.items():
        print(
            f"{name:34}{pixels / seconds / 1e6:8.2f}{seconds / ours[0]:8.1f}x"
            f"{peak / pixels:11.0f}{peak / max(ours[1], 1):8.1f}x"
        )
