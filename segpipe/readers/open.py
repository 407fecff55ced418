"""Recognise a file by its first bytes and open it with the reader of its format."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from segpipe.readers.base import IMAGE_DTYPES, Opening, ReadError, Source
from segpipe.readers.places import local_path, open_place, said_plainly

HEAD = 32
"""First bytes that tell the formats apart."""


@dataclass(frozen=True)
class Format:
    """How a format is recognised and which module reads it."""

    name: str
    magic: bytes
    reader: str
    """Module of `segpipe.readers`, imported when first needed."""
    at: int = 0
    """Offset of `magic`."""


FORMATS = (
    Format("TIFF", b"II*\0", "tiff"),
    Format("TIFF", b"MM\0*", "tiff"),
    Format("BigTIFF", b"II+\0", "tiff"),
    Format("BigTIFF", b"MM\0+", "tiff"),
    Format("PNG", b"\x89PNG\r\n\x1a\n", "stream"),
    Format("JPEG", b"\xff\xd8\xff", "stream"),
    Format("WebP", b"WEBP", "stream", at=8),
    Format("GIF", b"GIF8", "stream"),
    Format("AVIF", b"ftypavif", "stream", at=4),
    Format("BMP", b"BM", "stream"),
)


class UnknownFormat(ReadError):
    """A file that is no image."""


def open_source(
    where: str | Path, *, max_pixels: int | None = None, fingerprint: str | None = None
) -> Source:
    """Open an image file, OME-Zarr folder or URL; nothing is decoded yet.

    Parameters
    ----------
    where
        Path, ``file://`` path or URL.
    max_pixels
        Most pixels the image may declare. By default 10^12 for formats with random access, 2^32 for
        PNG and JPEG, 2^29 for formats that have to be decoded whole.
    fingerprint
        Refuse an input whose ``info.fingerprint`` is another: it has changed since.

    Returns
    -------
    Source
        ``info``, ``read(box)`` and ``close()``.

    Raises
    ------
    ReadError
        With what was given, what is allowed and what to do.
    """
    return open_as(Opening(absolute(where), max_pixels, IMAGE_DTYPES), fingerprint)


def absolute(where: str | Path) -> str:
    """Return a URL as it is, a local path so that workers in other folders find it."""
    path = local_path(str(where))
    return str(where) if path is None else str(path.absolute())


def open_as(opening: Opening, fingerprint: str | None = None) -> Source:
    """Open what `opening` says; with `fingerprint`, refuse an input that has changed since.

    This is how a pickled source comes back to life in a worker.
    """
    from segpipe.readers.ome_zarr import is_zarr, open_zarr

    with said_plainly(opening.where):
        zarr = is_zarr(opening.where)
    source = open_zarr(opening) if zarr else _open_file(opening)
    if fingerprint is not None and source.info.fingerprint != fingerprint:
        source.close()
        raise ReadError(
            f"{opening.where} has changed since it was first opened; start a new run for the new "
            "image"
        )
    return source


def _open_file(opening: Opening) -> Source:
    """Open a file of one of `FORMATS`."""
    place = open_place(opening.where)
    try:
        with said_plainly(opening.where):
            head = next(place.ranges([(0, min(HEAD, place.size))])) if place.size else b""
        found = recognise(opening.where, head)
        reader = import_module(f"segpipe.readers.{found.reader}")
        source: Source = reader.open_file(place, found.name, opening)
    except BaseException:
        place.close()
        raise
    return source


def recognise(where: str, head: bytes) -> Format:
    """Return the format of a file that begins with `head`."""
    for known in FORMATS:
        if head[known.at :].startswith(known.magic):
            return known
    if not head:
        raise ReadError(f"{where} is empty (0 bytes); copy it again")
    names = ", ".join(dict.fromkeys(f.name for f in FORMATS))
    raise UnknownFormat(
        f"{where} is of no known format (it begins with {head[:8]!r}); known are {names} and "
        "OME-Zarr folders: convert it, for example to tiled TIFF"
    )
