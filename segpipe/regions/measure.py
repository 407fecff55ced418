"""Measure all regions of a label image in memory, as a run does it tile by tile.

The image is cut into blocks that are measured like tiles (`segpipe.regions.measure_tile`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numba import njit

from segpipe.passes import table_of
from segpipe.regions import colours, columns
from segpipe.regions.columns import STANDARD, Wanted
from segpipe.regions.contours import OUTSIDE, RING, Ring
from segpipe.regions.measure_tile import Seen, tile_rows
from segpipe.tiles import Grid, Tile

NOWHERE = 1 << 40
"""Id of what lies outside the image; larger than any other."""
BLOCK = 2048
"""The plain function works on blocks of this edge: they stay in the cache."""


def measure(
    labels: np.ndarray,
    image: np.ndarray | None = None,
    *,
    groups: Iterable[str] = (*STANDARD, "neighbours"),
    transform: tuple[float, float, float, float, float, float] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Measure all regions of a label image.

    Parameters
    ----------
    labels
        (H, W) integers, 0 = no region. A region need not be connected.
    image
        (H, W) or (H, W, C), bool, integers of up to 32 bits or floats; None: no colours.
    groups
        Some of ``area``, ``shape``, ``colour``, ``percentiles``, ``neighbours``.
    transform
        Affine transform of a georeferenced image, see `Wanted`.

    Returns
    -------
    tables
        ``segments``: columns by name, sorted by label, named as in scikit-image's
        ``regionprops_table`` where it has them (px):

        * always ``label``, ``area``, ``bbox-0`` … ``bbox-3`` (half-open), ``centroid-0``,
          ``centroid-1``, ``touches_border`` (it has a pixel at the edge of the image), and with a
          transform ``world_x``, ``world_y`` of the centroid;
        * shape: ``perimeter``, ``compactness`` (4 pi area / perimeter^2, NaN without perimeter),
          ``eccentricity``, ``axis_major_length``, ``axis_minor_length``, ``orientation``,
          ``touches_none`` (an edge of it lies at a pixel of no region: masked, nodata, background);
        * colour, for each channel: ``intensity_mean-0``, ``intensity_std-0``,
          ``intensity_min-0``, ``intensity_max-0``;
        * percentiles: ``intensity_p5-0``, ``intensity_p25-0``, ``intensity_median-0``,
          ``intensity_p75-0``, ``intensity_p95-0``, see `percentiles`.

        ``neighbours``, with that group: ``label``, ``neighbour`` (0: no region), ``length`` of
        their common border in pixel edges, both ways round.

    Raises
    ------
    ValueError
        If shapes or types do not fit, a label is negative, a group is unknown or an edge of the
        image has 2^21 pixels or more.

    Notes
    -----
    *Tiling*: identical for every tiling. As in NumPy, a region with a NaN has no mean.
    Cost: see ``tests/bench/bench_measure.py``.

    Examples
    --------
    >>> tables = measure(np.array([[1, 1, 2], [1, 1, 2]]), np.array([[5, 5, 1], [5, 7, 1]], "u1"))
    >>> tables["segments"]["area"].tolist(), tables["segments"]["intensity_mean-0"].tolist()
    ([4, 2], [5.5, 1.0])
    >>> tables["neighbours"]["length"].tolist()
    [2, 2]
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "uib" or 0 in labels.shape:
        raise ValueError(
            f"labels must be (H, W) integers and not empty, got {labels.dtype} {labels.shape}"
        )
    chosen = frozenset(groups) | {"area"}
    if image is None:
        chosen -= {"colour", "percentiles"}
    else:
        image = colours.measurable(image)
        if image.shape[:2] != labels.shape:
            raise ValueError(f"image {image.shape[:2]} and labels {labels.shape} differ in shape")
    channels, dtype = (0, "uint8") if image is None else (image.shape[2], str(image.dtype))
    wanted = Wanted((labels.shape[0], labels.shape[1]), channels, dtype, chosen, transform)
    known, ids = _compact(labels)
    found = [
        tile_rows(seen, None if image is None else image[box], shared, wanted)
        for seen, box, shared in _blocks(ids, known)
    ]
    return {
        name: table_of(table, [rows[name] for rows in found])
        for name, table in columns.tables(wanted).items()
    }


def _blocks(
    ids: np.ndarray, known: np.ndarray
) -> Iterator[tuple[Seen, tuple[slice, ...], np.ndarray]]:
    """Cut a label image into blocks: what is seen, where, regions that occur in other blocks."""
    grid = Grid(ids.shape, (BLOCK, BLOCK))
    table = np.zeros(len(known), np.uint32)
    blocks = np.zeros(len(known), np.uint32)
    for tile in grid.tiles():
        _count_blocks(ids[tile.core.slices], table, blocks, tile.number + 1)
    table[:] = 0
    for tile in grid.tiles():
        core, sides = tile.core.slices, _sides(ids, tile)
        regions, n, numbers = _number(ids[core], sides, table)
        own, others = numbers[1 : n + 1], numbers[n + 1 :]
        ring = Ring(*(_renumber(side, table) for side in sides))
        table[numbers] = 0
        seen = Seen(regions, known[numbers[: n + 1]], ring, known[others], tile.core.start)
        yield seen, core, 1 + np.flatnonzero(blocks[own] > 1)


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels by id (0 first), and ids below `NOWHERE` in place of labels."""
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise ValueError(f"labels must not be negative, got {labels.min()}")
    largest = int(labels.max())
    if largest <= 2 * labels.size and largest < NOWHERE:
        return np.arange(largest + 1), labels
    known, ids = np.unique(labels, return_inverse=True)
    skip = int(known[0] != 0)
    known = np.concatenate([np.zeros(skip, known.dtype), known]).astype(np.int64)
    return known, (ids.reshape(labels.shape) + skip).astype(np.int64)


