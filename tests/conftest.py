"""Where the real images are, and small images that are hard on seams."""

from __future__ import annotations

import os
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
