"""Polygons from vector files, and the pixels they cover.

A pixel is covered when its centre lies in a polygon by the even-odd rule (holes are rings like any
other). For a mask the polygons of one file are united; as labels, every feature is an object of its
own, and later ones lie on top. Crossings are computed from global coordinates, row by row,
in float64, with every edge taken from its upper to its lower end: they do not depend on the window,
and two polygons that share an edge leave neither gap nor overlap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.readers.base import ReadError, SourceInfo
from segpipe.readers.geoparquet import read_geometries
from segpipe.readers.places import open_place, said_plainly
from segpipe.tiles import Box

Rings = list[np.ndarray]
"""Closed rings (n, 2) of x, y; the first is the outline."""

LONGITUDE_LATITUDE = {"EPSG:4326", "OGC:CRS84"}
"""GeoJSON writes both with longitude first."""


@dataclass(frozen=True)
class Polygons:
    """Edges of polygons in pixel coordinates, polygon by polygon."""

    edges: np.ndarray
    """(n, 4) float64: x and y of the upper end, x and y of the lower end; none is horizontal."""
    first: np.ndarray
    """Index of the first edge of every polygon, and the number of edges."""
    bounds: np.ndarray
    """(polygons, 4): smallest x, y, largest x, y."""
    features: np.ndarray
    """Number of the feature (1, 2, … in the file) that every polygon belongs to."""

    def draw(self, box: Box) -> np.ndarray:
        """Return (rows, columns) uint8, 1 where a pixel centre of `box` lies in a polygon."""
        out = np.zeros(box.shape, np.uint8)
        for _, part, inside in self._covers(box):
            out[part] |= inside
        return out

    def number(self, box: Box) -> np.ndarray:
        """Return (rows, columns) uint32, the last feature that a pixel centre lies in, else 0."""
        out = np.zeros(box.shape, np.uint32)
        for polygon, part, inside in self._covers(box):
            out[part][inside > 0] = self.features[polygon]
        return out

    def _covers(self, box: Box) -> Iterator[tuple[int, tuple[slice, ...], np.ndarray]]:
        """Yield number, part of `box` round it, and covered pixels of the polygons in `box`."""
        for number in self.touching(box):
            x0, y0, x1, y1 = self.bounds[number]
            # a pixel more at the sides, as crossings are rounded
            around = Box((math.floor(y0), math.floor(x0) - 1), (math.ceil(y1), math.ceil(x1) + 1))
            start = tuple(map(max, around.start, box.start))
            stop = tuple(map(min, around.stop, box.stop))
            if any(a >= b for a, b in zip(start, stop, strict=True)):
                continue
            part = Box(start, stop)
            edges = self.edges[self.first[number] : self.first[number + 1]]
            yield int(number), part.within(box), _inside(edges, part)

    def touching(self, box: Box) -> np.ndarray:
        """Numbers of the polygons whose bounds meet `box`."""
        (top, left), (bottom, right) = box.start, box.stop
        x0, y0, x1, y1 = self.bounds.T
        return np.flatnonzero((x0 < right) & (x1 > left) & (y0 < bottom) & (y1 > top))


def _inside(edges: np.ndarray, box: Box) -> np.ndarray:
    """Return 1 where a pixel centre has an odd number of crossings to its left or on it."""
    (top, left), (height, width) = box.start, box.shape
    # An edge crosses the rows whose centres y + 0.5 lie in [upper end, lower end).
    start = np.clip(np.ceil(edges[:, 1] - 0.5), top, top + height).astype(np.int64)
    stop = np.clip(np.ceil(edges[:, 3] - 0.5), top, top + height).astype(np.int64)
    counts = stop - start
    edge = np.repeat(np.arange(len(edges)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + start[edge]
    x0, y0, x1, y1 = edges[edge].T
    crossing = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
    column = np.clip(np.ceil(crossing - 0.5) - left, 0, width).astype(np.int64)
    flips = np.bincount((row - top) * (width + 1) + column, minlength=height * (width + 1))
    odd = np.cumsum(flips.reshape(height, width + 1)[:, :width], axis=1) & 1
    return odd.astype(np.uint8)


def read_polygons(where: str, info: SourceInfo) -> Polygons:
    """Read the polygons of a vector file into pixel coordinates of the image `info`."""
    suffix = Path(where.split("?")[0]).suffix.lower()
    parts, crs = _geojson(where) if suffix in (".geojson", ".json") else _ogr(where)
    check_crs(where, crs, info)
    try:
        polygons = [(n, [_closed(ring, info) for ring in rings]) for n, rings in parts]
    except (ValueError, IndexError, TypeError) as err:
        raise ReadError(
            f"{where}: a polygon has coordinates that are not lists of x, y ({err}); write it again"
        ) from err
    polygons = [(n, rings) for n, rings in polygons if any(len(ring) > 3 for ring in rings)]
    if not polygons:
        raise ReadError(f"{where} has no polygon in it; give a file with Polygon or MultiPolygon")
    found = _edges([rings for _, rings in polygons], [n for n, _ in polygons])
    if not len(found.touching(Box((0, 0), info.shape))):
        x0, y0 = found.bounds[:, :2].min(axis=0)
        x1, y1 = found.bounds[:, 2:].max(axis=0)
        raise ReadError(
            f"no polygon of {where} touches the image: in its pixels they span columns {x0:.1f} to "
            f"{x1:.1f} and rows {y0:.1f} to {y1:.1f}, the image has {info.shape[1]} columns and "
            f"{info.shape[0]} rows; coordinates must be in {_expected(info)}"
        )
    return found


def _expected(info: SourceInfo) -> str:
    """Return the words for the coordinates that polygons need."""
    if info.transform is None:
        return "pixels, x right and y down"
    return f"the image's coordinate system, {info.crs or 'which has no EPSG code'}"


def check_crs(where: str, crs: str | None, info: SourceInfo) -> None:
    """Refuse coordinates in another system than the image's."""
    if info.transform is None or info.crs is None or crs is None or crs == info.crs:
        return
    if {crs, info.crs} <= LONGITUDE_LATITUDE:
        return
    raise ReadError(
        f"coordinates of {where} are in {crs}, the image is in {info.crs}; reproject them, for "
        f"example with ogr2ogr -t_srs {info.crs}"
    )


