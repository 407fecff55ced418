"""OME-Zarr 0.4 (Zarr v2) and 0.5 (Zarr v3): full resolution of an image, chunk by chunk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.readers.base import (
    TERAPIXEL,
    Opening,
    ReadError,
    Source,
    SourceInfo,
    check_box,
    check_dtype,
    check_pixels,
    default_names,
    named_rgb,
    validity,
)
from segpipe.readers.open import open_as
from segpipe.readers.places import file_system, local_path, storage_options
from segpipe.tiles import Box

METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""Files that make a folder a Zarr node, version 3 first."""


def is_zarr(where: str) -> bool:
    """Whether `where` is a Zarr node; a folder that is none is refused here."""
    path = local_path(where)
    if path is not None:
        if not path.is_dir():
            return False
        if any((path / name).exists() for name in METADATA):
            return True
        raise ReadError(
            f"{where} is a folder without Zarr metadata (no {', '.join(METADATA)}); give an image "
            "file or the folder of an OME-Zarr image"
        )
    if Path(where.split("?")[0]).suffix not in ("", ".zarr") and ".zarr/" not in where:
        return False
    fs, root = file_system(where)
    return any(fs.exists(f"{root.rstrip('/')}/{name}") for name in METADATA)


def open_zarr(opening: Opening) -> Source:
    """Open the first multiscale image of a group at full resolution."""
    import zarr

    where = opening.where
    path = local_path(where)
    try:
        node = zarr.open(
            where if path is None else path,
            mode="r",
            storage_options=storage_options(where) or None,
        )
        image = multiscale(where, node)
        array: Any = node[image["datasets"][0]["path"]]
        axes = image_axes(where, image, array.shape)
    except ReadError:
        raise
    except Exception as err:
        # zarr, the codecs and the store each raise their own kinds.
        raise ReadError(
            f"{where}: the Zarr metadata cannot be read ({type(err).__name__}: {err}); the store "
            "is incomplete or damaged: copy it again"
        ) from err
    return ZarrSource(opening, array, axes, describe(opening, node, array, axes))


def multiscale(where: str, node: Any) -> dict[str, Any]:
    """Return the first entry of ``multiscales``."""
    attrs = _attributes(node)
    found = attrs.get("multiscales")
    if found and hasattr(node, "members"):
        image: dict[str, Any] = found[0]
        return image
    if "plate" in attrs or "well" in attrs:
        hint = "give the folder of one field, like <folder>/A/1/0"
    elif "bioformats2raw.layout" in attrs:
        hint = "give the folder of one image, like <folder>/0"
    else:
        hint = "give the folder that holds the levels 0, 1, … of an image"
    raise ReadError(f"{where} is Zarr, but has no multiscales (not an OME-Zarr image); {hint}")


