"""Finished run folders made with the store alone, for whoever shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.engine import Workload
from segpipe.inspection import Subject, inspect
from segpipe.jobs import ArrayInput
from segpipe.passes import ImageInfo
from segpipe.store.arrays import Region, as_planes, create_array
from segpipe.store.digest import array_digest
from segpipe.store.folder import Folder
from segpipe.store.ome import Calibration, level_shapes, publish_image, publish_labels
from segpipe.store.pyramid import halve_mean, halve_nearest
from segpipe.tasks import Report, run_tasks
from segpipe.tiles import Box, Grid

STEPS = ("ingest", "cells-label", "finish")
MEBI = 1 << 20


def write_run(
    where: Path,
    image: np.ndarray,
    labels: np.ndarray,
    *,
    tile: tuple[int, int] = (512, 512),
    rgb: bool = False,
    unit: str | None = None,
    source: str = "/data/field.tif",
    **changes: Any,
) -> Folder:
    """Write the folder of a finished run of one stage `cells`; `changes` win over its state."""
    folder = Folder(str(where))
    where.mkdir(parents=True, exist_ok=True)
    inside, size = folder / "image.ome.zarr", 0.5 if unit else 1.0
    shapes, calibration = level_shapes(labels.shape), Calibration((size, size), unit)
    planes, nearest = np.moveaxis(image, -1, 0), labels
    for level, shape in enumerate(shapes):
        _put(inside, str(level), np.moveaxis(planes, 0, -1), tile)
        _put(inside, f"labels/cells/{level}", nearest, tile)
        assert nearest.shape == shape
        planes, nearest = halve_mean(np.ascontiguousarray(planes)), halve_nearest(nearest)
    channels = ["red", "green", "blue"] if rgb else [f"channel{i}" for i in range(image.shape[2])]
    publish_labels(inside, "cells", len(shapes), calibration, {})
    publish_image(inside, len(shapes), calibration, channels, {})
    pq.write_table(pa.table(table_of(labels, image)), where / "segments.parquet")
    state = state_of(image, labels, tile, rgb=rgb, unit=unit, source=source)
    state |= inspect([subject_of(folder, image, labels, tile, masked=not labels.all())], in_turn)
    folder.put_json("run.json", json.loads(json.dumps(state | changes)))
    return folder


def subject_of(
    folder: Folder, image: np.ndarray, labels: np.ndarray, tile: tuple[int, int], *, masked: bool
) -> Subject:
    """What is inspected; the windows are segmented again only by those who say with what."""
    info = ImageInfo(labels.shape, image.shape[2], str(image.dtype), masked=masked)
    grid = Grid(labels.shape, tuple(min(t, n) for t, n in zip(tile, labels.shape, strict=True)))
    inside = folder / "image.ome.zarr"
    n = len(np.unique(labels[labels > 0]))
    inputs = (ArrayInput("image", inside, "0"),)
    return Subject("cells", folder, inside, "segments.parquet", n, grid, "key", None, info, inputs)


def in_turn(_title: str, loads: Sequence[Workload]) -> list[list[Report]]:
    """Do tasks here, one after the other."""
    return [run_tasks(load.job, [(i, None) for i in range(len(load.job))]) for load in loads]


def table_of(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Some columns of the table of segments."""
    flat = labels.ravel().astype(np.int64)
    present = np.unique(flat[flat > 0])
    area = np.bincount(flat)[present]
    mean = lambda values: np.bincount(flat, values.ravel())[present] / area  # noqa: E731
    table = {"label": present, "area": area}
    for axis, place in enumerate(np.indices(labels.shape)):
        table[f"centroid-{axis}"] = mean(place.astype(float))
    for c in range(image.shape[2]):
        plane = np.nan_to_num(image[..., c].astype(float))
        table[f"intensity_mean-{c}"] = mean(plane)
        table[f"intensity_std-{c}"] = np.sqrt(np.maximum(mean(plane**2) - mean(plane) ** 2, 0))
    padded = np.pad(labels, 1)
    edges = sum(np.roll(padded, s, a) != padded for a in (0, 1) for s in (1, -1))
    table["perimeter"] = mean(edges[1:-1, 1:-1].astype(float)) * area
    return table


def state_of(
    image: np.ndarray,
    labels: np.ndarray,
    tile: tuple[int, int],
    *,
    rgb: bool,
    unit: str | None,
    source: str,
) -> dict[str, Any]:
    """What ``run.json`` says of a finished run, as it is after a trip through JSON."""
    step = {"tasks": 6, "reused": 0, "wall": 1.5, "read": 0.5, "compute": 3.0, "write": 0.25}
    state = {
        "segpipe": "0.1.0",
        "state": "complete",
        "identity": "0" * 64,
        "config": {
            "input": source,
            "output": "runs/field",
            "stages": [{"method": "slic", "name": "cells", "parameters": {"step_px": 16}}],
            "tiles": {"size": list(tile)},
        },
        "source": {
            "shape": labels.shape,
            "channels": image.shape[2],
            "dtype": str(image.dtype),
            "source": source,
            "rgb": rgb,
            "channel_names": (),
            "pixel_size": (0.5, 0.5) if unit else None,
            "pixel_unit": unit,
            "crs": None,
        },
        "tile": list(tile),
        "exactness": {"cells": "exact"},
        "machine": {
            "host": "workstation",
            "system": "Linux",
            "processor": "x86_64",
            "python": "3.12.1",
            "cores": 8,
            "workers": 4,
            "worker_memory": 4 << 30,
        },
        "process": {"host": "workstation", "pid": 4711, "since": 0.0},
        "started": "2026-03-04T22:15:00+00:00",
        "ended": "2026-03-04T22:15:09+00:00",
        "wall_seconds": 9.25,
        "resumed": 0,
        "labels": {
            "cells": {
                "digest": array_digest(labels),
                "segments": len(np.unique(labels[labels > 0])),
            }
        },
        "steps": {name: {**step, "peak_bytes": 300 * MEBI} for name in STEPS},
    }
    return json.loads(json.dumps(state))


def scene(shape: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Return a smooth picture with some texture, uint8 (H, W, channels)."""
    y, x = np.mgrid[: shape[0], : shape[1]] / 60.0
    waves = [np.sin(x * (1 + c / 3) + c) * np.cos(y * (1 + c / 5)) for c in range(channels)]
    noise = np.random.default_rng(0).normal(0, 6, (*shape, channels))
    return np.clip(128 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def cells(shape: tuple[int, int], step: int = 24) -> np.ndarray:
    """Return labels 1..N: wavy cells of about `step` pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    rows = np.clip((y + 5 * np.sin(x / 17)) // step, 0, None).astype(np.int64)
    columns = np.clip((x + 5 * np.sin(y / 13)) // step, 0, None).astype(np.int64)
    found = np.unique(rows * (columns.max() + 1) + columns, return_inverse=True)[1]
    return (found.reshape(shape) + 1).astype(np.uint32)


def _put(folder: Folder, path: str, pixels: np.ndarray, tile: tuple[int, int]) -> None:
    shape = pixels.shape if pixels.ndim == 2 else (pixels.shape[2], *pixels.shape[:2])
    create_array(folder, path, shape, str(pixels.dtype), tile)
    Region(folder, path, Box((0, 0), pixels.shape[:2])).write(as_planes(pixels))