def _closed(ring: Any, info: SourceInfo) -> np.ndarray:
    """Return a closed ring (n, 2) in pixel coordinates."""
    points = to_pixels(np.asarray(ring, np.float64)[:, :2], info)
    return points if (points[0] == points[-1]).all() else np.concatenate([points, points[:1]])


def to_pixels(points: np.ndarray, info: SourceInfo) -> np.ndarray:
    """Return points (n, 2) of x, y in pixel coordinates of an image."""
    if info.transform is None:
        return points
    a, b, c, d, e, f = info.transform
    x, y = points[:, 0] - c, points[:, 1] - f
    return np.stack([e * x - b * y, a * y - d * x], axis=1) / (a * e - b * d)


def _edges(polygons: list[Rings], features: Sequence[int] | None = None) -> Polygons:
    """Collect the edges of all polygons, each from its upper to its lower end."""
    edges, bounds = [], []
    for rings in polygons:
        pieces = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])
        turned = np.where(pieces[:, 1:2] > pieces[:, 3:4], pieces[:, [2, 3, 0, 1]], pieces)
        edges.append(turned[turned[:, 1] < turned[:, 3]])
        points = np.concatenate(rings)
        bounds.append(np.concatenate([points.min(axis=0), points.max(axis=0)]))
    first = np.cumsum([0, *(len(e) for e in edges)])
    numbers = np.arange(1, len(polygons) + 1) if features is None else np.array(features)
    return Polygons(np.concatenate(edges), first, np.array(bounds), numbers)


def _geojson(where: str) -> tuple[list[tuple[int, Any]], str | None]:
    """Return feature and rings of all polygons, and the CRS, None where the file names none."""
    place = open_place(where)
    try:
        with said_plainly(where), place.stream() as file:
            text = file.read()
    finally:
        place.close()
    try:
        content = json.loads(text)
        crs = content.get("crs") if isinstance(content, dict) else None
        name = crs["properties"]["name"] if crs else None
        found = content.get("features") if isinstance(content, dict) else content
        return _numbered(found if isinstance(found, list) else [content]), epsg(name)
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ReadError(
            f"{where} is not GeoJSON ({type(err).__name__}: {err}); give a FeatureCollection of "
            "polygons"
        ) from err


def _numbered(features: list[Any]) -> list[tuple[int, Any]]:
    """Return (number from 1, rings) of the polygons of all features."""
    return [(n, rings) for n, node in enumerate(features, 1) for rings in _rings(node)]


def _rings(node: Any) -> Iterator[Any]:
    """Yield the rings of every polygon in a GeoJSON object, however deep it lies."""
    if node is None:
        return
    if isinstance(node, list):
        for one in node:
            yield from _rings(one)
    elif node["type"] == "Polygon":
        yield node["coordinates"]
    elif node["type"] == "MultiPolygon":
        yield from node["coordinates"]
    else:
        for key in ("features", "geometry", "geometries"):
            yield from _rings(node.get(key))


def epsg(name: str | None) -> str | None:
    """Return ``EPSG:n`` of the ways GeoJSON and GDAL name a CRS.

    >>> epsg("urn:ogc:def:crs:EPSG::32632"), epsg("urn:ogc:def:crs:OGC:1.3:CRS84")
    ('EPSG:32632', 'OGC:CRS84')
    """
    if name is None:
        return None
    parts = [part for part in name.upper().split(":") if part]
    if parts[-1] == "CRS84":
        return "OGC:CRS84"
    return f"EPSG:{parts[-1]}" if "EPSG" in parts else name


def _ogr(where: str) -> tuple[list[tuple[int, Any]], str | None]:
    """Return the same of GeoParquet and of any file that GDAL reads."""
    try:
        import pyogrio.raw
        import shapely
    except ImportError as err:
        raise ReadError(
            f"{where}: reading {Path(where).suffix} needs pyogrio and shapely; install them, or "
            "convert the polygons to GeoJSON"
        ) from err
    try:
        if Path(where.split("?")[0]).suffix.lower() == ".parquet":
            geometries, crs = read_geometries(where)
        else:
            meta, _, geometries, _ = pyogrio.raw.read(where, columns=[])
            crs = epsg(meta.get("crs"))
        shapes: Iterable[Any] = shapely.from_wkb(geometries)
    except ReadError:
        raise
    except Exception as err:
        # pyogrio and GDAL have many kinds of errors for one thing: the file cannot be read.
        raise ReadError(f"{where} cannot be read as polygons ({err}); check the file") from err
    nodes = [None if s is None else shapely.geometry.mapping(s) for s in shapes]
    return _numbered(nodes), crs
