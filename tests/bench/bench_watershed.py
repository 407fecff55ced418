"""Flooding alone against scikit-image: speed, peak memory, agreement of labels; one core.

    python tests/bench/bench_watershed.py [--size 2048] [--runs 3] [--image PHOTO]

Both flood the same altitude, the 16-bit gradient of a photo mosaic, from the same markers, first
all minima of 9 x 9 pixels, then a grid. From image to labels: bench_methods.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from apart import apart, table
from bench_slic import DEFAULT_IMAGE, cpu_name, mosaic
from methods_peers import cells
from scipy import ndimage
from skimage.segmentation import watershed as peer

from segpipe.methods import watershed_altitude as land
from segpipe.methods.watershed import Watershed, watershed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--image", type=Path, default=DEFAULT_IMAGE)
    arguments = parser.parse_args()
    size, runs, pixels = arguments.size, arguments.runs, arguments.size**2
    print(f"machine  {cpu_name()}, 1 core\nimage    {size} x {size} from {arguments.image}")
    photo = mosaic(arguments.image, size)
    small = photo[:96, :96]
    for kind in ("minima", "grid"):
        given = flooding(photo, kind)
        *ours, mine = apart(flood_ours, flooding(small, kind), given, runs)
        *theirs, their = apart(flood_peer, flooding(small, kind), given, 1)
        print(f"\nfrom {kind}: {mine.max()} markers; same label in {(mine == their).mean():.2%}")
        table({"segpipe": ours, "scikit-image": theirs}, pixels)


def flooding(image, kind):
    """Return a gradient image and markers."""
    gradient = land.leading_part(image, None, Watershed(), None)
    if kind == "minima":
        found = ndimage.minimum_filter(gradient, 9) == gradient
        return gradient, ndimage.label(found)[0].astype(np.int32)
    return gradient, cells(gradient, 32)


def flood_ours(gradient, markers):
    return watershed(gradient, altitude="image", sigma=0, markers=markers)


def flood_peer(gradient, markers):
    return peer(gradient, markers)


if __name__ == "__main__":
    main()
