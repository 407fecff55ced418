"""Where bytes come from: local files and, through fsspec, any URL, read by ranges.

Remote access is set by the environment, never by the configuration of a run:

* ``s3://``: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``,
  ``AWS_PROFILE``, ``AWS_DEFAULT_REGION`` as everywhere; ``AWS_ENDPOINT_URL`` for another server
  than Amazon's; ``AWS_NO_SIGN_REQUEST=YES`` for public buckets.
* ``gs://``, ``az://`` and others: what gcsfs, adlfs … read, and fsspec's own
  ``FSSPEC_<PROTOCOL>_<OPTION>``.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from segpipe.readers.base import ReadError

HEADER_BLOCK = 1 << 16
"""Bytes per request while a remote header is parsed: directories lie scattered through a file."""
STREAM_BLOCK = 1 << 22
"""Bytes per request of a remote file that is read from front to back."""
MERGE_GAP = 1 << 16
"""Ranges closer than this are one request: a round trip costs more than 64 KiB."""
MERGED_BYTES = 1 << 23
"""Largest merged request."""
BATCH_BYTES = 1 << 26
"""Compressed bytes fetched ahead of decoding."""
BATCH_RANGES = 256

Range = tuple[int, int]
"""(offset, number of bytes) in a file."""


class Place(Protocol):
    """A file somewhere."""

    name: str
    size: int
    fingerprint: str

    def ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """Yield the bytes of each range, in the order given."""

    def stream(self, block: int = HEADER_BLOCK) -> BinaryIO:
        """Return a new seekable file object; `block` = bytes per remote request."""

    def close(self) -> None:
        """Give the file handle back."""


def open_place(where: str) -> Place:
    """Open a local path or URL for reading ranges of bytes."""
    with said_plainly(where):
        path = local_path(where)
        return LocalFile(path) if path is not None else RemoteFile(where)


def local_path(where: str) -> Path | None:
    """Return the path of a local file, None for a URL of another place."""
    parts = urlsplit(where)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in where:
        return None
    return Path(where)


class LocalFile:
    """A local file; `os.pread` keeps no position, so threads may share the handle."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("rb")
        found = os.fstat(self._file.fileno())
        self.size = found.st_size
        self.fingerprint = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"

    def ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """Yield the bytes of each range."""
        number = self._file.fileno()
        for offset, count in ranges:
            yield _whole(os.pread(number, count, offset), count, self.name)

    def stream(self, block: int = HEADER_BLOCK) -> BinaryIO:
        """Return a new file object."""
        return Path(self.name).open("rb")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RemoteFile:
    """A file behind a URL, read by byte ranges."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._fs, self._path = file_system(url)
        found = self._fs.info(self._path)
        if found.get("type") == "directory" or found.get("size") is None:
            raise ReadError(
                f"{url} is a folder, or its server tells no size; give the URL of a file on a "
                "server that answers range requests, or of an OME-Zarr group"
            )
        self.size = int(found["size"])
        keys = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created")
        stamp = next((found[k] for k in keys if found.get(k)), "")
        self.fingerprint = f"{url} {self.size} {stamp}"

    def ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """Yield the bytes of each range; neighbours are fetched together, batches at once."""
        for batch in _batches(ranges):
            merged = _merged(batch)
            with said_plainly(self.name):
                parts = self._fs.cat_ranges(
                    [self._path] * len(merged),
                    [a for a, _ in merged],
                    [a + n for a, n in merged],
                    on_error="raise",
                )
            for (_, count), part in zip(merged, parts, strict=True):
                _whole(part, count, self.name)
            starts = [a for a, _ in merged]
            for offset, count in batch:
                found = bisect_right(starts, offset) - 1
                first = offset - starts[found]
                yield parts[found][first : first + count]

    def stream(self, block: int = HEADER_BLOCK) -> BinaryIO:
        """Return a new file object that reads `block` bytes at a time."""
        file: BinaryIO = self._fs.open(self._path, "rb", block_size=block, cache_type="readahead")
        return file

    def close(self) -> None:
        """Do nothing: connections belong to fsspec."""


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of `url` and the path in it."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url, **storage_options(url))
    except (ImportError, ValueError) as err:
        raise ReadError(
            f"{url}: no reader for this kind of address ({err}); give a path, s3:// or https:// "
            "URL, or install the fsspec package for it"
        ) from err
    # A listing of some minutes ago would hide that the file has changed.
    fs.invalidate_cache(path)
    return fs, path


def storage_options(url: str) -> dict[str, Any]:
    """Return fsspec options for `url` from the environment (see the top of this file)."""
    if urlsplit(url).scheme not in ("s3", "s3a"):
        return {}
    options: dict[str, Any] = {}
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("yes", "true", "1"):
        options["anon"] = True
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        options["endpoint_url"] = endpoint
    return options


@contextmanager
def said_plainly(where: str) -> Iterator[None]:
    """Turn what a file system raises into a `ReadError` of one sentence."""
    try:
        yield
    except ReadError:
        raise
    except FileNotFoundError as err:
        raise ReadError(f"{where} does not exist; check the path or URL") from err
    except PermissionError as err:
        raise ReadError(
            f"{where} may not be read: permission denied; check its rights or the credentials in "
            "the environment"
        ) from err
    except IsADirectoryError as err:
        raise ReadError(f"{where} is a folder, not a file") from err
    except Exception as err:
        # Every file system has its own errors (botocore, aiohttp, …): none is worth a traceback.
        raise ReadError(
            f"{where} cannot be reached ({type(err).__name__}: {err}); check the address, the "
            "network and, for s3, AWS_ENDPOINT_URL and the credentials"
        ) from err


def _whole(data: bytes, count: int, name: str) -> bytes:
    """Refuse fewer or more bytes than were asked for."""
    if len(data) == count:
        return data
    raise ReadError(
        f"{name}: {count:,} bytes were asked for, {len(data):,} came; the file was cut since it "
        "was opened, or its server answers no range requests: copy it to a folder or object store"
    )


def _batches(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Cut ranges into batches of bounded bytes and number."""
    batch: list[Range] = []
    held = 0
    for one in ranges:
        if batch and (held + one[1] > BATCH_BYTES or len(batch) == BATCH_RANGES):
            yield batch
            batch, held = [], 0
        batch.append(one)
        held += one[1]
    if batch:
        yield batch


def _merged(ranges: Sequence[Range]) -> list[Range]:
    """Join ranges that lie close together in the file.

    >>> _merged([(0, 10), (20, 10), (1 << 20, 5)])
    [(0, 30), (1048576, 5)]
    """
    merged: list[Range] = []
    for offset, count in sorted(set(ranges)):
        start, length = merged[-1] if merged else (0, -1)
        joined = offset + count - start
        if length >= 0 and offset <= start + length + MERGE_GAP and joined <= MERGED_BYTES:
            merged[-1] = (start, max(length, joined))
        else:
            merged.append((offset, count))
    return merged
