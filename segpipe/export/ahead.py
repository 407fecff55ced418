"""Make the next things while the last ones are written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

DEPTH = 1
"""Things that lie ready: each may be a band of an image."""


def ahead(things: Iterable[T]) -> Iterator[T]:
    """Yield what `things` yields, made in a thread of its own.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(DEPTH)
    stop = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stop.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for thing in things:
                put("thing", thing)
                if stop.is_set():
                    return
            put("end", None)
        except BaseException as error:  # it is raised where the things are wanted
            put("error", error)

    thread = threading.Thread(target=work, name="segpipe-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
