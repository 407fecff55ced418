"""Rounds of exact SLIC: samples, sums and moving seeds; the legend is in `slic_key_kernels`."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.colour import INVALID
from segpipe.methods.slic_key_kernels import (
    EXACT,
    candidates,
    gather,
    nearest3,
    nearest_any,
    update_coefficients,
)

f32 = np.float32
i32 = np.int32
u64 = np.uint64


@njit(nogil=True, cache=True)
def sample_cells(planes, missing, rows, step, left, out):
    """Copy planes[C, h, w] into cells out[bh + 1, bw + 1, C, n], `rows` rows of `step` pixels each.

    Cell (i, j) begins at row ``i rows - missing`` and column ``j step - left`` of the planes; what
    lies outside them becomes INVALID. Moves 4 bytes per sampled pixel and channel.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            gather(planes, i * rows - missing, rows, j * step - left, step, out[i, j])


@njit(nogil=True, cache=True, fastmath=EXACT)
def cell_totals(cells, fy, fx):
    """Sum colours, row and column coordinates and count of each cell's pixels: int32[.., C + 3]."""
    ny, nx, channels, n = cells.shape
    v = cells.reshape(-1)
    chosen = np.empty(n, np.int32)
    out = np.empty((ny, nx, channels + 3), np.int32)
    for i in range(ny):
        for j in range(nx):
            o = u64((i * nx + j) * channels * n)
            for p in range(n):
                chosen[u64(p)] = v[o + u64(p)] != INVALID
            for c in range(channels):
                out[i, j, c] = _plane_sum(v, o + u64(c * n), n, chosen, i32(1))
            y, x, count = _place_sums(fy, fx, n, chosen, i32(1))
            out[i, j, channels], out[i, j, channels + 1], out[i, j, channels + 2] = y, x, count
    return out


@njit(nogil=True, cache=True, forceinline=True, fastmath=EXACT)
def _plane_sum(v, o, n, chosen, k):
    """Sum one plane over the pixels of candidate k."""
    total = f32(0)
    for p in range(n):
        i = u64(p)
        total += f32(chosen[i] == k) * f32(v[o + i])
    return i32(total)


@njit(nogil=True, cache=True, forceinline=True, fastmath=EXACT)
def _sums3(v, o, n, fy, fx, chosen, k):
    """Sum three planes and the coordinates over the pixels of candidate k, and count them."""
    lum = f32(0)
    a = f32(0)
    b = f32(0)
    y = f32(0)
    x = f32(0)
    count = f32(0)
    oa = o + u64(n)
    ob = oa + u64(n)
    for p in range(n):
        i = u64(p)
        is_k = f32(chosen[i] == k)
        lum += is_k * f32(v[o + i])
        a += is_k * f32(v[oa + i])
        b += is_k * f32(v[ob + i])
        y += is_k * fy[i]
        x += is_k * fx[i]
        count += is_k
    return i32(lum), i32(a), i32(b), i32(y), i32(x), i32(count)


@njit(nogil=True, cache=True, forceinline=True, fastmath=EXACT)
def _place_sums(fy, fx, n, chosen, k):
    """Sum row coordinates, column coordinates and number of the pixels of candidate k."""
    y = f32(0)
    x = f32(0)
    count = f32(0)
    for p in range(n):
        i = u64(p)
        is_k = f32(chosen[i] == k)
        y += is_k * fy[i]
        x += is_k * fx[i]
        count += is_k
    return i32(y), i32(x), i32(count)


@njit(nogil=True, cache=True)
def iterate(cells, totals, span, fy, fx, zones, exists, centres, coef):
    """Do all rounds of assignment and update; round t treats the cells of ``zones[t]``.

    zones[t] = (first row, last row + 1, first column, last column + 1) of cells, each round's
    inside the one's before. The rounds run as a wave down the rows, round t two rows behind round
    t - 1: row i of cells needs seed rows i and i + 1, whose last cells are in row i + 1. So the
    samples stream through the cache once, and not once per round.
    """
    rounds, ny = zones.shape[0], cells.shape[0]
    # statistics of seed row i gather in ring row i & 1 of each round
    sums = np.zeros((rounds, 2, coef.shape[1], coef.shape[2]), np.int32)
    for time in range(ny + 2 * rounds):
        for t in range(rounds):
            i = time - 2 * t
            if zones[t, 0] <= i < zones[t, 1]:
                if cells.shape[2] == 3:
                    _sweep3(cells, totals, coef, span, fy, fx, i, zones[t], sums[t])
                else:
                    _sweep_any(cells, coef, span, fy, fx, i, zones[t], sums[t])
                if i > zones[t, 0]:
                    _update(sums[t, i & 1], i, zones[t], centres)
                    update_coefficients(centres[i], exists[i], coef[i])
                sums[t, i & 1] = 0


