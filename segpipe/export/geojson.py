"""GeoJSON, written batch by batch: RFC 7946 with a coordinate system, else plain pixels.

GDAL spends several microseconds on every vertex: it projects each, and prints it with all digits to
round them then. Here vertices come from a lattice (`segpipe.export.lonlat`) and are written as
whole numbers of the last decimal, with a point in between. Images on the antimeridian, at a pole or
in a wild projection are left to GDAL, which cuts polygons there.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numba import njit

from segpipe.export.ahead import ahead
from segpipe.export.features import Features, features
from segpipe.export.layer import Layer
from segpipe.export.lonlat import Lattice, lattice
from segpipe.export.rings import HEAD, PIXELS
from segpipe.export.vector import write_gdal

PARTS = 100
"""Parts of a pixel that the decimals tell apart, at least."""
DECIMALS = 7
"""Usual decimals of degrees."""
DIGITS = 15
"""Decimal digits that a double holds."""
METRES_PER_DEGREE = 111_320
WKB_BYTES = 1 << 22
"""Bytes of polygons turned into text at a time."""
PIXELS_SAID = "pixels, without a coordinate system: x = column, y = row, downwards"
UNKNOWN_SAID = "coordinates of the image, whose coordinate system is not known"
"""Stand in files that are not in longitude and latitude."""
OPEN, CLOSE, COMMA, POINT, MINUS, ZERO = b"[],.-0"


def write_geojson(layer: Layer, path: Path, say: Callable[[int], None]) -> None:
    """Write GeoJSON, sorted by last row, then label.

    Coordinates are within a hundredth of a pixel of the corners, and equal for neighbours.
    """
    places, decimals = lattice(layer), _decimals(layer)
    if places is None:
        options = {"RFC7946": "YES", "COORDINATE_PRECISION": str(decimals), "WRITE_NAME": "NO"}
        write_gdal(layer, path, say, "GeoJSON", options)
        return
    said = {} if layer.crs else {"description": _said(layer)}
    head = json.dumps({"type": "FeatureCollection", **said})[:-1]
    with path.open("wb") as file:
        file.write(f'{head}, "features": ['.encode())
        done = 0
        for found in ahead(_parts(replace(layer, transform=PIXELS))):
            _write(file, found, layer, places, decimals, first=done == 0)
            done += len(found)
            say(done)
        file.write(b"\n]}\n")


def _said(layer: Layer) -> str:
    return PIXELS_SAID if layer.transform == PIXELS else UNKNOWN_SAID


def _decimals(layer: Layer) -> int:
    """Decimals that tell hundredths of a pixel apart; of degrees at least the usual seven."""
    a, b, _, d, e, _ = layer.transform
    pixel = math.sqrt(abs(a * e - b * d))
    if layer.crs is None:
        height, width = layer.shape
        largest = np.abs(np.reshape(layer.transform, (2, 3))) @ (width, height, 1)
        held = DIGITS - len(str(int(largest.max())))
        return max(0, min(held, math.ceil(-math.log10(pixel / PARTS))))
    if layer.pixel_unit != "degree":
        pixel /= METRES_PER_DEGREE
    return min(DIGITS, max(DECIMALS, math.ceil(-math.log10(pixel / PARTS))))


def _parts(layer: Layer) -> Iterator[Features]:
    """Yield segments whose polygons have about `WKB_BYTES`, or one."""
    for found in features(layer):
        offsets, begin = _offsets(found.wkb), 0
        while begin < len(found):
            limit = offsets[begin] + WKB_BYTES
            end = max(begin + 1, int(np.searchsorted(offsets, limit, "right")) - 1)
            rows, wkb = (part.slice(begin, end - begin) for part in (found.rows, found.wkb))
            yield Features(rows, wkb, found.bounds[begin:end])
            begin = end


def _offsets(wkb: pa.Array) -> np.ndarray:
    """Return where each polygon begins in the data of an array, and the end of the last."""
    found = np.frombuffer(wkb.buffers()[1], np.int32)[wkb.offset : wkb.offset + len(wkb) + 1]
    return found.astype(np.int64)


def _write(
    file: BinaryIO, found: Features, layer: Layer, places: Lattice, decimals: int, *, first: bool
) -> None:
    import orjson

    a, b, _, d, e, _ = layer.transform
    data, offsets = np.frombuffer(found.wkb.buffers()[2], np.uint8), _offsets(found.wkb)
    digits = len(str(int(np.abs(places.nodes).max()))) + decimals + 2
    text = np.empty((offsets[-1] - offsets[0]) // 16 * (2 * digits + 4) + 64, np.uint8)
    # pixels are y down: what turns one way round there turns the other way on the earth
    backwards = a * e - b * d < 0
    ends = _text(data, offsets, places.step, places.nodes, decimals, backwards, text)
    lines: list[bytes | memoryview] = []
    begin, whole = 0, text.data
    for row, end in zip(found.rows.to_pylist(), ends.tolist(), strict=True):
        lines += [b",\n" if lines or not first else b"\n", b'{"type": "Feature", "properties": ',
                  orjson.dumps(row), b', "geometry": {"type": "MultiPolygon", "coordinates": ',
                  whole[begin:end], b"}}"]  # fmt: skip
        begin = end
    file.write(b"".join(lines))


@njit(nogil=True, cache=True)
def _text(data, offsets, step, nodes, decimals, backwards, text):
    """Write coordinates of MultiPolygons in well-known binary; return where each ends."""
    ends = np.empty(len(offsets) - 1, np.int64)
    point = np.empty(2, np.float64)
    raw = point.view(np.uint8)
    at = 0
    for i in range(len(ends)):
        p = offsets[i]
        pieces = _number(data, p + 5)
        p += HEAD
        at = _put(text, at, OPEN)
        for _piece in range(pieces):
            rings = _number(data, p + 5)
            p += HEAD
            at = _put(text, at, OPEN)
            for _ring in range(rings):
                n = _number(data, p)
                p += 4
                at = _put(text, at, OPEN)
                for k in range(n):
                    begin = p + 16 * (n - 1 - k if backwards else k)
                    for byte in range(16):
                        raw[byte] = data[begin + byte]
                    at = _corner(point, step, nodes, decimals, text, at)
                p += 16 * n
                at = _closed(text, at)
            at = _closed(text, at)
        at = _closed(text, at) - 1
        ends[i] = at
    return ends


@njit(nogil=True, cache=True)
def _corner(point, step, nodes, decimals, text, at):
    """Write the coordinates of a corner of pixels, and a comma."""
    column, row = np.int64(point[0]), np.int64(point[1])
    i, j = row // step, column // step
    i, j = min(i, nodes.shape[0] - 2), min(j, nodes.shape[1] - 2)
    down, right = (row - i * step) / step, (column - j * step) / step
    at = _put(text, at, OPEN)
    for c in range(2):
        above = nodes[i, j, c] * (1 - right) + nodes[i, j + 1, c] * right
        below = nodes[i + 1, j, c] * (1 - right) + nodes[i + 1, j + 1, c] * right
        at = _decimal(above * (1 - down) + below * down, decimals, text, at)
        at = _put(text, at, COMMA)
    return _closed(text, at)


@njit(nogil=True, cache=True)
def _decimal(value, decimals, text, at):
    """Write a number with up to so many decimals, without zeros at the end."""
    scale = np.int64(10) ** decimals
    number = np.int64(np.floor(abs(value) * scale + 0.5))
    if value < 0 and number:
        at = _put(text, at, MINUS)
    whole = number // scale
    part = number - whole * scale
    width = 1
    rest = whole // 10
    while rest:
        rest //= 10
        width += 1
    _digits(text, at, width, whole)
    at += width
    if part == 0:
        return at
    at = _put(text, at, POINT)
    width = decimals
    while part % 10 == 0:
        part //= 10
        width -= 1
    _digits(text, at, width, part)
    return at + width


@njit(nogil=True, cache=True)
def _digits(text, at, width, number):
    """Write a number with leading zeros."""
    for k in range(at + width - 1, at - 1, -1):
        tenth = number // 10
        text[k] = ZERO + (number - 10 * tenth)
        number = tenth


@njit(nogil=True, cache=True)
def _closed(text, at):
    """Close a list in place of the comma behind its last item; put a comma behind it."""
    text[at - 1] = CLOSE
    text[at] = COMMA
    return at + 1


@njit(nogil=True, cache=True)
def _put(text, at, byte):
    text[at] = byte
    return at + 1


@njit(nogil=True, cache=True)
def _number(data, at):
    value = np.int64(0)
    for i in range(4):
        value |= np.int64(data[at + i]) << (8 * i)
    return value
