"""Canonical numbering against the obvious: look for first pixels in the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segpipe.regions import rank
from segpipe.tiles import Grid


def by_first_pixel(ids: np.ndarray) -> np.ndarray:
    """Number the non-zero ids of an array 1..N in raster order of their first pixel."""
    found, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.flatnonzero(found > 0)[np.argsort(first[found > 0])]
    table = np.zeros(len(found), np.int64)
    table[order] = np.arange(1, len(order) + 1)
    return table[inverse].reshape(ids.shape)


def random_regions(rng: np.random.Generator) -> np.ndarray:
    """Connected regions with holes between them, each with an arbitrary id."""
    shape = tuple(rng.integers(1, 70, 2))
    values = (ndimage.gaussian_filter(rng.random(shape), rng.choice([0.5, 2.0])) * 40).astype(
        int
    ) % 4
    ids, n = np.zeros(shape, np.int64), 0
    for value in (1, 2, 3):
        found, k = ndimage.label(values == value)
        ids[found > 0] = found[found > 0] + n
        n += k
    return rng.permutation(10 * n + 1)[:-1][ids - 1] * (ids > 0) + (ids > 0) if n else ids


@pytest.mark.parametrize("seed", range(60))
def test_labels__equal_whole_image_for_any_tiling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = random_regions(rng)
    grid = Grid(ids.shape, tuple(int(n) for n in rng.integers(1, 40, 2)))
    records, parts = [], []
    for tile in grid.tiles():
        core = ids[tile.core.slices]
        regions = by_first_pixel(core).astype(np.uint32)
        found = np.zeros(regions.max(initial=0), np.int64)
        found[regions[regions > 0] - 1] = core[regions > 0]
        records.append(rank.summary(regions, found, tile, ids.shape))
        parts.append(regions)
    ranks = rank.solve(records, grid)
    labels = np.zeros(ids.shape, np.int64)
    for tile, regions, record in zip(grid.tiles(), parts, records, strict=True):
        labels[tile.core.slices] = ranks.table(tile, record)[regions]
    expected = by_first_pixel(ids)
    np.testing.assert_array_equal(labels, expected)
    assert ranks.count == expected.max(initial=0)
