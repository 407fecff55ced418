"""A Prefect server for as long as a script runs, where none is configured.

Prefect has its own (the "ephemeral" server), but that shares the terminal's process group: Ctrl-C
ends it before the flow could report anything, and after a ``kill -9`` it stays for ever. This one
does neither (the latter on Linux only), and it serves the user interface as well.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from prefect.settings import get_current_settings

from segpipe.errors import RunError

START_SECONDS = 120
"""The first start makes a database: 10 s on a quiet machine, far more on a busy one."""
PR_SET_PDEATHSIG = 1


def prefect_server() -> str:
    """Return the address of the configured Prefect server, or of one that lives as long as we do.

    Raises
    ------
    RunError
        The temporary server did not start.
    """
    configured = get_current_settings().api.url
    if configured:
        return configured.removesuffix("/api")
    address = f"http://127.0.0.1:{_free_port()}"
    server = _start(address)
    # Prefect registers later, so at the end it sends its last logs before the server goes
    atexit.register(_stop, server)
    _wait_until_ready(server, address)
    return address


def _start(address: str) -> subprocess.Popen[bytes]:
    host, _, port = address.removeprefix("http://").partition(":")
    command = ["-m", "prefect", "server", "start", "--host", host, "--port", port]
    settings = {"PREFECT_SERVER_UI_API_URL": f"{address}/api", "PREFECT_API_URL": f"{address}/api"}
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # out of reach of the terminal's Ctrl-C
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()


def _wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    ended = server.poll()
    what = f"did not start within {START_SECONDS} s" if ended is None else f"ended with {ended}"
    raise RunError(
        f"the temporary Prefect server on {address} {what}; see what `prefect server start` says "
        f"(it needs a home directory that it can write to, or PREFECT_HOME)"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
