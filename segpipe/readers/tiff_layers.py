"""Where the blocks of a TIFF image lie in its file, and how one block is decoded."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import tifffile

from segpipe.readers.base import ReadError
from segpipe.readers.blocks import Layer
from segpipe.readers.places import Place

BLOCK_BYTES = 1 << 31
"""Most bytes one tile or strip may decode to: a compressed strip is decoded whole."""
STRIP_BYTES = 1 << 20
"""Uncompressed rows are read in strips of about this size, whatever the file calls a strip."""
JPEG = (6, 7, 34892, 33007)
"""Values of the Compression tag whose tables are kept outside of the blocks."""


def file_layers(place: Place, series: tifffile.TiffPageSeries) -> list[Layer]:
    """Return the layers of `series`, in the order of their channels, checked against the file."""
    if series.dataoffset is not None:
        layers = _raw_layers(series, series.dataoffset)
    else:
        layers = []
        for page in _pages(place, series):
            layers += _coded_layers(place, page, sum(layer.samples for layer in layers))
    for layer in layers:
        _check_blocks(place, layer)
    return layers


def _pages(place: Place, series: tifffile.TiffPageSeries) -> list[Any]:
    """Return the pages of a series that are all there."""
    pages = [series[i] for i in range(len(series))]
    missing = sum(page is None for page in pages)
    if missing:
        raise ReadError(
            f"{place.name}: {missing} of {len(pages)} planes are not in this file (a multi-file "
            "OME-TIFF, or truncated); write all channels to one file"
        )
    return pages


def _raw_layers(series: tifffile.TiffPageSeries, offset: int) -> list[Layer]:
    """Cut uncompressed data that lie in one piece from `offset` on into strips of whole rows."""
    page: Any = series.keyframe
    height, width = int(page.imagelength), int(page.imagewidth)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    row_bytes = width * samples * dtype.itemsize
    rows = min(height, max(1, STRIP_BYTES // row_bytes))
    first_rows = np.arange(0, height, rows, dtype=np.int64)
    counts = np.minimum(rows, height - first_rows) * row_bytes
    planes = math.prod(series.get_shape(squeeze=False)) // (height * width * samples)

    def decode(data: bytes, number: int) -> np.ndarray:
        return np.frombuffer(data, dtype).reshape(-1, width, samples)

    return [
        Layer(
            first=plane * samples,
            samples=samples,
            block=(rows, width),
            grid=(len(first_rows), 1),
            offsets=offset + (plane * height + first_rows) * row_bytes,
            counts=counts,
            decode=decode,
            dtype=dtype.newbyteorder("="),
            strips=True,
        )
        for plane in range(planes)
    ]


def _coded_layers(place: Place, page: Any, first: int) -> list[Layer]:
    """Return one layer, or one per sample when the samples are stored apart."""
    key = page.keyframe
    height, width = int(key.imagelength), int(key.imagewidth)
    rows, columns = (
        (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
    )
    grid = (-(-height // rows), -(-width // columns))
    apart = key.samplesperpixel if key.planarconfig == 2 else 1
    offsets, counts = (
        np.asarray(table, np.int64) for table in (page.dataoffsets, page.databytecounts)
    )
    blocks = grid[0] * grid[1]
    if min(len(offsets), len(counts)) < blocks * apart:
        raise ReadError(
            f"{place.name}: {blocks * apart} tiles or strips are needed, the file lists "
            f"{min(len(offsets), len(counts))}; it is truncated or damaged: copy it again"
        )
    return [
        Layer(
            first=first + sample,
            samples=key.samplesperpixel // apart,
            block=(int(rows), int(columns)),
            grid=grid,
            offsets=offsets[sample * blocks : (sample + 1) * blocks],
            counts=counts[sample * blocks : (sample + 1) * blocks],
            decode=partial(_decode, key.decode, _tables(page), sample * blocks),
            dtype=np.dtype(key.dtype),
            fill=key.nodata,
            strips=not key.is_tiled,
        )
        for sample in range(apart)
    ]


def _tables(page: Any) -> dict[str, Any]:
    """Return what JPEG blocks need besides their bytes."""
    key = page.keyframe
    if key.compression not in JPEG:
        return {}
    return {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}


def _decode(decode: Any, tables: dict[str, Any], base: int, data: bytes, number: int) -> np.ndarray:
    """Decode block `number` of a layer whose first block is block `base` of its page."""
    block: np.ndarray = decode(data, base + number, **tables)[0][0]
    return block


def _check_blocks(place: Place, layer: Layer) -> None:
    """Refuse at opening what would fail in the middle of a run."""
    beyond = int(((layer.offsets + layer.counts > place.size) & (layer.counts > 0)).sum())
    if beyond:
        raise ReadError(
            f"{place.name} is truncated: {beyond} of {len(layer.offsets)} tiles or strips lie "
            f"beyond its end at byte {place.size:,}; copy it again"
        )
    pixels = layer.block[0] * layer.block[1] * layer.samples
    if pixels > BLOCK_BYTES:
        kind = "strip" if layer.strips else "tile"
        raise ReadError(
            f"{place.name}: one {kind} holds {layer.block[0]} x {layer.block[1]} pixels and can "
            f"only be decoded whole; allowed are {BLOCK_BYTES:,} values: convert to tiles of 512"
        )
