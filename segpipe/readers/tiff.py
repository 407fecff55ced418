"""TIFF, BigTIFF, OME-TIFF, SVS, GeoTIFF, COG: level 0, block by block.

tifffile finds the blocks (tiles or strips) and knows the codecs; the bytes of the blocks that a box
touches are read directly, which works alike for a file and a URL. Values stay as stored: no
inversion of white-is-zero, no division by associated alpha; only palettes become RGB.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tifffile

from segpipe.readers.base import (
    TERAPIXEL,
    Opening,
    ReadError,
    Source,
    SourceInfo,
    check_dtype,
    check_pixels,
    default_names,
)
from segpipe.readers.blocks import BlockSource, Layer
from segpipe.readers.places import Place
from segpipe.readers.tiff_layers import file_layers
from segpipe.readers.tiff_metadata import describe

PALETTE, RGB, YCBCR = 3, 2, 6
"""Values of the PhotometricInterpretation tag."""
ALPHA = (1, 2)
"""Values of the ExtraSamples tag that are alpha; 0 (unspecified) is a channel like any other."""
MASK = 4
"""Bit of the NewSubfileType tag that marks a validity mask."""
REDUCED = 1


def open_file(place: Place, name: str, opening: Opening) -> Source:
    """Open the first image of a TIFF file at full resolution."""
    try:
        # _multifile: planes in other files could not be reached by URL; they are reported instead.
        with (
            place.stream() as stream,
            tifffile.TiffFile(stream, name=place.name, _multifile=False) as tif,
        ):
            return _open_series(place, tif, opening)
    except ReadError:
        raise
    except Exception as err:
        # A damaged directory raises whatever its bytes lead to: struct.error, KeyError, …
        raise ReadError(
            f"{place.name} begins like a {name} file but its directory cannot be read ({err}); "
            "the file is truncated or damaged: copy it again"
        ) from err


def _open_series(place: Place, tif: tifffile.TiffFile, opening: Opening) -> Source:
    """Choose the image in the file, check it, and collect its blocks."""
    if not tif.pages:
        raise ReadError(
            f"{place.name}: the TIFF file has no image in it; it is damaged or not final"
        )
    series = tif.series[0].levels[0]
    page = series.keyframe
    shape = (int(page.imagelength), int(page.imagewidth))
    check_pixels(shape, opening, TERAPIXEL)
    check_dtype(page.dtype, opening, _stored(page))
    check_axes(place.name, series)
    layers = file_layers(place, series)
    palette = _palette(page, opening)
    samples = sum(layer.samples for layer in layers)
    alpha = _alpha(page, samples)
    masks = _mask_layers(place, tif, shape)
    fixed = SourceInfo(
        shape=shape,
        channels=3 if palette is not None else samples - (alpha is not None),
        dtype="uint8" if palette is not None else np.dtype(page.dtype).name,
        access="bands" if any(layer.strips for layer in layers) else "tiles",
        native=layers[0].block,
        source=place.name,
        fingerprint=place.fingerprint,
        rgb=palette is not None or page.photometric in (RGB, YCBCR),
        alpha=alpha is not None or bool(masks),
    )
    info = _named(replace(fixed, **describe(tif, page, fixed.channels)))
    return BlockSource(place, opening, info, layers, masks, alpha, palette)


def check_axes(name: str, series: tifffile.TiffPageSeries) -> None:
    """Refuse stacks: rows, columns and one axis of channels are what can be segmented."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    others = {a: n for a, n in sizes.items() if a not in "YXCS" and n > 1}
    if others or (sizes.get("C", 1) > 1 and sizes.get("S", 1) > 1):
        found = ", ".join(f"{a} = {n}" for a, n in sizes.items())
        raise ReadError(
            f"{name} holds a stack with axes {found}; allowed are Y, X and one of C (channels) or "
            "S (samples): write one plane (one Z, one T) to a file of its own or, if the planes "
            "are channels, write them as axis C of an OME-TIFF"
        )


def _stored(page: tifffile.TiffPage) -> str:
    """Return words for the stored pixel type where NumPy has none."""
    if page.dtype is None:
        return f"{page.bitspersample}-bit of sample format {page.sampleformat}"
    return ""


def _named(info: SourceInfo) -> SourceInfo:
    """Complete what the metadata leaves open."""
    rgb = info.rgb and info.channels == 3 and info.dtype in ("uint8", "uint16")
    names = info.channel_names
    if len(names) != info.channels:
        names = default_names(info.channels, rgb)
    return replace(info, rgb=rgb, channel_names=names)


def _palette(page: tifffile.TiffPage, opening: Opening) -> np.ndarray | None:
    """Return the colours (n, 3) uint8 of a palette image that is read as an image."""
    if page.photometric != PALETTE or not opening.colours or page.colormap is None:
        return None
    return np.ascontiguousarray((page.colormap >> 8).astype(np.uint8).T)


def _alpha(page: tifffile.TiffPage, samples: int) -> int | None:
    """Return which sample is alpha."""
    extra = page.extrasamples
    kinds = [kind in ALPHA for kind in extra]
    if page.samplesperpixel != samples or True not in kinds:
        return None
    return int(samples - len(extra) + kinds.index(True))


def _mask_layers(place: Place, tif: tifffile.TiffFile, shape: tuple[int, int]) -> list[Layer]:
    """Return the blocks of GDAL's internal mask at full resolution, if there is one."""
    if tif.is_ome or tif.is_imagej:
        return []
    for page in tif.pages:
        kind = getattr(page, "subfiletype", 0)
        if kind & MASK and not kind & REDUCED and page.shape[:2] == shape:
            series = tifffile.TiffPageSeries([page], parent=tif)
            return file_layers(place, series)
    return []
