"""Runs of a YAML whose stages name files of points and of labels: what the plain functions give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segpipe import session
from segpipe.config import load
from segpipe.methods.felzenszwalb import felzenszwalb
from segpipe.methods.normalised_cuts import normalised_cuts
from segpipe.methods.region_merging import region_merging
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
        found.add([value for name, value in run.items() if name.endswith("digest")][-1])
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


GROUPING = {
    "region-merging": (region_merging, {"threshold": 4.0}),
    "normalised-cuts": (normalised_cuts, {"threshold": 0.05}),
    "felzenszwalb": (felzenszwalb, {"scale": 900.0, "min_size": 40}),
}


def grouping(method: str, reads: str) -> str:
    """Return a stage that groups segments, as YAML."""
    parameters = GROUPING[method][1]
    given = "".join(f", {name}: {value}" for name, value in parameters.items())
    given += ", vertices: segments" * (method == "felzenszwalb")
    return f"{{method: {method}, reads: {reads}, parameters: {{{given[2:]}}}}}"


def bright_and_masked(folder: Path, slide_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write an image of floats whose masked pixels would change its range, and the mask."""
    image = slide_rgb[:200, :240].astype(np.float32) / 255
    mask = np.ones(image.shape[:2], np.uint8)
    mask[120:, 150:] = mask[40:60, :90] = mask[::3, 100] = 0
    image[mask == 0] = 40
    image[150:152, 20:60] = np.nan
    tifffile.imwrite(folder / "slide.tif", image, photometric="rgb")
    tifffile.imwrite(folder / "mask.tif", mask)
    return image, mask


@pytest.mark.parametrize("method", GROUPING)
def test_grouping__counts_what_is_masked_for_nothing(
    method: str, folder: Path, slide_rgb: np.ndarray
) -> None:
    image, mask = bright_and_masked(folder, slide_rgb)
    function, parameters = GROUPING[method]
    segments = slic(image, step=10, iterations=2, mask=mask)
    expected = function(image, segments, **parameters)
    assert 1 < expected.max() < segments.max()
    assert ((expected == 0) == ((mask == 0) | np.isnan(image).any(axis=2))).all()
    text = f"""mask: mask.tif
stages:
  - {{method: slic, parameters: {{step: 10, iterations: 2}}}}
  - {grouping(method, "slic")}
"""
    assert digests(folder, text) == {array_digest(expected)}


@pytest.mark.parametrize("method", GROUPING)
def test_grouping__cuts_labels_of_a_file_into_their_pieces(
    method: str, folder: Path, slide_rgb: np.ndarray
) -> None:
    image, mask = bright_and_masked(folder, slide_rgb)
    y, x = np.mgrid[:200, :240]
    labels = ((y // 9 % 4) * 5 + x // 9 % 5 + 7).astype(np.uint16)  # each in many places
    np.save(folder / "labels.npy", labels)
    function, parameters = GROUPING[method]
    expected = function(image, np.where(mask, labels, 0), **parameters)
    assert 20 < expected.max() < 600
    assert not expected[mask == 0].any()
    text = f"""mask: mask.tif
stages:
  - {grouping(method, "labels.npy")}
"""
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


def test_labels__where_nothing_counts_may_be_any_number(folder: Path) -> None:
    """GIS programs fill the outside of label rasters with nodata, below 0 or none at all."""
    blocks = np.add.outer(np.arange(200) // 20 * 12, np.arange(240) // 20) + 1
    outside = np.zeros(blocks.shape, bool)
    outside[:30] = outside[:, 220:] = True
    plain = np.where(outside, 0, blocks)
    text = "stages: [{method: region-merging, reads: labels.tif, parameters: {threshold: 6}}]\n"
    found = set()
    for nodata, dtype in ((0, "uint32"), (-9999, "int32"), ("nan", "float32")):
        values = np.where(outside, float(nodata), plain).astype(dtype)
        tags = [(42113, "s", 0, str(nodata), True)]
        tifffile.imwrite(folder / "labels.tif", values, extratags=tags)
        found |= digests(folder, text)
        for number in range(2):
            shutil.rmtree(folder / f"run{number}")
    slide = tifffile.imread(folder / "slide.tif")
    assert found == {array_digest(region_merging(slide, plain.astype(np.uint32)))}
