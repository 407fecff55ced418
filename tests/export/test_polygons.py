"""Polygons of label images against shapely, SciPy and rasterio; bit by bit for any bands."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from segpipe.errors import RunError
from segpipe.export import rings
from segpipe.export.features import joined
from tests.export.runs import (
    NORTH_UP,
    blobs,
    canonical,
    frames,
    parquet,
    pinched,
    random_labels,
    spiral,
    table_of,
)

shapely = pytest.importorskip("shapely")

HARD = {
    "pinched": pinched(),
    "pinched-inverse": canonical((pinched() == 0).astype(int)),
    "spiral": spiral(31),
    "frames": frames(24),
    "checkerboard": canonical(np.indices((9, 10)).sum(axis=0) % 2 + 1),
    "one-pixel-labels": canonical(np.arange(1, 57).reshape(7, 8)),
    "one-pixel": np.ones((1, 1), np.uint32),
    "one-row": canonical(np.array([[0, 3, 3, 2, 0, 3, 1]])),
    "one-column": canonical(np.array([[0, 3, 3, 2, 0, 3, 1]]).T),
    "one-label": np.ones((13, 5), np.uint32),
    "blobs": blobs((97, 120)),
    **{f"random-{seed}": random_labels(seed) for seed in range(60)},
}
IMAGES = pytest.mark.parametrize("name", HARD)


def polygons(
    labels: np.ndarray, rows: int | None = None, transform: rings.Transform = rings.PIXELS
) -> dict[int, bytes]:
    """Well-known binary of each label, from bands of `rows`."""
    step = rows or len(labels)
    bands = (labels[y : y + step] for y in range(0, len(labels), step))
    table = parquet(table_of(labels), 5)
    return {
        label: wkb
        for found in joined(bands, table, labels.shape, transform)
        for label, wkb in zip(found.rows["label"].to_pylist(), found.wkb.to_pylist(), strict=True)
    }


@IMAGES
def test_polygons__are_valid_and_cover_exactly_their_pixels(name: str) -> None:
    labels = HARD[name]
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]] + 0.5
    found = polygons(labels)
    assert sorted(found) == sorted(set(labels[labels > 0].tolist()))
    for label, wkb in found.items():
        shape, mask = shapely.from_wkb(wkb), labels == label
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == mask.sum()
        assert np.array_equal(shapely.contains_xy(shape, x, y), mask)
        assert len(shape.geoms) == ndimage.label(mask)[1]
        for part in shape.geoms:
            assert part.exterior.is_ccw
            assert not any(hole.is_ccw for hole in part.interiors)
    assert sum(shapely.from_wkb(wkb).area for wkb in found.values()) == (labels > 0).sum()


@IMAGES
def test_polygons__do_not_depend_on_bands(name: str) -> None:
    labels = HARD[name]
    whole = polygons(labels, transform=NORTH_UP)
    for rows in (1, 2, 3, 7, 16):
        banded = polygons(labels, rows, NORTH_UP)
        assert banded == whole
        assert list(banded) == list(whole), "the order of the features"


@IMAGES
def test_shared_borders__have_the_same_vertices(name: str) -> None:
    """Each piece of a ring between two vertices is a piece of one neighbour's ring, backwards."""
    labels = HARD[name] + 1  # no background: only the image's own edge has no neighbour
    height, width = labels.shape
    pieces: Counter[tuple[tuple[float, float], tuple[float, float]]] = Counter()
    for wkb in polygons(canonical(labels)).values():
        for part in shapely.from_wkb(wkb).geoms:
            for ring in (part.exterior, *part.interiors):
                points = list(ring.coords)
                pieces.update(itertools.pairwise(points))
    assert set(pieces.values()) == {1}
    for begin, end in pieces:
        outside = any(begin[i] == end[i] and begin[i] in (0, (width, height)[i]) for i in (0, 1))
        assert ((end, begin) in pieces) != outside


@IMAGES
def test_polygons__are_those_of_gdal(name: str) -> None:
    """GDAL's polygonizer works on the whole image and leaves out vertices on straight lines."""
    features = pytest.importorskip("rasterio.features")
    labels = HARD[name]
    parts: dict[int, list[object]] = {}
    for geometry, value in features.shapes(labels.astype(np.int32), labels > 0, connectivity=4):
        parts.setdefault(int(value), []).append(shapely.geometry.shape(geometry))
    for label, wkb in polygons(labels, 4).items():
        ours = shapely.simplify(shapely.from_wkb(wkb), 0)
        assert shapely.get_num_geometries(ours) == len(parts[label])
        assert shapely.equals(ours, shapely.MultiPolygon(parts[label]))


def test_coordinates__go_through_the_transform() -> None:
    labels = blobs((60, 50))
    turned = (0.3, 0.4, 10.0, -0.4, 0.3, 20.0)
    for transform in (NORTH_UP, turned):
        matrix = np.array(transform).reshape(2, 3)
        plain = polygons(labels)
        for label, wkb in polygons(labels, 9, transform).items():
            shape = shapely.from_wkb(wkb)
            assert all(part.exterior.is_ccw for part in shape.geoms)
            assert shape.is_valid
            moved = shapely.transform(
                shapely.from_wkb(plain[label]),
                lambda p, m=matrix: p @ m[:, :2].T + m[:, 2],
            )
            assert shapely.equals_exact(shapely.normalize(shape), shapely.normalize(moved), 1e-9)


def test_bounds__are_those_of_the_polygons() -> None:
    labels = blobs((60, 50))
    for found in joined([labels], parquet(table_of(labels)), labels.shape, NORTH_UP):
        assert np.array_equal(found.bounds, shapely.bounds(shapely.from_wkb(found.wkb.to_pylist())))


def test_background__gives_nothing() -> None:
    assert polygons(np.zeros((5, 6), np.uint32), 2) == {}


def test_wide_labels__are_kept() -> None:
    """Labels of huge images have 64 bits."""
    labels = blobs((40, 30)).astype(np.uint64)
    wide = np.where(labels, labels + (1 << 40), 0).astype(np.uint64)
    found = polygons(wide, 7)
    assert {label - (1 << 40): wkb for label, wkb in found.items()} == polygons(labels)


def test_labels_with_gaps__are_found() -> None:
    labels = blobs((40, 30))
    assert {label // 3: wkb for label, wkb in polygons(labels * 3, 7).items()} == polygons(labels)


@pytest.mark.parametrize(
    "change", ["another label", "a pixel more", "a row missing", "an end too early"]
)
def test_table_of_other_labels__is_refused(change: str) -> None:
    labels = blobs((40, 30))
    table = table_of(labels)
    if change == "another label":
        labels[20, 10] = labels.max() + 1
    elif change == "a pixel more":
        labels[20, 10] = labels[20, 10] % labels.max() + 1
    elif change == "an end too early":
        table["bbox-2"] = table["bbox-2"] - 3
    else:
        table = {name: column[:-1] for name, column in table.items()}
    with pytest.raises(RunError, match="segpipe verify"):
        list(joined(np.split(labels, 8), parquet(table), labels.shape))
