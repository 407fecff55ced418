"""Interfaces between the leaves of split and merge: the contrast of a pair is that of its means."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

from segpipe.regions.agglomerate import summed
from segpipe.regions.graph import Interfaces


def interfaces_of(
    regions: np.ndarray, levels: np.ndarray, origin: tuple[int, ...], width: int
) -> Interfaces:
    """Find the interfaces between the regions of a tile.

    Parameters
    ----------
    regions
        (h, w), 0 = none, 1..n; region r of the image is r - 1 in the result.
    levels
        int32[n, C]: the contrast of a pair is the sum over channels of the differences of these.
    origin, width
        Global (y, x) of the first pixel; width of the whole image.
    """
    place = np.array([origin[0], origin[1], width], np.int64)
    pieces = np.zeros((0, 4), np.int64)
    size = _pieces(regions, place, pieces, False)
    pieces = np.empty((size, 4), np.int64)
    _pieces(regions, place, pieces, True)
    contrast = contrasts(levels[pieces[:, 0]], levels[pieces[:, 1]])
    sums = np.column_stack([contrast * pieces[:, 2], pieces[:, 2:]])
    return summed(Interfaces(pieces[:, :2], *sums.T), len(levels))


def contrasts(here: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return int64[m], the sum over channels of the differences of int32[m, C]."""
    return np.abs(here.astype(np.int64) - across).sum(axis=1)


@njit(nogil=True, cache=True)
def _pieces(regions, place, out, fill):
    """Write (a, b, pairs of pixels, last pixel edge) of straight pieces; return their number."""
    h, w = regions.shape
    n = np.int64(0)
    open_right = np.full(w, -1, np.int64)  # the piece between (y - 1, x) and (y - 1, x + 1)
    for y in range(h):
        below = -1
        for x in range(w):
            a = np.int64(regions[y, x])
            index = (place[0] + y) * place[2] + place[1] + x
            if x + 1 < w:
                b = np.int64(regions[y, x + 1])
                if a == b or a == 0 or b == 0:
                    open_right[x] = -1
                else:
                    same = open_right[x] >= 0
                    same = same and regions[y - 1, x] == a and regions[y - 1, x + 1] == b
                    if not same:
                        open_right[x] = n
                        n += 1
                    if fill:
                        _extend(out, open_right[x], a, b, 2 * index, same)
            if y + 1 < h:
                b = np.int64(regions[y + 1, x])
                if a == b or a == 0 or b == 0:
                    below = -1
                else:
                    same = below >= 0 and regions[y, x - 1] == a and regions[y + 1, x - 1] == b
                    if not same:
                        below = int(n)
                        n += 1
                    if fill:
                        _extend(out, below, a, b, 2 * index + 1, same)
    return n


@njit(nogil=True, cache=True, forceinline=True)
def _extend(out, piece, a, b, edge, same):
    if not same:
        out[piece, 0] = a - 1
        out[piece, 1] = b - 1
        out[piece, 2] = 0
    out[piece, 2] += 1
    out[piece, 3] = edge
