"""Modes of regions: the means of where their pixels were moved, as columns of the table.

Sums are exact, of floats too (`colours`), so that they do not depend on tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segpipe.regions import colours, places
from segpipe.regions.runs import find_runs


@dataclass(frozen=True)
class Modes:
    """Arrays, written by a pass, that say where pixels were moved."""

    filtered: str
    """(rows, columns, K): to which features."""
    shift: str
    """(rows, columns, 2) int16: how many rows and columns away."""
    dtype: str
    """Of `filtered`: uint8, uint16, int16 or float32."""


def mode_sums(
    regions: np.ndarray, filtered: np.ndarray, shift: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """Return sums over a tile's regions 0..n-1.

    Parameters
    ----------
    regions
        (rows, columns) uint32, 0 = none.
    filtered, shift
        See `Modes`; finite.

    Returns
    -------
    ``shifts`` int64[n, 2] and ``modes`` int64[n, K, digits]: one digit for integers, those of
    `colours.float_sums` for floats.
    """
    found = {"shifts": _sums(regions, shift, n)}
    if filtered.dtype.kind == "f":
        found["modes"] = colours.float_sums(find_runs(regions), n - 1, filtered)["colours"]
    else:
        found["modes"] = _sums(regions, filtered, n)[:, :, None]
    return found


def mode_columns(sums: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Return the columns ``mode-0``, ``mode-1`` and ``intensity_mode-0`` … of complete sums.

    Places are mean row and column of the modes, in pixels as the centroid is.
    """
    total = sums["places"]
    area = total[:, places.AREA]
    found = {
        f"mode-{k}": (total[:, axis] + sums["shifts"][:, k]) / area
        for k, axis in enumerate((places.ROWS, places.COLUMNS))
    }
    floating = np.dtype(dtype).kind == "f"
    width = sum(colours.DIGITS["f4"]) if floating else 1
    planes = math.prod(sums["modes"].shape[1:]) // width  # stored flat
    digits = sums["modes"].reshape(len(area), planes, width)
    if floating:
        finite = np.zeros(digits.shape[:2], np.int64)
        means = colours.moments(area, digits, finite, finite, np.dtype(dtype))[0]
    else:
        means = digits[:, :, 0] / area[:, None]
    return found | {f"intensity_mode-{c}": means[:, c] for c in range(means.shape[1])}


def _sums(regions: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    return colours.plane_sums(regions, values, np.arange(values.shape[2]), n)
