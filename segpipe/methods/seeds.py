"""Where growing begins in a tile: the seeds that are given, or one in each cell of a lattice."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from segpipe.methods import points
from segpipe.methods.points import Point
from segpipe.methods.region_growing_kernels import calm_seeds
from segpipe.passes import Window


class Seeding(Protocol):
    """The parameters that say where seeds are."""

    @property
    def seeds(self) -> tuple[Point, ...]:
        """Those given; none: they are found."""

    @property
    def step(self) -> int:
        """Edge of the cells in which they are found (px)."""


def seeds_in_core(
    parameters: Seeding, window: Window, image: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the seeds in a tile's core on pixels that count.

    Parameters
    ----------
    parameters
        Of the method.
    window, image, valid
        The tile; its image (h, w, C); which of its pixels count, bool (h, w), or None: all.

    Returns
    -------
    places, numbers
        int64 (n, 2), global rows and columns; int64 (n,), their labels, or numbers of their cells.
    """
    origin, core = window.tile.window.start, window.tile.core
    if parameters.seeds:
        places, numbers = points.places(parameters.seeds), points.numbers(parameters.seeds)
        counts = ((places >= core.start) & (places < core.stop)).all(axis=1)
        places, numbers = places[counts], numbers[counts]
    else:
        places = calm_seeds(image, valid, origin, core, parameters.step)
        across = -(-window.grid.shape[1] // parameters.step)
        numbers = places[:, 0] // parameters.step * across + places[:, 1] // parameters.step
    if valid is not None:
        counts = valid[tuple((places - origin).T)]
        places, numbers = places[counts], numbers[counts]
    return places, numbers
