"""Label images: files whose numbers are names of segments, objects or classes.

An image file (PNG, TIFF, OME-Zarr label image …) holds one label image. Arrays (.npy, .npz, .mat)
may hold several, one per annotator, and are read whole, but for .npy on a local disk. Vector files
are objects numbered 1, 2, … in the order of the file; they need the size, and where there is one
the coordinate system, of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from segpipe.readers.base import (
    MASK_DTYPES,
    Opening,
    ReadError,
    Source,
    SourceInfo,
    check_box,
)
from segpipe.readers.label_arrays import ARRAY_FILES, find_arrays
from segpipe.readers.mask import POLYGON_FILES
from segpipe.readers.ome_zarr import ZarrSource
from segpipe.readers.open import UnknownFormat, absolute, open_as
from segpipe.readers.places import open_place, said_plainly
from segpipe.readers.polygons import Polygons, read_polygons
from segpipe.tiles import Box

LOSSY = (".jpg", ".jpeg")
PICK = "::"
"""Stands between a file and the name of the array in it."""
PNG_PALETTE = 3
"""Colour type of PNG files whose pixels are numbers of a palette."""


class LabelSource(Protocol):
    """An open label image."""

    @property
    def name(self) -> str:
        """File, and where it holds several, which one."""

    @property
    def info(self) -> SourceInfo:
        """Size and, as far as known, coordinate system."""

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
        """Return labels (rows, columns) and validity (1 = counts; None: all do) of `box`."""

    def close(self) -> None:
        """Close what is open."""


def is_vector(where: str) -> bool:
    """Whether `where` holds polygons, which need to be told the image's size."""
    return _suffix(where) in POLYGON_FILES


def open_labels(where: str | Path, image: SourceInfo | None = None) -> list[LabelSource]:
    """Open the label images of a file, OME-Zarr folder or URL.

    Parameters
    ----------
    where
        A raster in any format that `open_source` reads but JPEG, one channel of whole numbers (of a
        palette the numbers, not the colours), or 8-bit RGB, whose label is 65536 R + 256 G + B.
        ``.npy``, ``.npz`` or ``.mat``: an array (H, W) or (annotators, H, W), or the cell array
        ``groundTruth`` of BSDS; ``FILE::NAME`` chooses among several arrays. Or a vector file, see
        `open_mask`.
    image
        Size, transform and CRS of the image, for vector files.

    Returns
    -------
    list of LabelSource
        One per annotator, at least one.

    Raises
    ------
    ReadError
        With what was given, what is allowed and what to do.
    """
    place, _, name = str(where).partition(PICK)
    place, suffix = absolute(place), _suffix(place)
    if suffix in ARRAY_FILES:
        return [ArrayLabels(array, name) for name, array in find_arrays(place, name)]
    if name:
        raise ReadError(f"{where}: {PICK} chooses an array of {', '.join(ARRAY_FILES)} files only")
    if suffix in POLYGON_FILES:
        if image is None:
            raise ReadError(
                f"{place} holds polygons, whose pixels need an image: give one of labels and truth "
                "as a raster"
            )
        return [PolygonLabels(place, read_polygons(place, image), image)]
    if suffix in LOSSY:
        raise ReadError(
            f"{place}: JPEG changes the numbers of labels; write them as PNG or TIFF from the "
            "original"
        )
    indices = _palette_indices(place)
    if indices is not None:
        return [ArrayLabels(indices, place)]
    try:
        return [RasterLabels(open_as(Opening(place, None, MASK_DTYPES, colours=False)))]
    except UnknownFormat as err:
        raise ReadError(
            f"{place} is of no known format; labels are images (PNG, TIFF, OME-Zarr …), arrays "
            f"({', '.join(ARRAY_FILES)}) or polygons ({', '.join(POLYGON_FILES)})"
        ) from err


@dataclass(frozen=True)
class ArrayLabels:
    """Labels in an array (H, W), in memory or mapped from a file."""

    array: np.ndarray
    name: str

    @property
    def info(self) -> SourceInfo:
        """Size of the array."""
        shape = (int(self.array.shape[0]), int(self.array.shape[1]))
        dtype = self.array.dtype.name
        return SourceInfo(shape, 1, dtype, "tiles", (1, 1), self.name, fingerprint="")

    def read(self, box: Box) -> tuple[np.ndarray, None]:
        """Return the labels of `box`."""
        check_box(box, self.info)
        return np.ascontiguousarray(self.array[box.slices]), None

    def close(self) -> None:
        """Do nothing."""


class RasterLabels:
    """Labels stored as an image."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.info = source.info
        self.name = source.info.source
        coloured = self.info.channels == 3 and self.info.dtype == "uint8" and self.info.rgb
        if self.info.channels != 1 and (not coloured or isinstance(source, ZarrSource)):
            source.close()
            raise ReadError(
                f"{self.name} has {self.info.channels} channels of {self.info.dtype}; labels are "
                "one channel of whole numbers (or 8-bit RGB in PNG and TIFF); in an OME-Zarr image "
                "they lie in labels/NAME"
            )

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the labels of `box`, colours as one number."""
        pixels, valid = self._source.read(box)
        if pixels.shape[2] == 1:
            return np.ascontiguousarray(pixels[..., 0]), valid
        red, green, blue = (pixels[..., c].astype(np.uint32) for c in range(3))
        return red << 16 | green << 8 | blue, valid

    def close(self) -> None:
        """Close the raster."""
        self._source.close()


@dataclass(frozen=True)
class PolygonLabels:
    """Polygons, drawn anew for every box; the same pixels whatever the boxes are."""

    name: str
    polygons: Polygons
    info: SourceInfo

    def read(self, box: Box) -> tuple[np.ndarray, None]:
        """Return the number of the feature that each pixel's centre lies in, or 0."""
        check_box(box, self.info)
        return self.polygons.number(box), None

    def close(self) -> None:
        """Do nothing: the polygons are in memory."""


def _palette_indices(where: str) -> np.ndarray | None:
    """Return the numbers of a palette PNG or GIF, decoded whole; None of any other file.

    The readers of images see colours there, and two classes may have one colour.
    """
    suffix = _suffix(where)
    if suffix not in (".png", ".gif"):
        return None
    from PIL import Image

    place = open_place(where)
    try:
        with said_plainly(where):
            head = next(place.ranges([(0, min(26, place.size))])) if place.size else b""
        if suffix == ".png" and (len(head) < 26 or head[25] != PNG_PALETTE):
            return None
        with place.stream() as file, Image.open(file) as image:
            return np.asarray(image) if image.mode == "P" else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        raise ReadError(
            f"{where}: the palette image cannot be read ({err}); it is damaged or too large to "
            "decode whole: write it as gray PNG or tiled TIFF"
        ) from err
    finally:
        place.close()


def _suffix(where: str) -> str:
    return Path(where.partition(PICK)[0].split("?")[0]).suffix.lower()
