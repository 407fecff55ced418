"""Speed and peak memory of the methods on one core, next to their peers.

    python tests/bench/bench_methods.py [--sizes 2048 8192] [--runs 3] [--only felzenszwalb …]
        [--image PHOTO] [--alone]

One protocol for all: the plain function, array in memory to labels, default parameters unless the row
says otherwise; each in a process of its own, after a small call that compiles; CPU time, best of the
runs; memory is the peak above what was there before the call, the input not counted. Images are photo
mosaics. Methods that group segments get superpixels of `slic` (step 12; normalised cuts 32), whose time
is not counted. Peers run on the first size, or, where they take minutes for that, on the edge that
the row shows; the ratio is that of times per pixel. SLIC, mean shift, networks have benches of their
own; whole runs of components beside dask-image are in bench_components.py.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import methods_peers as peers
from apart import apart
from bench_slic import DEFAULT_IMAGE, cpu_name, mosaic

from segpipe.methods.components import components
from segpipe.methods.felzenszwalb import felzenszwalb
from segpipe.methods.normalised_cuts import normalised_cuts
from segpipe.methods.region_growing import region_growing
from segpipe.methods.region_merging import region_merging
from segpipe.methods.seeded_growing import seeded_growing
from segpipe.methods.slic import slic
from segpipe.methods.split_merge import split_merge
from segpipe.methods.threshold import threshold
from segpipe.methods.watershed import watershed


class Row(NamedTuple):
    """What is timed: our function, the peer's, what both get, and the peer's edge if a smaller one."""

    ours: object
    peer: object = None
    given: str = "photo"
    peer_size: int | None = None


ROWS = {
    "felzenszwalb, pixels": Row(partial(felzenszwalb, scale=100), partial(peers.felzenszwalb, scale=100)),
    "felzenszwalb, segments": Row(felzenszwalb, given="superpixels 12"),
    "watershed, minima": Row(watershed, partial(peers.minima_watershed, h=16)),
    "watershed, grid": Row(partial(watershed, markers="grid"), partial(peers.grid_watershed, step=32)),
    "watershed, compact grid": Row(
        partial(watershed, markers="grid", compactness=2),
        partial(peers.compact_watershed, step=32, compactness=10),
    ),
    "region-merging, contrast": Row(
        region_merging, partial(peers.merge_hierarchical, threshold=0.03), "superpixels 12", 512
    ),
    "region-merging, baatz": Row(partial(region_merging, criterion="baatz"), None, "superpixels 12"),
    "region-merging, ward": Row(partial(region_merging, criterion="ward"), None, "superpixels 12"),
    "normalised-cuts": Row(
        normalised_cuts, partial(peers.cut_normalized, threshold=0.001), "superpixels 32", 512
    ),
    "split-merge": Row(split_merge),
    "region-growing, lattice": Row(region_growing),
    "region-growing, one seed": Row(peers.ours_from_centre, peers.flood_from_centre, "gray"),
    "seeded-growing": Row(seeded_growing),
    "threshold, otsu": Row(threshold, peers.otsu, "gray"),
    "threshold, local": Row(partial(threshold, rule="local"), peers.local_mean, "gray"),
    "components": Row(partial(components, foreground=True), peers.components, "mask"),
}  # fmt: skip


def main():
    arguments = parsed()
    print(f"machine  {cpu_name()}, 1 core\nimage    {arguments.image.name}, mirrored, varied")
    sizes = arguments.sizes
    heads = "".join(f"{f'Mpx/s {n}²':>13}{'peak MB':>9}{'B/px':>6}" for n in sizes)
    print(f"{'':26}{heads}  |  peer: Mpx/s, B/px, edge; ours is times faster, takes of its memory")
    for name, row in ROWS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        found = [measured(row.ours, row.given, n, arguments) for n in sizes]
        line = f"{name:26}" + "".join(
            f"{n * n / s / 1e6:13.2f}{m / 1e6:9.0f}{m / n / n:6.0f}"
            for n, (s, m) in zip(sizes, found, strict=True)
        )
        print(line + beside(row, found[0], arguments), flush=True)


def beside(row, ours, arguments):
    """The end of a line: the peer."""
    if row.peer is None or arguments.alone:
        return ""
    first = arguments.sizes[0]
    size = min(row.peer_size or first, first)
    seconds, memory = measured(row.peer, row.given, size, arguments, runs=1)
    faster = seconds / size**2 / (ours[0] / first**2)
    share = ours[1] / first**2 / (memory / size**2)
    return (
        f"  |  {size * size / seconds / 1e6:7.3f}{memory / size**2:6.0f}{size:6}"
        f"{faster:8.1f} x{share:7.2f}"
    )


def measured(function, given, size, arguments, runs=None):
    """CPU seconds and bytes."""
    small, arrays = (prepared(given, arguments.image, n) for n in (96, size))
    return apart(function, small, arrays, runs or arguments.runs, keep=False)[:2]


def prepared(given, path, size):
    photo = mosaic(path, size)
    kind, _, step = given.partition(" ")
    if kind == "superpixels":
        return [photo, slic(photo, step=int(step))]
    if kind == "photo":
        return [photo]
    gray = np.ascontiguousarray(photo[..., 1])
    return [gray] if kind == "gray" else [(gray > np.median(gray)).view(np.uint8)]


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=(), help="rows whose names hold one of these")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--image", type=Path, default=DEFAULT_IMAGE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
