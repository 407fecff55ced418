"""Real runs in processes of their own, to be killed; and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from segpipe.session import digest_of

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "plugin"
PATIENCE = 100.0
"""Seconds after which something that should happen has not happened (slow machines included)."""


@dataclass
class Process:
    """A command in a process group of its own, like one that a shell started."""

    popen: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    _files: list[IO[bytes]] = field(default_factory=list)

    def end(self) -> int:
        """Wait for the end; return the exit code (negative: the signal)."""
        return self.popen.wait(PATIENCE)

    def said(self) -> str:
        """Everything that it printed so far."""
        return self.stdout.read_text() + self.stderr.read_text()

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its group as Ctrl-C in a terminal does."""
        (os.killpg if group else os.kill)(self.popen.pid, number)

    def workers(self) -> list[psutil.Process]:
        """Its Dask worker processes: those of the process that they are forked from."""
        forking = psutil.Process(self.popen.pid).children()
        return [child for process in forking for child in process.children()]


def start(arguments: Sequence[str], folder: Path) -> Process:
    """Start ``python -m …`` with the hindered method at hand; output goes to files in `folder`."""
    number = len(list(folder.glob("out-*")))
    out, err = folder / f"out-{number}", folder / f"err-{number}"
    path = os.pathsep.join([str(PLUGIN), str(ROOT), os.environ.get("PYTHONPATH", "")])
    files = [out.open("wb"), err.open("wb")]
    popen = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=files[0],
        stderr=files[1],
        start_new_session=True,
    )
    return Process(popen, out, err, files)


def segpipe(folder: Path, *arguments: str) -> Process:
    """Start ``segpipe …``."""
    return start(["segpipe", *arguments], folder)


def finish(folder: Path, *arguments: str) -> str:
    """Run ``segpipe …``, which must succeed; return what it printed."""
    process = segpipe(folder, *arguments)
    assert process.end() == 0, process.said()
    return process.said()


def wait_for(happened: Callable[[], Any], process: Process | None = None) -> Any:
    """Poll until something has happened; fail when it cannot any more."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := happened():
            return found
        if process is not None and process.popen.poll() is not None:
            raise AssertionError(f"ended too early:\n{process.said()}")
        time.sleep(0.01)
    raise AssertionError("waited in vain" + (f":\n{process.said()}" if process else ""))


def tiles_done(run: Path, job: str = "") -> int:
    """Number of records that a run (or one job of it) has left so far."""
    return sum(1 for _ in (run / "records" / job).rglob("*.npz"))


def state(run: Path) -> dict[str, Any]:
    """What run.json says."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def reused(run: Path) -> int:
    """Number of tile tasks that the last process did not have to do again."""
    return sum(step["reused"] for step in state(run)["steps"].values())


def check_result(run: Path, digest: str) -> None:
    """Assert that a run is complete and its pixels have the digest (run.json is not believed)."""
    assert state(run)["state"] == "complete"
    assert [found["digest"] for found in state(run)["labels"].values()] == [digest]
    assert digest_of(str(run)) == digest
    assert (run / "segments.parquet").stat().st_size > 0
    assert not list(run.rglob("*.partial*"))
    assert not (run / "partial.ome.zarr").exists()


def kill(process: psutil.Process) -> None:
    """Kill a process as the kernel does when memory is short: no last words."""
    process.send_signal(signal.SIGKILL)
