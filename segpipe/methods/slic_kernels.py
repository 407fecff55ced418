"""Compiled loops of exact SLIC: samples, assignment, statistics.

The rules and the geometry are in `slic_window`.

Legend: C channels; n pixels of a cell in the buffer, a multiple of 8; bh, bw blocks of the window.
A *cell* is the step x step square between four neighbouring seeds, so its pixels share their four
candidates and every loop below is a plain loop over n with constants held in registers.
Candidate k of cell (i, j) is the seed in row ``i + (k >> 1)``, column ``j + (k & 1)`` of the padded
seed table [bh + 2, bw + 2], whose rim has no seeds.

Exactness: float32 carries integers only, and the absolute values of the terms of every sum add up
to less than 2^24 (`slic_window.units` sees to it). So all sums are exact in any order, with or
without fused multiply-add, and the compiler may vectorise and contract as it likes.

Unsigned indices (u64) omit the test for negative indices; array slices inside the loops would cost
reference counting. Both matter by factors here.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.colour import INVALID

EXACT = {"contract", "reassoc", "nnan", "ninf", "nsz"}
ABSENT = np.float32(2**25)  # key of a candidate that does not exist: loses against every real one
NO_SEED = np.int32(4)  # candidate number of a pixel that takes no part
NO_CODE = np.uint8(255)

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
            _gather(planes, i * rows - missing, rows, j * step - left, step, out[i, j])


@njit(nogil=True, cache=True)
def _gather(planes, top, rows, left, step, out):
    """Copy the rows x step rectangle at (top, left) to out[C, n], INVALID outside the planes."""
    h, w = planes.shape[1:]
    x0 = min(step, max(0, -left))
    x1 = max(x0, min(step, w - left))
    for c in range(out.shape[0]):
        fill = INVALID if c == 0 else np.int16(0)
        if x1 - x0 < step or top < 0 or top + rows > h or rows * step < out.shape[1]:
            for i in range(out.shape[1]):
                out[c, i] = fill
        for r in range(max(0, -top), min(rows, h - top)):
            for x in range(x0, x1):
                out[u64(c), u64(r * step + x)] = planes[u64(c), u64(top + r), u64(left + x)]


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


@njit(nogil=True, cache=True)
def coefficients(centres, exists, out):
    """Prepare out[.., C + 3]: -8 colour, 4 |colour|^2, y, x of centres[.., C + 2] (float32)."""
    for i in range(out.shape[0]):
        _coefficients(centres[i], exists[i], out[i])


@njit(nogil=True, cache=True)
def _coefficients(centres, exists, out):
    """Prepare one row of the seed table."""
    channels = centres.shape[1] - 2
    for j in range(out.shape[0]):
        square = i32(0)
        for c in range(channels):
            v = centres[j, c] * exists[j]
            out[j, c] = -8 * v
            square += v * v
        out[j, channels] = 4 * square if exists[j] else ABSENT
        out[j, channels + 1] = centres[j, channels] * exists[j]
        out[j, channels + 2] = centres[j, channels + 1] * exists[j]


@njit(nogil=True, cache=True, forceinline=True, fastmath=EXACT)
def _candidate(coef, i, j, k, dy, dx, out):
    """out[k] = colour factors, y and x factor, constant of the key of seed (i, j) at (dy, dx)."""
    channels = u64(coef.shape[2] - 3)
    i = u64(i)
    j = u64(j)
    k = u64(k)
    y = coef[i, j, channels + u64(1)] + dy
    x = coef[i, j, channels + u64(2)] + dx
    for c in range(channels):
        out[k, u64(c)] = coef[i, j, u64(c)]
    out[k, channels] = f32(-8) * y
    out[k, channels + u64(1)] = f32(-8) * x
    # an absent seed stays above every real key: the added terms are not negative
    out[k, channels + u64(2)] = coef[i, j, channels] + f32(4) * (y * y + x * x) + f32(k)


@njit(nogil=True, cache=True, forceinline=True)
def _candidates(coef, i, j, span, out):
    """Set up the four candidates of cell (i, j); coordinates count from the middle of the cell."""
    near = f32(-(span // 2))
    far = f32(span - span // 2)
    _candidate(coef, i, j, 0, near, near, out)
    _candidate(coef, i, j + 1, 1, near, far, out)
    _candidate(coef, i + 1, j, 2, far, near, out)
    _candidate(coef, i + 1, j + 1, 3, far, far, out)


@njit(nogil=True, cache=True, forceinline=True, fastmath=EXACT)
def _nearest3(v, o, n, q, fy, fx, chosen):
    """Choose the candidate of n pixels of three channels; v holds them from offset o, plane-wise.

    key = 4 D + k without the pixel's own square, so one plain minimum decides ties for the smallest
    k, the seed first in raster order. 20 multiply-adds, 3 minima and 9 more operations a pixel on
    6 bytes: 8 pixels at a time, bound by arithmetic (about 16 cycles for 8 pixels on two pipes).
    """
    l0, a0, c0, y0, x0, b0 = q[0, 0], q[0, 1], q[0, 2], q[0, 3], q[0, 4], q[0, 5]
    l1, a1, c1, y1, x1, b1 = q[1, 0], q[1, 1], q[1, 2], q[1, 3], q[1, 4], q[1, 5]
    l2, a2, c2, y2, x2, b2 = q[2, 0], q[2, 1], q[2, 2], q[2, 3], q[2, 4], q[2, 5]
    l3, a3, c3, y3, x3, b3 = q[3, 0], q[3, 1], q[3, 2], q[3, 3], q[3, 4], q[3, 5]
    oa = o + u64(n)
    ob = oa + u64(n)
    for p in range(n):
        i = u64(p)
        lum = f32(v[o + i])
        a = f32(v[oa + i])
        b = f32(v[ob + i])
        y = fy[i]
        x = fx[i]
        d = b0 + y0 * y + x0 * x + l0 * lum + a0 * a + c0 * b
        e = b1 + y1 * y + x1 * x + l1 * lum + a1 * a + c1 * b
        d = e if e < d else d
        e = b2 + y2 * y + x2 * x + l2 * lum + a2 * a + c2 * b
        d = e if e < d else d
        e = b3 + y3 * y + x3 * x + l3 * lum + a3 * a + c3 * b
        d = e if e < d else d
        chosen[i] = NO_SEED if v[o + i] == INVALID else i32(d) & i32(3)


@njit(nogil=True, cache=True, fastmath=EXACT)
def _nearest_any(v, o, n, q, fy, fx, keys, chosen):
    """Do as `_nearest3` for any number of channels, plane by plane; keys[4, n] is scratch."""
    channels = q.shape[1] - 3
    for k in range(4):
        for i in range(n):
            keys[k, i] = q[k, channels + 2] + q[k, channels] * fy[i] + q[k, channels + 1] * fx[i]
        for c in range(channels):
            factor = q[k, c]
            start = o + u64(c * n)
            for i in range(n):
                keys[k, i] += factor * f32(v[start + u64(i)])
    for i in range(n):
        d = min(min(keys[0, i], keys[1, i]), min(keys[2, i], keys[3, i]))
        chosen[i] = NO_SEED if v[o + u64(i)] == INVALID else i32(d) & i32(3)


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
                    _coefficients(centres[i], exists[i], coef[i])
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
        _candidates(coef, i, j, span, q)
        _nearest3(v, o, n, q, fy, fx, chosen)
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
        _candidates(coef, i, j, span, q)
        _nearest_any(v, o, n, q, fy, fx, keys, chosen)
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


@njit(nogil=True, cache=True)
def assign(planes, corner, coef, step, span, fy, fx, first, codes):
    """Assign every pixel: codes[h, w] uint8 = (seed row & 3) << 2 | (seed column & 3), or NO_CODE.

    Cell (i, j) of the seed table begins at row ``corner[0] + i step`` of the planes; `first` is the
    global block row and column of padded seed (0, 0). Neighbouring pixels have equal codes iff
    they have the same seed. 7 bytes and about 45 operations a pixel, 8 pixels at a time.
    """
    channels, h, w = planes.shape
    n = fy.size
    v = np.empty((channels, n), np.int16)
    flat = v.reshape(-1)
    q = np.empty((4, channels + 3), np.float32)
    keys = np.empty((4, n), np.float32)
    chosen = np.empty(n, np.int32)
    for i in range(max(0, -corner[0] // step), coef.shape[0] - 1):
        top = corner[0] + i * step
        if top >= h:
            break
        for j in range(max(0, -corner[1] // step), coef.shape[1] - 1):
            left = corner[1] + j * step
            if left >= w:
                break
            _gather(planes, top, step, left, step, v)
            _candidates(coef, i, j, span, q)
            if channels == 3:
                _nearest3(flat, u64(0), n, q, fy, fx, chosen)
            else:
                _nearest_any(flat, u64(0), n, q, fy, fx, keys, chosen)
            _write_codes(chosen, top, left, step, i32(first[0] + i), i32(first[1] + j), codes)


@njit(nogil=True, cache=True, forceinline=True)
def _write_codes(chosen, top, left, step, row, column, codes):
    """Turn candidate numbers into codes that do not depend on the cell."""
    three = i32(3)
    x0 = max(0, -left)
    x1 = min(step, codes.shape[1] - left)
    for r in range(max(0, -top), min(step, codes.shape[0] - top)):
        for x in range(x0, x1):
            k = chosen[u64(r * step + x)]
            code = ((row + (k >> i32(1))) & three) << i32(2) | (column + (k & i32(1))) & three
            codes[u64(top + r), u64(left + x)] = code if k != NO_SEED else i32(NO_CODE)


@njit(nogil=True, cache=True)
def move_seeds(valid, origin, row_edges, column_edges, rows, columns, exists):
    """Move seeds that lie on masked pixels to the block's valid pixel nearest to them.

    valid[h, w] bool begins at global pixel `origin`; block (i, j) lies between edges i, i + 1 and
    j, j + 1; rows, columns (global), exists [by, bx] are changed in place. Ties go to the first
    pixel in raster order; a block without a valid pixel has no seed.
    """
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            y0 = rows[i, j]
            x0 = columns[i, j]
            if valid[y0 - origin[0], x0 - origin[1]]:
                continue
            exists[i, j] = False
            best = np.int64(2**62)
            for y in range(row_edges[i], row_edges[i + 1]):
                for x in range(column_edges[j], column_edges[j + 1]):
                    distance = (y - y0) ** 2 + (x - x0) ** 2
                    if distance < best and valid[y - origin[0], x - origin[1]]:
                        best = distance
                        rows[i, j] = y
                        columns[i, j] = x
                        exists[i, j] = True


@njit(nogil=True, cache=True)
def seeds_of_roots(codes, starts, rows, root, step, frame):
    """Return int32[runs]: the flat index, in the padded seed table, of each root run's seed.

    frame = (cell row, cell column of the first pixel, its row and column inside that cell, global
    block row and column of the table's first seed, width of the table).
    """
    flat = codes.reshape(-1)
    w = codes.shape[1]
    out = np.zeros(root.size, np.int32)
    for y in range(codes.shape[0]):
        upper = (y + frame[2]) // step + frame[0] - 1  # global row of the cell's upper seeds
        for run in range(rows[y], rows[y + 1]):
            if root[u64(run)] == run:
                pixel = starts[u64(run)]
                code = np.int64(flat[u64(pixel)])
                before = (pixel - y * w + frame[3]) // step + frame[1] - 1
                i = upper + (((code >> 2) - upper) & 3) - frame[4]
                j = before + (((code & 3) - before) & 3) - frame[5]
                out[u64(run)] = i * frame[6] + j if code != NO_CODE else 0
    return out
