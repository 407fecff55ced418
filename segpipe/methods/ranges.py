"""The pass that finds the range of every channel over the whole image, for methods that compare
colours: nothing is ever normalised per tile.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segpipe import colour
from segpipe.methods.slic import known
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.tiles import Grid, Tile


@dataclass(frozen=True)
class Ranges:
    """Solution: the scaling that all tiles share."""

    scale: colour.Scaling

    def for_tile(self, _tile: Tile, _record: Record) -> colour.Scaling:
        """Return the scaling."""
        return self.scale


def ranges_pass(image: ImageInfo) -> Pass:
    """Return the pass that solves to `Ranges`."""
    arrays = ("image", "mask") if image.masked else ("image",)
    return Pass("ranges", _count, arrays, merge=_add, solve=partial(_choose, image), cost_ns=4.0)


def ranges_of(image: np.ndarray, valid: np.ndarray | None) -> colour.Scaling:
    """Return the scaling of a whole image (h, w, C)."""
    return colour.scaling(colour.histogram(image, valid), image.dtype)


def _count(window: Window, _part: None) -> Output:
    image = window.core("image")
    mask = window.core("mask") if "mask" in window.arrays else None
    return Output(record={"histogram": colour.histogram(image, known(image, mask))})


def _add(records: Sequence[Record]) -> Record:
    return {"histogram": np.sum([record["histogram"] for record in records], axis=0)}


def _choose(image: ImageInfo, records: Sequence[Record], _grid: Grid, _former: Any) -> Ranges:
    return Ranges(colour.scaling(records[0]["histogram"], np.dtype(image.dtype)))
