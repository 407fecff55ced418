"""A tiny image, its digest, and a Prefect server of our own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import flows

# isort: split
import numpy as np
import pytest
import tifffile
import yaml

from segpipe import session
from segpipe.config import Config
from segpipe.progress import Silent

ROOT = Path(__file__).parents[2]
METHOD = "slic"
PATIENCE = 100.0


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration of a run on 192 x 256 px in 12 tiles, in one process."""
    folder = tmp_path_factory.mktemp("config")
    y, x = np.mgrid[:192, :256]
    image = (127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 13)).astype(np.uint8)
    pixels = np.stack([image, 255 - image, image], -1)
    tifffile.imwrite(folder / "image.tif", pixels, photometric="rgb")
    values = {
        "input": "image.tif",
        "output": str(folder / "unused"),
        "method": METHOD,
        "tiles": {"size": 64},
        "cluster": {"workers": "none"},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def digest(config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run without Prefect."""
    output = str(tmp_path_factory.mktemp("plain") / "run")
    session.execute(load(config, output), Silent(), resume=False)
    return session.digest_of(output)


def load(config: Path, output: str) -> Config:
    return session.load_config(config, output=output)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a machine on which Prefect was never used; ours is importable."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    home = str(tmp_path_factory.mktemp("prefect"))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return kept | flows.DEFAULTS | {"PREFECT_HOME": home, "PYTHONPATH": path}


@pytest.fixture(scope="session")
def server(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A running Prefect server: the environment for those who use it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ours = environment | {"PREFECT_HOME": str(tmp_path_factory.mktemp("server"))}
    ours |= {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    log = (tmp_path_factory.mktemp("log") / "server.log").open("wb")
    process = subprocess.Popen([sys.executable, *command], env=ours, stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(ours["PREFECT_API_URL"] + "/health"))
        yield ours
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(happened: object, every: float = 0.2) -> object:
    """Poll until something has happened."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := happened():  # type: ignore[operator]
            return found
        time.sleep(every)
    raise AssertionError("waited in vain")
