"""The passes that count the values of the whole image, for methods that scale them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from segpipe import colour
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.tiles import Grid, Tile


def is_rgb(image: ImageInfo) -> bool:
    """Tell whether an image is taken as sRGB (see `colour.is_rgb`) and so needs no ranges."""
    return image.channels == 3 and image.dtype == "uint8"


def ranges_passes(image: ImageInfo, over: Literal["mask", "segments"] = "mask") -> tuple[Pass, ...]:
    """Return the passes whose last solution gives every tile the `colour.Scaling` of the image.

    What counts are the pixels that are not masked, or those of the segments that a method groups.
    Floats are counted twice: roughly, wherever they lie, and finely between what that has found.
    """
    reads = ("image",) if over == "mask" and not image.masked else ("image", over)
    # the image, which of its pixels count, values and bins of one channel
    held = (np.dtype(image.dtype).itemsize + 1) * image.channels + 32
    sweep = partial(Pass, reads=reads, merge=_add, bytes_per_pixel=held, cost_ns=4.0)
    first = sweep("ranges", _count, solve=partial(_choose, image))
    if np.dtype(image.dtype).kind != "f":
        return (first,)
    return first, sweep("quantiles", _count, solve=_refine)


def ranges_of(image: np.ndarray, valid: np.ndarray | None) -> colour.Scaling:
    """Return the scaling of a whole image (h, w, C)."""
    found = colour.scaling(colour.histogram(image, valid), image.dtype)
    if image.dtype.kind != "f":
        return found
    return colour.refined(colour.fine_histogram(image, valid, found), found)


def _count(window: Window, within: colour.Scaling | None) -> Output:
    """Count the values of a tile, for the second time `within` what the first has found."""
    image = window.core("image")
    counts = next((window.core(n) for n in ("mask", "segments") if n in window.arrays), None)
    valid = colour.known(image, counts)
    if within is None:
        return Output(record={"histogram": colour.histogram(image, valid)})
    return Output(record={"histogram": colour.fine_histogram(image, valid, within)})


def _add(records: Sequence[Record]) -> Record:
    return {"histogram": np.sum([record["histogram"] for record in records], axis=0)}


@dataclass(frozen=True)
class Ranges:
    """Solution: the scaling that all tiles share."""

    scale: colour.Scaling

    @property
    def notes(self) -> dict[str, list[float]]:
        """What ``run.json`` says of it, a number per channel."""
        return {"values scaled from": list(self.scale.low), "to": list(self.scale.high)}

    def for_tile(self, _tile: Tile, _record: Record) -> colour.Scaling:
        """Return the scaling."""
        return self.scale


def _choose(image: ImageInfo, records: Sequence[Record], _grid: Grid, _former: Any) -> Ranges:
    return Ranges(colour.scaling(records[0]["histogram"], np.dtype(image.dtype)))


def _refine(records: Sequence[Record], _grid: Grid, former: Ranges) -> Ranges:
    return Ranges(colour.refined(records[0]["histogram"], former.scale))
