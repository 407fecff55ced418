"""Synchronous topology-preserving refinement of the borders between regions.

In the manner of Yao, Boben, Fidler, Urtasun, "Real-time coarse-to-fine topologically preserving
segmentation", CVPR 2015, 10.1109/CVPR.2015.7298913, with an order-free rule. One sweep visits the
four sub-lattices (y % 2, x % 2) of the GLOBAL pixel lattice one after the other. A border pixel of
region a may move to a 4-neighbour's region b if it is simple (the 4-connected pieces of a inside
its 8-neighbourhood that touch it by an edge number exactly one), and does if the energy is lower:

    E(b) = data(p, b) + price * (number of p's 8-neighbours that exist and are not in b)

Ties keep the pixel, or go to the region that comes first. Region statistics are frozen.

Two pixels of one sub-lattice are never in each other's 3x3 neighbourhood: moving them at once is
the same as moving them one by one in any order, so regions stay connected (the simple-pixel test
holds for each) and no region can vanish (a lone pixel is not simple). One sub-lattice step looks
one pixel far, a sweep 4: after `sweeps` sweeps a pixel depends on less than 4 sweeps + 1 pixels
around. A pixel whose 3x3 neighbourhood did not change since it was last looked at would decide the
same, so only border pixels, and later those near a move, are looked at.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

REACH_PER_SWEEP = 4
BAND = 16  # rows that pass through all sweeps together

i32 = np.int32
i64 = np.int64
u64 = np.uint64


def refine(
    owner: np.ndarray,
    planes: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    seed_of: np.ndarray,
    centres: np.ndarray,
    weights: tuple[int, int, int],
    parity: tuple[int, int],
    sweeps: int,
) -> np.ndarray:
    """Return `owner` with its borders refined.

    Parameters
    ----------
    owner
        (h, w) int32: region of each pixel, -1 where there is none.
    planes
        (C, h, w) int16 colours.
    places
        int32[h], int32[w]: coordinates of rows and columns, in units of the centres.
    seed_of
        int32[regions]: row of `centres` for each region.
    centres
        (seeds, C + 2) int32: colour, y, x.
    weights
        Of colour, of place, and the price of a differing neighbour.
    parity
        Parity of the global row and column of ``owner[0, 0]``.
    sweeps
        Number of sweeps.

    Notes
    -----
    *Tiling*: exact, ``REACH_PER_SWEEP * sweeps`` pixels inside the array's border.
    About 11 bytes a pixel; time goes with the length of the borders.
    """
    h, w = owner.shape
    rim = np.full((h + 2, w + 2), -1, np.int32)  # neighbours of every pixel exist
    rim[1:-1, 1:-1] = owner
    waiting = np.zeros(rim.shape, np.uint8)
    _mark_borders(rim, waiting)
    flat = (rim.reshape(-1), waiting.reshape(-1), planes.reshape(-1), centres.reshape(-1))
    _sweep(*flat, *places, seed_of, weights, parity, sweeps)
    return rim[1:-1, 1:-1]


@njit(nogil=True, cache=True)
def _mark_borders(rim, waiting):
    """Let every pixel wait that has a 4-neighbour of another region."""
    h, w = rim.shape
    for y in range(1, h - 1):
        for x in range(1, w - 1):
            a = rim[u64(y), u64(x)]
            waiting[u64(y), u64(x)] = (a >= 0) & (
                (rim[u64(y - 1), u64(x)] != a)
                | (rim[u64(y + 1), u64(x)] != a)
                | (rim[u64(y), u64(x - 1)] != a)
                | (rim[u64(y), u64(x + 1)] != a)
            )


@njit(nogil=True, cache=True)
def _sweep(owner, waiting, planes, centres, rows, columns, seed_of, weights, start, sweeps):
    """Do all sweeps, band by band: step t, one sub-lattice, trails step t - 1 by one row.

    Step t of a row needs its neighbour rows after step t - 1 and not yet after step t + 1. A lag
    of one row per step gives just that, so a band of rows goes through all steps while in cache.
    """
    height = rows.size
    width = columns.size
    w = u64(width + 2)
    channels = planes.size // (height * width)
    for top in range(0, height + 4 * sweeps, BAND):
        for step in range(4 * sweeps):
            first = max(0, top - step)
            first += (first + start[0] + (step >> 1)) & 1
            left = (start[1] + step) & 1
            for y in range(first, min(height, top + BAND - step), 2):
                line = u64(y + 1) * w + u64(1)
                for x in range(left, width, 2):
                    p = line + u64(x)
                    if waiting[p] == 0:
                        continue
                    waiting[p] = 0
                    a = owner[p]
                    ring = _ring(owner, p, w)
                    if a < 0 or not _is_simple(ring, a):
                        continue
                    best = a
                    least = i64(0)
                    last = i32(-1)
                    for b in (a, ring[0], ring[2], ring[4], ring[6]):
                        if b < 0 or b == last or (b == a and least > 0):
                            continue
                        last = b
                        seed = u64(seed_of[u64(b)]) * u64(channels + 2)
                        dy = i64(rows[u64(y)]) - centres[seed + u64(channels)]
                        dx = i64(columns[u64(x)]) - centres[seed + u64(channels + 1)]
                        colour = i64(0)
                        for c in range(channels):
                            at = u64((c * height + y) * width + x)
                            d = i64(planes[at]) - centres[seed + u64(c)]
                            colour += d * d
                        # + 1: an energy of 0 would read as "none yet"
                        energy = weights[0] * colour + weights[1] * (dy * dy + dx * dx) + 1
                        energy += weights[2] * _differing(ring, b)
                        if (
                            least == 0
                            or energy < least
                            or (energy == least and best != a and b < best)
                        ):
                            best = b
                            least = energy
                    if best != a:
                        owner[p] = best
                        for q in (p - w, p, p + w):
                            waiting[q - u64(1)] = 1
                            waiting[q] = 1
                            waiting[q + u64(1)] = 1


@njit(nogil=True, cache=True, inline="always")
def _ring(owner, p, w):
    """Return the 8 neighbours of p, clockwise from the one above."""
    one = u64(1)
    return (
        owner[p - w],
        owner[p - w + one],
        owner[p + one],
        owner[p + w + one],
        owner[p + w],
        owner[p + w - one],
        owner[p - one],
        owner[p - w - one],
    )


@njit(nogil=True, cache=True, forceinline=True)
def _is_simple(r, a):
    """Tell if one piece of region a in the ring touches the middle by an edge, no more and no less.

    Clockwise, every such piece ends at one 4-neighbour whose next two are not both in a.
    """
    ends = (
        i32((r[0] == a) & ((r[1] != a) | (r[2] != a)))
        + i32((r[2] == a) & ((r[3] != a) | (r[4] != a)))
        + i32((r[4] == a) & ((r[5] != a) | (r[6] != a)))
        + i32((r[6] == a) & ((r[7] != a) | (r[0] != a)))
    )
    return ends == 1


@njit(nogil=True, cache=True, forceinline=True)
def _differing(r, b):
    """Count the neighbours that exist and are not in region b."""
    return (
        i64((r[0] >= 0) & (r[0] != b))
        + i64((r[1] >= 0) & (r[1] != b))
        + i64((r[2] >= 0) & (r[2] != b))
        + i64((r[3] >= 0) & (r[3] != b))
        + i64((r[4] >= 0) & (r[4] != b))
        + i64((r[5] >= 0) & (r[5] != b))
        + i64((r[6] >= 0) & (r[6] != b))
        + i64((r[7] >= 0) & (r[7] != b))
    )
