"""Time the plain functions of the region methods beside their peers in scikit-image, one core.

    python tests/bench/bench_regions.py [--size 2048] [--image PHOTO]

Peers: threshold_otsu or threshold_local followed by measure.label; flood for one seed. Split and
merge has no peer there; only its time is printed.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from skimage import filters, measure
from skimage.segmentation import flood

from segpipe.methods.region_growing import region_growing
from segpipe.methods.split_merge import split_merge
from segpipe.methods.threshold import threshold

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--image", type=Path, default=DATA / "earth_mosaic/bmng.jpg")
    arguments = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    photo = Image.open(arguments.image).convert("RGB")
    rgb = np.asarray(photo)[: arguments.size, : arguments.size]
    gray = np.asarray(photo.convert("L"))[: arguments.size, : arguments.size]
    seed = (gray.shape[0] // 2, gray.shape[1] // 2)
    rows = {
        "threshold, otsu": (
            lambda: threshold(gray),
            lambda: measure.label(gray > filters.threshold_otsu(gray), connectivity=1),
        ),
        "threshold, local": (
            lambda: threshold(gray, "local"),
            lambda: measure.label(gray > filters.threshold_local(gray, 51, "mean"), connectivity=1),
        ),
        "growing, one seed": (
            lambda: region_growing(gray, [seed], 12, rule="seed"),
            lambda: flood(gray, seed, tolerance=12, connectivity=1),
        ),
        "growing, lattice": (lambda: region_growing(rgb), None),
        "split and merge": (lambda: split_merge(rgb), None),
    }
    print(f"{gray.shape[0]} x {gray.shape[1]}, ns/px{'segpipe':>14}{'scikit-image':>14}")
    for name, functions in rows.items():
        taken = [best(f) / gray.size * 1e9 for f in functions if f]
        print(f"{name:<24}" + "".join(f"{ns:14.1f}" for ns in taken))


def best(function, times=3):
    function()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


if __name__ == "__main__":
    main()
