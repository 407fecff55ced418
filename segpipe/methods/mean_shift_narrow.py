"""The successor of a state of mean shift over a narrow window, all of whose pixels lie in a row.

The sampled pixels are kept a second time, in *stripes* of `HEIGHT` rows, column by column; a stripe
begins in every second row. So a window of at most `WIDEST` rows and columns is one piece of a
stripe, and takes six vectors instead of nine that are half empty. Which pixels of the piece belong
to the window is told by a table of all windows.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import lru_cache

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from segpipe.methods.mean_shift_plain import GROUP, LANES, state_size
from segpipe.methods.mean_shift_successor import across_lanes, colours_of, store_means
from segpipe.methods.mean_shift_vector import (
    I16,
    I64,
    SUMS,
    VALUES,
    ZERO,
    Balls,
    constant,
    data_of,
    pointers_of,
    splat,
)
from segpipe.tiles import Box

WIDEST = 9
HEIGHT = WIDEST + 1
PIECE = -(-WIDEST * HEIGHT // LANES) * LANES
"""Values that are read of a stripe."""
COUNT_BITS, ROW_BITS = 3, 6
"""A lane counts at most 6 pixels; their rows in the stripe add up to at most 54."""
Rule = tuple[int, int, int, int]
Pieces = tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]
u64 = np.uint64  # unsigned indices need no test for negative ones


def pieces(
    planes: tuple[np.ndarray, ...], before: int, lattice: tuple[int, ...], window: Box, rule: Rule
) -> Pieces:
    """Return the stripes of planes, and what a window finds where.

    Parameters
    ----------
    planes, lattice, rule
        See `mean_shift_kernels.follow`; pixels begin at `before` of a plane.
    window
        Global box that trajectories stay in.

    Returns
    -------
    stripes
        Flat arrays: what lies at ``before + row * stride + column`` of a plane lies, in its stripe
        row // 2, at ``(before + row // 2 * stride + column) * HEIGHT + row % 2``.
    inside
        See `_inside`.
    by_row, by_column
        int64[rows or columns of the window, 3], to be added up for a state's place: where its piece
        begins in a stripe, where the window's entry begins in `inside`, and each for itself, row
        and column in the image of the piece's first pixel.
    begin
        The place that they begin with.
    """
    stride, *first, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    begin = window.start[0], window.start[1]
    rows = (len(planes[0]) - before) // stride  # those behind the last are of no use
    stripes = tuple(_striped(plane, before, rows, stride) for plane in planes)
    places = [np.arange(*ends) for ends in zip(window.start, window.stop, strict=True)]
    top, height = _seen(places[0], radius, bits, rows_there)
    left, width = _seen(places[1], radius, bits, columns_there)
    stripe, inner = np.divmod(top - first[0], 2)
    case = (inner * HEIGHT + height) * HEIGHT
    by_row = np.column_stack([stripe * stride * HEIGHT, case * PIECE, (top - inner) << bits])
    by_column = np.column_stack([(left - first[1]) * HEIGHT, width * PIECE, left << bits])
    return stripes, _inside(limit), by_row, by_column, begin


def no_pieces(planes: tuple[np.ndarray, ...]) -> Pieces:
    """Return what stands for `pieces` where windows are not narrow: `inside` is empty."""
    nothing = np.zeros((0, 3), np.int64)
    return planes, np.zeros(0, np.uint16), nothing, nothing, (0, 0)


def _seen(at: np.ndarray, radius: int, bits: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first sampled rows (or columns) within `radius` of places, and how many."""
    first = np.maximum((at - radius + (1 << bits) - 1) >> bits, 0)
    return first, np.minimum((at + radius) >> bits, count - 1) - first + 1


@lru_cache(maxsize=8)
def _inside(limit: int) -> np.ndarray:
    """Return what squared distances must be below, for each place in a piece, for all windows.

    Flat uint16[2, HEIGHT, HEIGHT, PIECE]: row of the stripe that the window begins in, rows and
    columns of the window; limit + 1 inside the window, else 0.
    """
    first, rows, columns, place = np.ogrid[:2, :HEIGHT, :HEIGHT, :PIECE]
    column, row = np.divmod(place, HEIGHT)
    inside = (row >= first) & (row < first + rows) & (column < columns)
    return np.where(inside, limit + 1, 0).astype(np.uint16).ravel()


