"""From the configuration's `cluster` to an executor. The only place for Dask."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import socket
import sys
import tempfile
import time
import types
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import psutil
from dask.utils import parse_bytes, parse_timedelta
from distributed import Client, KilledWorker, LocalCluster
from distributed.deploy.spec import close_clusters
from distributed.security import Security

from segpipe.config import Cluster
from segpipe.engine import SerialExecutor
from segpipe.errors import InputError, Unavailable, first_line
from segpipe.plan import Limits
from segpipe.processes import ONE_THREAD, environment, start_ahead

if TYPE_CHECKING:
    import distributed

SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,
    "distributed.scheduler.worker-saturation": 1.1,
    "distributed.scheduler.no-workers-timeout": "15 minutes",
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    "distributed.comm.timeouts.connect": "20s",
    "distributed.comm.retry.count": 3,
    # what matters reaches the user as an error; the rest is noise of workers that are closing
    "logging": dict.fromkeys(("distributed", "tornado.application", "tifffile"), "critical"),
}
LOST = (
    "the connection to the cluster's scheduler was lost; finished tiles are kept, go on with "
    "`segpipe resume`"
)
ELSEWHERE = (
    "start some, or work elsewhere: `--cluster ADDRESS` names another cluster, `--workers N` works "
    "on this machine"
)
LEAVE = 0.9
"""Share of the machine's memory that `auto` divides among the workers."""


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


def limits(cluster: Cluster, say: Callable[[str], None] | None = None) -> Limits:
    """Return how many workers there will be and how much memory each may use.

    Parameters
    ----------
    cluster
        What the configuration says.
    say
        Is told when workers of a running cluster are waited for; None: they have to be there.

    Raises
    ------
    InputError
        The cluster's address cannot be reached, or it has no workers.
    """
    if cluster.address is None:
        workers = _local_workers(cluster)
        return Limits(workers, _memory(cluster, workers))
    with _connected(cluster) as client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        if not info and say is not None:
            info = _awaited(client, cluster, say)
        if not info:
            raise InputError(f"the cluster at {cluster.address} has no workers; {ELSEWHERE}")
        shares = [w["memory_limit"] // max(1, w["nthreads"]) for w in info.values()]
        return Limits(sum(w["nthreads"] for w in info.values()), min(shares))


def _awaited(client: Client, cluster: Cluster, say: Callable[[str], None]) -> dict[str, Any]:
    """Wait for the first worker as long as for any later one; return who is there then."""
    say(
        f"waiting    for workers of {cluster.address}, up to {cluster.patience} "
        f"(cluster.patience); a worker joins with `dask worker {cluster.address}`"
    )
    try:
        client.wait_for_workers(1, timeout=_patience(cluster))
    except TimeoutError:
        return {}
    except OSError as error:
        raise InputError(f"the scheduler at {cluster.address} is gone; {ELSEWHERE}") from error
    found: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def start_early(cluster: Cluster) -> None:
    """Begin with what local workers need, while the caller still prepares; does not wait."""
    if cluster.address is None and cluster.workers != "none":
        start_ahead()


@contextmanager
def open_executor(cluster: Cluster) -> Iterator[DaskExecutor | SerialExecutor]:
    """Start or join the cluster that the configuration names."""
    if cluster.workers == "none" and cluster.address is None:
        yield SerialExecutor(cluster.retries)
        return
    for name in ("distributed", "distributed.client", "tornado.application"):  # as in the workers
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # as Dask says it to developers; the address that is printed is the right one
    warnings.filterwarnings("ignore", r"\s*Port \d+ is already in use", UserWarning)
    with dask.config.set(SETTINGS):
        if cluster.address is not None:
            with _connected(cluster) as client:
                served = "dashboard" in client.scheduler_info(n_workers=0)["services"]
                link = client.dashboard_link if served else None
                yield DaskExecutor(client, cluster.retries, link, _patience(cluster))
            return
        with (
            # as long as workers may have to be started
            dask.config.set({"distributed.worker.multiprocessing-method": start_ahead()}),
            environment({}),  # Dask leaves in it what it sets for those it starts
            _local(cluster) as local,
            Client(local, set_as_default=False) as client,
        ):
            link = local.dashboard_link
            yield DaskExecutor(client, cluster.retries, link, _patience(cluster))


def _local(cluster: Cluster) -> LocalCluster:
    workers = _local_workers(cluster)
    memory = _memory(cluster, workers)
    with _without_main():
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=memory or None,
                host="127.0.0.1",
                dashboard_address=_free(cluster.dashboard),
                local_directory=os.path.join(tempfile.gettempdir(), "segpipe-dask"),
                preload=["segpipe.worker"],
                # where they are spawned, it does not count what the user's environment says
                env=ONE_THREAD,
            )
        except KeyboardInterrupt:
            # what is half started goes with this process; Dask's closing at exit would fail on it
            atexit.unregister(close_clusters)
            raise


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep new processes from importing the script that runs: no task of ours lives there.

    A flow would bring Prefect; a script without ``if __name__ == "__main__"`` would start again.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Client]:
    security = None
    if cluster.tls is not None:
        tls = cluster.tls
        security = Security(
            tls_ca_file=tls.ca,
            tls_client_cert=tls.cert,
            tls_client_key=tls.key,
            require_encryption=True,
        )
    try:
        client = Client(cluster.address, security=security, timeout=10, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"cannot reach a Dask scheduler at {cluster.address}: {error}; start one "
            f"with `dask scheduler`, or work elsewhere: `--cluster ADDRESS` names another one, "
            f"`--workers N` works on this machine"
        ) from error
    with client:
        yield client


def _local_workers(cluster: Cluster) -> int:
    if cluster.workers == "none":
        return 1
    if cluster.workers != "auto":
        return int(cluster.workers)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _memory(cluster: Cluster, workers: int) -> int:
    if cluster.memory == "auto":
        return int(psutil.virtual_memory().total * LEAVE) // workers
    try:
        return int(parse_bytes(cluster.memory))
    except ValueError as error:
        raise InputError(
            f"cluster.memory {cluster.memory!r} is no size; give for example 4GB"
        ) from error


def _patience(cluster: Cluster) -> float:
    try:
        return float(parse_timedelta(cluster.patience))
    except (ValueError, KeyError) as error:
        raise InputError(
            f"cluster.patience {cluster.patience!r} is no time; give for example 15 minutes"
        ) from error


def _free(address: str) -> str:
    """Return the dashboard's address, with any free port if the wanted one is in use."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise InputError(f"cluster.dashboard {address!r} is no host:port")
    with socket.socket() as probe:
        try:
            probe.bind((host or "127.0.0.1", int(port)))
        except OSError:
            return f"{host or '127.0.0.1'}:0"
    return f"{host or '127.0.0.1'}:{port}"
