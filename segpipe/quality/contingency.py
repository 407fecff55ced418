"""Which pixels two label images share: a sparse table of counts, additive over tiles.

Every count is an integer and every row is a pair of labels, so the sum over tiles is the table of
the whole image, whatever the tiles and their order were. All scores but those of borders follow
from this table alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

LABEL, TRUTH, PIXELS = range(3)
"""Columns of a table of overlaps."""
VOID = np.iinfo(np.int64).min
"""Stands for the truth of pixels that do not count."""


@dataclass(frozen=True)
class Contingency:
    """What `tabulate` makes of overlaps: places in sorted lists instead of labels, and sums."""

    labels: np.ndarray
    """int64[L], the labels that have a pixel that counts, sorted."""
    truths: np.ndarray
    """int64[T], the same of the truth."""
    row: np.ndarray
    """Per overlap, the place of its label in `labels`."""
    column: np.ndarray
    """Per overlap, the place of its truth in `truths`."""
    pixels: np.ndarray
    """int64, per overlap."""
    label_pixels: np.ndarray
    """int64[L], pixels of each label that count."""
    truth_pixels: np.ndarray
    """int64[T]"""
    void_pixels: np.ndarray
    """int64[L], pixels of each label that do not count."""
    total: int
    """All pixels that count."""


def contingency(
    labels: np.ndarray,
    truth: np.ndarray,
    *,
    ignore: Sequence[int] = (),
    ignore_labels: Sequence[int] = (),
) -> Contingency:
    """Count what two label images share.

    Parameters
    ----------
    labels, truth
        (H, W) integers (or whole numbers as floats). Any values; 0 is a label like the others.
    ignore
        Values of `truth` whose pixels do not count.
    ignore_labels
        Values of `labels` whose pixels do not count.

    Returns
    -------
    Contingency

    Raises
    ------
    ValueError
        The shapes differ, a label is no whole number, or no pixel counts.

    Notes
    -----
    *Tiling*: the sum of `overlaps` over any tiles is that of the whole image.
    Cost: about 1 ns per pixel; memory grows with the number of pairs that meet, not with the image.

    Examples
    --------
    >>> table = contingency(np.array([[1, 1, 2, 2]]), np.array([[5, 5, 5, 6]]))
    >>> table.pixels.tolist(), table.label_pixels.tolist(), table.truth_pixels.tolist()
    ([2, 1, 1], [2, 2], [3, 1])
    """
    labels, truth = as_labels(labels), as_labels(truth)
    return tabulate(overlaps(labels, truth, counted(labels, truth, ignore, ignore_labels)))


def as_labels(values: np.ndarray) -> np.ndarray:
    """Return labels (H, W) as uint32 or, when those may not do, int64; refuse what are no labels.

    Two types, as kernels are compiled for every pair. Unsigned 64-bit values of 2^63 and more
    become negative, one to one.
    """
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"labels must be (H, W) and not empty, got shape {values.shape}")
    if values.dtype.kind == "f":
        if not ((values == np.floor(values)) & (np.abs(values) < 2.0**63)).all():
            raise ValueError("labels must be whole numbers, got fractions, NaN or infinity")
        return values.astype(np.int64)
    if values.dtype.kind not in "biu":
        raise ValueError(f"labels must be integers, got {values.dtype}")
    small = values.dtype.kind != "i" and values.dtype.itemsize <= 4
    return values.astype(np.uint32 if small else np.int64, copy=False)


def counted(
    labels: np.ndarray,
    truth: np.ndarray,
    ignore: Sequence[int] = (),
    ignore_labels: Sequence[int] = (),
    valid: np.ndarray | None = None,
) -> np.ndarray | None:
    """Return (H, W) bool, True where a pixel counts; None when all do."""
    if labels.shape != truth.shape:
        raise ValueError(
            f"labels and truth must have one shape, got {labels.shape} and {truth.shape}"
        )
    keep = None if valid is None else np.asarray(valid, bool).copy()
    for values, unwanted in ((truth, ignore), (labels, ignore_labels)):
        for value in unwanted:
            wanted = values != value
            keep = wanted if keep is None else keep & wanted
    return None if keep is None or keep.all() else keep


def overlaps(labels: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Count the pixels of every pair of labels that meet.

    Parameters
    ----------
    labels, truth
        (H, W) from `as_labels`.
    valid
        (H, W) bool; pixels that are False are counted under the truth `VOID`.

    Returns
    -------
    int64[n, 3]: label, truth, pixels; sorted.
    """
    masked = valid is not None
    where = np.ascontiguousarray(valid) if valid is not None else np.ones((1, 1), bool)
    # parts of a window are copied: cheaper than kernels for arrays with gaps between rows
    labels, truth = np.ascontiguousarray(labels), np.ascontiguousarray(truth)
    return combine(_overlaps(labels, truth, where, masked))


