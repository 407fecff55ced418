"""PNG, JPEG, WebP, GIF, AVIF and BMP: decoded once from top to bottom.

libvips decodes PNG and JPEG row by row, so that an image of any height needs the memory of one
band. Interlaced PNG, progressive JPEG, WebP, GIF, AVIF and BMP can only be decoded whole and have a
lower limit of pixels.

Pixels keep the order they have in the file: an EXIF orientation is not applied, as label images and
coordinates made with other tools follow the raw order. Palettes become RGB, 1-bit gray becomes 0
and 255; colour profiles are not applied.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, BinaryIO

import numpy as np

from segpipe.readers.base import (
    Opening,
    ReadError,
    Source,
    SourceInfo,
    check_box,
    check_dtype,
    check_pixels,
    default_names,
    validity,
)
from segpipe.readers.open import open_as
from segpipe.readers.places import STREAM_BLOCK, LocalFile, Place
from segpipe.tiles import Box

STREAM_PIXELS = 1 << 32
"""Default limit of formats decoded row by row: the largest JPEG."""
WHOLE_PIXELS = 1 << 29
"""Default limit of what has to be decoded whole: 1.6 GB as RGB."""
SMALL_PIXELS = 10**8
BOMB_RATIO = 10_000
"""No PNG or JPEG codes more pixels in a byte: deflate reaches 1032 bytes, 8256 1-bit pixels."""
SKIP_ROWS = 256
"""Rows decoded at once on the way to the first row wanted, and told as native strip height."""
FETCH_ROWS = 8
"""Height of the strips in libvips' JPEG decoder: fetching just these is twice as fast."""

LOADERS = {
    "PNG": "pngload_source",
    "JPEG": "jpegload_source",
    "WebP": "webpload_source",
    "GIF": "gifload_source",
    "AVIF": "heifload_source",
}
ROW_BY_ROW = ("PNG", "JPEG")
INTERLACED = ("jpeg-multiscan", "interlaced")
"""Header fields that libvips sets for progressive JPEG and interlaced PNG."""
SIZES = {"PNG": (">II", 16), "GIF": ("<HH", 6), "BMP": ("<ii", 18)}
"""Where a header has width and height, and how they are written."""
LONGEST_EDGE = 10_000_000
"""libvips's own limit (px)."""
DTYPES = {"uchar": "uint8", "ushort": "uint16", "float": "float32"}
GRAY, COLOUR = ("b-w", "grey16"), ("srgb", "rgb16", "rgb")


def open_file(place: Place, name: str, opening: Opening) -> Source:
    """Open an image that is read as a stream."""
    try:
        image, _ = _open_image(place, name, pixels=False)
    except ReadError:
        _check_declared(place, name, opening)
        raise
    shape = (int(image.height), int(image.width))
    whole = name not in ROW_BY_ROW or any(image.get_typeof(field) for field in INTERLACED)
    check_pixels(shape, opening, WHOLE_PIXELS if whole else STREAM_PIXELS)
    _check_bomb(shape, place, opening, name)
    dtype = check_dtype(np.dtype(DTYPES.get(image.format, "float64")), opening, image.format)
    alpha = bool(image.hasalpha())
    channels = int(image.bands) - alpha
    if image.interpretation not in GRAY + COLOUR:
        raise ReadError(
            f"{place.name}: colours are {image.interpretation}; allowed are gray and RGB: convert "
            "the image first"
        )
    rgb = image.interpretation in COLOUR and channels == 3
    info = SourceInfo(
        shape=shape,
        channels=channels,
        dtype=dtype,
        access="stream",
        native=(min(SKIP_ROWS, shape[0]), shape[1]),
        source=place.name,
        fingerprint=place.fingerprint,
        rgb=rgb,
        channel_names=default_names(channels, rgb),
        alpha=alpha,
    )
    return StreamSource(place, name, opening, info)


