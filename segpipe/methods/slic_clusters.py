"""k-means of exact SLIC on what a zone of a window depends on; the rules are in `slic_window`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from segpipe import colour
from segpipe.methods.slic_code_kernels import assign, move_seeds
from segpipe.methods.slic_key_kernels import coefficients
from segpipe.methods.slic_round_kernels import cell_totals, iterate, sample_cells
from segpipe.tiles import Box

if TYPE_CHECKING:
    from segpipe.methods.slic import Slic

Index = np.ndarray | slice
BAND = 1 << 18
"""Pixels whose colours are computed at once (1.5 MB of RGB), to be used while they are in the
cache: planes of a whole window would travel to memory and back."""


@dataclass(frozen=True)
class Source:
    """A window of the image and how its pixels become colours."""

    image: np.ndarray
    valid: np.ndarray | None
    window: Box
    shape: tuple[int, ...]
    scale: colour.Scaling | None

    def colours(self, rows: Index, columns: Index, unit: int) -> np.ndarray:
        """Return colour planes of the pixels at global rows and columns (as NumPy indexes)."""
        index = self._local(rows, 0), self._local(columns, 1)
        planes = colour.planes(np.ascontiguousarray(self.image[index]), unit, self.scale)
        if self.valid is not None:
            planes[0][~self.valid[index]] = colour.INVALID
        return planes

    def _local(self, index: Index, axis: int) -> Index:
        start = self.window.start[axis]
        if isinstance(index, slice):
            return slice(index.start - start, index.stop - start)
        return index - start


@dataclass(frozen=True)
class Clusters:
    """The last centres, and the assignment of a zone."""

    codes: np.ndarray
    """uint8[h, w]: which of the seeds around it each pixel of the zone belongs to."""
    centres: np.ndarray
    """int32[bh + 2, bw + 2, C + 2]: colour, y, x (relative to the seed's lattice point)."""
    first: tuple[int, int]
    """Global block row and column of ``centres[0, 0]``."""
    unit: int
    span: int


def units(compactness: float) -> tuple[int, int]:
    """Return (units per Lab unit, units per step) for which the kernels' float32 sums are exact.

    The terms of a key, 4 (|mu|^2 + 2 |mu . p|) + 3, must stay below 2^24 in sum.
    """
    for unit in (8, 4, 2, 1):
        span = max(1, int(compactness * unit + 0.5))
        # coordinates of a mean and of a pixel, from the middle of the pixel's cell
        mean, pixel = 3 * span // 2 + 2, span // 2 + 1
        colours = 3 * (colour.COLOUR_RADIUS * unit) ** 2
        if 4 * (colours + 2 * mean**2 + 4 * mean * pixel) + 3 < 2**24:
            return unit, span
    raise ValueError(f"compactness must be below 250, got {compactness}; 5 to 40 are common")


def cluster(source: Source, zone: Box, parameters: Slic) -> Clusters:
    """Run k-means on what the zone depends on, then assign the zone's pixels."""
    step = parameters.step
    unit, span = units(parameters.compactness)
    blocks = _blocks(source, zone, parameters)
    centres, exists = _seeds(source, blocks, step, unit, span)
    first = (blocks.start[0] - 1, blocks.start[1] - 1)
    coef = np.empty((*exists.shape, centres.shape[2] + 1), np.float32)
    coefficients(centres, exists, coef)
    if parameters.iterations:
        _iterate(source, blocks, zone, parameters, centres, exists, coef)
    codes = np.empty(zone.shape, np.uint8)
    corner = tuple(f * step + step // 2 - z for f, z in zip(first, zone.start, strict=True))
    place = places(step, span) - span // 2
    grid = _grid(place, place)
    for rows in _bands(zone, step):
        part = codes[rows.start - zone.start[0] : rows.stop - zone.start[0]]
        planes = source.colours(rows, zone.slices[1], unit)
        top = corner[0] - (rows.start - zone.start[0])
        assign(planes, (top, corner[1]), coef, step, span, *grid, first, part)
    return Clusters(codes, centres, first, unit, span)


def _bands(zone: Box, step: int) -> Iterator[slice]:
    """Cut a zone's rows between cells into bands of about `BAND` pixels."""
    cells = _cells(zone, step)
    height = max(1, BAND // (step * zone.shape[1]))
    edges = [i * step - (step - step // 2) for i in range(cells.start[0], cells.stop[0], height)]
    for top, bottom in pairwise([zone.start[0], *edges[1:], zone.stop[0]]):
        yield slice(top, bottom)


def _cells(zone: Box, step: int) -> Box:
    """Return the global rows and columns of the cells that meet a zone; cell i ends at seed i."""
    shift = step - step // 2
    return Box(
        tuple((a + shift) // step for a in zone.start),
        tuple((b - 1 + shift) // step + 1 for b in zone.stop),
    )


def _blocks(source: Source, zone: Box, parameters: Slic) -> Box:
    """Return the blocks of the lattice that the zone's codes depend on and the window has whole."""
    step, rounds = parameters.step, parameters.iterations
    cells = _cells(zone, step)
    wanted = Box(tuple(a - 1 - rounds for a in cells.start), tuple(b + rounds for b in cells.stop))
    counts = _lattice(source.shape, step)
    ends = zip(source.window.stop, source.shape, counts, strict=True)
    whole = Box(
        tuple(-(-a // step) for a in source.window.start),
        tuple(count if b == n else min(b // step, count - 1) for b, n, count in ends),
    )
    return clip(wanted, whole)


def _lattice(shape: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Return the number of seeds along each axis: lattice points inside the image, at least one."""
    return tuple(max(1, -(-(n - step // 2) // step)) for n in shape)


def _edges(blocks: Box, shape: tuple[int, ...], step: int, axis: int) -> np.ndarray:
    """Return the first pixel of each block along an axis and the end of the last."""
    edges = np.arange(blocks.start[axis], blocks.stop[axis] + 1) * step
    if blocks.stop[axis] == _lattice(shape, step)[axis]:
        edges[-1] = shape[axis]
    return edges


def places(step: int, span: int) -> np.ndarray:
    """Return the coordinate of each pixel of a cell along one axis, from the cell's edge."""
    return (2 * np.arange(step) + 1) * span // (2 * step)


def _grid(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 coordinates of a cell's pixels, row by row, filled up to a multiple of 8."""
    n = rows.size * columns.size
    fy, fx = np.zeros((2, -(-n // 8) * 8), np.float32)
    fy[:n] = np.repeat(rows, columns.size)
    fx[:n] = np.tile(columns, rows.size)
    return fy, fx


def _seeds(
    source: Source, blocks: Box, step: int, unit: int, span: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first centres and which of them exist, both with a rim of absent seeds."""
    edges = [_edges(blocks, source.shape, step, axis) for axis in range(2)]
    starts = [e[:-1] for e in edges]
    pixels = [np.minimum(a + step // 2, n - 1) for a, n in zip(starts, source.shape, strict=True)]
    y, x = (np.ascontiguousarray(a) for a in np.meshgrid(*pixels, indexing="ij"))
    found = np.ones(y.shape, bool)
    if source.valid is not None:
        move_seeds(source.valid, source.window.start, edges[0], edges[1], y, x, found)
    exists = np.zeros((y.shape[0] + 2, y.shape[1] + 2), np.int32)
    exists[1:-1, 1:-1] = found
    planes = source.colours(y, x, unit)
    centres = np.zeros((*exists.shape, len(planes) + 2), np.int32)
    inside = centres[1:-1, 1:-1]
    inside[..., :-2] = np.moveaxis(planes, 0, 2)
    inside[..., -2] = _offset(y - starts[0][:, None], step, span)
    inside[..., -1] = _offset(x - starts[1], step, span)
    return centres, exists


def _offset(pixel: np.ndarray, step: int, span: int) -> np.ndarray:
    """Return the coordinate of a block's pixel from the block's lattice point."""
    along = places(step, span)
    after = pixel - step // 2
    return np.where(after >= 0, along[after], along[after + step * (after < 0)] - span)


def _iterate(
    source: Source,
    blocks: Box,
    zone: Box,
    parameters: Slic,
    centres: np.ndarray,
    exists: np.ndarray,
    coef: np.ndarray,
) -> None:
    """Move the seeds; each round treats only the cells that the zone still depends on."""
    unit, span = units(parameters.compactness)
    cells, fy, fx = _sample(source, blocks, parameters.step, unit, span)
    wanted = _cells(zone, parameters.step)
    zones = [
        [
            bound
            for axis in range(2)
            for bound in (
                max(0, wanted.start[axis] - left - blocks.start[axis]),
                min(cells.shape[axis], wanted.stop[axis] + left - blocks.start[axis]),
            )
        ]
        for left in range(parameters.iterations, 0, -1)
    ]
    totals = cell_totals(cells, fy, fx)
    iterate(cells, totals, span, fy, fx, np.array(zones), exists, centres, coef)


def _sample(
    source: Source, blocks: Box, step: int, unit: int, span: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sampled pixels of the cells, int16[bh + 1, bw + 1, C, n], and where they lie."""
    every = max(1, min(4, step // 4))
    inside = np.arange(every // 2, step, every)
    middle = step // 2
    (y0, *_, y1), (x0, *_, x1) = (_edges(blocks, source.shape, step, axis) for axis in range(2))
    shape = tuple(b - a + 1 for a, b in zip(blocks.start, blocks.stop, strict=True))
    tops = (np.arange(shape[0]) - 1) * step + middle + y0
    rows = (tops[:, None] + inside).ravel()
    missing = int(np.count_nonzero(rows < y0))
    rows = rows[(rows >= y0) & (rows < y1)]
    columns = slice(int(x0), int(x1))
    place = places(step, span) - span // 2
    fy, fx = _grid(place[inside], place)
    cells = np.empty((*shape, max(3, source.image.shape[2]), fy.size), np.int16)
    height = max(1, BAND // (inside.size * (columns.stop - columns.start)))
    for i in range(0, shape[0], height):
        begin, end = (max(0, k * inside.size - missing) for k in (i, i + height))
        planes = source.colours(rows[begin:end], columns, unit)
        before = begin - (i * inside.size - missing)
        sample_cells(planes, before, inside.size, step, step - middle, cells[i : i + height])
    return cells, fy, fx


def clip(box: Box, frame: Box) -> Box:
    """Return the part of a box inside a frame."""
    return Box(
        tuple(map(max, box.start, frame.start)),
        tuple(map(min, box.stop, frame.stop)),
    )