@njit(nogil=True, cache=True)
def _sweep3(cells, totals, coef, span, fy, fx, i, zone, sums):
    """Assign the sampled pixels of the cells of row i and add up their candidates' statistics.

    sums[2, bw + 2, C + 3] int32: colours, y, x (relative to the seed's lattice point), count.
    Candidate 0 gets what the three others leave of the cell's totals. About 75 vector operations
    per 8 sampled pixels, 6 bytes per pixel read in one stream.
    """
    n = cells.shape[3]
    v = cells.reshape(-1)
    q = np.empty((4, 6), np.float32)
    chosen = np.empty(n, np.int32)
    for j in range(zone[2], zone[3]):
        o = u64((i * cells.shape[1] + j) * 3 * n)
        candidates(coef, i, j, span, q)
        nearest3(v, o, n, q, fy, fx, chosen)
        l0 = totals[u64(i), u64(j), u64(0)]
        a0 = totals[u64(i), u64(j), u64(1)]
        b0 = totals[u64(i), u64(j), u64(2)]
        y0 = totals[u64(i), u64(j), u64(3)]
        x0 = totals[u64(i), u64(j), u64(4)]
        n0 = totals[u64(i), u64(j), u64(5)]
        for k in range(1, 4):
            lum, a, b, y, x, count = _sums3(v, o, n, fy, fx, chosen, i32(k))
            l0 -= lum
            a0 -= a
            b0 -= b
            y0 -= y
            x0 -= x
            n0 -= count
            _add3(lum, a, b, y, x, count, span, i, j, k, sums)
        _add3(l0, a0, b0, y0, x0, n0, span, i, j, 0, sums)


@njit(nogil=True, cache=True, forceinline=True)
def _add3(lum, a, b, y, x, count, span, i, j, k, sums):
    """Add to candidate k's sums; coordinates turn from the cell's middle to the seed's point."""
    row = u64((i + (k >> 1)) & 1)
    column = u64(j + (k & 1))
    near = i32(span // 2)
    far = i32(span // 2 - span)
    sums[row, column, u64(0)] += lum
    sums[row, column, u64(1)] += a
    sums[row, column, u64(2)] += b
    sums[row, column, u64(3)] += y + count * (far if k >> 1 else near)
    sums[row, column, u64(4)] += x + count * (far if k & 1 else near)
    sums[row, column, u64(5)] += count


@njit(nogil=True, cache=True)
def _sweep_any(cells, coef, span, fy, fx, i, zone, sums):
    """Do what `_sweep3` does for any number of channels (without totals, about half as fast)."""
    channels, n = cells.shape[2:]
    v = cells.reshape(-1)
    q = np.empty((4, channels + 3), np.float32)
    keys = np.empty((4, n), np.float32)
    chosen = np.empty(n, np.int32)
    for j in range(zone[2], zone[3]):
        o = u64((i * cells.shape[1] + j) * channels * n)
        candidates(coef, i, j, span, q)
        nearest_any(v, o, n, q, fy, fx, keys, chosen)
        for k in range(4):
            row = (i + (k >> 1)) & 1
            column = j + (k & 1)
            for c in range(channels):
                sums[row, column, c] += _plane_sum(v, o + u64(c * n), n, chosen, i32(k))
            y, x, count = _place_sums(fy, fx, n, chosen, i32(k))
            sums[row, column, channels] += y + count * (span // 2 - span * (k >> 1))
            sums[row, column, channels + 1] += x + count * (span // 2 - span * (k & 1))
            sums[row, column, channels + 2] += count


@njit(nogil=True, cache=True)
def _update(sums, i, zone, centres):
    """Move the seeds of row i inside `zone` to floor((2 sum + n) / 2n); n = 0: they stay.

    The double quotient of two integers below 2^31 has the floor of the exact one.
    """
    last = u64(centres.shape[2])
    for j in range(zone[2] + 1, zone[3]):
        count = np.float64(sums[u64(j), last])
        if count > 0.0:
            for c in range(last):
                s = np.float64(sums[u64(j), u64(c)])
                centres[u64(i), u64(j), u64(c)] = i32(np.floor((s + s + count) / (count + count)))
