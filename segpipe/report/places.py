"""Which places of an image to look at: drawn at random, the least uniform, the worst seams.

The choice was made in the run (`segpipe.inspection`) and is the same every time. No place drawn at
random or for its segments is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from segpipe.report.display import Display
from segpipe.tiles import Box

EACH = 2
"""Places of each kind."""
BAND = 1 << 24
"""Pixels of labels that are sought through at a time."""
OVERLAP, LITTLE = 0.5, 0.05
"""Places that share more than this with an earlier one show nothing new; where there are segments
with room for it, they share little."""


@dataclass(frozen=True)
class Choice:
    """A place and why it was chosen."""

    box: Box
    why: str
    segment: int | None = None
    """The segment that it is about."""


def choose(display: Display, stage: str, edge: int, state: Mapping[str, Any]) -> list[Choice]:
    """Return boxes of `edge` px with segments worth a look, the random ones first."""
    scored = state.get("conditions", {}).get(stage, {})
    seen = partial(_seen, display, stage, edge)
    worst = seen("Least uniform segment, outlined in white", scored.get("worst", []))
    drawn = seen("Drawn at random", scored.get("drawn", []), beside=worst)
    chosen = [replace(choice, segment=None) for choice in drawn] + worst
    return chosen or [Choice(b, "Where segments are") for b in _anywhere(display, stage, edge)]


def _seen(
    display: Display,
    stage: str,
    edge: int,
    why: str,
    segments: Sequence[Mapping[str, Any]],
    *,
    beside: Sequence[Choice] = (),
) -> list[Choice]:
    """Return boxes of `edge` px round the first segments with room of their own, or some of it."""
    found: list[Choice] = []
    for limit in (LITTLE, OVERLAP):
        for segment in segments:
            box = _box(segment["at"], edge, display.shape)
            new = len(found) < EACH and _is_new(box, [*beside, *found], limit)
            if new and display.labels(stage, 0, box).any():
                found.append(Choice(box, why, segment["label"]))
    return found


def worst_seams(display: Display, stage: str, edge: int, state: Mapping[str, Any]) -> list[Choice]:
    """Return boxes of `edge` px at the seams that differ most, each where it does so most."""
    worst = state.get("seams", {}).get(stage, {}).get("worst", [])
    return [Choice(_box(s["where"], edge, display.shape), "Seam") for s in worst]


def _anywhere(display: Display, stage: str, edge: int) -> Iterator[Box]:
    """Yield one box with segments in it, sought from the coarsest level to the finest."""
    for level in range(len(display.shapes) - 1, -1, -1):
        height, width = display.shapes[level]
        step = max(1, BAND // width)
        for top in range(0, height, step):
            band = Box((top, 0), (min(height, top + step), width))
            rows, columns = np.nonzero(display.labels(stage, level, band))
            if len(rows):
                middle = len(rows) // 2
                y, x = (int(n) << level for n in (rows[middle] + top, columns[middle]))
                yield _box((y, x), edge, display.shape)
                return


def _box(place: Sequence[float], edge: int, shape: tuple[int, int]) -> Box:
    """Return a box of `edge` around a point, moved into the image."""
    size = [min(edge, n) for n in shape]
    start = [
        min(max(0, int(c) - s // 2), n - s) for c, s, n in zip(place, size, shape, strict=True)
    ]
    return Box((start[0], start[1]), (start[0] + size[0], start[1] + size[1]))


def _is_new(box: Box, chosen: Sequence[Choice], limit: float) -> bool:
    return all(_shared(box, other.box) <= limit * box.size for other in chosen)


def _shared(a: Box, b: Box) -> int:
    spans = zip(a.start, a.stop, b.start, b.stop, strict=True)
    rows, columns = (max(0, min(p, q) - max(o, n)) for o, p, n, q in spans)
    return rows * columns