def combine(rows: np.ndarray) -> np.ndarray:
    """Add up overlaps of several tiles; sorted by label and truth."""
    if not len(rows):
        return rows
    rows = rows[_order(rows)]
    new = (rows[1:, :PIXELS] != rows[:-1, :PIXELS]).any(axis=1)
    start = np.flatnonzero(np.concatenate([[True], new]))
    out: np.ndarray = rows[start]
    out[:, PIXELS] = np.add.reduceat(rows[:, PIXELS], start)
    return out


def _order(rows: np.ndarray) -> np.ndarray:
    """Return what sorts overlaps by label and truth; by one key, which is faster, where it fits."""
    low, high = rows[:, :PIXELS].min(axis=0).tolist(), rows[:, :PIXELS].max(axis=0).tolist()
    wide = high[TRUTH] - low[TRUTH] + 1
    if (high[LABEL] - low[LABEL] + 1) * wide < 1 << 63:
        return np.argsort((rows[:, LABEL] - low[LABEL]) * wide + (rows[:, TRUTH] - low[TRUTH]))
    return np.lexsort((rows[:, TRUTH], rows[:, LABEL]))


def tabulate(rows: np.ndarray) -> Contingency:
    """Turn combined overlaps into sums per label and per truth.

    Raises
    ------
    ValueError
        No pixel counts.
    """
    void = rows[:, TRUTH] == VOID
    rows, outside = rows[~void], rows[void]
    if not len(rows):
        raise ValueError("no pixel counts: all are ignored; ignore fewer values")
    labels, row = np.unique(rows[:, LABEL], return_inverse=True)
    truths, column = np.unique(rows[:, TRUTH], return_inverse=True)
    pixels = rows[:, PIXELS].copy()
    place = np.searchsorted(labels, outside[:, LABEL])
    known = labels[np.minimum(place, len(labels) - 1)] == outside[:, LABEL]
    void_pixels = np.zeros(len(labels), np.int64)
    void_pixels[place[known]] = outside[known, PIXELS]
    return Contingency(
        labels=labels,
        truths=truths,
        row=row,
        column=column,
        pixels=pixels,
        label_pixels=_sums(row, pixels, len(labels)),
        truth_pixels=_sums(column, pixels, len(truths)),
        void_pixels=void_pixels,
        total=int(pixels.sum()),
    )


def _sums(places: np.ndarray, pixels: np.ndarray, n: int) -> np.ndarray:
    """Sum in integers: `bincount` with weights would round beyond 2^53."""
    out = np.zeros(n, np.int64)
    np.add.at(out, places, pixels)
    return out


@njit(nogil=True, cache=True)
def _overlaps(labels, truth, valid, masked):  # type: ignore[no-untyped-def]
    """Add runs of equal pairs to a hash table with open addressing; return its rows unsorted."""
    height, width = labels.shape
    rows = np.zeros((1024, 3), np.int64)  # pixels == 0: free
    begins = np.empty(width + 1, np.int64)
    used = 0
    for y in range(height):
        while 2 * (used + width) > rows.shape[0]:
            rows = _grown(rows)
        runs = _runs(labels[y], truth[y], valid[y if masked else 0], masked, begins)
        for k in range(runs):
            x = begins[k]
            right = np.int64(truth[y, x]) if not masked or valid[y, x] else VOID
            used += _add(rows, np.int64(labels[y, x]), right, begins[k + 1] - x)
    return rows[rows[:, PIXELS] > 0]


@njit(nogil=True, cache=True)
def _runs(labels, truth, valid, masked, begins):  # type: ignore[no-untyped-def]
    """Write where runs of equal pairs begin, and the end of the last; return their number."""
    width = labels.shape[0]
    n = 0
    begins[0] = 0
    for x in range(1, width):
        # written every time, kept when n moves on: a branch would be mispredicted at every run
        begins[n + 1] = x
        new = (labels[x] != labels[x - 1]) | (truth[x] != truth[x - 1])
        if masked:
            new |= valid[x] != valid[x - 1]
        n += new
    begins[n + 1] = width
    return n + 1


@njit(nogil=True, cache=True)
def _add(rows, label, truth, pixels):  # type: ignore[no-untyped-def]
    """Add to the row of a pair; return 1 when the pair is new."""
    mixed = np.uint64(label) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29)) ^ np.uint64(truth)) * np.uint64(0xBF58476D1CE4E5B9)
    mask = np.uint64(rows.shape[0] - 1)
    place = (mixed ^ (mixed >> np.uint64(32))) & mask
    while rows[place, PIXELS]:
        if rows[place, LABEL] == label and rows[place, TRUTH] == truth:
            rows[place, PIXELS] += pixels
            return 0
        place = (place + np.uint64(1)) & mask
    rows[place, LABEL] = label
    rows[place, TRUTH] = truth
    rows[place, PIXELS] = pixels
    return 1


@njit(nogil=True, cache=True)
def _grown(rows):  # type: ignore[no-untyped-def]
    """Return the same table with twice the room."""
    larger = np.zeros((2 * rows.shape[0], 3), np.int64)
    for i in range(rows.shape[0]):
        if rows[i, PIXELS]:
            _add(larger, rows[i, LABEL], rows[i, TRUTH], rows[i, PIXELS])
    return larger
