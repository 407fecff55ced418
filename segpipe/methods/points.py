"""Points as a parameter: where regions begin, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from segpipe.passes import ImageInfo

Point = tuple[int, int] | tuple[int, int, int]
"""[row, column], or [row, column, label] where several points may share a label."""

MOST = 200_000
"""Points of one list: every task carries the list."""
LARGEST = (1 << 32) - 3
"""Largest label of a point."""


def as_points(given: Any, what: str) -> tuple[Point, ...]:
    """Return points as tuples of whole numbers, or explain what is wrong.

    >>> as_points([[3, 4], (5, 6.0, 1)], "seeds")
    ((3, 4), (5, 6, 1))
    """
    form = f"{what} must be points, [[row, column], …] or [[row, column, label], …]"
    try:
        points = [tuple(int(number) for number in point) for point in given]
        whole = [all(n == m for n, m in zip(*pair, strict=True)) for pair in zip(points, given)]  # noqa: B905
    except (TypeError, ValueError):
        raise ValueError(f"{form}, got {given!r}") from None
    for number, point in enumerate(points):
        if len(point) not in (2, 3) or not whole[number]:
            raise ValueError(f"{form}; point {number + 1} is {list(given)[number]!r}")
        if len(point) == 3 and not 0 <= point[2] <= LARGEST:
            raise ValueError(
                f"the label of a point must be 0 to {LARGEST}; point {number + 1} has {point[2]}"
            )
    if len(points) > MOST:
        raise ValueError(
            f"{what} may be up to {MOST:,} points, got {len(points):,}; give so many as a label"
            " image (watershed, markers: segments)"
        )
    return tuple(points)  # type: ignore[arg-type]


def check_inside(points: Sequence[Point], image: ImageInfo, what: str) -> None:
    """Refuse points outside the image."""
    for number, point in enumerate(points):
        y, x = point[:2]
        if not (0 <= y < image.shape[0] and 0 <= x < image.shape[1]):
            raise ValueError(
                f"{what} {number + 1} at [{y}, {x}] is outside the image of {image.shape[0]} rows"
                f" and {image.shape[1]} columns; give [row, column], counted from 0"
            )


def places(points: Sequence[Point]) -> np.ndarray:
    """Return int64[n, 2], rows and columns."""
    return np.array([point[:2] for point in points], np.int64).reshape(-1, 2)


def numbers(points: Sequence[Point]) -> np.ndarray:
    """Return int64[n], the label of each point; without one, the next number that none has.

    >>> numbers([(5, 5), (9, 9, 0), (7, 3), (2, 2, 0)]).tolist()
    [1, 0, 2, 0]
    """
    taken = {point[2] for point in points if len(point) == 3}
    free = (number for number in count() if number not in taken)
    return np.array([p[2] if len(p) == 3 else next(free) for p in points], np.int64)
