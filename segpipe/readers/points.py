"""Points from files: where regions begin."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.readers.base import ReadError, SourceInfo
from segpipe.readers.open import absolute
from segpipe.readers.places import open_place, said_plainly
from segpipe.readers.polygons import check_crs, epsg, to_pixels

POINT_FILES = (".csv", ".txt", ".geojson", ".json")
WORLD, PIXELS = ("x", "y"), ("column", "row")
"""Columns of a CSV file: coordinates of the image, or pixels counted from 0."""
FORM = "give the columns row,column (pixels from 0) or x,y (the image's coordinates), and label"


def read_points(where: str | Path, info: SourceInfo) -> list[tuple[int, ...]]:
    """Read the points of a file as pixels of an image.

    Parameters
    ----------
    where
        CSV whose first line names its columns: ``row`` and ``column`` (pixels, counted from 0), or
        ``x`` and ``y`` (world coordinates of a georeferenced image, else pixels, where pixel (0, 0)
        covers 0 to 1), and perhaps ``label`` (a whole number, 0 or more). Or GeoJSON: Point and
        MultiPoint in the same coordinates; ``label`` is a property.
    info
        The image.

    Returns
    -------
    list
        (row, column) or (row, column, label) of each point.

    Raises
    ------
    ReadError
        The file cannot be read, has no point, or one lies outside the image.
    """
    place = absolute(where)
    text = _text(place)
    geojson = Path(place.split("?")[0]).suffix.lower() in (".geojson", ".json")
    found = list(_geojson(place, text, info) if geojson else _csv(place, text))
    if not found:
        raise ReadError(f"{place} has no point in it; {FORM}, or GeoJSON with Point geometries")
    pixels: list[tuple[int, ...]] = []
    for line, kind, x, y, label in found:
        column, row = (x, y) if kind is PIXELS else to_pixels(np.array([[x, y]]), info)[0].tolist()
        if not (0 <= row < info.shape[0] and 0 <= column < info.shape[1]):
            at = f"{kind[0]} {x:g}, {kind[1]} {y:g}"
            also = "" if kind is PIXELS else f" (column {column:.1f}, row {row:.1f})"
            raise ReadError(
                f"{place}: {line} at {at}{also} is outside the image of {info.shape[0]} rows and "
                f"{info.shape[1]} columns"
            )
        point = (math.floor(row), math.floor(column))
        pixels.append(point if label is None else (*point, label))
    return pixels


Found = tuple[str, tuple[str, str], float, float, int | None]
"""What to call a point, the names of its coordinates, these, its label."""


def _text(place: str) -> str:
    source = open_place(place)
    try:
        with said_plainly(place), source.stream() as file:
            content = file.read()
        return str(content.decode("utf-8-sig"))
    except UnicodeDecodeError as err:
        raise ReadError(f"{place} is no text in UTF-8 ({err}); save it as CSV again") from err
    finally:
        source.close()


def _csv(place: str, text: str) -> Iterator[Found]:
    """Yield the points of a table."""
    rows = csv.reader(io.StringIO(text), delimiter=";" if ";" in text.partition("\n")[0] else ",")
    names = [name.strip().lower() for name in next(rows, [])]
    kind = next((k for k in (PIXELS, WORLD) if set(k) <= set(names)), None)
    if kind is None:
        raise ReadError(f"{place} has the columns {', '.join(names) or 'none'}; {FORM}")
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        try:
            x, y = (float(cells[name]) for name in kind)
            label = int(cells["label"]) if cells.get("label") else None
            if kind is PIXELS and (x != int(x) or y != int(y)):
                raise ValueError(f"row {y:g}, column {x:g} are not whole; name them x and y")
        except (KeyError, ValueError, OverflowError) as err:
            raise ReadError(f"{place}: line {rows.line_num} is no point ({err}); {FORM}") from err
        yield f"line {rows.line_num}", kind, x, y, label


def _geojson(place: str, text: str, info: SourceInfo) -> Iterator[Found]:
    """Yield the points of a GeoJSON object."""
    try:
        content = json.loads(text)
        crs = content.get("crs") if isinstance(content, dict) else None
        check_crs(place, epsg(crs["properties"]["name"] if crs else None), info)
        features = content.get("features", [content]) if isinstance(content, dict) else content
        for number, node in enumerate(features, 1):
            label = (node.get("properties") or {}).get("label")
            for x, y in _coordinates(node.get("geometry", node)):
                named = None if label is None else int(label)
                yield f"feature {number}", WORLD, float(x), float(y), named
    except ReadError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ReadError(
            f"{place} is not GeoJSON of points ({type(err).__name__}: {err}); give a "
            "FeatureCollection of Point geometries"
        ) from err


def _coordinates(geometry: Any) -> Iterator[tuple[float, float]]:
    """Yield x and y of the points in a geometry."""
    if geometry["type"] == "Point":
        yield geometry["coordinates"][:2]
    elif geometry["type"] == "MultiPoint":
        yield from (point[:2] for point in geometry["coordinates"])
    elif geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _coordinates(part)
    else:
        raise ValueError(f"a {geometry['type']} is no point")
