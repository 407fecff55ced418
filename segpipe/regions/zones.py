"""Zones of near values (quasi-flat zones): components linked by small steps between neighbours.

The same runs, roots and union-find as in `components`, for images of any type and number of
channels. A run is a maximal stretch of a row whose neighbours are near; what is near is a function
of two pixels, so zones are the same in all windows that contain them.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.regions.components import flatten, unite

u64 = np.uint64


def zones(
    image: np.ndarray,
    valid: np.ndarray | None = None,
    tolerance: float = 0.0,
    connectivity: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the connected parts in which every step between some neighbours is small.

    Parameters
    ----------
    image
        (h, w, C), integers of up to 32 bits or floats. NaN is near nothing.
    valid
        (h, w) bool, False where a pixel belongs to no zone; None: all do.
    tolerance
        Neighbours are linked if no channel differs by more; 0: equal values.
    connectivity
        1: neighbours share a side; 2: a side or a corner.

    Returns
    -------
    starts, rows, root
        As `segpipe.regions.components.components`; root is -1 for pixels of no zone.

    References
    ----------
    P. Soille, Constrained connectivity for hierarchical image partitioning and simplification, IEEE
    TPAMI 30(7), 2008, 10.1109/TPAMI.2007.70817 (the relation alpha-connectivity).

    Examples
    --------
    >>> starts, rows, root = zones(np.array([[1, 2, 9], [8, 3, 4]])[..., None], tolerance=1)
    >>> starts.tolist(), root.tolist()
    ([0, 2, 3, 4, 6], [0, 1, 2, 0])
    """
    h, w = image.shape[:2]
    if h * w >= 2**31:
        raise ValueError(
            f"a window may have up to 2^31 - 1 pixels, got {h} x {w}; take smaller tiles"
        )
    inside = np.ones((h, w), bool) if valid is None else np.ascontiguousarray(valid, bool)
    begins = _begins(image, inside, float(tolerance))
    rows = np.zeros(h + 1, np.int32)
    np.cumsum(np.count_nonzero(begins, axis=1), out=rows[1:])
    starts = np.append(np.flatnonzero(begins), h * w).astype(np.int32)
    root = np.arange(len(starts) - 1, dtype=np.int32)
    root[~inside.ravel()[starts[:-1]]] = -1
    _join_rows(image, inside, begins, rows, (float(tolerance), connectivity), root)
    return starts, rows, root


def near(tolerance: float, here: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Tell which pixels of two lists (m,) or (m, C) are linked: no channel differs by more."""
    apart = np.abs(here.astype(np.float64) - across.astype(np.float64)) <= tolerance
    return apart if apart.ndim == 1 else np.all(apart, axis=1)


@njit(nogil=True, cache=True)
def _begins(image, inside, tolerance):
    """Return bool[h, w], True where a run begins."""
    h, w = inside.shape
    begins = np.empty((h, w), np.bool_)
    linked = np.empty(w, np.bool_)
    for y in range(h):
        begins[y, 0] = True
        _link(image[y, 1:], image[y, :-1], tolerance, linked)
        for x in range(1, w):
            both = inside[y, x] and inside[y, x - 1] and linked[x - 1]
            begins[y, x] = not (both or (not inside[y, x] and not inside[y, x - 1]))
    return begins


@njit(nogil=True, cache=True)
def _link(a, b, tolerance, linked):
    """linked[i] = pixels a[i] and b[i], of all channels, are near; rows of (n, C)."""
    for i in range(a.shape[0]):
        linked[u64(i)] = abs(np.float64(a[u64(i), 0]) - np.float64(b[u64(i), 0])) <= tolerance
    for c in range(1, a.shape[1]):
        for i in range(a.shape[0]):
            d = abs(np.float64(a[u64(i), u64(c)]) - np.float64(b[u64(i), u64(c)]))
            linked[u64(i)] &= d <= tolerance


@njit(nogil=True, cache=True)
def _join_rows(image, inside, begins, rows, rule, root):
    """Unite the runs of rows one above the other wherever two of their pixels are linked."""
    tolerance, connectivity = rule
    h, w = inside.shape
    linked = np.empty(w, np.bool_)
    for y in range(1, h):
        for shift in range(1 - connectivity, connectivity):
            # pixel x meets pixel x + shift above it, for x = left .. left + n - 1
            left = max(0, -shift)
            n = w - abs(shift)
            up = left + shift
            if n > 0:
                _link(image[y, left : left + n], image[y - 1, up : up + n], tolerance, linked)
                heads = (rows[y] - 1 + left, rows[y - 1] - 1 + up)
                _join_row(begins[y, left:], begins[y - 1, up:], heads, linked[:n], root)
    flatten(root)


@njit(nogil=True, cache=True)
def _join_row(below, above, heads, linked, root):
    """Unite the runs of linked pixels; `heads`: the runs before the first pixel of each row."""
    run, up = heads
    done = False
    for x in range(linked.size):
        run += below[u64(x)]
        up += above[u64(x)]
        done &= not (below[u64(x)] or above[u64(x)])
        if linked[u64(x)] and not done and root[u64(run)] >= 0 and root[u64(up)] >= 0:
            unite(root, up, run)
            done = True