@njit(nogil=True, cache=True)
def _striped(plane, before, rows, stride):
    """Return the flat stripes of a flat plane; rows behind the last repeat it."""
    stripes = (rows + 1) // 2
    out = np.zeros((before + stripes * stride) * HEIGHT + PIECE, plane.dtype)
    for stripe in range(stripes):
        for column in range(stride):
            to = (before + stripe * stride + column) * HEIGHT
            for k in range(HEIGHT):
                row = min(2 * stripe + k, rows - 1)
                out[u64(to + k)] = plane[u64(before + row * stride + column)]
    return out


@njit(nogil=True, cache=True, forceinline=True)
def vector_totals(pieces, place, states, at, totals, k):
    """Sum up the pixels of a window that lie near the colour of the state at `at`.

    pieces   (stripes, inside), see `pieces`
    place    (begin in a stripe, begin in `inside`)
    totals   out, int32: [k:] becomes number of pixels, sums of row and column numbers (from 0), of
             pixel - colour, as many numbers as a state has
    """
    _totals(pieces, place, states, at, totals, k)  # type: ignore[call-arg]


@njit(nogil=True, cache=True, forceinline=True)
def vector_rounded(stripes, totals, k, corner, bits, states, at, out, to):
    """Write the state that totals amount to; see `plain_successor`.

    corner  row and column of the piece's first pixel in the image
    """
    _rounded(stripes, totals, k, corner, bits, states, at, out, to)  # type: ignore[call-arg]


@intrinsic
def _totals(typing, pieces, place, states, at, totals, k):
    """Build `vector_totals` from vectors."""
    index, wide = types.intp, not pieces[0].dtype.dtype.signed

    def build(context, builder, signature, arguments):
        kind = signature.args
        stripes, inside = cgutils.unpack_tuple(builder, arguments[0])
        pointers = pointers_of(context, builder, kind[0][0], stripes)
        inside = data_of(context, builder, kind[0][1], inside)
        states, out = (data_of(context, builder, kind[n], arguments[n]) for n in (2, 4))
        offset, case = cgutils.unpack_tuple(builder, arguments[1])
        key = builder.gep(states, [arguments[3]])
        balls = Balls(builder, pointers, colours_of(builder, key, len(pointers)), wide)
        for first in range(0, PIECE, LANES):
            at = builder.gep(inside, [builder.add(case, I64(first))])
            radius = builder.load(builder.bitcast(at, VALUES.as_pointer()), align=2)
            balls.add(builder.add(offset, I64(first)), radius, balls.count, _mark(first))
        sums = [*_unpacked(builder, balls), *balls.differences()]
        sums += [ZERO] * (state_size.py_func(len(pointers)) - len(sums))
        for first in range(0, len(sums), GROUP):
            total = across_lanes(builder, sums[first : first + GROUP])
            at = builder.gep(out, [builder.add(arguments[5], I64(first))])
            builder.store(total, builder.bitcast(at, SUMS.as_pointer()), align=4)
        return context.get_dummy_value()

    two = types.UniTuple(index, 2)
    return types.void(pieces, two, states, index, totals, index), build


@intrinsic
def _rounded(typing, stripes, totals, k, corner, bits, states, at, out, to):
    """Build `vector_rounded` from vectors."""
    index, size = types.intp, state_size.py_func(len(stripes))

    def build(context, builder, signature, arguments):
        kind = signature.args
        totals, states, out = (data_of(context, builder, kind[n], arguments[n]) for n in (1, 5, 7))
        corner = cgutils.unpack_tuple(builder, arguments[3])
        ends = builder.gep(states, [arguments[6]]), builder.gep(out, [arguments[8]])
        found = []
        for first in range(0, size, GROUP):
            at = builder.gep(totals, [builder.add(arguments[2], I64(first))])
            found.append(builder.load(builder.bitcast(at, SUMS.as_pointer()), align=4))
        store_means(builder, found, corner, arguments[4], ends)
        return context.get_dummy_value()

    two = types.UniTuple(index, 2)
    return types.void(stripes, totals, index, two, index, states, index, out, index), build


def _mark(first):
    """Return what LANES pixels of a piece count: 1, their row and their column, in one number."""
    places = [divmod(first + lane, HEIGHT) for lane in range(LANES)]
    return constant(
        VALUES,
        [1 + ((row + (column << ROW_BITS)) << COUNT_BITS) for column, row in places],
    )


def _unpacked(builder, balls):
    """Return what `_mark` has packed: number of pixels, sums of rows, of columns."""
    tally = builder.load(balls.count)
    above = builder.lshr(tally, splat(builder, I16(COUNT_BITS)))
    return (
        builder.and_(tally, splat(builder, I16((1 << COUNT_BITS) - 1))),
        builder.and_(above, splat(builder, I16((1 << ROW_BITS) - 1))),
        builder.lshr(above, splat(builder, I16(ROW_BITS))),
    )
