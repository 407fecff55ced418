"""Windows of a fixed shape on a fixed grid: the unit of inference, whatever the tiles.

Floating-point convolutions depend in their last bits on the shape they are done for, so the shape
must not depend on tiles. The image is parted into cells of ``stride`` pixels from its origin on;
the outputs of a cell always come from one window of the same shape, the cell and what the network
looks at around it. A tile computes the windows of the cells that it touches. Strides are multiples
of what the network's pooling needs, so all windows lie alike on the grid of every level.

Beyond its border the image is continued by reflection, as far as the network looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segpipe.tiles import Box

BLEND = 16
"""Pixels to both sides of the border between cells where two windows are blended, if at all."""
WINDOW = 1728
"""Edge of windows (px), unless the margin asks for more: large enough that little is computed
twice, small enough for the memory of a core."""
RATIO = 8
"""A window is at least so many times as wide as the halo on one side of it."""


@dataclass(frozen=True)
class Frame:
    """What of a window is its output; in pixels, alike on both axes."""

    align: int
    """Cells begin at multiples of it."""
    before: int
    """A window begins so many pixels before its cell …"""
    after: int
    """… and ends so many behind it."""
    cut: int
    """The output of the cell begins so many pixels inside the output of the window."""
    fixed: tuple[int, int] | None = None
    """Shape of the windows, where the network takes no other."""
    blend: int = 0
    """Outputs are blended up to so many pixels beyond the cell."""

    def layout(self, shape: tuple[int, int], edge: int | None = None) -> Layout:
        """Return the windows of an image of `shape`; they are about `edge` wide, if that is free.

        Cells share the image evenly, so that little of the last ones lies outside.

        >>> frame = Frame(align=8, before=48, after=48, cut=48)
        >>> layout = frame.layout((2967, 100), 768)
        >>> layout.stride, layout.window
        ((600, 104), (696, 200))
        """
        if self.fixed == shape:  # nothing is around the image, nothing has to be cut off
            return Layout(shape, shape, (0, 0), (0, 0), (0, 0), 0)
        around = self.before + self.after
        wanted = edge or max(WINDOW, RATIO * max(self.before, self.after))
        stride = []
        for axis, length in enumerate(shape):
            if self.fixed:
                stride.append(self.fixed[axis] - around)
                continue
            most = max(1, (wanted - around) // self.align) * self.align
            count = -(-length // most)
            stride.append(-(-length // (count * self.align)) * self.align)
        both = (stride[0], stride[1])
        window = (both[0] + around, both[1] + around)
        before, cut, blend = ((n, n) for n in (self.before, self.cut, self.blend))
        return Layout(both, window, before, cut, blend, self.reach)

    @property
    def reach(self) -> int:
        """Pixels around cells that windows read, and beyond the image that they see reflected.

        A pixel that is not the last one of its block of `align` pixels looks farther than the halo.
        """
        return max(self.before, self.after) + self.align


@dataclass(frozen=True)
class Layout:
    """The windows of an image, in pixels (y, x)."""

    stride: tuple[int, int]
    """Shape of the cells."""
    window: tuple[int, int]
    before: tuple[int, int]
    cut: tuple[int, int]
    blend: tuple[int, int]
    reach: int

    def cells(self, core: Box, shape: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the cells (row, column), in raster order, whose outputs reach into a core."""
        ranges = []
        for axis in range(2):
            near, s = self.blend[axis], self.stride[axis]
            first = max(0, (core.start[axis] - near) // s)
            last = min(shape[axis] - 1, core.stop[axis] - 1 + near) // s
            ranges.append(range(first, last + 1))
        return [(i, j) for i in ranges[0] for j in ranges[1]]

    def output(self, cell: tuple[int, int]) -> Box:
        """Return the pixels that a cell's window gives an output for, those blended included."""
        start = tuple(c * s - b for c, s, b in zip(cell, self.stride, self.blend, strict=True))
        stop = tuple((c + 1) * s + b for c, s, b in zip(cell, self.stride, self.blend, strict=True))
        return Box(start, stop)

    def source(
        self, cell: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and the columns of the image that a cell's window shows."""
        rows, columns = (
            reflected(c * s - b, w, self.reach, n)
            for c, s, b, w, n in zip(
                cell, self.stride, self.before, self.window, shape, strict=True
            )
        )
        return rows, columns

    def given(self, output: np.ndarray) -> np.ndarray:
        """Cut the outputs of a cell, those blended included, from a window's (K, h, w)."""
        parts = (
            slice(c - b, c + s + b)
            for c, s, b in zip(self.cut, self.stride, self.blend, strict=True)
        )
        return output[(slice(None), *parts)]

    def weights(self) -> np.ndarray:
        """Return the weights of a cell's outputs, int64; their sum is the same at all pixels."""
        rows, columns = (ramp(s, b) for s, b in zip(self.stride, self.blend, strict=True))
        return np.multiply.outer(rows, columns)

    @property
    def work(self) -> float:
        """Pixels of windows per pixel of cells."""
        return self.window[0] * self.window[1] / (self.stride[0] * self.stride[1])


def ramp(stride: int, blend: int) -> np.ndarray:
    """Return int64 weights along a cell, rising and falling over 2 * blend pixels.

    >>> ramp(4, 1).tolist()
    [1, 2, 3, 3, 2, 1]
    """
    up = np.arange(1, stride + 2 * blend + 1)
    return np.minimum(np.minimum(up, up[::-1]), 2 * blend + 1)


def reflected(start: int, length: int, margin: int, n: int) -> np.ndarray:
    """Return the pixels of a line of n that stand for `length` places from `start` on.

    Reflection goes on for `margin` pixels beyond the line; farther than the network looks, the last
    one is repeated.

    >>> reflected(-3, 9, 3, 4).tolist()
    [3, 2, 1, 0, 1, 2, 3, 2, 1]
    >>> reflected(-1, 3, 1, 1).tolist()
    [0, 0, 0]
    """
    places = np.clip(np.arange(start, start + length), -margin, n - 1 + margin)
    period = max(1, 2 * (n - 1))
    folded = np.abs(places) % period
    return np.minimum(folded, period - folded) if n > 1 else np.zeros(length, np.int64)


def cells_of(
    layout: Layout, core: Box, shape: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], tuple[slice, ...], tuple[slice, ...]]]:
    """Yield each cell of a core, where its outputs lie in the core, and which of them these are."""
    for cell in layout.cells(core, shape):
        box = layout.output(cell)
        start = tuple(max(a, b) for a, b in zip(box.start, core.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(box.stop, core.stop, strict=True))
        common = Box(start, stop)
        yield cell, common.within(core), common.within(box)
