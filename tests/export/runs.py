"""Label images that are hard to export, and finished runs of them made with the store alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.store.arrays import Region, create_array
from segpipe.store.folder import Folder
from segpipe.tiles import Box

NORTH_UP = (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_400_000.0)
"""Transform of half-metre pixels in a UTM zone."""


def canonical(labels: np.ndarray) -> np.ndarray:
    """Number labels 1..N by their first pixel, as every run does; 0 stays."""
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.zeros(len(found), np.uint32)
    order = np.argsort(first)
    order = order[found[order] > 0]
    rank[order] = np.arange(1, len(order) + 1)
    return rank[inverse].reshape(labels.shape)


def table_of(labels: np.ndarray) -> dict[str, Any]:
    """The columns that every table has, and others of all kinds."""
    names = np.unique(labels[labels > 0]).astype(np.int64)
    boxes = []
    for name in names:
        y, x = np.nonzero(labels == name)
        boxes.append([y.min(), x.min(), y.max() + 1, x.max() + 1])
    columns: dict[str, Any] = {"label": names}
    columns["area"] = np.array([(labels == name).sum() for name in names], np.int64)
    for i, column in enumerate(np.array(boxes, np.int64).reshape(-1, 4).T):
        columns[f"bbox-{i}"] = column
    columns["intensity_mean-0"] = names / 7
    columns["touches_border"] = names % 2 == 0
    columns["class"] = pa.array([f"kind {n % 3}" for n in names], pa.string())
    columns["neighbours"] = pa.array([[int(n), 5] for n in names], pa.list_(pa.int64()))
    return columns


def parquet(columns: dict[str, Any], rows: int = 1 << 16) -> pq.ParquetFile:
    """Columns as an open Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=rows)
    buffer.seek(0)
    return pq.ParquetFile(buffer)


def write_run(
    where: Path,
    labels: np.ndarray,
    *,
    tile: tuple[int, int] = (32, 48),
    transform: tuple[float, ...] | None = None,
    crs: str | None = None,
    **changes: Any,
) -> Path:
    """Write the folder of a finished run of one stage `cells`; `changes` win over its state."""
    folder = Folder(str(where))
    where.mkdir(parents=True, exist_ok=True)
    inside = folder / "image.ome.zarr"
    create_array(inside, "labels/cells/0", labels.shape, str(labels.dtype), tile)
    Region(inside, "labels/cells/0", Box((0, 0), labels.shape)).write(labels)
    columns = table_of(labels)
    pq.write_table(pa.table(columns), where / "segments.parquet", row_group_size=7)
    source = {"shape": labels.shape, "transform": transform, "crs": crs, "pixel_unit": None}
    state = {"state": "complete", "source": source}
    state["labels"] = {"cells": {"digest": "", "segments": len(columns["label"])}}
    state |= {"identity": "", "config": {}, "tile": tile, "process": {}, "resumed": 0}
    (where / "run.json").write_text(json.dumps(state | changes))
    return where


def random_labels(seed: int, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Noise of few labels: diagonals, single pixels, holes in holes, many pieces."""
    rng = np.random.default_rng(seed)
    size = shape or tuple(rng.integers(1, 14, 2))
    return canonical(rng.integers(0, rng.integers(1, 6) + 1, size))


def blobs(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Cells with wavy, noisy borders and holes in them, some background between."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    y += 4 * np.sin(x / 7) + rng.normal(0, 0.8, shape)
    x += 4 * np.sin(y / 9) + rng.normal(0, 0.8, shape)
    cells = (y // 19).astype(int) * 1000 + (x // 23).astype(int)
    cells[(y % 19 > 8) & (y % 19 < 13) & (x % 23 > 8) & (x % 23 < 14)] += 500
    cells[cells % 7 == 0] = 0
    cells[np.abs(y - x) < 2] = 77_777  # from corner to corner
    return canonical(np.maximum(cells, 0))


def spiral(edge: int) -> np.ndarray:
    """Two labels wound round each other: both span every tile, neither has a hole."""
    labels = np.ones((edge, edge), int)
    top, left, bottom, right = 1, 0, edge - 1, edge - 1
    while top < bottom and left < right:
        labels[top, left : right + 1] = 2
        labels[top:bottom, right] = 2
        labels[bottom, left + 2 : right + 1] = 2
        labels[top + 2 : bottom + 1, left + 2] = 2
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return canonical(labels)


def frames(edge: int) -> np.ndarray:
    """Squares in squares: every label but the innermost has a hole that holds all others."""
    y, x = np.mgrid[:edge, :edge]
    return canonical(np.minimum(np.minimum(y, x), np.minimum(edge - 1 - y, edge - 1 - x)) + 1)


def pinched() -> np.ndarray:
    """Label 1 touches itself across corners: from outside, hole to hole, and round background."""
    rows = [
        "1111111111.",
        "1.1111.111.",
        "11.11.1.111",
        "111..111.11",
        "1111111111.",
        "1...11..11.",
        "1.2.1.11.11",
        "1...11..11.",
        "111111111.1",
        ".........1.",
    ]
    return canonical(np.array([[int(c) if c != "." else 0 for c in row] for row in rows]))
