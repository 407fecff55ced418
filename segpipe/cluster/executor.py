"""Tasks on a Dask cluster, their retries, and what happens when workers or the scheduler go."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed import Client, KilledWorker

from segpipe.errors import Unavailable, first_line

if TYPE_CHECKING:
    import distributed

LOST = (
    "the connection to the cluster's scheduler was lost; finished tiles are kept, go on with "
    "`segpipe resume`"
)


@dataclass
class DaskExecutor:
    """Tasks on a Dask cluster as `concurrent.futures` futures."""

    client: Client
    retries: int
    """How often a failing task is tried again; here and not by Dask, so that errors are known."""
    dashboard: str | None
    patience: float = 900.0
    """Seconds without any worker after which a run ends."""
    _deserted: float | None = None
    """Since when there is no worker."""
    _retried: list[str] = field(default_factory=list)
    _heard: float = 0.0
    """Until when the scheduler's events are known."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Part of every key: a scheduler gives equal keys of two clients one and the same result."""

    @property
    def workers(self) -> int:
        """Threads of all workers at this moment."""
        try:
            return max(1, sum(self.client.nthreads().values()))
        except OSError as error:  # so are Dask's errors of communication
            raise Unavailable(LOST) from error

    def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Future[Any]:
        """Submit a task; its key's prefix is `name`, which is what the dashboard groups by."""
        mine: Future[Any] = Future()
        self._start(mine, self.retries, function, args, name)
        return mine

    def _start(
        self,
        mine: Future[Any],
        left: int,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        name: str,
    ) -> None:
        """Give a task to the cluster; if it fails, again, as long as tries are `left`."""
        key = f"{name}-{next(self._numbers)}-{self._mark}"
        theirs = self.client.submit(function, *args, key=key, pure=False)
        again = partial(self._start, mine, left - 1, function, args, name) if left else None
        theirs.add_done_callback(partial(self._pass_on, mine, again))
        mine.add_done_callback(lambda done: theirs.cancel() if done.cancelled() else None)

    def _pass_on(
        self, mine: Future[Any], again: Callable[[], None] | None, theirs: distributed.Future[Any]
    ) -> None:
        """Give a Dask future's outcome to ours, and let the scheduler forget it."""
        if mine.cancelled():
            return
        try:
            if theirs.status == "cancelled":
                # Dask says "cancelled" when the scheduler is gone; it must never look like success
                mine.set_exception(Unavailable(LOST))
                return
            error = theirs.exception()
            if error is None:
                mine.set_result(theirs.result())
            elif again is None or isinstance(error, KilledWorker):  # that was tried enough
                mine.set_exception(error)
            else:
                self._retried.append(first_line(error))
                again()
        except BaseException as error:
            mine.set_exception(error)
        finally:
            theirs.release()

    def retried(self) -> Sequence[str]:
        """Return why tasks were given out again so far: an error, or the loss of their worker."""
        try:
            events = self.client.get_events("all")
        except OSError as error:
            raise Unavailable(LOST) from error
        for moment, said in events:
            lost = isinstance(said, dict) and said.get("action") == "remove-worker"
            if lost and moment > self._heard:
                # Dask gives what a worker had to others, and tells nobody but its log
                ours = [key for key in said["processing-tasks"] if str(key).endswith(self._mark)]
                self._retried += [f"the worker {said['worker']} was lost"] * len(ours)
        self._heard = max([self._heard, *(moment for moment, _ in events)])
        return self._retried

    def check(self) -> None:
        """Wait for workers when there are none, but not for ever.

        Raises
        ------
        Unavailable
            The cluster has had no worker for longer than `patience`, or its scheduler is gone.
        """
        try:
            if self.client.nthreads():
                self._deserted = None
                return
        except OSError as error:
            raise Unavailable(LOST) from error
        now = time.monotonic()
        self._deserted = now if self._deserted is None else self._deserted
        if now - self._deserted > self.patience:
            raise Unavailable(
                f"the cluster has had no workers for {self.patience:.0f} s (cluster.patience); "
                f"finished tiles are kept: start workers and go on with `segpipe resume`"
            )
