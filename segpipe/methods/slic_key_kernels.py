"""Keys of exact SLIC: which of a cell's four candidates is nearest to each of its pixels.

The rules and the geometry are in `slic_window`.

Legend: C channels; n pixels of a cell in the buffer, a multiple of 8; bh, bw blocks of the window.
A *cell* is the step x step square between four neighbouring seeds, so its pixels share their four
candidates and every loop below is a plain loop over n with constants held in registers.
Candidate k of cell (i, j) is the seed in row ``i + (k >> 1)``, column ``j + (k & 1)`` of the padded
seed table [bh + 2, bw + 2], whose rim has no seeds.

Exactness: float32 carries integers only, and the absolute values of the terms of every sum add up
to less than 2^24 (`slic_clusters.units` sees to it). So all sums are exact in any order, with or
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

f32 = np.float32
i32 = np.int32
u64 = np.uint64


@njit(nogil=True, cache=True)
def gather(planes, top, rows, left, step, out):
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


@njit(nogil=True, cache=True)
def coefficients(centres, exists, out):
    """Prepare out[.., C + 3]: -8 colour, 4 |colour|^2, y, x of centres[.., C + 2] (float32)."""
    for i in range(out.shape[0]):
        update_coefficients(centres[i], exists[i], out[i])


@njit(nogil=True, cache=True)
def update_coefficients(centres, exists, out):
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
def candidates(coef, i, j, span, out):
    """Set up the four candidates of cell (i, j); coordinates count from the middle of the cell."""
    near = f32(-(span // 2))
    far = f32(span - span // 2)
    _candidate(coef, i, j, 0, near, near, out)
    _candidate(coef, i, j + 1, 1, near, far, out)
    _candidate(coef, i + 1, j, 2, far, near, out)
    _candidate(coef, i + 1, j + 1, 3, far, far, out)


@njit(nogil=True, cache=True, forceinline=True, fastmath=EXACT)
def nearest3(v, o, n, q, fy, fx, chosen):
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
def nearest_any(v, o, n, q, fy, fx, keys, chosen):
    """Do as `nearest3` for any number of channels, plane by plane; keys[4, n] is scratch."""
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
