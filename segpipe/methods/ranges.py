"""The pass that counts the values of the whole image, for methods that scale them."""

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


def ranges_pass(image: ImageInfo, over: Literal["mask", "segments"] = "mask") -> Pass:
    """Return the pass whose solution gives every tile the `colour.Scaling` of the image.

    What counts are the pixels that are not masked, or those of the segments that a method groups.
    """
    return Pass(
        "ranges",
        _count,
        reads=("image",) if over == "mask" and not image.masked else ("image", over),
        merge=_add,
        solve=partial(_choose, image),
        # the image, which of its pixels count, and the bins of one channel
        bytes_per_pixel=(np.dtype(image.dtype).itemsize + 1) * image.channels + 16,
        cost_ns=4.0,
    )


def ranges_of(image: np.ndarray, valid: np.ndarray | None) -> colour.Scaling:
    """Return the scaling of a whole image (h, w, C)."""
    return colour.scaling(colour.histogram(image, valid), image.dtype)


def _count(window: Window, _part: None) -> Output:
    """Count the values of a tile."""
    image = window.core("image")
    counts = next((window.core(n) for n in ("mask", "segments") if n in window.arrays), None)
    return Output(record={"histogram": colour.histogram(image, colour.known(image, counts))})


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
