"""Do segment borders lie where the truth has borders? Recall and precision within a tolerance.

A pixel is a border pixel when one of its four neighbours has another label, so that a border is two
pixels wide. A border pixel is found when the other image has a border pixel in the square window of
2 * radius + 1 pixels round it, clipped by the image. Both as in the code of Stutz, Hermans, Leibe,
"Superpixels: an evaluation of the state-of-the-art", CVIU 166, 2018, 10.1016/j.cviu.2017.03.007.

What is counted is additive over tiles; a tile needs radius + 1 pixels of halo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

TOLERANCE = 0.0025
"""Usual radius, as a share of the image's diagonal."""
BORDER_COUNTS = ("truth", "truth_found", "labels", "labels_found")
"""What `border_counts` counts."""
IN_LABELS, IN_TRUTH = 1, 2
"""Bits of a pixel's mark: both images are dilated at once."""
STRIP = 512
"""Columns dilated downwards together: narrow enough for the cache."""


def tolerance(shape: Sequence[int]) -> int:
    """Return the usual radius (px) for an image of `shape` (H, W): 0.0025 of its diagonal.

    >>> tolerance((321, 481)), tolerance((16384, 16384))
    (1, 58)
    """
    return math.floor(TOLERANCE * math.hypot(*shape) + 0.5)


def border_counts(
    labels: np.ndarray,
    truth: np.ndarray,
    radius: int,
    *,
    valid: np.ndarray | None = None,
    inner: tuple[slice, ...] | None = None,
    thin: bool = False,
) -> np.ndarray:
    """Count border pixels, and those that the other image has too.

    Parameters
    ----------
    labels, truth
        (h, w) from `as_labels`, over a tile's window.
    radius
        Tolerance in pixels, 0 or more.
    valid
        (h, w) bool; between two pixels of which one is False there is no border. None: all True.
    inner
        Where in the window pixels are counted (the tile's core); None: everywhere. It must lie
        radius + 1 pixels inside the window, unless the image ends there.
    thin
        Of two pixels at a border, mark only the lower or right one: a stricter count.

    Returns
    -------
    int64[4]: border pixels of the truth, those of them found, of the labels, those found.

    Notes
    -----
    *Tiling*: additive; the sum over tiles is the count of the whole image.
    Cost: see ``tests/bench/bench_score.py``; 3 bytes per pixel of the window.

    Examples
    --------
    >>> labels, truth = np.array([[1, 1, 2, 2, 2]]), np.array([[1, 1, 1, 1, 2]])
    >>> border_counts(labels, truth, 1).tolist()
    [2, 1, 2, 1]
    """
    if radius < 0:
        raise ValueError(f"the tolerance must be 0 pixels or more, got {radius}")
    marks = np.zeros(labels.shape, np.uint8)
    where = np.ones((1, 1), bool) if valid is None else np.ascontiguousarray(valid)
    for values, bit in ((labels, IN_LABELS), (truth, IN_TRUTH)):
        _mark(np.ascontiguousarray(values), where, valid is not None, np.uint8(bit), thin, marks)
    near = dilated(marks, radius)
    part = inner or (slice(None), slice(None))
    return _found(np.ascontiguousarray(marks[part]), np.ascontiguousarray(near[part]))


def recall(counts: np.ndarray) -> float:
    """Return the share of the truth's border pixels that are found; 1 when it has none.

    Martin, Fowlkes, Malik, "Learning to detect natural image boundaries using local brightness,
    color, and texture cues", IEEE TPAMI 26(5), 2004, 10.1109/TPAMI.2004.1273918, for the tolerance;
    Stutz et al. 2018 for this form.
    """
    return _share(int(counts[1]), int(counts[0]))


def precision(counts: np.ndarray) -> float:
    """Return the share of the labels' border pixels that are found; 1 when there are none.

    The recall of truth and labels exchanged. The code of Stutz et al. 2018 counts what is found in
    the truth instead, see `precision_stutz`.
    """
    return _share(int(counts[3]), int(counts[2]))


def precision_stutz(counts: np.ndarray) -> float:
    """Return found / (found + false): found in the truth, false in the labels (Stutz et al.)."""
    false = int(counts[2]) - int(counts[3])
    return _share(int(counts[1]), int(counts[1]) + false)


