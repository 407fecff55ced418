"""Time exports, and the memory they need.

    python tests/bench/bench_export.py [--segments 1000000] [--formats gpkg csv] [--read]

Makes the folder of a finished run, once, with the store alone: cells of about 200 px with noisy
borders, some in pieces, numbered and measured as a run does it. Then exports it to every format,
each in a process of its own, and prints seconds (on the clock, and of processors), peak memory and
size of the file. The first export compiles the kernels and is not counted. `--read` reads polygons
back with geopandas, if it is installed, and compares all columns and areas with the table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.regions.columns import STANDARD
from segpipe.regions.measure import measure
from segpipe.store.arrays import Region, create_array
from segpipe.store.folder import Folder
from segpipe.tiles import Box

CELL = 14
"""Edge of a cell (px)."""
TILE = 1024
UTM = {"transform": (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_400_000.0), "crs": "EPSG:32632"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    parser.add_argument(
        "--formats", nargs="+", default=["parquet", "gpkg", "geojson", "csv", "tif"]
    )
    parser.add_argument("--read", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    run = args.folder / f"export-{args.segments}"
    if not (run / "run.json").exists():
        apart(make_run, run, args.segments)
    state = json.loads((run / "run.json").read_text())
    height, width = state["source"]["shape"]
    count = state["labels"]["cells"]["segments"]
    print(f"{height} x {width} px, {count:,} segments")
    small = args.folder / "export-2000"
    if not (small / "run.json").exists():
        apart(make_run, small, 2000)
    for ending in args.formats:
        export(small, args.folder / f"small.{ending}")
        target = args.folder / f"cells.{ending}"
        seconds, work, peak = export(run, target)
        size = sum(p.stat().st_size for p in args.folder.glob(f"cells*.{ending}"))
        print(
            f"{ending:<8}{seconds:7.1f} s ({work:.1f} s)  peak {peak / 1e6:6.0f} MB  "
            f"file {size / 1e6:6.0f} MB",
            flush=True,
        )
        if args.read and ending in ("parquet", "gpkg", "geojson"):
            apart(read_back, target, run)


def apart(function: Callable[..., None], *args: Any) -> None:
    """Call a function in a process of its own: what it held would count as the exports' memory."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} failed")


def export(run: Path, target: Path) -> tuple[float, float, float]:
    """Return seconds, seconds of processors, and peak bytes of an export."""
    begun = time.time()
    command = [sys.executable, "-m", "segpipe", "export", str(run), "--to", str(target), "--force"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, code, usage = os.wait4(process.pid, 0)
    if code:
        raise SystemExit(f"{' '.join(command)} failed")
    work = usage.ru_utime + usage.ru_stime
    return time.time() - begun, work, usage.ru_maxrss * 1024


def read_back(target: Path, run: Path) -> None:
    """Compare what geopandas reads with the table of the run."""
    import geopandas

    begun = time.time()
    read = geopandas.read_parquet if target.suffix == ".parquet" else geopandas.read_file
    frame = read(target).sort_values("label")
    wanted = pq.read_table(run / "segments.parquet").to_pandas()
    for name in wanted:
        assert np.array_equal(frame[name].to_numpy(), wanted[name].to_numpy()), name
    metres = frame if target.suffix != ".geojson" else frame.to_crs(UTM["crs"])
    error = np.abs(metres.area / (wanted["area"].to_numpy() * 0.25) - 1).max()
    assert error < (1e-9 if target.suffix != ".geojson" else 1e-3), error
    assert frame.is_valid.all()
    seconds = time.time() - begun
    said = f"read back, {len(frame):,} valid polygons, CRS {frame.crs.name}"
    print(f"{'':8}{seconds:7.1f} s  {said}", flush=True)


def make_run(where: Path, segments: int) -> None:
    """Write a run of about so many segments."""
    down = round((segments / 1.5) ** 0.5)
    shape = (down * CELL, -(-segments // down) * CELL)
    labels, inside = canonical(shape), Folder(str(where)) / "image.ome.zarr"
    create_array(inside, "labels/cells/0", shape, "uint32", (TILE, TILE))
    Region(inside, "labels/cells/0", Box((0, 0), shape)).write(labels)
    image = (labels % 251).astype(np.uint8)
    columns = measure(labels, image, groups=STANDARD, transform=UTM["transform"])["segments"]
    pq.write_table(pa.table(columns), where / "segments.parquet", row_group_size=1 << 16)
    state = {"state": "complete", "source": {"shape": shape, "pixel_unit": "metre", **UTM}}
    state["labels"] = {"cells": {"digest": "", "segments": len(columns["label"])}}
    state |= {"identity": "", "config": {}, "tile": (TILE, TILE), "process": {}, "resumed": 0}
    (where / "run.json").write_text(json.dumps(state))


def canonical(shape: tuple[int, int]) -> np.ndarray:
    """Return labels 1..N of the cells, by first pixel."""
    labels = np.empty(shape, np.uint32)
    rank = np.zeros(shape[0] * shape[1] // CELL**2 + 1, np.uint32)
    for top, cells in bands(shape):
        names, first = np.unique(cells, return_index=True)
        fresh = names[np.argsort(first)]
        fresh = fresh[rank[fresh] == 0]
        rank[fresh] = rank.max() + 1 + np.arange(len(fresh))
        labels[top : top + len(cells)] = rank[cells]
    return labels


def bands(shape: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, cells) of bands of tiles."""
    across = shape[1] // CELL
    x = np.arange(shape[1])
    for top in range(0, shape[0], TILE):
        y = np.arange(top, min(top + TILE, shape[0]))[:, None]
        noise = np.random.default_rng(top).integers(-1, 2, (2, len(y), shape[1]), np.int8)
        rows = (y + 4 * np.sin(x / 17) + noise[0]) // CELL
        columns = (x + 4 * np.sin(y / 13) + noise[1]) // CELL
        rows = np.clip(rows, 0, shape[0] // CELL - 1).astype(np.int64)
        yield top, rows * across + np.clip(columns, 0, across - 1).astype(np.int64)


if __name__ == "__main__":
    main()