class StreamSource:
    """A source that keeps the current band of rows and goes on from there.

    Boxes in raster order decode every row once; rows that two bands share are kept. A box above the
    band starts the decoder again.
    """

    def __init__(self, place: Place, name: str, opening: Opening, info: SourceInfo) -> None:
        self.info = info
        self._place = place
        self._name = name
        self._opening = opening
        self._lock = threading.Lock()
        self._rows: Any = None
        """Decoder: a libvips region over the image, at row `_below`."""
        self._owners: tuple[Any, ...] = ()
        """Image and source of the region, which does not keep them alive itself."""
        self._above = 0
        self._below = 0
        """The band holds rows `_above` to `_below`."""
        self._band = np.empty((0, info.shape[1], info.channels + info.alpha), info.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_as, (self._opening, self.info.fingerprint)

    def close(self) -> None:
        """Forget the band and close the file."""
        with self._lock:
            self._restart()
            self._place.close()

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels and validity of `box`."""
        check_box(box, self.info)
        with self._lock:
            self._advance(box.start[0], box.stop[0])
            rows = slice(box.start[0] - self._above, box.stop[0] - self._above)
            stored = self._band[rows, box.start[1] : box.stop[1]].copy()
        pixels = np.ascontiguousarray(stored[..., : self.info.channels])
        alpha = stored[..., -1] if self.info.alpha else None
        return pixels, validity(pixels, alpha=alpha)

    def _advance(self, top: int, bottom: int) -> None:
        """Make the band hold rows `top` to `bottom`, decoding only what it lacks."""
        if self._above <= top and bottom <= self._below:
            return
        if top < self._above:
            self._restart()
        while self._below < top:
            self._band = self._band[:0].copy()
            self._decode(self._below, min(top, self._below + SKIP_ROWS))
        self._band = self._band[top - self._above :].copy()
        self._decode(top, bottom)

    def _restart(self) -> None:
        """Go back to the first row."""
        self._rows, self._owners = None, ()
        self._above = self._below = 0
        self._band = self._band[:0].copy()

    def _decode(self, top: int, bottom: int) -> None:
        """Make a new band of rows `top` to `bottom`, the first of which are the present band."""
        import pyvips

        band = np.empty((bottom - top, *self._band.shape[1:]), self._band.dtype)
        band[: len(self._band)] = self._band
        try:
            if self._rows is None:
                self._owners = _open_image(self._place, self._name)
                self._rows = pyvips.Region.new(self._owners[0])
            while self._below < bottom:
                # Aligned to the decoder's own strips, which would be copied twice otherwise.
                below = min(bottom, self._below + FETCH_ROWS - self._below % FETCH_ROWS)
                data = self._rows.fetch(0, self._below, band.shape[1], below - self._below)
                rows = np.frombuffer(data, band.dtype).reshape(-1, *band.shape[1:])
                band[self._below - top : below - top] = rows
                self._below = below
        except pyvips.Error as err:
            reached = self._below
            self._restart()
            raise ReadError(
                f"{self.info.source}: rows {reached} to {bottom} cannot be decoded "
                f"({_detail(err)}); the file is truncated or damaged: copy it again"
            ) from err
        self._band, self._above = band, top


def _open_image(place: Place, name: str, pixels: bool = True) -> tuple[Any, Any]:
    """Open the image at its first row; return it with what has to live as long.

    Without `pixels` only the header is wanted.
    """
    import pyvips

    if name == "BMP":
        return _with_pillow(place, pixels)
    try:
        source = _vips_source(place)
        loader = getattr(pyvips.Image, LOADERS[name])
        return loader(source, access="sequential", fail_on="error"), source
    except pyvips.Error as err:
        raise ReadError(
            f"{place.name} begins like a {name} file but cannot be read ({_detail(err)}); it is "
            "truncated or damaged: copy it again"
        ) from err


def _vips_source(place: Place) -> Any:
    """Return what libvips reads bytes from."""
    import pyvips

    if isinstance(place, LocalFile):
        return pyvips.Source.new_from_file(place.name)
    file: BinaryIO = place.stream(STREAM_BLOCK)
    source = pyvips.SourceCustom()
    source.on_read(file.read)
    source.on_seek(file.seek)
    return source


def _with_pillow(place: Place, pixels: bool) -> tuple[Any, Any]:
    """Open a format that libvips does not know, or a blank image for its header."""
    import pyvips
    from PIL import Image

    try:
        with place.stream(STREAM_BLOCK) as file, Image.open(file) as image:
            mode = image.mode if image.mode in ("L", "RGB", "RGBA") else "RGB"
            if not pixels:
                blank = pyvips.Image.black(*image.size, bands=len(mode))
                return blank.copy(interpretation="b-w" if mode == "L" else "srgb"), None
            decoded = np.asarray(image if image.mode == mode else image.convert(mode))
            return pyvips.Image.new_from_array(decoded), decoded
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        raise ReadError(
            f"{place.name} begins like a BMP file but cannot be read ({err}); it is truncated or "
            "damaged: copy it again"
        ) from err


def _check_declared(place: Place, name: str, opening: Opening) -> None:
    """Say of a file that could not be opened if that is for the size that it declares."""
    layout, at = SIZES.get(name, ("", 0))
    end = at + struct.calcsize(layout)
    if not layout or place.size < end:
        return
    width, height = struct.unpack_from(layout, next(place.ranges([(0, end)])), at)
    shape = (abs(height), width)  # rows of a BMP may run downwards
    check_pixels(shape, opening, STREAM_PIXELS)
    if max(shape) > LONGEST_EDGE:
        raise ReadError(
            f"{place.name} declares {shape[0]} x {shape[1]} pixels; libvips decodes edges of up to "
            f"{LONGEST_EDGE:,}: if the file is sound, convert it to tiled TIFF or OME-Zarr"
        )


def _check_bomb(shape: tuple[int, int], place: Place, opening: Opening, name: str) -> None:
    """Refuse a large image whose file is too small to hold it."""
    pixels = shape[0] * shape[1]
    if name in ROW_BY_ROW and pixels > max(SMALL_PIXELS, BOMB_RATIO * place.size):
        raise ReadError(
            f"{place.name}: {place.size:,} bytes cannot hold the {shape[0]} x {shape[1]} pixels it "
            "declares; it is damaged or a decompression bomb: get it again from its source"
        )


def _detail(err: Any) -> str:
    """Return the first line of what libvips said."""
    lines = str(err.detail if hasattr(err, "detail") else err).strip().splitlines()
    return lines[0] if lines else "no reason given"