def f_measure(counts: np.ndarray) -> float:
    """Return the harmonic mean of recall and precision; 0 when both are 0."""
    a, b = recall(counts), precision(counts)
    return 2 * a * b / (a + b) if a + b else 0.0


def _share(part: int, of: int) -> float:
    return part / of if of else 1.0


def dilated(marks: np.ndarray, radius: int) -> np.ndarray:
    """Return the bitwise or of `marks` over square windows of 2 * radius + 1, clipped.

    Windows are doubled in place until they reach, so the cost grows with log(radius).

    >>> dilated(np.array([[0, 0, 0, 1, 0, 2]], np.uint8), 1).tolist()
    [[0, 0, 1, 1, 3, 2]]
    """
    height, width = marks.shape
    out = np.zeros((height + 2 * radius, width + 2 * radius), np.uint8)
    out[radius : radius + height, radius : radius + width] = marks
    _widen(out, 2 * radius + 1)
    return out[:height, :width]


@njit(nogil=True, cache=True)
def _widen(marks, length):  # type: ignore[no-untyped-def]
    """Let each mark become the or of the `length` marks from it on, along both axes."""
    height, width = marks.shape
    # from one row to another, as a loop in place would not be vectorised
    one, other = np.empty(width, np.uint8), np.empty(width, np.uint8)
    for y in range(height):
        _either(marks[y], marks[y], one)
        reach = 1
        while reach < length:
            shift = min(reach, length - reach)
            _either(one, one[shift:], other)
            one, other = other, one
            reach += shift
        _either(one, one, marks[y])
    for left in range(0, width, STRIP):
        right = min(left + STRIP, width)
        reach = 1
        while reach < length:
            shift = min(reach, length - reach)
            for y in range(height - shift):
                _join(marks[y, left:right], marks[y + shift, left:right])
            reach += shift


@njit(nogil=True, cache=True)
def _either(one, other, out):  # type: ignore[no-untyped-def]
    """Write the or of two rows, of which `other` may be shorter: beyond it there is nothing."""
    n = other.shape[0]
    for x in range(n):
        out[x] = one[x] | other[x]
    for x in range(n, one.shape[0]):
        out[x] = one[x]


@njit(nogil=True, cache=True)
def _join(marks, more):  # type: ignore[no-untyped-def]
    for x in range(marks.shape[0]):
        marks[x] |= more[x]


@njit(nogil=True, cache=True)
def _mark(labels, valid, masked, bit, thin, marks):  # type: ignore[no-untyped-def]
    """Set `bit` in the pixels on both sides of every border (thin: below or right of it)."""
    height, width = labels.shape
    differs = np.empty(width, np.uint8)
    for y in range(height):
        part = differs[: width - 1]
        _compare(labels[y, :-1], labels[y, 1:], bit, part)
        if masked:
            _keep(valid[y, :-1], valid[y, 1:], part)
        _join(marks[y, 1:], part)
        if not thin:
            _join(marks[y, :-1], part)
        if y == 0:
            continue
        _compare(labels[y], labels[y - 1], bit, differs)
        if masked:
            _keep(valid[y], valid[y - 1], differs)
        _join(marks[y], differs)
        if not thin:
            _join(marks[y - 1], differs)


@njit(nogil=True, cache=True)
def _compare(one, other, bit, differs):  # type: ignore[no-untyped-def]
    for x in range(one.shape[0]):
        differs[x] = bit if one[x] != other[x] else np.uint8(0)


@njit(nogil=True, cache=True)
def _keep(one, other, differs):  # type: ignore[no-untyped-def]
    for x in range(one.shape[0]):
        differs[x] = differs[x] if one[x] & other[x] else np.uint8(0)


@njit(nogil=True, cache=True)
def _found(marks, near):  # type: ignore[no-untyped-def]
    """Count marks of the truth, those near one of the labels, and the same the other way round."""
    total = np.zeros(4, np.int64)
    for y in range(marks.shape[0]):
        truth, truth_found, labels, labels_found = 0, 0, 0, 0
        here, there = marks[y], near[y]
        for x in range(marks.shape[1]):
            truth += here[x] >> 1
            truth_found += (here[x] >> 1) & there[x]
            labels += here[x] & 1
            labels_found += here[x] & (there[x] >> 1)
        total += np.array([truth, truth_found, labels, labels_found])
    return total
