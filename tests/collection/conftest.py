"""A small collection with everything that can be wrong with an image, and runs of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from segpipe.collection import session as collection
from segpipe.collection.run import CollectionRun
from segpipe.config import Config
from segpipe.progress import Silent
from segpipe.session import load_config

METHOD = {"method": "slic", "parameters": {"step": 8}}
GOOD = ("a/one.jpg", "a/two.png", "b/gray.png", "b/holes.tif", "large.png", "one.jpg")
BAD = ("bomb.png", "cut.jpg", "empty.png", "text.jpg")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + c) + seed) * np.cos(y / (5 + c)) for c in range(3)]
    noise = np.random.default_rng(seed).normal(0, 5, (height, width, 3))
    return np.clip(128 + 80 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def png(width: int, height: int) -> bytes:
    """A PNG that declares more pixels than it has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"x"))


def write_photos(folder: Path) -> None:
    """Write `GOOD` and `BAD` images, and files that are none."""
    for name in ("a", "b", ".hidden"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(picture(60, 80)).save(folder / "a/one.jpg", quality=90)
    Image.fromarray(picture(75, 61, 1)).save(folder / "a/two.png")
    Image.fromarray(picture(50, 70, 2)[:, :, 0]).save(folder / "b/gray.png")
    holes = np.dstack([picture(64, 72, 3), np.full((64, 72), 255, np.uint8)])
    holes[10:30, 20:50, 3] = 0
    tifffile.imwrite(folder / "b/holes.tif", holes, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(picture(150, 170, 4)).save(folder / "large.png")
    Image.fromarray(picture(60, 80, 5)).save(folder / "one.jpg", quality=90)
    (folder / "bomb.png").write_bytes(png(60000, 60000))
    (folder / "cut.jpg").write_bytes((folder / "one.jpg").read_bytes()[:900])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.md").write_text("left alone")
    (folder / ".hidden/one.jpg").write_bytes((folder / "one.jpg").read_bytes())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_photos(folder)
    return folder


Configure = Callable[..., Config]


@pytest.fixture
def configure(photos: Path, tmp_path: Path) -> Configure:
    """Write a configuration beside the photos; images of more than 20 000 pixels are large."""

    def write(**changes: Any) -> Config:
        values = {
            "input": "photos",
            "output": str(tmp_path / "out"),
            **METHOD,
            "cluster": {"workers": "none", "dashboard": "127.0.0.1:0"},
            "collection": {"whole_pixels": 20_000, "thumbnail": 64},
        } | changes
        path = tmp_path / "collection.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_config(path)

    return write


def run(config: Config, *, resume: bool = False, retry: bool = False) -> CollectionRun:
    return collection.execute(config, Silent(), resume=resume, retry=retry)
