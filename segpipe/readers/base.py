"""What every reader shares: the error, the description of an image, which pixels count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from segpipe.errors import InputError
from segpipe.tiles import Box

Access = Literal["tiles", "bands", "stream"]

IMAGE_DTYPES = ("uint8", "uint16", "int16", "float32")
"""What methods work on; anything else has to be scaled by someone who knows what it means."""
MASK_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float32", "float64"),
)

TERAPIXEL = 10**12
"""Default limit of formats with random access: far above any slide or mosaic, below nonsense."""


class ReadError(InputError):
    """An image cannot be read: says what was given, what is allowed and what to do."""

    def __init__(self, message: str) -> None:
        # Libraries put line breaks into what is quoted here; this stays one line in a log.
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class Opening:
    """How a source was asked for: enough to open it again in another process."""

    where: str
    max_pixels: int | None = None
    """Most pixels the file may declare; None = the format's default."""
    dtypes: tuple[str, ...] = IMAGE_DTYPES
    colours: bool = True
    """Turn palettes into RGB; the numbers themselves are wanted of a mask."""


@dataclass(frozen=True)
class SourceInfo:
    """What is known of an image before any pixel is decoded."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    channels: int
    """Number of channels, alpha excluded."""
    dtype: str
    """NumPy name of the pixel type: uint8, uint16, int16 or float32."""
    access: Access
    """tiles: any box, any order. bands: strips, one row of tiles at a time, left to right. stream:
    one pass from top to bottom."""
    native: tuple[int, int]
    """(rows, columns) decoded at once; windows on its multiples decode nothing twice."""
    source: str
    """Path or URL."""
    fingerprint: str
    """Cheap identity (place, size, time or etag): differs when the input was changed."""
    rgb: bool = False
    """The three channels are sRGB red, green, blue."""
    channel_names: tuple[str, ...] = ()
    pixel_size: tuple[float, float] | None = None
    """(y, x) size of a pixel in `pixel_unit`."""
    pixel_unit: str | None = None
    """For example ``micrometer``, ``metre``, ``degree``."""
    crs: str | None = None
    """For example ``EPSG:32632``."""
    transform: tuple[float, float, float, float, float, float] | None = None
    """(a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f, where pixel
    (0, 0) covers columns and rows 0 to 1."""
    nodata: float | None = None
    """A pixel is invalid when all its channels have this value."""
    alpha: bool = False
    """An alpha channel or an internal mask says which pixels are valid."""

    @property
    def masked(self) -> bool:
        """Whether pixels may be invalid; always so for floating point, where NaN is invalid."""
        return self.alpha or self.nodata is not None or np.dtype(self.dtype).kind == "f"

    def working_bytes(self, shape: tuple[int, int]) -> int:
        """Bytes held while a box of `shape` (rows, columns) is read, the box included.

        Striped and streamed formats keep the band of rows that the box lies in. What codecs hold
        inside is not counted: formats that are decoded whole (see `segpipe.readers.stream`).
        """
        rows, columns = (n + 2 * m for n, m in zip(shape, self.native, strict=True))
        held = rows * (columns if self.access == "tiles" else self.shape[1])
        pixel = np.dtype(self.dtype).itemsize * (self.channels + self.alpha)
        return pixel * (held + 2 * math.prod(shape)) + (self.channels + 3) * math.prod(shape)


class Source(Protocol):
    """An open image. Picklable (a worker opens it again); ``read`` may be called from threads.

    Threads that share one source stay correct; with access "bands" or "stream" they should not, as
    they push each other's decoded rows out: let every task unpickle its own.
    """

    @property
    def info(self) -> SourceInfo:
        """What is known of the image."""

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels (rows, columns, channels) and validity (rows, columns), 1 = counts.

        Validity is None when ``info.masked`` is False. Invalid pixels keep the values of the file.
        """

    def close(self) -> None:
        """Close what is open; a later read opens it again or fails."""


def check_box(box: Box, info: SourceInfo) -> None:
    """Refuse a box that leaves the image: a reader that pads would hide a wrong halo."""
    inside = all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, info.shape, strict=True))
    if not inside:
        raise ReadError(
            f"box {box.start} to {box.stop} does not lie inside the image of {info.shape} pixels "
            f"({info.source}); clip it, for example with Box.grown"
        )


def check_dtype(dtype: np.dtype[Any] | None, opening: Opening, stored: str = "") -> str:
    """Return the NumPy name of a pixel type that is allowed, refuse the others."""
    name = "unknown" if dtype is None else np.dtype(dtype).name
    if name not in opening.dtypes:
        raise ReadError(
            f"{opening.where}: pixels are {stored or name}; allowed are "
            f"{', '.join(opening.dtypes)}: convert the image first"
        )
    return name


def check_pixels(shape: tuple[int, int], opening: Opening, default: int) -> None:
    """Refuse empty images and images that declare more pixels than allowed."""
    limit = default if opening.max_pixels is None else opening.max_pixels
    if min(shape) < 1:
        raise ReadError(
            f"{opening.where}: the image has no pixels, its size is {shape[0]} x {shape[1]}"
        )
    if math.prod(shape) > limit:
        raise ReadError(
            f"{opening.where}: declares {shape[0]} x {shape[1]} = {math.prod(shape):,} pixels, "
            f"allowed are {limit:,}; if you trust the file, raise max_pixels (`--set max_pixels=N`)"
            + (", or convert it to tiled TIFF or OME-Zarr" if default < TERAPIXEL else "")
        )


def default_names(channels: int, rgb: bool) -> tuple[str, ...]:
    """Channel names for a file that has none."""
    if rgb:
        return ("red", "green", "blue")
    return tuple(f"channel{i}" for i in range(channels))


def named_rgb(names: tuple[str, ...], dtype: str) -> bool:
    """Whether three channels call themselves red, green, blue."""
    short = "".join(name[:1].lower() for name in names)
    full = {name.lower() for name in names}
    known = full <= {"r", "g", "b", "red", "green", "blue"}
    return known and short == "rgb" and dtype in ("uint8", "uint16")


def validity(
    pixels: np.ndarray, nodata: float | None = None, alpha: np.ndarray | None = None
) -> np.ndarray | None:
    """Return 1 where a pixel counts, or None when every pixel must count.

    Invalid are pixels with alpha 0, pixels whose channels all equal `nodata`, and floating-point
    pixels with any channel that is not finite.
    """
    tests = []
    if alpha is not None:
        tests.append(alpha != 0)
    if pixels.dtype.kind == "f":
        tests.append(np.isfinite(pixels).all(axis=-1))
    if nodata is not None:
        value = np.asarray(nodata).astype(pixels.dtype) if _fits(nodata, pixels.dtype) else None
        tests.append(
            np.ones(pixels.shape[:-1], bool) if value is None else (pixels != value).any(axis=-1)
        )
    if not tests:
        return None
    valid: np.ndarray = np.logical_and.reduce(tests).view(np.uint8)
    return valid


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether `value` can occur in pixels of `dtype`: -9999 in uint8 marks nothing."""
    if dtype.kind == "f":
        return True
    if not math.isfinite(value) or value != int(value) or dtype.kind == "b":
        return False
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max)
