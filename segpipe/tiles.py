"""Integer geometry of tiles: boxes, the grid of cores, windows with halo, seams.

Everything here is exact integer arithmetic on n axes in global pixel coordinates. A *tile* is the
unit of work; it owns its *core*; what it reads is its *window* = core + halo, clipped by the
image::

        +-----------------+
        |      halo       |      core: written by this tile alone
        |   +---------+   |      window: read, overlaps the neighbours' windows
        |   |  core   |   |
        |   +---------+   |      seam: the border between two cores
        +-----------------+
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Half-open box ``start <= x < stop`` on every axis, in global pixels."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along every axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of the box in an array that covers the whole image."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grown(self, margin: int, shape: Sequence[int]) -> Box:
        """Return the box grown by `margin` pixels on every side, clipped to an image of `shape`.

        >>> Box((0, 8), (8, 16)).grown(3, (20, 20))
        Box(start=(0, 5), stop=(11, 19))
        """
        return Box(
            tuple(max(0, a - margin) for a in self.start),
            tuple(min(n, b + margin) for b, n in zip(self.stop, shape, strict=True)),
        )

    def snapped(self, align: Sequence[int], shape: Sequence[int]) -> Box:
        """Return the box grown to multiples of `align` on every axis, clipped to an image.

        >>> Box((3, 8), (8, 16)).snapped((4, 8), (10, 20))
        Box(start=(0, 8), stop=(8, 16))
        """
        return Box(
            tuple(a // m * m for a, m in zip(self.start, align, strict=True)),
            tuple(min(n, -(-b // m) * m) for b, m, n in zip(self.stop, align, shape, strict=True)),
        )

    def within(self, outer: Box) -> tuple[slice, ...]:
        """Index of this box in an array that covers `outer`.

        >>> Box((4, 4), (8, 8)).within(Box((2, 3), (10, 10)))
        (slice(2, 6, None), slice(1, 5, None))
        """
        return tuple(
            slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True)
        )


@dataclass(frozen=True)
class Tile:
    """One unit of work: the `core` it writes and the `window` it reads."""

    number: int
    """Raster-order number of the tile in its grid."""
    core: Box
    window: Box

    @property
    def inner(self) -> tuple[slice, ...]:
        """Index of the core inside an array that covers the window."""
        return self.core.within(self.window)


@dataclass(frozen=True)
class Grid:
    """Partition of an image of `shape` into cores of `size` (the last ones may be smaller).

    >>> grid = Grid((100, 90), (64, 64))
    >>> len(grid), grid.counts
    (4, (2, 2))
    >>> grid.tile(3, halo=8).window
    Box(start=(56, 56), stop=(100, 90))
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.size) or min(self.size) < 1 or min(self.shape) < 1:
            raise ValueError(
                f"a grid needs an image and tiles of at least 1 pixel on the same axes, "
                f"got image {self.shape} and tile size {self.size}"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along every axis."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.size, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def position(self, number: int) -> tuple[int, ...]:
        """Grid position (row, column, …) of tile `number`."""
        place = []
        for n in reversed(self.counts):
            number, i = divmod(number, n)
            place.append(i)
        return tuple(reversed(place))

    def core(self, number: int) -> Box:
        """Core of tile `number`."""
        place = self.position(number)
        return Box(
            tuple(i * s for i, s in zip(place, self.size, strict=True)),
            tuple(
                min(n, (i + 1) * s) for i, s, n in zip(place, self.size, self.shape, strict=True)
            ),
        )

    def tile(self, number: int, halo: int = 0, align: tuple[int, ...] | None = None) -> Tile:
        """Tile `number` with a window of `halo` pixels of context.

        With `align` the window begins and ends at multiples of it, before the halo is added: a unit
        of computation that does not depend on the tiles is never cut.
        """
        core = self.core(number)
        whole = core if align is None else core.snapped(align, self.shape)
        return Tile(number, core, whole.grown(halo, self.shape))

    def tiles(self, halo: int = 0) -> Iterator[Tile]:
        """All tiles in raster order."""
        return (self.tile(i, halo) for i in range(len(self)))

    def window_pixels(self, halo: int, align: tuple[int, ...] | None = None) -> int:
        """Pixels read when every window is read once (a product of sums, not a loop)."""
        return math.prod(sum(lengths) for lengths in self._window_lengths(halo, align))

    def largest_window(self, halo: int, align: tuple[int, ...] | None = None) -> int:
        """Pixels of the largest window."""
        return math.prod(max(lengths) for lengths in self._window_lengths(halo, align))

    def _window_lengths(self, halo: int, align: tuple[int, ...] | None) -> Iterator[list[int]]:
        """Lengths of all windows, axis by axis."""
        steps = align or (1,) * len(self.shape)
        for n, s, count, m in zip(self.shape, self.size, self.counts, steps, strict=True):
            yield [
                min(n, -(-min(n, (i + 1) * s) // m) * m + halo) - max(0, i * s // m * m - halo)
                for i in range(count)
            ]
