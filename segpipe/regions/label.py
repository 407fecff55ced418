"""Label a tile: from codes or near values to regions 1..n in raster order of first pixels."""

from __future__ import annotations

import numpy as np
from numba import njit

from segpipe.regions import paint
from segpipe.regions.components import components
from segpipe.regions.zones import zones


def label_codes(
    codes: np.ndarray, connectivity: int = 1, none: float | None = None
) -> tuple[np.ndarray, int]:
    """Label the connected components of equal codes.

    Parameters
    ----------
    codes
        (h, w) integers.
    connectivity
        1: neighbours share a side; 2: a side or a corner.
    none
        Code of pixels that belong to no region; None: there are no such pixels.

    Returns
    -------
    regions, n
        (h, w) uint32: 0 = none, 1..n by first pixel; their number.

    Examples
    --------
    >>> regions, n = label_codes(np.array([[7, 0, 7], [7, 7, 0]], np.uint8), none=0)
    >>> regions.tolist(), n
    ([[1, 0, 2], [1, 1, 0]], 2)
    """
    codes = np.ascontiguousarray(codes)
    _starts, rows, root = components(codes, connectivity, none)
    numbers, n = _number(root)
    regions = np.empty(codes.shape, np.uint32)
    paint.paint(codes, rows, numbers, (0, codes.shape[0], 0, codes.shape[1]), regions)
    return regions, n


def label_zones(
    image: np.ndarray,
    valid: np.ndarray | None = None,
    tolerance: float = 0.0,
    connectivity: int = 1,
) -> tuple[np.ndarray, int]:
    """Label the zones of near values of an (h, w, C) image; see `zones` and `label_codes`."""
    starts, _rows, root = zones(image, valid, tolerance, connectivity)
    numbers, n = _number(root)
    regions = np.empty(image.shape[:2], np.uint32)
    paint.fill(starts, numbers, regions)
    return regions, n


@njit(nogil=True, cache=True)
def _number(root):  # type: ignore[no-untyped-def]
    """Return the number of each run's component, 1.. by smallest run, 0 for root -1; the count."""
    numbers = np.empty(root.size, np.uint32)
    count = 0
    for run in range(root.size):
        own = root[run]
        if own == run:
            count += 1
            numbers[run] = count
        else:
            numbers[run] = numbers[own] if own >= 0 else 0
    return numbers, count
