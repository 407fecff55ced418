"""Time of scoring label images: counts per pixel against scikit-image, and whole files.

    python tests/bench/bench_score.py [--size 16384] [--folder FOLDER]

The labels are superpixels of step 16 on smooth noise, repeated with new numbers; the truth are wavy
fields of about 100 pixels. Best of 3 in memory; files are written once and read from the page cache.
"""

import argparse
import dataclasses
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from skimage import metrics
from skimage.segmentation import find_boundaries

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from segpipe import quality
from segpipe.methods.slic import slic
from segpipe.readers import SourceInfo
from segpipe.score import Options, score_files
from segpipe.state import NEEDED
from segpipe.store import IMAGE
from segpipe.store.arrays import create_array, open_array
from segpipe.store.folder import Folder

BLOCK = 4096
STORED = (2048, 2048)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--folder", help="keep the files here")
    arguments = parser.parse_args()
    labels, truth = block()
    in_memory(labels, truth)
    folder = Path(arguments.folder or tempfile.mkdtemp())
    try:
        files(labels, truth, arguments.size, folder)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder)


def block():
    coarse = np.random.default_rng(0).integers(
        0, 256, (BLOCK // 32, BLOCK // 32, 3), dtype=np.uint8
    )
    image = np.asarray(Image.fromarray(coarse).resize((BLOCK, BLOCK), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:BLOCK, :BLOCK]
    fields = (y + 9 * np.sin(x / 40)).astype(int) // 100 * 50 + (x + 7 * np.cos(y / 30)).astype(
        int
    ) // 90
    return slic(image, step=16), (fields - fields.min() + 1).astype(np.uint16)


def in_memory(labels, truth):
    radius = quality.tolerance((16384, 16384))
    rows = quality.overlaps(labels, truth)
    print(f"{BLOCK} x {BLOCK}, {labels.max():,} segments, {truth.max():,} regions, one thread")
    ours = timed("overlaps", lambda: quality.overlaps(labels, truth))
    peer = timed(
        "  scikit-image contingency_table", lambda: metrics.contingency_table(truth, labels)
    )
    print(f"  ratio {peer / ours:.1f}")
    ours = timed(
        "variation of information, adapted Rand error",
        lambda: pair_scores(quality.contingency(labels, truth)),
    )
    peer = timed("  scikit-image, the same two", lambda: peer_scores(labels, truth))
    print(f"  ratio {peer / ours:.1f}")
    ours = timed(
        f"borders, tolerance {radius}", lambda: quality.border_counts(labels, truth, radius)
    )
    peer = timed(
        "  scikit-image find_boundaries + SciPy maximum_filter",
        lambda: peer_borders(labels, truth, radius),
    )
    print(f"  ratio {peer / ours:.1f}")
    edges = quality.border_counts(labels, truth, radius)
    timed("all 14 region scores from the counts", lambda: all_scores(rows, edges))


def pair_scores(table):
    return quality.variation_of_information(table), quality.adapted_rand_error(table)


def all_scores(rows, edges):
    return quality.region_scores(quality.tabulate(rows), edges)


def peer_scores(labels, truth):
    return metrics.variation_of_information(truth, labels), metrics.adapted_rand_error(
        truth, labels, ignore_labels=()
    )


def peer_borders(labels, truth, radius):
    from scipy.ndimage import maximum_filter

    marks = [find_boundaries(values, connectivity=1) for values in (labels, truth)]
    near = [maximum_filter(values, size=2 * radius + 1) for values in marks]
    return (marks[1] & near[0]).sum(), (marks[0] & near[1]).sum()


def timed(name, work):
    work()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    best = min(seconds)
    print(f"{name:52} {best:7.3f} s {BLOCK**2 / best / 1e6:9.1f} Mpx/s", flush=True)
    return best


def files(labels, truth, size, folder):
    """Score the labels of a run against a tiled TIFF."""
    run, tiff = folder / "run", folder / "truth.tif"
    if not tiff.exists():
        write_run(labels, size, Folder(str(run)))
        n = -(-size // BLOCK)
        whole = np.tile(truth, (n, n))[:size, :size]
        tifffile.imwrite(tiff, whole, tile=(512, 512), compression="deflate")
    score_files(str(run), [str(tiff)], Options())
    print(f"\n{size} x {size}, a run against a tiled TIFF, {os.cpu_count()} cores")
    for tile in (1024, 2048, 4096):
        start = time.perf_counter()
        found = score_files(str(run), [str(tiff)], Options(instances=True), tile=tile)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"tiles of {tile}: {seconds:6.2f} s {size**2 / seconds / 1e6:8.1f} Mpx/s,"
            f" peak {peak:.2f} GB, {found['annotators'][0]['segments']:,} segments",
            flush=True,
        )


def write_run(labels, size, run):
    """What a run of this size leaves, as far as scoring looks at it."""
    store, n = run / IMAGE, -(-size // BLOCK)
    create_array(store, "labels/a/0", (size, size), "uint32", STORED)
    array = open_array(store, "labels/a/0")
    for i, j in np.ndindex(n, n):
        part = labels + np.uint32((i * n + j) * int(labels.max()))
        rows, columns = (slice(k * BLOCK, min(size, (k + 1) * BLOCK)) for k in (i, j))
        array[rows, columns] = part[: rows.stop - rows.start, : columns.stop - columns.start]
    source = SourceInfo((size, size), 1, "uint8", "tiles", STORED, "none", "none")
    state = dict.fromkeys(NEEDED, "") | {"state": "complete", "labels": {"a": {}}}
    run.put_json("run.json", state | {"source": dataclasses.asdict(source)})


if __name__ == "__main__":
    main()
