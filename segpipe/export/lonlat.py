"""Longitude and latitude of the corners of pixels, from a lattice of exact ones.

Projections are smooth: between corners that are located exactly, every step-th of a row and column,
the others are interpolated, linearly along both axes. The step is the largest whose error is below
a thousandth of a pixel, measured where it is greatest, halfway between nodes. That costs nothing
beside a projection of every corner (0.3 to 1 us), and it is a function of the corner alone, so that
neighbours share their corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpipe.errors import InputError
from segpipe.export.layer import Layer

STEPS = (64, 32, 16, 8)
"""Corners from node to node, tried in this order."""
CLOSE = 1e-3
"""Error that is allowed (px)."""
CHECKED = 64
"""Nodes along each axis beside which the error is measured."""
AT_ONCE = 1 << 18
"""Corners projected at a time: they become Python's numbers."""
JUMP = 90
"""Degrees between neighbouring nodes that only the antimeridian or a pole can bring about."""
WGS84 = "EPSG:4326"


@dataclass(frozen=True)
class Lattice:
    """Coordinates of some corners of pixels."""

    step: int
    """From node to node (px)."""
    nodes: np.ndarray
    """float64 (rows, columns, 2): x and y of the corner in row i * step, column j * step."""


def lattice(layer: Layer) -> Lattice | None:
    """Return coordinates of corners: WGS 84, or without a coordinate system as the image has them.

    None: the image lies on the antimeridian or at a pole, or its projection is not smooth enough.

    Raises
    ------
    InputError
        The coordinate system is unknown.
    """
    if layer.crs is None:
        rows, columns = (np.arange(0, n + STEPS[0], STEPS[0]) for n in layer.shape)
        return Lattice(STEPS[0], _placed(layer, rows, columns))
    for step in STEPS:
        rows, columns = (np.arange(0, n + step, step) for n in layer.shape)
        nodes = _lonlat(layer, rows, columns)
        if not _whole(nodes):
            return None
        if _error(layer, Lattice(step, nodes)) < CLOSE:
            return Lattice(step, nodes)
    return None


def _placed(layer: Layer, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return coordinates (rows, columns, 2) in the system of the image."""
    a, b, c, d, e, f = layer.transform
    x, y = columns[None, :], rows[:, None]
    return np.stack(np.broadcast_arrays(a * x + b * y + c, d * x + e * y + f), axis=-1)


def _lonlat(layer: Layer, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    points = _placed(layer, rows, columns).reshape(-1, 2)
    try:
        for first in range(0, len(points), AT_ONCE):
            part = points[first : first + AT_ONCE]
            part[:] = np.transpose(transform(layer.crs, WGS84, part[:, 0], part[:, 1]))
    except CRSError as error:
        raise InputError(f"PROJ does not know the coordinate system {layer.crs}") from error
    return points.reshape(len(rows), len(columns), 2)


def _whole(nodes: np.ndarray) -> bool:
    """Whether longitudes and latitudes are possible, and no jump lies between them."""
    within = np.isfinite(nodes).all() and (np.abs(nodes) <= (180, 90)).all()
    return bool(within and all((np.abs(np.diff(nodes, axis=k)) < JUMP).all() for k in (0, 1)))


def _error(layer: Layer, found: Lattice) -> float:
    """Return the largest error (px) in the middle between two nodes of a row or a column."""
    nodes, step = found.nodes, found.step
    i, j = (np.unique(np.linspace(0, n - 2, CHECKED).astype(int)) for n in nodes.shape[:2])
    beside = (nodes[np.ix_(i, j + 1)], nodes[np.ix_(i + 1, j)])
    here, half = nodes[np.ix_(i, j)], step / 2
    exact = (
        _lonlat(layer, i * step, j * step + half),
        _lonlat(layer, i * step + half, j * step),
    )
    pixel = sum(np.abs(other - here) for other in beside) / step
    errors = [np.abs((other + here) / 2 - e) for other, e in zip(beside, exact, strict=True)]
    return float((np.maximum(*errors) / np.maximum(pixel.mean(axis=(0, 1)), 1e-300)).max())
