"""Zarr v3 arrays: creation, windows in, cores out.

Pixels lie on the last two axes; an image has its channels first, as OME-Zarr wants it. A tile's
core is a whole number of shards, so two tasks never write one object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash
import zarr
from numba import njit
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore, ObjectStore

from segpipe.errors import RunError
from segpipe.store.folder import Folder
from segpipe.store.space import is_full, write_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segpipe.tiles import Box

CHUNK = 512
"""Largest chunk edge inside a shard (px): big enough for the codec, small enough to look at."""
READ_PIXELS = 1 << 25
"""Pixels read at a time: whole rows of chunks, unless the image is wider than 65,536 pixels."""
SMALL = 256
"""Below this edge a chunk costs more in bookkeeping than it holds; the shard is one chunk then."""


@dataclass(frozen=True)
class Region:
    """A box of an array: what one task writes, and what is read to verify it."""

    folder: Folder
    path: str
    box: Box

    @property
    def name(self) -> str:
        """Name of the array inside the run: ``image/…`` or ``work/…``."""
        home = self.folder.where.rstrip("/").rpartition("/")[2]
        return f"{'image' if home.endswith('.ome.zarr') else home}/{self.path}"

    def read(self) -> np.ndarray:
        """Read the box: (H, W), or (C, H, W) of an image."""
        return open_array(self.folder, self.path)[(..., *self.box.slices)]

    def write(self, planes: np.ndarray) -> str:
        """Write the box (whole shards, or up to the image border); return its `checksum`."""
        array = open_array(self.folder, self.path)
        planes = np.ascontiguousarray(planes, array.dtype)
        try:
            self._put(array, planes)
        except (OSError, RuntimeError) as error:  # the Rust codec pipeline raises RuntimeError
            self._erase(array)
            where = f"{self.folder}/{self.path}"
            raise write_error(error, where, planes.nbytes) from error
        return checksum(planes)

    def _put(self, array: Any, planes: np.ndarray) -> None:
        """Write; a damaged shard at the image border, which would be read first, is put aside."""
        try:
            array[(..., *self.box.slices)] = planes
        except (OSError, RuntimeError) as error:
            if is_full(error):
                raise
            self._erase(array)
            array[(..., *self.box.slices)] = planes

    def _erase(self, array: Any) -> None:
        """Delete the box's shards on a local disk: a half-written one is of no use to anybody."""
        if self.folder.local is None:
            return  # an object store has objects whole or not at all
        lead = array.ndim - 2
        size = (array.shards or array.chunks)[lead:]
        spans = [
            range(a // n, -(-b // n))
            for a, b, n in zip(self.box.start, self.box.stop, size, strict=True)
        ]
        for place in product(*spans):
            name = array.metadata.encode_chunk_key((0,) * lead + place)
            (self.folder.local / self.path / name).unlink(missing_ok=True)


def checksum(planes: np.ndarray) -> str:
    """64-bit checksum of an array's values in raster order."""
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(planes).data)


