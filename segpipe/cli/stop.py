"""Ctrl-C and SIGTERM: the first ends a command in order, the second at once; nothing is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from segpipe.cli.shared import EXIT_INTERRUPTED
from segpipe.processes import ONE_WISH

QUIET = "ignore:resource_tracker:UserWarning"
"""What is ended at once leaves semaphores to a tracker, which clears them away, but says so."""
SHOW_CURSOR = b"\x1b[?25h"


class Stop:
    """What a signal does."""

    def __init__(self) -> None:
        self._kept: str | None = None
        self._asked: float | None = None

    @contextmanager
    def keeping(self, kept: str) -> Iterator[None]:
        """Say `kept`, what is kept and how to go on, if the work inside is ended at once."""
        self._kept = kept
        try:
            yield
        finally:
            self._kept = None

    def forget(self) -> None:
        """Take the next signal for the first one."""
        self._asked = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it mourns what it was doing
            if self._kept is not None:
                _say("segpipe: stopping; once more ends at once")
            raise KeyboardInterrupt
        if now - self._asked > ONE_WISH:
            _end_children()
            _say(f"segpipe: interrupted; {self._kept}" if self._kept else "segpipe: interrupted")
            os._exit(EXIT_INTERRUPTED)  # what is being closed would only complain


stop = Stop()


def obey_signals() -> None:
    """Take signals from now on; a batch system's way to stop us is as good as Ctrl-C."""
    stop.forget()
    given = os.environ.get("PYTHONWARNINGS", "")
    if QUIET not in given:
        os.environ["PYTHONWARNINGS"] = f"{given},{QUIET}" if given else QUIET
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def ignore_signals() -> None:
    """Take no more signals: everything is closed, and the process ends in a moment."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    """Write a line past whatever draws on the terminal."""
    with contextlib.suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + f"\n{text}\n".encode())


def _end_children() -> None:
    """End the processes that this one has started: workers do not listen to Ctrl-C."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            worker = any(name in " ".join(child.cmdline()) for name in ("spawn_main", "forkserver"))
            child.kill() if worker else child.terminate()
