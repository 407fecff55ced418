"""Ctrl-C and a batch system's SIGTERM wait for the end of a step, so that no state is torn."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from segpipe.processes import ONE_WISH

LOG = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def asked_to_stop() -> Iterator[list[float]]:
    """Yield a list that holds when a signal came, once one did; a second interrupts at once.

    Outside the main thread, where Python gives no signals, the list stays empty.
    """
    asked: list[float] = []

    def note(_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not asked:
            asked.append(now)
            LOG.warning("segpipe: stopping behind this step; once more ends at once")
        elif now - asked[0] > ONE_WISH:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
