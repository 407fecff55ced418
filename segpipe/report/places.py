"""Which places of an image to look at: spread over it, on seams, where there is something to see.

The choice looks at the coarsest level alone, and is the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segpipe.report.display import Display
from segpipe.tiles import Box

CANDIDATES = 12
"""Rows and columns per quarter of the image where a place may lie, at most."""


def choose(display: Display, stage: str, edge: int, tile: tuple[int, int]) -> Iterator[Box]:
    """Yield boxes of `edge` px: one per quarter of the image, the one where most can be seen."""
    level = len(display.shapes) - 1
    image, labels = display.picture(level), display.labels(stage, level)
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    rows, columns = display.shape
    down, across = _quarters(rows, columns, edge)
    for i in range(down):
        for j in range(across):
            ys = _positions(rows * i // down, rows * (i + 1) // down, tile[0], rows)
            xs = _positions(columns * j // across, columns * (j + 1) // across, tile[1], columns)
            boxes = [_box(y, x, edge, display.shape) for y in ys for x in xs]
            # max takes the first of equals: the choice is the same every time
            best = max(boxes, key=lambda box: _interest(grey, labels, box, level))
            if _interest(grey, labels, best, level) >= 0:
                yield best


def _quarters(rows: int, columns: int, edge: int) -> tuple[int, int]:
    """Return into how many rows and columns of parts the image is divided: four, if they fit."""
    down, across = max(1, rows // edge), max(1, columns // edge)
    if min(down, across) >= 2:
        return 2, 2
    return min(down, 4), min(across, 4)


def _positions(start: int, stop: int, tile: int, length: int) -> list[int]:
    """Return where a place may be centred along an axis: on seams, or anywhere without seams."""
    seams = list(range(max(tile, -(-start // tile) * tile), min(stop, length), tile))
    if not seams:
        step = max(1, (stop - start) // (CANDIDATES + 1))
        seams = list(range(start + step, stop, step)) or [start]
    return seams[:: -(-len(seams) // CANDIDATES)]


def _box(y: int, x: int, edge: int, shape: tuple[int, int]) -> Box:
    """Return a box of `edge` around a point, moved into the image."""
    size = [min(edge, n) for n in shape]
    start = [min(max(0, c - s // 2), n - s) for c, s, n in zip((y, x), size, shape, strict=True)]
    return Box((start[0], start[1]), (start[0] + size[0], start[1] + size[1]))


def _interest(grey: np.ndarray, labels: np.ndarray, box: Box, level: int) -> float:
    """Return how much there is to see: contrast times labelled share; -1 for nothing."""
    reach = [
        slice(min(a >> level, n - 1), max(-(-b >> level), (a >> level) + 1))
        for a, b, n in zip(box.start, box.stop, grey.shape, strict=True)
    ]
    part, share = grey[tuple(reach)], float((labels[tuple(reach)] > 0).mean())
    return float(part.std()) * share if share > 0 else -1.0
