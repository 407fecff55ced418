"""Images made of blocks (tiles or strips) at known places of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.readers.base import Opening, ReadError, SourceInfo, check_box, validity
from segpipe.readers.open import open_as
from segpipe.readers.places import Place
from segpipe.tiles import Box

Blocks = dict[int, np.ndarray]
"""Decoded blocks (rows, columns, samples) by number."""


@dataclass(frozen=True)
class Layer:
    """Blocks that carry the same samples: the whole image, or one channel stored apart."""

    first: int
    """Number of the first sample in the image."""
    samples: int
    block: tuple[int, int]
    """(rows, columns) of a block; blocks at the border may be decoded larger than the image."""
    grid: tuple[int, int]
    """Number of blocks down and across."""
    offsets: np.ndarray
    """Byte offset of every block, raster order."""
    counts: np.ndarray
    """Bytes of every block; 0 = not stored, all pixels are `fill`."""
    decode: Callable[[bytes, int], np.ndarray]
    """(bytes, number) -> (rows, columns, samples)."""
    dtype: np.dtype[Any]
    fill: float = 0
    strips: bool = False
    """Blocks are as wide as the image."""

    def touched(self, box: Box) -> list[int]:
        """Numbers of the blocks that `box` touches, raster order."""
        (rows, columns), (top, left), (bottom, right) = self.block, box.start, box.stop
        return [
            i * self.grid[1] + j
            for i in range(top // rows, -(-bottom // rows))
            for j in range(left // columns, -(-right // columns))
        ]

    def place(self, number: int) -> Box:
        """Pixels of block `number`, what sticks out of the image included."""
        (i, j), (rows, columns) = divmod(number, self.grid[1]), self.block
        return Box((i * rows, j * columns), ((i + 1) * rows, (j + 1) * columns))


class BlockSource:
    """A source that decodes just the blocks a box touches.

    Of the last box it keeps the blocks that the next box to the right will touch too: in striped
    files the whole band, so that a row of tiles decodes each strip once; in tiled files the tiles
    cut by the right or lower side.
    """

    def __init__(
        self,
        place: Place,
        opening: Opening,
        info: SourceInfo,
        layers: Sequence[Layer],
        masks: Sequence[Layer] = (),
        alpha: int | None = None,
        palette: np.ndarray | None = None,
    ) -> None:
        self.info = info
        self._place = place
        self._opening = opening
        self._layers = layers
        self._masks = masks
        self._alpha = alpha
        self._palette = palette
        self._kept: dict[int, Blocks] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return open_as, (self._opening, self.info.fingerprint)

    def close(self) -> None:
        """Close the file and forget the blocks kept."""
        self._kept = {}
        self._place.close()

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels and validity of `box`."""
        check_box(box, self.info)
        stored = self._read_layers(self._layers, box)
        alpha = None
        if self._alpha is not None:
            alpha = stored[..., self._alpha]
            stored = np.delete(stored, self._alpha, axis=-1)
        if self._masks:
            mask = self._read_layers(self._masks, box)[..., 0]
            alpha = mask if alpha is None else (mask != 0) & (alpha != 0)
        valid = validity(stored, self.info.nodata, alpha)
        return stored if self._palette is None else self._palette[stored[..., 0]], valid

    def _read_layers(self, layers: Sequence[Layer], box: Box) -> np.ndarray:
        """Return the samples (rows, columns, samples) of `box`."""
        out = np.empty((*box.shape, sum(layer.samples for layer in layers)), layers[0].dtype)
        for layer in layers:
            for number, block in self._blocks(layer, box):
                _paste(block, layer, number, box, out)
        return out

    def _blocks(self, layer: Layer, box: Box) -> Iterator[tuple[int, np.ndarray]]:
        """Yield number and pixels of the blocks that `box` touches, decoding those not kept."""
        wanted = layer.touched(box)
        kept = self._kept.get(id(layer), {})
        # What this box does not touch goes now, not after it: two bands would be held otherwise.
        self._kept[id(layer)] = kept = {n: kept[n] for n in wanted if n in kept}
        keep: Blocks = {}
        ranges = [
            (int(layer.offsets[n]), int(layer.counts[n]))
            for n in wanted
            if n not in kept and layer.counts[n]
        ]
        data = self._place.ranges(ranges)
        for number in wanted:
            block = kept.get(number)
            if block is None:
                block = self._decoded(layer, number, data)
            if layer.strips or any(
                a > b for a, b in zip(layer.place(number).stop, box.stop, strict=True)
            ):
                keep[number] = block
            yield number, block
        self._kept[id(layer)] = keep

    def _decoded(self, layer: Layer, number: int, data: Iterator[bytes]) -> np.ndarray:
        """Decode the next of the blocks that are read from the file."""
        if not layer.counts[number]:
            return np.full((1, 1, 1), layer.fill, layer.dtype)
        try:
            return layer.decode(next(data), number)
        except ReadError:
            raise
        except Exception as err:
            place, kind = layer.place(number), "strip" if layer.strips else "tile"
            raise ReadError(
                f"{self.info.source}: {kind} {number} (rows {place.start[0]} to {place.stop[0]}, "
                f"columns {place.start[1]} to {place.stop[1]}) cannot be decoded ({err}); the "
                "file is damaged there: copy it again or crop that part away"
            ) from err


def _paste(block: np.ndarray, layer: Layer, number: int, box: Box, out: np.ndarray) -> None:
    """Copy the part of a block that lies in `box` to `out`."""
    place = layer.place(number)
    start = tuple(max(a, b) for a, b in zip(place.start, box.start, strict=True))
    stop = tuple(min(a, b) for a, b in zip(place.stop, box.stop, strict=True))
    common = Box(start, stop)
    if block.shape[:2] != (1, 1):
        block = block[common.within(place)]
    out[(*common.within(box), slice(layer.first, layer.first + layer.samples))] = block
