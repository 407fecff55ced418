"""From the configuration's `cluster` to an executor."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
from dask.system import cpu_count
from dask.utils import parse_bytes, parse_timedelta
from distributed import Client, LocalCluster
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.deploy.spec import close_clusters
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from segpipe.cluster.executor import DaskExecutor
from segpipe.config import Cluster
from segpipe.engine import SerialExecutor
from segpipe.errors import InputError
from segpipe.plan import Limits
from segpipe.processes import ONE_THREAD, environment, start_ahead
from segpipe.worker import QUIET, hush

SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,
    "distributed.scheduler.worker-saturation": 1.1,
    "distributed.scheduler.no-workers-timeout": "15 minutes",
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    "distributed.comm.timeouts.connect": "20s",
    "distributed.comm.retry.count": 3,
    "logging": dict.fromkeys(QUIET, "critical"),
}
ELSEWHERE = (
    "start some, or work elsewhere: `--cluster ADDRESS` names another cluster, `--workers N` works "
    "on this machine"
)
LEAVE = 0.9
"""Share of the machine's memory, or of what a container may have, that `auto` divides."""
UNLIMITED = 1 << 60
"""Bytes of a worker that nobody has limited."""


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
        _host_port(cluster.dashboard)  # a wrong one is an error now, not when the run is claimed
        workers = _local_workers(cluster)
        return Limits(workers, _memory(cluster, workers) or UNLIMITED)
    with _connected(cluster) as client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        if not info and say is not None:
            info = _awaited(client, cluster, say)
        if not info:
            raise InputError(f"the cluster at {cluster.address} has no workers; {ELSEWHERE}")
        shares = [(w["memory_limit"] or UNLIMITED) // max(1, w["nthreads"]) for w in info.values()]
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
    hush()
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
        scheme, place = parse_address(cluster.address or "")
        if scheme in ("tcp", "tls"):
            parse_host_port(place)  # a client half made of a wrong one would linger, and complain
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
    return cpu_count()


def _memory(cluster: Cluster, workers: int) -> int:
    if cluster.memory == "auto":
        return int(MEMORY_LIMIT * LEAVE) // workers
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
    host, port = _host_port(address)
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return f"{host}:0"
    return f"{host}:{port}"


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise InputError(
            f"cluster.dashboard {address!r} is no host:port; ports are 0 (any) to 65535"
        )
    return host or "127.0.0.1", int(port)
