"""The label image as Cloud Optimized GeoTIFF, with overviews, written window by window.

Up to 255 segments the pixels are bytes and up to 65,535 two bytes, with a palette in the file.
More do not fit any palette: then the labels are 4 (or 8) bytes, and a second file beside them,
``NAME.colours.tif``, shows them in red, green and blue. A segment's colour depends on its label
alone. 0 is no segment, in both files, and transparent.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from segpipe.errors import InputError, RunError
from segpipe.export.ahead import ahead
from segpipe.export.layer import Layer
from segpipe.store.space import free_bytes

BLOCK = 512
"""Edge of the file's tiles (px), COG's usual one."""
PALETTE = 65_535
"""Largest label that a TIFF palette can have a colour for."""
GROWN = 3
"""Size of a COG and of the overviews on the way to it, over that of the plain file: of few large
segments, each overview is half as large as the level below it, and all are written twice."""
CACHE = 128
"""Megabytes that GDAL may keep of a file that is being written."""


def write_cog(layer: Layer, path: Path, say: Callable[[int], None]) -> None:
    """Write the labels, and their colours when there are too many for a palette."""
    from rasterio import Env

    with Env(GDAL_CACHEMAX=CACHE), warnings.catch_warnings():
        # without georeference there are pixels, which is what we want
        warnings.filterwarnings("ignore", message="Dataset has no geotransform")
        if layer.segments <= PALETTE:
            dtype = "uint8" if layer.segments <= 255 else "uint16"
            _write(layer, path, dtype, 1, lambda band: band.astype(dtype)[None], say)
        else:
            _write(layer, path, str(layer.labels.dtype), 1, lambda band: band[None], say)
            _write(layer, colours_beside(path), "uint8", 3, _painted, say)


def colours_beside(path: Path) -> Path:
    """Name of the file of colours.

    >>> colours_beside(Path("a/segments.tif")).name
    'segments.colours.tif'
    """
    return path.with_suffix(f".colours{path.suffix}")


def files(layer: Layer, path: Path) -> list[Path]:
    """Names of all files that `write_cog` writes."""
    return [path] if layer.segments <= PALETTE else [path, colours_beside(path)]


def _write(
    layer: Layer,
    path: Path,
    dtype: str,
    bands: int,
    paint: Callable[[np.ndarray], np.ndarray],
    say: Callable[[int], None],
) -> None:
    """Write a plain tiled file by bands of rows; GDAL arranges it as COG and adds overviews."""
    import rasterio
    from affine import Affine
    from rasterio.errors import CRSError, RasterioError
    from rasterio.shutil import copy
    from rasterio.windows import Window

    height, width = layer.shape
    plain = path.with_name(f"{path.name}.plain")
    profile: dict[str, Any] = {
        **{"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": dtype},
        **{"nodata": 0, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK},
        **{"compress": "lzw", "bigtiff": "yes", "sparse_ok": True, "num_threads": "all_cpus"},
    }
    if layer.georeferenced:
        profile |= {"crs": layer.crs, "transform": Affine(*layer.transform)}
    if bands == 3:
        profile["photometric"] = "rgb"
    try:
        with rasterio.open(plain, "w", **profile) as file:
            if bands == 1 and layer.segments <= PALETTE:
                file.write_colormap(1, palette(layer.segments))
            top = 0
            for band in ahead(_blocks(layer)):
                file.write(paint(band), window=Window(0, top, width, len(band)))
                top += len(band)
                say(top * width)
        _check_room(plain)
        copy(
            *(plain, path),
            **{"driver": "COG", "compress": "deflate", "overview_resampling": "nearest"},
            **{"blocksize": BLOCK, "bigtiff": "if_safer", "num_threads": "all_cpus"},
        )
    except CRSError as error:
        raise InputError(f"GDAL does not know the coordinate system {layer.crs}") from error
    except RasterioError as error:
        raise RunError(f"cannot write the raster: {error}") from error
    plain.unlink()  # a failed one stays with its folder, so that a full disk is seen to be full


def _check_room(plain: Path) -> None:
    """Refuse to go on where the COG may not fit: GDAL crashes when a disk is full at that point."""
    free = free_bytes(plain.parent)
    if free is not None and free < GROWN * plain.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _blocks(layer: Layer) -> Iterator[np.ndarray]:
    """Yield bands of whole rows of the file's tiles: none is written twice."""
    rest = np.zeros((0, layer.shape[1]), layer.labels.dtype)
    for band in layer.bands():
        rest = np.concatenate([rest, band]) if len(rest) else band
        whole = len(rest) // BLOCK * BLOCK
        if whole:
            yield rest[:whole]
            rest = rest[whole:]
    if len(rest):
        yield rest


def palette(count: int) -> dict[int, tuple[int, int, int, int]]:
    """Colour of every label from 1 to `count`; 0 is transparent."""
    colours = _colours(np.arange(count + 1, dtype=np.uint64)[None])[:, 0].T
    table = {label: (int(r), int(g), int(b), 255) for label, (r, g, b) in enumerate(colours)}
    return table | {0: (0, 0, 0, 0)}


def _painted(labels: np.ndarray) -> np.ndarray:
    return _colours(labels)


@njit(nogil=True, cache=True)
def _colours(labels):  # type: ignore[no-untyped-def]
    """Return uint8 (3, rows, columns): colours from 64 to 255 by a hash of the label; 0 is black.

    The hash is the finalizer of SplitMix64 (Steele, Lea and Flood 2014, 10.1145/2660193.2660195).
    """
    out = np.zeros((3, *labels.shape), np.uint8)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            h = np.uint64(labels[y, x])
            if h == 0:
                continue
            h *= np.uint64(0x9E3779B97F4A7C15)
            h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            h ^= h >> np.uint64(31)
            for c in range(3):
                out[c, y, x] = 64 + (h >> np.uint64(8 * c)) % np.uint64(192)
    return out