def _sides(ids: np.ndarray, tile: Tile) -> tuple[np.ndarray, ...]:
    """Ids round a block; `NOWHERE` outside the image."""
    box = tile.core.grown(RING, ids.shape)
    h, w = tile.core.shape
    part = tile.core.within(box)
    pads = [(RING - p.start, RING - (n - p.stop)) for p, n in zip(part, box.shape, strict=True)]
    (above, below), (left, right) = pads
    found = []
    for rows, cols in (
        (slice(-RING, 0), slice(-RING, w + RING)),
        (slice(h, h + RING), slice(-RING, w + RING)),
        (slice(0, h), slice(-RING, 0)),
        (slice(0, h), slice(w, w + RING)),
    ):
        out = np.full((rows.stop - rows.start, cols.stop - cols.start), NOWHERE, np.int64)
        y = slice(max(rows.start, above - RING), min(rows.stop, h + RING - below))
        x = slice(max(cols.start, left - RING), min(cols.stop, w + RING - right))
        if y.start < y.stop and x.start < x.stop:
            top, side = tile.core.start
            out[y.start - rows.start : y.stop - rows.start,
                x.start - cols.start : x.stop - cols.start] = ids[
                top + y.start : top + y.stop, side + x.start : side + x.stop
            ]  # fmt: skip
        found.append(out)
    return tuple(found)


@njit(nogil=True, cache=True)
def _count_blocks(ids, table, blocks, block):  # type: ignore[no-untyped-def]
    """Count in how many blocks each id occurs."""
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            i = ids[y, x]
            if (x == 0 or i != ids[y, x - 1]) and table[i] != block:
                table[i] = block
                blocks[i] += 1


@njit(nogil=True, cache=True)
def _number(ids, sides, table):  # type: ignore[no-untyped-def]
    """Give numbers 1.. to ids by first pixel in a block, then round it; the table is 0."""
    h, w = ids.shape
    regions = np.empty((h, w), np.uint32)
    numbers = np.empty(h * w + 8 * (h + w + 4) + 1, np.int64)
    numbers[0] = 0
    count = 1
    for y in range(h):
        number = np.uint32(0)
        for x in range(w):
            i = ids[y, x]
            if x == 0 or i != ids[y, x - 1]:
                if i and table[i] == 0:
                    table[i] = count
                    numbers[count] = i
                    count += 1
                number = table[i] if i else np.uint32(0)
            regions[y, x] = number
    n = count - 1
    for side in sides:
        for i in side.flat:
            if 0 < i < NOWHERE and table[i] == 0:
                table[i] = count
                numbers[count] = i
                count += 1
    return regions, n, numbers[:count].copy()


def _renumber(side: np.ndarray, table: np.ndarray) -> np.ndarray:
    inside = side < NOWHERE
    return np.where(inside, table[np.where(inside, side, 0)], OUTSIDE)
