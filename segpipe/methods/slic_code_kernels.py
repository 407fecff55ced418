"""Codes of exact SLIC: every pixel's seed; the legend is in `slic_key_kernels`."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.slic_key_kernels import NO_SEED, candidates, gather, nearest3, nearest_any

NO_CODE = np.uint8(255)

f32 = np.float32
i32 = np.int32
u64 = np.uint64


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
            gather(planes, top, step, left, step, v)
            candidates(coef, i, j, span, q)
            if channels == 3:
                nearest3(flat, u64(0), n, q, fy, fx, chosen)
            else:
                nearest_any(flat, u64(0), n, q, fy, fx, keys, chosen)
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
