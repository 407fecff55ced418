"""From pixels of any type to a picture: which level, which channels, between which values.

Reads small windows and coarse levels alone, so memory does not grow with the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.store import IMAGE
from segpipe.store.arrays import open_array
from segpipe.store.folder import Folder
from segpipe.store.ome import level_shapes
from segpipe.tiles import Box

QUANTILES = (0.01, 0.99)
"""Values between these are spread over black to white: a few glaring pixels do not matter."""
INVALID = 208
"""Grey of pixels without a value."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Display:
    """How the image of a run is shown."""

    folder: Folder
    shape: tuple[int, int]
    """(height, width) at full resolution."""
    ranges: tuple[Range, ...]
    """What is black and what is white in each channel that is shown: one (grey) or three."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shape of every pyramid level."""
        return level_shapes(self.shape)

    def picture(self, level: int, box: Box | None = None) -> np.ndarray:
        """Return uint8 (rows, columns) or (rows, columns, 3) of a level, or of a box in it."""
        inside = box or Box((0, 0), self.shapes[level])
        planes = open_array(self.folder, str(level))[(slice(len(self.ranges)), *inside.slices)]
        shown = [stretch(plane, *r) for plane, r in zip(planes, self.ranges, strict=True)]
        return shown[0] if len(shown) == 1 else np.stack(shown, axis=-1)

    def labels(self, stage: str, level: int, box: Box | None = None) -> np.ndarray:
        """Return the labels (rows, columns) of a level, or of a box in it."""
        inside = box or Box((0, 0), self.shapes[level])
        found: np.ndarray = open_array(self.folder, f"labels/{stage}/{level}")[inside.slices]
        return found


def open_display(folder: Folder, state: Mapping[str, Any]) -> Display:
    """Decide how the image of the run in `folder` is shown; `state` is its ``run.json``."""
    source, home = state["source"], folder / IMAGE
    height, width = source["shape"]
    coarsest = len(level_shapes((height, width))) - 1
    stages = list(state["labels"])
    labels = open_array(home, f"labels/{stages[0]}/{coarsest}")[:] if stages else None
    return Display(home, (height, width), _ranges(home, source, coarsest, labels))


def stretch(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map `low` … `high` to 0 … 255; what is not finite becomes light grey.

    >>> stretch(np.array([[-5.0, 0.0, 1.0, np.nan]]), 0.0, 1.0).tolist()
    [[0, 0, 255, 208]]
    """
    if plane.dtype == np.uint8 and (low, high) == (0, 255):
        return plane
    scaled = (plane.astype(np.float32) - low) * (255.0 / (high - low))
    grey = np.clip(np.nan_to_num(scaled, nan=INVALID, posinf=INVALID, neginf=INVALID), 0, 255)
    return np.rint(grey).astype(np.uint8)


def _ranges(
    home: Folder, source: Mapping[str, Any], coarsest: int, labels: np.ndarray | None
) -> tuple[Range, ...]:
    if source["rgb"] and source["dtype"] == "uint8":
        return ((0.0, 255.0),) * 3
    shown = 3 if source["channels"] >= 3 else 1
    planes = open_array(home, str(coarsest))[:shown]
    # nodata is often far off: where there are segments, they alone decide
    counts = labels > 0 if labels is not None and labels.any() else np.ones(planes.shape[1:], bool)
    ranges = [_range(plane[counts]) for plane in planes]
    if source["rgb"]:  # one range for all, or the colours would shift
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * 3
    return tuple(ranges)


def _range(values: np.ndarray) -> Range:
    finite: Sequence[float] = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = (float(q) for q in np.quantile(finite, QUANTILES))
    return (low, high) if high > low else (low, low + 1.0)
