"""The quadtree: sums of blocks, which of them are leaves, and the leaves of a tile."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

MEAN_UNIT = 16
"""Steps per unit in which the means of leaves are rounded."""

u64 = np.uint64


@dataclass(frozen=True)
class Leaves:
    """The leaves of the quadtree that meet a tile's core."""

    number: np.ndarray
    """uint32 over the core: 0 where no pixel counts, else 1 + leaf, by first pixel in the core."""
    first: np.ndarray
    """int64[n], y * width + x of each leaf's upper left pixel in the image: its identity."""
    mean: np.ndarray
    """int32[n, C], mean of the valid pixels of the whole leaf, in 1/16, rounded half up."""
    cut: np.ndarray
    """bool[n], the leaf goes on beyond the core."""


def leaves(
    values: np.ndarray,
    valid: np.ndarray,
    zone: tuple[int, int, int],
    core: tuple[int, int, int, int],
    rule: tuple[int, float],
) -> Leaves:
    """Split a zone by a quadtree anchored at the image's first pixel.

    Parameters
    ----------
    values
        int32[h, w, C], 0 .. 65535, over a zone of whole blocks (cut by the image's end alone).
    valid
        bool[h, w].
    zone
        Global row and column of the first pixel, multiples of the largest block; the image's width.
    core
        Row, row + 1 of the last, column, column + 1 of the last of the tile's core, in the zone.
    rule
        Levels of the tree (a block has at most 2^levels pixels a side); the standard deviation up
        to which a block is a leaf.

    Notes
    -----
    n * sum(x^2) - sum(x)^2 > n^2 * deviation^2 splits a block: the left side is an integer below
    2^60, so what is split does not depend on who adds up. Masked pixels do not count.
    """
    depth, deviation = rule
    sums = [_sums_of_fours(values, valid)]
    while len(sums) < depth:
        sums.append(_four(sums[-1]))
    level = np.full(sums[-1].shape[:2], 255, np.uint8)
    for k in range(depth, 0, -1):
        height, width = sums[k - 1].shape[:2]
        level = level[:height, :width]
        level[(level == 255) & _even(sums[k - 1], deviation)] = k
        level = level.repeat(2, axis=0).repeat(2, axis=1)
    level = level[: values.shape[0], : values.shape[1]]
    level[level == 255] = 0
    number, place = _number(np.ascontiguousarray(level), np.array(core, np.int64))
    mean = _means(values, sums, place)
    first = (place[:, 1] + zone[0]) * zone[2] + place[:, 2] + zone[1]
    top, bottom, left, right = core
    number[~valid[top:bottom, left:right]] = 0
    begin, end = place[:, 1:], place[:, 1:] + (1 << place[:, :1])
    end = np.minimum(end, values.shape[:2])
    cut = ((begin < (top, left)) | (end > (bottom, right))).any(axis=1)
    return Leaves(number, first, mean, cut)


@njit(nogil=True, cache=True)
def parts_of(number, root):
    """Return merged leaves, numbered by first pixel: uint32 map 0..m; int64[n], number of each."""
    rank = np.zeros(root.size, np.int64)
    parts = np.zeros(number.shape, np.uint32)
    count = 0
    for y in range(number.shape[0]):
        for x in range(number.shape[1]):
            if number[y, x]:
                own = root[u64(number[y, x] - 1)]
                if rank[own] == 0:
                    count += 1
                    rank[own] = count
                parts[y, x] = rank[own]
    return parts, rank[root]


def _even(sums: np.ndarray, deviation: float) -> np.ndarray:
    """Tell which blocks are even enough in every channel."""
    n = sums[..., :1]
    channels = (sums.shape[2] - 1) // 2
    spread = n * sums[..., 1 + channels :] - sums[..., 1 : 1 + channels] ** 2
    return (spread <= n.astype(np.float64) ** 2 * deviation**2).all(axis=2)


def _four(sums: np.ndarray) -> np.ndarray:
    """Add up blocks of two by two."""
    odd = [(0, n % 2) for n in sums.shape[:2]]
    padded = np.pad(sums, [*odd, (0, 0)]) if odd != [(0, 0), (0, 0)] else sums
    rows = padded[::2] + padded[1::2]
    return rows[:, ::2] + rows[:, 1::2]


@njit(nogil=True, cache=True)
def _sums_of_fours(values, valid):
    """Return int64[h / 2, w / 2, 1 + 2 C]: number, sums, sums of squares of two by two pixels."""
    h, w, channels = values.shape
    sums = np.zeros(((h + 1) // 2, (w + 1) // 2, 1 + 2 * channels), np.int64)
    for y in range(h):
        for x in range(w):
            if valid[y, x]:
                block = sums[y // 2, x // 2]
                block[0] += 1
                for c in range(channels):
                    v = np.int64(values[y, x, c])
                    block[1 + c] += v
                    block[1 + channels + c] += v * v
    return sums


@njit(nogil=True, cache=True)
def _number(level, core):
    """Return the leaves, numbered by first pixel in the core, and (level, y, x) of each."""
    top, bottom, left, right = core
    number = np.empty((bottom - top, right - left), np.uint32)
    place = np.empty((number.size, 3), np.int32)
    n = 0
    for y in range(top, bottom):
        for x in range(left, right):
            k = level[y, x]
            y0, x0 = (y >> k) << k, (x >> k) << k
            if x > max(x0, left):
                number[y - top, x - left] = number[y - top, x - left - 1]
            elif y > max(y0, top):
                number[y - top, x - left] = number[y - top - 1, x - left]
            else:
                place[n, 0] = k
                place[n, 1] = y0
                place[n, 2] = x0
                n += 1
                number[y - top, x - left] = n
    return number, place[:n].astype(np.int64)


def _means(values: np.ndarray, sums: list[np.ndarray], place: np.ndarray) -> np.ndarray:
    """Return int32[n, C], the mean of each leaf in 1/16."""
    channels = values.shape[2]
    mean = np.zeros((len(place), channels), np.int32)
    for k in range(len(sums) + 1):
        chosen = np.flatnonzero(place[:, 0] == k)
        at = place[chosen, 1] >> k, place[chosen, 2] >> k
        if k == 0:
            mean[chosen] = MEAN_UNIT * values[at]
        else:
            n = np.maximum(sums[k - 1][at][:, :1], 1)
            total = sums[k - 1][at][:, 1 : 1 + channels]
            mean[chosen] = (2 * MEAN_UNIT * total + n) // (2 * n)
    return mean
