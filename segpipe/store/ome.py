"""OME-Zarr 0.5 metadata of the image and of its label images, built with ome-zarr-models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.image_label_types import Label, Source
from ome_zarr_models.v05.multiscales import Dataset, Multiscale

from segpipe.store.arrays import _store, open_array
from segpipe.store.folder import Folder

FINEST_DONE = 1024
"""A pyramid ends with the level that fits in this many pixels on both axes."""
UNITS = {
    unit.replace("meter", ending): unit
    for unit in ("meter", "kilometer", "centimeter", "millimeter", "micrometer", "nanometer")
    for ending in ("meter", "metre")
} | {"foot": "foot", "inch": "inch", "yard": "yard", "mile": "mile"}
"""Units of length -> OME-Zarr's spelling. Viewers refuse others on a space axis (degrees, say)."""


@dataclass(frozen=True)
class Calibration:
    """Physical size of a pixel, as far as the source says."""

    pixel_size: tuple[float, float] = (1.0, 1.0)
    """(y, x)"""
    unit: str | None = None


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of all pyramid levels, each half of the one before, rounded up.

    >>> level_shapes((3000, 2049))
    [(3000, 2049), (1500, 1025), (750, 513)]
    """
    shapes = [shape]
    while max(shapes[-1]) > FINEST_DONE:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def publish_image(
    folder: Folder,
    levels: int,
    calibration: Calibration,
    channels: list[str],
    extra: dict[str, Any],
) -> None:
    """Write the image group's metadata; from now on viewers see a complete image."""
    coarsest = open_array(folder, str(levels - 1))
    attributes = ImageAttrs(
        version="0.5", multiscales=[_multiscale("image", levels, calibration, channel=True)]
    ).model_dump(exclude_none=True)
    attributes["omero"] = {
        "channels": [_channel(name, coarsest, number) for number, name in enumerate(channels)]
    }
    _group(folder, "").update_attributes({"ome": attributes, "segpipe": extra})


def publish_labels(
    folder: Folder, name: str, levels: int, calibration: Calibration, extra: dict[str, Any]
) -> None:
    """Write a label image's metadata and add it to the image's list of label images."""
    attributes = ImageLabelAttrs(
        version="0.5",
        multiscales=[_multiscale(name, levels, calibration, channel=False)],
        **{"image-label": Label(source=Source(image="../../"))},
    ).model_dump(by_alias=True, exclude_none=True)
    _group(folder, f"labels/{name}").update_attributes({"ome": attributes, "segpipe": extra})
    listing = _group(folder, "labels")
    names = set(listing.attrs.get("ome", {}).get("labels", [])) | {name}
    listing.update_attributes({"ome": {"version": "0.5", "labels": sorted(names)}})


def publish_map(
    folder: Folder, path: str, levels: int, calibration: Calibration, extra: dict[str, Any]
) -> None:
    """Write the metadata of probabilities, say, an image of its own at a path inside the image."""
    name = path.rsplit("/", 1)[-1]
    attributes = ImageAttrs(
        version="0.5", multiscales=[_multiscale(name, levels, calibration, channel=True)]
    ).model_dump(exclude_none=True)
    _group(folder, path).attrs.update({"ome": attributes, "segpipe": extra})


def _group(folder: Folder, path: str) -> Any:
    return zarr.open_group(_store(folder), path=path, mode="a", zarr_format=3)


def _channel(name: str, coarsest: Any, number: int) -> dict[str, Any]:
    """Display settings: bytes are shown as they are, other types between their extremes."""
    low, high = (0.0, 255.0)
    if coarsest.dtype != np.uint8:
        plane = coarsest[number]
        finite = plane[np.isfinite(plane)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    colours = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
    return {
        "label": name,
        "color": colours.get(name.lower(), "FFFFFF"),
        "active": True,
        "window": {"min": low, "max": high, "start": low, "end": high},
    }


def _multiscale(name: str, levels: int, calibration: Calibration, *, channel: bool) -> Multiscale:
    unit = UNITS.get(calibration.unit or "")
    axes = [Axis(name=axis, type="space", unit=unit) for axis in ("y", "x")]
    lead: list[float] = []
    if channel:
        axes.insert(0, Axis(name="c", type="channel"))
        lead = [1.0]
    datasets = []
    for level in range(levels):
        step = 2**level
        size = calibration.pixel_size
        # a pixel of level k is the mean of 2^k pixels: its centre lies (2^k - 1) / 2 further
        centre = [0.0] * len(lead) + [(step - 1) / 2 * s for s in size]
        datasets.append(
            Dataset.build(
                path=str(level), scale=lead + [s * step for s in size], translation=centre
            )
        )
    kind = "local mean" if channel else "nearest"
    return Multiscale(axes=axes, datasets=tuple(datasets), name=name, type=kind)
