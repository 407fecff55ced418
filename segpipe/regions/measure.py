"""What is measured of every region, exact across tiles and equal to scikit-image.

All sums are integers, of floating images too (`exact`), so the order of tiles cannot matter. A
region that ends inside a tile is measured by the tile; only regions at seams travel, as partial
sums that `columns` puts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from segpipe.passes import Columns, Rows, table_of
from segpipe.regions import borders, colours, columns, percentiles, places
from segpipe.regions.columns import STANDARD, Wanted
from segpipe.regions.contours import OUTSIDE, RING, Ring
from segpipe.regions.runs import Runs, find_runs
from segpipe.regions.sweep import named, sweep
from segpipe.tiles import Grid, Tile

NOWHERE = 1 << 40
"""Id of what lies outside the image; larger than any other."""
BLOCK = 2048
"""The plain function works on blocks of this edge: they stay in the cache."""


class Seen(NamedTuple):
    """A tile's regions, and what lies round them."""

    regions: np.ndarray
    """uint32 (rows, columns), numbers 0..n, 0 = none."""
    labels: np.ndarray
    """int64[n + 1], labels of the numbers; labels[0] = 0."""
    ring: Ring
    """Two pixels round the tile: the same numbers, and n + 1, … for regions of other tiles."""
    others: np.ndarray
    """int64, labels of the numbers n + 1, …"""
    origin: Sequence[int]
    """Global (y, x) of the upper left pixel."""
    classes: np.ndarray | None = None
    """int64[n + 1], class of the numbers, if the method has classes."""
    votes: np.ndarray | None = None
    """int64[n + 1, classes], what the pixels of the numbers say, if they vote."""
    modes: Mapping[str, np.ndarray] | None = None
    """Sums of `segpipe.regions.modes` by name, if the method has modes."""


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


def tile_rows(
    seen: Seen, image: np.ndarray | None, border: np.ndarray, wanted: Wanted
) -> dict[str, Rows]:
    """Measure the regions of a tile.

    Parameters
    ----------
    seen
        The regions.
    image
        (rows, columns, channels); None: no colours.
    border
        Numbers of the regions that may go on in other tiles.
    wanted
        What to measure.

    Returns
    -------
    Rows per table: those of regions that end here, and partial sums of the others.
    """
    n = len(seen.labels) - 1
    rest = np.zeros(n + 1, bool)
    rest[border] = True
    shape, colour = "shape" in wanted.groups, image if "colour" in wanted.groups else None
    floating = colour is not None and colour.dtype.kind == "f"
    by_runs = floating or wanted.groups & {"neighbours", "percentiles"}
    runs = find_runs(seen.regions) if by_runs else None
    swept = sweep(
        seen.regions, seen.ring, n, seen.origin, shape=shape, image=None if floating else colour
    )
    others = {"label": seen.labels}
    if seen.classes is not None:
        others["class"] = seen.classes
    if seen.votes is not None:
        others["votes"] = seen.votes
    others |= seen.modes or {}
    if runs and colour is not None and floating:
        others |= colours.float_sums(runs, n, colour)
    present = swept[:, places.AREA] > 0
    ready, going_on = np.flatnonzero(present & ~rest), np.flatnonzero(present & rest)
    chosen = [
        {name: column[rows] for name, column in others.items()} | named(swept[rows], shape=shape)
        for rows in (ready, going_on)
    ]
    done = columns.finished(chosen[0], wanted)
    opened: dict[str, Columns] = {"sums": chosen[1]}
    found: dict[str, Rows] = {}
    if runs and "neighbours" in wanted.groups:
        found["neighbours"] = _neighbours(seen, runs, rest)
    if runs and image is not None and "percentiles" in wanted.groups:
        areas = swept[:, places.AREA]
        more, opened["values"] = _percentiles(runs, seen.labels, areas, image, ready, going_on)
        done |= more
    return {"segments": Rows(done, opened)} | found


def _neighbours(seen: Seen, runs: Runs, rest: np.ndarray) -> Rows:
    """Return lengths of borders of regions that end here, and of those that go on."""
    width, n = seen.regions.shape[1], len(seen.labels) - 1
    inside, across, to_none = borders.edges(seen.ring, runs, n, width)
    names = np.concatenate([seen.labels, seen.others])
    region, neighbour, length = borders.neighbour_rows(inside, across, to_none, names)
    both = []
    for chosen in (~rest[region], rest[region]):
        rows = {"label": seen.labels[region[chosen]], "neighbour": neighbour[chosen]}
        both.append(columns.add_lengths(rows | {"length": length[chosen]}))
    return Rows(both[0], {"lengths": both[1]})


def _percentiles(
    runs: Runs,
    labels: np.ndarray,
    areas: np.ndarray,
    image: np.ndarray,
    ready: np.ndarray,
    going_on: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return columns of percentiles for regions that end here, counts of values for the others."""
    values, counts = [], []
    for c in range(image.shape[2]):
        begin, keys = percentiles.sorted_keys(runs, areas, image, c)
        values.append(percentiles.of_sorted(begin, keys, ready, image.dtype))
        counts.append(percentiles.count_keys(begin, keys, going_on, labels[going_on], c))
    found = percentiles.named(np.stack(values, axis=1))
    joined = {name: np.concatenate([part[name] for part in counts]) for name in counts[0]}
    return found, percentiles.merge(joined)


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
