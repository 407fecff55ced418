"""Connected components of a code map, by runs and union-find.

A *run* is a maximal horizontal stretch of equal codes; runs are numbered in raster order of their
first pixel. A component is named by its smallest run, so its root is its first pixel in raster
order: the same pixel in every window that contains the component.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

u64 = np.uint64


def components(
    codes: np.ndarray, connectivity: int = 1, none: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the connected components of equal code.

    Parameters
    ----------
    codes
        (h, w) integers; pixels belong together iff they are neighbours and have equal codes.
    connectivity
        1: neighbours share a side; 2: a side or a corner.
    none
        Code of pixels that belong to no component; None: there are no such pixels.

    Returns
    -------
    starts
        int32[runs + 1]: linear index of each run's first pixel; the last entry is h * w.
    rows
        int32[h + 1]: first run of each row.
    root
        int32[runs]: the smallest run of the run's component; -1 where the code is `none`.

    Notes
    -----
    *Tiling*: a component inside several windows is the same in all of them, root pixel included.
    About 2 bytes and 4 operations a pixel, and some 40 a run.

    Examples
    --------
    >>> starts, rows, root = components(np.array([[1, 1, 2], [2, 1, 2]], np.uint8))
    >>> starts.tolist(), rows.tolist(), root.tolist()
    ([0, 2, 3, 4, 5, 6], [0, 2, 5], [0, 1, 2, 0, 1])
    """
    h, w = codes.shape
    if h * w >= 2**31:
        raise ValueError(
            f"a window may have up to 2^31 - 1 pixels, got {h} x {w}; take smaller tiles"
        )
    starts, rows = runs_of(codes)
    count = len(starts) - 1
    code = np.empty(count, codes.dtype)
    root = np.empty(count, np.int32)
    skip = none is not None
    _plant(codes.reshape(-1), starts, code, root, skip, codes.dtype.type(none or 0))
    _join_rows(code, starts, rows, (w, connectivity - 1), root)
    return starts, rows, root


def runs_of(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `starts` and `rows` of the runs of equal code (see `components`)."""
    rows = _count_runs(codes)
    starts = np.empty(int(rows[-1]) + 1, np.int32)
    _find_runs(codes, rows, starts)
    return starts, rows


@njit(nogil=True, cache=True)
def _count_runs(codes):
    """Return the number of runs before each row, int32[h + 1]."""
    h, w = codes.shape
    rows = np.empty(h + 1, np.int32)
    rows[0] = 0
    for y in range(h):
        changes = np.int64(1)
        for x in range(1, w):
            changes += np.int64(codes[u64(y), u64(x)] != codes[u64(y), u64(x - 1)])
        rows[y + 1] = rows[y] + changes
    return rows


@njit(nogil=True, cache=True)
def _find_runs(codes, rows, starts):
    """Write the first pixel of every run; free of branches: only the place to write moves on."""
    h, w = codes.shape
    change = np.empty(w, np.uint8)
    for y in range(h):
        for x in range(1, w):
            change[u64(x)] = codes[u64(y), u64(x)] != codes[u64(y), u64(x - 1)]
        starts[rows[y]] = y * w
        place = u64(rows[y] + 1)
        for x in range(1, w):
            starts[place] = y * w + x
            place += u64(change[u64(x)])
    starts[rows[h]] = h * w


@njit(nogil=True, cache=True)
def _plant(codes, starts, code, root, skip, none):
    """Write each run's code, and the run itself, or -1 for those of no component, as its root."""
    for run in range(root.size):
        c = codes[u64(starts[u64(run)])]
        code[u64(run)] = c
        root[u64(run)] = -1 if skip and c == none else run


@njit(nogil=True, cache=True)
def _join_rows(code, starts, rows, widths, root):
    """Unite runs of equal code that meet vertically; widths = (width, reach beyond the corners)."""
    w, reach = widths
    for y in range(1, rows.size - 1):
        first = rows[y - 1]
        for run in range(rows[y], rows[y + 1]):
            begin = starts[u64(run)] - w - reach
            end = starts[u64(run + 1)] - w + reach
            while starts[u64(first + 1)] <= begin:
                first += 1
            if root[u64(run)] < 0:
                continue
            above = first
            while above < rows[y] and starts[u64(above)] < end:
                if code[u64(above)] == code[u64(run)]:
                    unite(root, above, run)
                above += 1
    flatten(root)


@njit(nogil=True, cache=True)
def flatten(root):
    """Let every run point to the smallest run of its tree."""
    for run in range(root.size):
        if root[u64(run)] >= 0:
            root[u64(run)] = root[u64(root[u64(run)])]


@njit(nogil=True, cache=True, forceinline=True)
def unite(root, a, b):
    """Join the trees of runs a and b under the smaller root; paths are halved on the way."""
    while root[u64(a)] != a:
        root[u64(a)] = root[u64(root[u64(a)])]
        a = root[u64(a)]
    while root[u64(b)] != b:
        root[u64(b)] = root[u64(root[u64(b)])]
        b = root[u64(b)]
    if a < b:
        root[u64(b)] = a
    elif b < a:
        root[u64(a)] = b