def image_axes(where: str, image: dict[str, Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the axes, after checking that they are one plane with channels."""
    axes = tuple(a["name"] if isinstance(a, dict) else str(a) for a in image.get("axes", ()))
    sizes = dict(zip(axes, shape, strict=False))
    stack = any(n > 1 for a, n in sizes.items() if a not in ("y", "x", "c"))
    if len(axes) != len(shape) or not {"y", "x"} <= set(axes) or stack:
        found = ", ".join(f"{a} = {n}" for a, n in sizes.items()) or "none"
        raise ReadError(
            f"{where} has axes {found} for an array of shape {shape}; allowed are y, x, c, and "
            "others of length 1: write one plane to an image of its own"
        )
    return axes


def describe(opening: Opening, node: Any, array: Any, axes: tuple[str, ...]) -> SourceInfo:
    """Collect what the metadata tell."""
    sizes = dict(zip(axes, array.shape, strict=True))
    chunks = dict(zip(axes, array.chunks, strict=True))
    shape = (int(sizes["y"]), int(sizes["x"]))
    check_pixels(shape, opening, TERAPIXEL)
    dtype = check_dtype(array.dtype, opening)
    channels = int(sizes.get("c", 1))
    names = _channel_names(node, channels)
    rgb = channels == 3 and named_rgb(names, dtype)
    return SourceInfo(
        shape=shape,
        channels=channels,
        dtype=dtype,
        access="tiles",
        native=(int(chunks["y"]), int(chunks["x"])),
        source=opening.where,
        fingerprint=_fingerprint(opening.where, node, array),
        rgb=rgb,
        channel_names=names or default_names(channels, rgb),
        **_pixel_size(opening.where, node, axes),
    )


class ZarrSource:
    """A source on a Zarr array; reads share nothing, so threads may call them."""

    def __init__(
        self, opening: Opening, array: Any, axes: tuple[str, ...], info: SourceInfo
    ) -> None:
        self.info = info
        self._opening = opening
        self._array = array
        self._axes = axes

    def __reduce__(self) -> tuple[Any, ...]:
        return open_as, (self._opening, self.info.fingerprint)

    def close(self) -> None:
        """Do nothing: no handle is kept."""

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels and validity of `box`."""
        check_box(box, self.info)
        rows, columns = box.slices
        index = {"y": rows, "x": columns, "c": slice(None)}
        try:
            block = np.asarray(self._array[tuple(index.get(a, 0) for a in self._axes)])
        except Exception as err:
            raise ReadError(
                f"{self.info.source}: a chunk in rows {rows.start} to {rows.stop}, columns "
                f"{columns.start} to {columns.stop} cannot be decoded ({err}); the store is "
                "damaged there: copy it again"
            ) from err
        left = [a for a in self._axes if a in index]
        if "c" not in left:
            left, block = [*left, "c"], block[..., None]
        pixels = _interleaved(block.transpose([left.index(a) for a in "yxc"]), self.info.dtype)
        return pixels, validity(pixels)


def _interleaved(block: np.ndarray, dtype: str) -> np.ndarray:
    """Return (rows, columns, channels) in memory order; channel by channel is 5 times faster."""
    if block.flags.c_contiguous:
        return block.astype(dtype, copy=False)
    out = np.empty(block.shape, dtype)
    for channel in range(block.shape[2]):
        out[..., channel] = block[..., channel]
    return out


def _attributes(node: Any) -> dict[str, Any]:
    """Return the OME metadata: version 0.5 keeps them under "ome", 0.4 does not."""
    attrs = dict(node.attrs)
    ome: dict[str, Any] = attrs.get("ome", attrs)
    return ome


def _channel_names(node: Any, channels: int) -> tuple[str, ...]:
    """Return the channel names of "omero", empty when they are not complete."""
    found = _attributes(node).get("omero", {}).get("channels", [])
    names = tuple(str(c.get("label", "")) for c in found if isinstance(c, dict))
    return names if len(names) == channels and all(names) else ()


def _pixel_size(where: str, node: Any, axes: tuple[str, ...]) -> dict[str, Any]:
    """Return pixel size and unit: the level's scale times the scale of all levels."""
    image = multiscale(where, node)
    size = np.ones(len(axes))
    scales = 0
    for owner in (image["datasets"][0], image):
        for step in owner.get("coordinateTransformations", ()):
            if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
                size = size * np.asarray(step["scale"], float)
                scales += 1
    unit = next(
        (a.get("unit") for a in image["axes"] if isinstance(a, dict) and a["name"] == "y"), None
    )
    if not scales or (unit is None and np.all(size == 1)):
        return {}
    return {
        "pixel_size": (float(size[axes.index("y")]), float(size[axes.index("x")])),
        "pixel_unit": unit,
    }


def _fingerprint(where: str, node: Any, array: Any) -> str:
    """Identify a store by its metadata; chunks rewritten in place are not noticed."""
    told = f"{array.metadata.to_dict()} {dict(node.attrs)}"
    path = local_path(where)
    stamps = []
    if path is not None:
        level = path / array.path.strip("/")
        stamps = [str(level.stat().st_mtime_ns)] + [
            str((level / name).stat().st_mtime_ns) for name in METADATA if (level / name).exists()
        ]
    return " ".join([where, hashlib.sha256(told.encode()).hexdigest(), *stamps])
