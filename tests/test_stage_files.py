"""Runs of a YAML whose stages name files of points and of labels: what the plain functions give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segpipe import session
from segpipe.config import load
from segpipe.methods.felzenszwalb import felzenszwalb
from segpipe.methods.seeded_growing import seeded_growing
from segpipe.methods.slic import slic
from segpipe.methods.watershed import watershed
from segpipe.store.digest import array_digest


class Quiet:
    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, *_: object) -> None: ...

    def advance(self, *_: object) -> None: ...

    def end(self, *_: object) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, slide_rgb: np.ndarray) -> Path:
    """An image; what a YAML beside it names is found beside it."""
    tifffile.imwrite(tmp_path / "slide.tif", slide_rgb[:200, :240], photometric="rgb")
    return tmp_path


def digests(folder: Path, text: str) -> set[str]:
    """Run a YAML in pieces and in one; return the digests of its labels."""
    (folder / "run.yaml").write_text("input: slide.tif\noutput: none\n" + text)
    found = set()
    for number, size in enumerate(("whole", [96, 64])):
        chosen: dict[str, Any] = {"output": str(folder / f"run{number}"), "tiles.size": size}
        chosen |= {"cluster.workers": "none", "report.page": False}
        run = session.execute(load(folder / "run.yaml", (), chosen), Quiet(), resume=False)
        found.add(run["digest"])
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("seeds.csv", "row,column,label\n20,30,\n150,40,5\n90,200,5\n199,239,\n"),
        (
            "seeds.geojson",
            '{"type": "MultiPoint", "coordinates": [[30.5, 20.5], [40.5, 150.5], [200.5, 90.5]]}',
        ),
    ],
)
def test_seeded_growing__from_a_file_of_points(
    name: str, text: str, folder: Path, slide_rgb: np.ndarray
) -> None:
    (folder / name).write_text(text)
    seeds: list[tuple[int, ...]] = [(20, 30), (150, 40), (90, 200)]
    if name.endswith(".csv"):
        seeds = [(20, 30), (150, 40, 5), (90, 200, 5), (199, 239)]
    expected = seeded_growing(slide_rgb[:200, :240], seeds, reach=60)
    assert expected.max() >= len(seeds)
    text = f"method: seeded-growing\nparameters: {{seeds: {name}, reach: 60}}\n"
    assert digests(folder, text) == {array_digest(expected)}


def test_felzenszwalb__on_segments_of_a_file(folder: Path, slide_rgb: np.ndarray) -> None:
    image = slide_rgb[:200, :240]
    segments = slic(image, step=10, iterations=2)
    segments[60:90, 70:160] = 0
    np.save(folder / "labels.npy", segments)
    expected = felzenszwalb(image, segments, scale=900, min_size=40)
    assert 1 < expected.max() < segments.max()
    text = "stages:\n  - method: felzenszwalb\n    reads: labels.npy\n    parameters: "
    text += "{vertices: segments, scale: 900, min_size: 40}\n"
    assert digests(folder, text) == {array_digest(expected)}


def test_watershed__from_markers_in_a_file(folder: Path, slide_rgb: np.ndarray) -> None:
    image = slide_rgb[:200, :240]
    markers = np.zeros(image.shape[:2], np.uint16)
    markers[20:24, 30:50], markers[150, 100:180], markers[60:90, 200] = 3, 700, 41
    tifffile.imwrite(folder / "markers.tif", markers)
    owner = watershed(image, markers=markers.astype(np.int32))
    names, first = np.unique(owner, return_index=True)
    assert names.tolist() == [3, 41, 700]
    expected = np.argsort(np.argsort(first))[np.searchsorted(names, owner)] + 1
    text = "stages:\n  - method: watershed\n    reads: markers.tif\n    parameters: {markers: segments}\n"
    (found,) = digests(folder, text)
    assert found == array_digest(expected)
