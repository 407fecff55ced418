"""What is exported: a label image of a finished run, its table, where it lies on the earth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from segpipe.errors import InputError, RunError
from segpipe.export.rings import PIXELS, Transform
from segpipe.state import chosen_stage, complete_state
from segpipe.store import IMAGE
from segpipe.store.arrays import open_array, read_rows
from segpipe.store.folder import Folder
from segpipe.store.objects import open_object

BAND_PIXELS = 1 << 22
"""Pixels handed out at a time: few, as what is made of them should stay near the processor."""


@dataclass(frozen=True)
class Layer:
    """A label image 1..N (0 = none) and the table of its segments."""

    folder: Folder
    stage: str
    shape: tuple[int, int]
    """(height, width) in pixels."""
    segments: int
    table: str
    """Name of the table in the run folder; rows sorted by label, and so by first row."""
    transform: Transform
    """From (column, row) of pixel corners to coordinates; `PIXELS` without georeference."""
    crs: str | None
    """Such as ``EPSG:32632``; None: pixels, or coordinates of an unknown system."""
    pixel_unit: str | None
    """``degree``, ``metre``, …"""

    @property
    def georeferenced(self) -> bool:
        """Whether coordinates are those of the world."""
        return self.transform != PIXELS or self.crs is not None

    @property
    def labels(self) -> Any:
        """The label image as an array to be read in windows."""
        return open_array(self.folder / IMAGE, f"labels/{self.stage}/0")

    def bands(self) -> Iterator[np.ndarray]:
        """Yield the label image from top to bottom in bands of rows."""
        labels = self.labels
        height, width = self.shape
        step, rows = read_rows(width, labels.chunks[0]), max(1, BAND_PIXELS // width)
        for top in range(0, height, step):
            try:
                read = labels[top : top + step]
            except Exception as error:  # every codec has its own word for damage
                raise RunError(f"the labels in {self.folder} are damaged: {error}") from error
            for row in range(0, len(read), rows):
                yield np.ascontiguousarray(read[row : row + rows])

    def open_table(self) -> pq.ParquetFile:
        """Open the table of segments for reading row group by row group."""
        try:
            return pq.ParquetFile(open_object(self.folder, self.table))
        except FileNotFoundError as error:
            raise InputError(
                f"the run in {self.folder} has no table {self.table}; only a .tif can be exported"
            ) from error


def open_layer(run: str, stage: str | None) -> Layer:
    """Return what there is to export from a run folder.

    Raises
    ------
    InputError
        There is no finished run, or it has no such label image.
    """
    folder = Folder(run)
    state = complete_state(run, folder)
    name, names = chosen_stage(state, stage), list(state["labels"])
    source = state["source"]
    placed = source.get("transform") is not None
    return Layer(
        folder=folder,
        stage=name,
        shape=tuple(source["shape"]),
        segments=state["labels"][name]["segments"],
        table="segments.parquet" if len(names) == 1 else f"segments-{name}.parquet",
        transform=tuple(source["transform"]) if placed else PIXELS,
        crs=source.get("crs") if placed else None,
        pixel_unit=source.get("pixel_unit"),
    )


def has_place(run: str) -> bool:
    """Whether the image of a run has a coordinate system."""
    source = complete_state(run, Folder(run))["source"]
    return source.get("transform") is not None and source.get("crs") is not None