def as_planes(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, C), as methods see pixels, as the stored (H, W) or (C, H, W).

    >>> as_planes(np.zeros((4, 5, 3))).shape
    (3, 4, 5)
    """
    planes = pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if planes.flags.c_contiguous or pixels.dtype == np.float16:
        return np.ascontiguousarray(planes)
    out = np.empty(planes.shape, planes.dtype)
    if pixels.ndim == 3 and pixels.flags.c_contiguous:
        _deinterleave(pixels, out)  # five times as fast as NumPy's copy
    else:
        out[...] = planes
    return out


def as_pixels(planes: np.ndarray) -> np.ndarray:
    """Return stored (H, W) or (C, H, W) as (H, W) or contiguous (H, W, C).

    >>> as_pixels(np.zeros((3, 4, 5))).shape
    (4, 5, 3)
    """
    if planes.ndim == 2:
        return planes
    out = np.empty((*planes.shape[1:], planes.shape[0]), planes.dtype)
    _interleave(planes, out)
    return out


@njit(nogil=True, cache=True)
def _deinterleave(pixels: np.ndarray, out: np.ndarray) -> None:
    height, width, channels = pixels.shape
    for y in range(height):
        for c in range(channels):
            for x in range(width):
                out[c, y, x] = pixels[y, x, c]


@njit(nogil=True, cache=True)
def _interleave(planes: np.ndarray, out: np.ndarray) -> None:
    channels, height, width = planes.shape
    for y in range(height):
        for c in range(channels):
            for x in range(width):
                out[y, x, c] = planes[c, y, x]


def create_array(
    folder: Folder,
    path: str,
    shape: Sequence[int],
    dtype: str,
    tile: tuple[int, int],
    attributes: dict[str, Any] | None = None,
) -> None:
    """Create an array of (H, W) or (C, H, W) with shards of `tile`; keep one that fits."""
    if is_array(folder, path, shape, dtype, tile):
        return
    shard, chunk = storage_shape(tile)
    lead = tuple(shape[:-2])
    axes = ("c", "y", "x")[-len(shape) :]
    kind = np.dtype(dtype)
    # bytes of equal rank compress better together where values vary smoothly; labels are runs
    shuffle: Literal["shuffle", "noshuffle"]
    shuffle = "shuffle" if lead and kind.itemsize > 1 else "noshuffle"
    lz4 = BloscCodec(cname="lz4", clevel=5, shuffle=shuffle)
    zarr.create_array(
        _store(folder),
        name=path,
        shape=tuple(shape),
        dtype=dtype,
        chunks=lead + chunk,
        shards=None if shard == chunk else lead + shard,
        # lz4 gains nothing on 8-bit photographs, and costs three times what writing them does
        compressors=None if lead and kind.itemsize == 1 else lz4,
        dimension_names=axes,
        fill_value=0,
        attributes=attributes or {},
        overwrite=True,
    )


def is_array(
    folder: Folder, path: str, shape: Sequence[int], dtype: str, tile: tuple[int, int]
) -> bool:
    """Whether the array exists with this shape, dtype and storage."""
    try:
        array = zarr.open_array(_store(folder), path=path, mode="r")
    except (FileNotFoundError, KeyError, ValueError):  # none, or damaged
        return False
    shard = (array.shards or array.chunks)[-2:]
    return array.shape == tuple(shape) and array.dtype == dtype and shard == storage_shape(tile)[0]


def drop_broken_metadata(folder: Folder, name: str) -> None:
    """Delete Zarr metadata below `name` that a crash has damaged; it is written anew."""
    home = folder / name
    if not home.exists:
        return
    for item in home.names():
        if item.rpartition("/")[2] == "zarr.json":
            try:
                home.get_json(item)
            except ValueError:
                home.delete_object(item)


def storage_shape(tile: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (shard, chunk) for cores of `tile`: the shard is the core, chunks divide it.

    >>> storage_shape((4096, 4096))
    ((4096, 4096), (512, 512))
    >>> storage_shape((500, 700))
    ((500, 700), (500, 350))
    >>> storage_shape((2999, 4096))
    ((2999, 4096), (2999, 512))
    """
    return tile, (_divisor(tile[0]), _divisor(tile[1]))


def read_rows(width: int, chunk: int) -> int:
    """Return how many rows to read at a time: a row of chunks, or parts of it if that is too much.

    >>> read_rows(60_000, 512), read_rows(100_000, 512)  # the second decodes every chunk twice
    (512, 256)
    """
    parts = -(-chunk * width // READ_PIXELS)
    return max(1, -(-chunk // parts))


def _divisor(n: int) -> int:
    """Return the largest divisor of n up to CHUNK, or n itself when that would be tiny."""
    best = next(d for d in range(min(n, CHUNK), 0, -1) if n % d == 0)
    return best if best >= min(n, SMALL) else n


def open_array(folder: Folder, path: str) -> Any:
    """Open an existing array with the fastest codec pipeline that its store allows."""
    # a worker outlives runs: where one was deleted, another may have begun
    return _opened(folder, path, folder.version(f"{path}/zarr.json"))


@lru_cache(maxsize=64)
def _opened(folder: Folder, path: str, _version: Any) -> Any:
    pipeline = (
        "zarrs.ZarrsCodecPipeline"
        if folder.local is not None and _has_zarrs()
        else "zarr.core.codec_pipeline.BatchedCodecPipeline"
    )
    # a task is one thread: parallel work comes from the workers
    settings = {"codec_pipeline.path": pipeline, "threading.max_workers": 1, "async.concurrency": 4}
    with zarr.config.set(settings):
        try:
            return zarr.open_array(_store(folder), path=path, mode="r+")
        except (FileNotFoundError, KeyError) as error:
            raise RunError(f"there is no array {path} in {folder}") from error
        except ValueError as error:
            raise RunError(f"the metadata of {folder}/{path} is damaged: {error}") from error


@cache
def _has_zarrs() -> bool:
    try:
        import zarrs  # noqa: F401
    except ImportError:
        return False
    return True


def _store(folder: Folder) -> LocalStore | ObjectStore[Any]:
    if folder.local is not None:
        return LocalStore(folder.local)
    return ObjectStore(folder.objects())
