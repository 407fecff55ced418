"""Joining across seams: parts of tiles become the components of the whole image."""

from __future__ import annotations

import pickle
import time
from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from segpipe.regions import join
from segpipe.tiles import Grid


def flood(values: np.ndarray, inside: np.ndarray, connectivity: int, tolerance: int) -> np.ndarray:
    """Label connected parts pixel by pixel, 1..N in raster order of first pixels."""
    labels = np.zeros(inside.shape, np.int64)
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    steps += [(1, 1), (1, -1), (-1, 1), (-1, -1)] * (connectivity - 1)
    count = 0
    for place in np.ndindex(inside.shape):
        if labels[place] or not inside[place]:
            continue
        count += 1
        labels[place] = count
        todo = [place]
        while todo:
            y, x = todo.pop()
            for dy, dx in steps:
                q = y + dy, x + dx
                if not (0 <= q[0] < inside.shape[0] and 0 <= q[1] < inside.shape[1]):
                    continue
                near = (np.abs(values[q].astype(int) - values[y, x]) <= tolerance).all()
                if inside[q] and not labels[q] and near:
                    labels[q] = count
                    todo.append(q)
    return labels


def near(tolerance: int, here: np.ndarray, across: np.ndarray) -> np.ndarray:
    apart = np.abs(here.astype(int) - across) <= tolerance
    return apart if apart.ndim == 1 else apart.all(axis=1)


def joined(values, inside, grid, connectivity, tolerance, same, keep) -> tuple[np.ndarray, int]:
    """Label tile by tile and join."""
    records, parts = [], []
    for tile in grid.tiles():
        core = tile.core.slices
        regions = flood(values[core], inside[core], connectivity, tolerance).astype(np.uint32)
        told = values[core] if keep else None
        records.append(join.summary(regions, int(regions.max()), tile, grid.shape, told))
        parts.append(regions)
    ranks = join.solve(records, grid, same=same, connectivity=connectivity)
    labels = np.zeros(grid.shape, np.int64)
    for tile, record, regions in zip(grid.tiles(), records, parts, strict=True):
        labels[tile.core.slices] = ranks.for_tile(tile, record)[regions]
    return labels, ranks.count


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("seed", range(40))
def test_labels__are_the_components_of_the_whole(seed: int, connectivity: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 34, 2))
    grid = Grid(shape, tuple(int(n) for n in rng.integers(1, 20, 2)))
    lead = (2,) * (seed % 2)
    values = rng.integers(0, 4 + 3 * (seed % 3), shape + lead, np.uint8)
    if seed % 4 == 3:
        values = (ndimage.uniform_filter(rng.random(shape), 3) * 9).astype(np.uint8)
    inside = rng.random(shape) < rng.choice([0.4, 0.6, 1.0])
    tolerance = seed % 3
    same = partial(near, tolerance) if tolerance else join.equal
    found, count = joined(values, inside, grid, connectivity, tolerance, same, keep=True)
    expected = flood(values, inside, connectivity, tolerance)
    np.testing.assert_array_equal(found, expected)
    assert count == expected.max()


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.55, 1.0])
def test_masks__need_no_values(density: float, connectivity: int) -> None:
    rng = np.random.default_rng(int(density * 10))
    inside = rng.random((41, 53)) < density
    values = np.zeros(inside.shape, np.uint8)
    found, count = joined(values, inside, Grid(inside.shape, (7, 9)), connectivity, 0, None, False)
    structure = ndimage.generate_binary_structure(2, connectivity)
    expected, n = ndimage.label(inside, structure)
    assert count == n
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert len(pairs.T) == n + (~inside).any()  # one-to-one


def test_corner__of_four_tiles_joins_by_diagonals_only_when_asked() -> None:
    inside = np.zeros((4, 4), bool)
    inside[1, 2] = inside[2, 1] = True
    values = np.zeros((4, 4), np.uint8)
    for connectivity, expected in ((1, 2), (2, 1)):
        grid = Grid((4, 4), (2, 2))
        assert joined(values, inside, grid, connectivity, 0, None, False)[1] == expected


def test_seams__of_different_rows_of_tiles_do_not_touch() -> None:
    inside = np.zeros((6, 4), bool)
    inside[1:3, 3] = inside[3:5, 0] = True  # ends of two seams that follow each other
    grid = Grid((6, 4), (2, 4))
    assert joined(np.zeros((6, 4), np.uint8), inside, grid, 2, 0, None, False)[1] == 2


def test_facing__counts_every_pair_of_pixels_once() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, (30, 40), np.uint8)
    grid = Grid((30, 40), (8, 11))
    records = []
    for tile in grid.tiles():
        core = tile.core.slices
        regions = flood(values[core], np.ones(tile.core.shape, bool), 1, 0).astype(np.uint32)
        records.append(join.summary(regions, int(regions.max()), tile, grid.shape, values[core]))
    found = join.facing(records, grid)
    assert found.length.sum() == 3 * 40 + 3 * 30
    differing = found.length[found.here.value != found.across.value].sum()
    lines = [(values[s - 1], values[s]) for s in (8, 16, 24)]
    lines += [(values[:, s - 1], values[:, s]) for s in (11, 22, 33)]
    assert differing == sum((a != b).sum() for a, b in lines)


def test_record__grows_with_the_border_and_is_small_on_calm_images() -> None:
    regions = np.ones((512, 512), np.uint32)
    tile = Grid((1536, 1536), (512, 512)).tile(4)
    record = join.summary(regions, 1, tile, (1536, 1536), np.zeros((512, 512), np.uint8))
    assert len(record["run"]) == 4
    assert sum(part.nbytes for name, part in record.items() if name != "rows") < 200


def test_many_tiles__are_joined_in_seconds() -> None:
    grid = Grid((4000, 4000), (100, 100))
    y, x = np.mgrid[:100, :100]
    regions = (y // 10 * 10 + x // 10 + 1).astype(np.uint32)
    records = [join.summary(regions, 100, tile, grid.shape) for tile in grid.tiles()]
    begun = time.perf_counter()
    ranks = join.solve(records, grid)
    assert time.perf_counter() - begun < 5
    assert ranks.count == (40 * 10 - 39) ** 2  # blocks at a seam are one with those across
    assert pickle.loads(pickle.dumps(partial(join.solve, same=join.equal, connectivity=2)))
