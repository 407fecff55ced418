"""One small image, its true digest, and configurations whose runs last long enough to be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

import segpipe.methods
from segpipe import session
from segpipe.config import parse
from segpipe.progress import Silent
from tests.faults.runs import PLUGIN

collect_ignore = ["plugin"]
METHOD = "slic"
SHAPE = (1024, 1536)
"""More than one task per pass (a task takes a megapixel), few enough pixels for many runs."""
TILES = 24
"""Tiles of 256 x 256 px."""
Configure = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _plugin() -> Iterator[None]:
    """The method of the subprocesses is known here too: `segpipe digest` reads configurations."""
    folder = str(PLUGIN / "methods")
    segpipe.methods.__path__.append(folder)
    yield
    segpipe.methods.__path__.remove(folder)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waves and noise: regions of all shapes, everywhere."""
    path = tmp_path_factory.mktemp("image") / "image.tif"
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = [127 + 60 * np.sin(x / 37 + k) + 60 * np.cos(y / (29 + 5 * k)) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (*SHAPE, 3))
    pixels = np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb")
    return path


@pytest.fixture(scope="session")
def digest(image: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of an undisturbed run of the method itself, in this process, on one tile."""
    output = str(tmp_path_factory.mktemp("whole") / "run")
    values = {"input": str(image), "output": output, "method": METHOD}
    values |= {"tiles": {"size": "whole"}, "cluster": {"workers": "none"}}
    session.execute(parse(values), Silent(), resume=False)
    return session.digest_of(output)


@pytest.fixture
def configure(image: Path, tmp_path: Path) -> Configure:
    """Write ``run.yaml`` for a run in ``run``; a pass takes at least 0.8 s on two workers."""

    def write(
        output: str | Path = tmp_path / "run", workers: int | str = 2, **parameters: Any
    ) -> Path:
        path = tmp_path / "run.yaml"
        values = {
            "input": str(image),
            "output": str(output),
            "method": "hindered",
            "parameters": {"method": METHOD, "pause": 0.06, **parameters},
            "tiles": {"size": 256},
            "cluster": {"workers": workers, "memory": "4GB", "dashboard": "127.0.0.1:0"},
        }
        path.write_text(yaml.safe_dump(values))
        return Path(output)

    return write
