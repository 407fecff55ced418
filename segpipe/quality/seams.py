"""Do tiles show? Borders of segments on seams against elsewhere, and labels under moved seams.

Where tiles left traces, labels would change more often (a cut) or less often (a smear) across the
lines on which tiles meet than across other lines. `line_counts` counts that per tile, on its seams
and on the lines through its middle: the same lines, moved by half a tile. Whether a pixel's label
depends on where the seams are can be computed outright: segment a window twice with seams at
different places, and `changed` counts the pixels that went to another segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.tiles import Box, Grid, Tile

BELOW, RIGHT, MIDDLE_ROW, MIDDLE_COLUMN = range(4)
"""Lines of a tile, as rows of the counts."""
SEAMS, ELSEWHERE = slice(0, 2), slice(2, 4)
DENSITIES = 20
"""Bins of densities from 0 to 1."""
STRETCH = 128
"""Pixels of a seam whose worst stretch is sought."""


def line_boxes(tile: Tile, grid: Grid) -> list[Box | None]:
    """Return the four lines of a tile as boxes, two pixels across; None for those it has not.

    Returns
    -------
    list
        The seam below, the seam to the right, the middle row, the middle column: half a full tile
        from the seams, so that lines of one direction are all as far apart.

    Examples
    --------
    >>> grid = Grid((100, 90), (64, 64))
    >>> line_boxes(grid.tile(1), grid)[:2]
    [Box(start=(63, 64), stop=(65, 90)), None]
    """
    found: list[Box | None] = [None] * 4
    (top, left), (bottom, right) = tile.core.start, tile.core.stop
    row, column = (a + size // 2 for a, size in zip(tile.core.start, grid.size, strict=True))
    if bottom < grid.shape[0]:
        found[BELOW] = Box((bottom - 1, left), (bottom + 1, right))
    if right < grid.shape[1]:
        found[RIGHT] = Box((top, right - 1), (bottom, right + 1))
    if top < row < bottom:
        found[MIDDLE_ROW] = Box((row - 1, left), (row + 1, right))
    if left < column < right:
        found[MIDDLE_COLUMN] = Box((top, column - 1), (bottom, column + 1))
    return found


def line_counts(strips: Sequence[np.ndarray | None]) -> np.ndarray:
    """Count how often labels change across the lines of one tile.

    Parameters
    ----------
    strips
        Labels in the `line_boxes`; 0 = in no segment.

    Returns
    -------
    int64[4, 3]: for each line the pairs of pixels in segments, how many of them differ, and where
    along the line (px from the core's start) the `STRETCH` with most changes begins. Lines that do
    not exist count nothing.

    Notes
    -----
    *Tiling*: every seam belongs to one tile, so counts add up. Cost: the tile's perimeter.

    Examples
    --------
    >>> below = np.array([[1, 1, 2], [3, 1, 2]])
    >>> line_counts([below, None, None, None])[0].tolist()
    [3, 1, 0]
    """
    out = np.zeros((4, 3), np.int64)
    for i, strip in enumerate(strips):
        if strip is not None:
            pair = strip if i in (BELOW, MIDDLE_ROW) else strip.T
            out[i] = _changes(pair[0], pair[1])
    return out


def summary(counts: np.ndarray, grid: Grid, worst: int = 4) -> dict[str, Any]:
    """Compare the seams of a grid with the lines through the middle of its tiles.

    Parameters
    ----------
    counts
        int64[tiles, 4, 3] of `line_counts`, in the order of the tiles.
    grid
        The tiles.
    worst
        How many seams to name.

    Returns
    -------
    dict
        ``pairs``, ``changes`` on seams, ``pairs_elsewhere``, ``changes_elsewhere``, ``density``
        and ``density_elsewhere`` (changes per pair, None without pairs), their ``ratio``, ``lines``
        and ``lines_elsewhere`` (how many lines have a density of 0 to 1/20, 1/20 to 2/20, …: where
        segments follow a lattice, lines differ much, seams or not), and ``worst``: the seams whose
        density is farthest from elsewhere for their length, each with ``axis`` (``y``: a seam
        between rows), ``at`` (first pixel behind it), ``start`` and ``stop`` along it, ``pairs``,
        ``changes``, ``density`` and ``where``, its (y, x) with most changes.
    """
    pairs, changes = counts[:, SEAMS, 0], counts[:, SEAMS, 1]
    n, m = int(pairs.sum()), int(changes.sum())
    n_else, m_else = (int(counts[:, ELSEWHERE, k].sum()) for k in (0, 1))
    found: dict[str, Any] = {
        "pairs": n,
        "changes": m,
        "pairs_elsewhere": n_else,
        "changes_elsewhere": m_else,
        "density": m / n if n else None,
        "density_elsewhere": m_else / n_else if n_else else None,
        "lines": _histogram(pairs, changes),
        "lines_elsewhere": _histogram(counts[:, ELSEWHERE, 0], counts[:, ELSEWHERE, 1]),
    }
    found["ratio"] = m * n_else / (n * m_else) if n and m_else else None
    # rows with rows, columns with columns: on a lattice of segments they differ much
    others = counts[:, ELSEWHERE].sum(axis=0)
    expected = others[:, 1] / np.maximum(others[:, 0], 1) * pairs
    # a seam of n pairs is allowed to differ by about the root of what is expected
    excess = np.abs(changes - expected) / np.sqrt(np.maximum(expected, 1.0))
    excess[pairs == 0] = -1.0
    order = np.argsort(-excess, axis=None, kind="stable")[:worst]
    found["worst"] = [_seam(counts, grid, *divmod(int(i), 2)) for i in order if excess.flat[i] >= 0]
    return found


def changed(a: np.ndarray, b: np.ndarray) -> int:
    """Count the pixels whose segment is not the same in two label images of one shape.

    Each segment of one image is matched with the segment of the other that it shares most pixels
    with; pixels outside are counted, and those that are in a segment in one image only. Of both
    directions the larger count. 0 if and only if the images are equal up to numbering.

    >>> a = np.array([[1, 1, 2, 2]])
    >>> changed(a, np.array([[7, 7, 5, 5]])), changed(a, np.array([[1, 2, 2, 2]]))
    (0, 1)
    """
    if a.shape != b.shape:
        raise ValueError(f"label images must have one shape, got {a.shape} and {b.shape}")
    if np.array_equal(a, b):
        return 0
    one_only = int(((a == 0) != (b == 0)).sum())
    both = (a > 0) & (b > 0)
    a, b = (np.unique(labels[both], return_inverse=True)[1].astype(np.int64) for labels in (a, b))
    if not len(a):
        return one_only
    keys, shared = np.unique(a * (int(b.max()) + 1) + b, return_counts=True)
    sides = np.divmod(keys, int(b.max()) + 1)
    return one_only + max(len(a) - _best(side, shared) for side in sides)


def moved_seams(
    segment: Callable[[tuple[int, int]], np.ndarray], shape: tuple[int, int]
) -> dict[str, Any]:
    """Segment one window twice, with seams half a tile apart, and count what differs.

    Parameters
    ----------
    segment
        Tile size -> labels of the window.
    shape
        (rows, columns) of the window. The tiles are half of it: seams through the middle; then
        three quarters of it: the same seams, half a tile further.

    Returns
    -------
    dict
        ``pixels`` in segments, ``changed`` pixels (`changed`), ``identical`` labels, numbers
        included, and the ``tile`` of the first run.
    """
    height, width = shape
    tile = (-(-height // 2), -(-width // 2))
    one, other = segment(tile), segment((-(-3 * height // 4), -(-3 * width // 4)))
    return {
        "pixels": int(((one > 0) | (other > 0)).sum()),
        "changed": changed(one, other),
        "identical": bool(np.array_equal(one, other)),
        "tile": list(tile),
    }


def merged_check(windows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what `moved_seams` found in some windows."""
    pixels, differing = (sum(w[key] for w in windows) for key in ("pixels", "changed"))
    return {
        "pixels": pixels,
        "changed": differing,
        "share": differing / pixels if pixels else None,
        "identical": all(w["identical"] for w in windows) if windows else None,
        "windows": [dict(w) for w in windows],
    }


def _changes(one: np.ndarray, other: np.ndarray) -> tuple[int, int, int]:
    both = (one > 0) & (other > 0)
    differ = both & (one != other)
    where = 0
    if len(differ) > STRETCH:
        total = np.concatenate([[0], np.cumsum(differ)])
        where = int(np.argmax(total[STRETCH:] - total[:-STRETCH]))
    return int(both.sum()), int(differ.sum()), where


def _seam(counts: np.ndarray, grid: Grid, number: int, line: int) -> dict[str, Any]:
    """Describe the seam `line` (`BELOW` or `RIGHT`) of tile `number`."""
    core = grid.core(number)
    along = 1 if line == BELOW else 0
    pairs, changes, where = (int(n) for n in counts[number, line])
    middle = core.start[along] + min(where + STRETCH // 2, core.shape[along] - 1)
    at = core.stop[1 - along]
    return {
        "axis": "y" if line == BELOW else "x",
        "at": at,
        "start": core.start[along],
        "stop": core.stop[along],
        "pairs": pairs,
        "changes": changes,
        "density": changes / pairs,
        "where": [at, middle] if line == BELOW else [middle, at],
    }


def _histogram(pairs: np.ndarray, changes: np.ndarray) -> list[int]:
    """Count lines by their density."""
    some = pairs > 0
    bins = np.minimum(changes[some] * DENSITIES // pairs[some], DENSITIES - 1)
    return np.bincount(bins, minlength=DENSITIES).tolist()


def _best(side: np.ndarray, shared: np.ndarray) -> int:
    """Sum over segments of the largest number of pixels shared with one of the other image."""
    most = np.zeros(int(side.max()) + 1, np.int64)
    np.maximum.at(most, side, shared)
    return int(most.sum())
