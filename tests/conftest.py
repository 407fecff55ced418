"""Where the real images are, and small images that are hard on seams."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real images; tests that need one are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared/data"
    folder = Path(os.environ.get("SEGPIPE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test images in {folder}; SEGPIPE_TEST_DATA names their folder")
    return folder


@pytest.fixture(scope="session")
def slide() -> Path:
    """The slide region that the project ships."""
    return Path(__file__).resolve().parents[1] / "configs/sample/CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def slide_rgb(slide: Path) -> np.ndarray:
    """A crop of the slide, 400 x 500 pixels."""
    from segpipe.readers import open_source
    from segpipe.tiles import Box

    source = open_source(slide)
    pixels, _valid = source.read(Box((600, 900), (1000, 1400)))
    source.close()
    return pixels


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 5 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "none", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
