"""Felzenszwalb-Huttenlocher on pixels: agreement with scikit-image, and what tiles send.

    python tests/bench/bench_felzenszwalb.py [--image PHOTO]

Same parameters (scale 100, sigma 0.8, min_size 20). Agreement is the adapted Rand error on BSDS500
photos, beside that of scikit-image with itself when a hundredth of a grey level of noise is added:
ties and roundings decide much of this method. Speed and memory are in bench_methods.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_slic import DATA, DEFAULT_IMAGE, mosaic
from PIL import Image
from skimage.metrics import adapted_rand_error
from skimage.segmentation import felzenszwalb as peer

from segpipe.methods.felzenszwalb import Felzenszwalb, felzenszwalb
from segpipe.passes import ImageInfo, Window
from segpipe.tiles import Grid


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, default=DEFAULT_IMAGE)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    agreement(sorted((arguments.data / "bsds500/images/val").glob("*.jpg"))[:20])
    print("\nundecided in tiles: parts and deferred edges per pixel, bytes of a record")
    for edge in (256, 512, 1024):
        print(f"  {edge:5} ", travelling(mosaic(arguments.image, 2 * edge), edge))


def agreement(paths):
    errors, counts, rng = [], [], np.random.default_rng(0)
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        found = felzenszwalb(image, scale=100) - 1
        noise = rng.normal(0, 0.01, image.shape)
        first, second = (
            peer((image + n) / 255, scale=100, sigma=0.8, min_size=20) for n in (0, noise)
        )
        errors.append([adapted_rand_error(first, s)[0] for s in (found, second)])
        counts.append([s.max() + 1 for s in (found, first)])
    if paths:
        mean, n = np.mean(errors, axis=0), np.mean(counts, axis=0)
        print(f"adapted Rand error on {len(paths)} BSDS500 photos, against scikit-image")
        print(f"  segpipe {mean[0]:.3f}, scikit-image with a little noise {mean[1]:.3f}")
        print(f"  regions: segpipe {n[0]:.0f}, scikit-image {n[1]:.0f}")


def travelling(image, edge):
    """Return parts, deferred edges and bytes that the first of 2 x 2 tiles sends."""
    method = Felzenszwalb(scale=100)
    step = method.passes(ImageInfo(image.shape[:2], 3, "uint8", rgb=True))[0]
    grid = Grid(image.shape[:2], (edge, edge))
    tile = grid.tile(0, step.halo)
    record = step.map(Window(tile, grid, {"image": image[tile.window.slices]}), None).record
    edges = len(record["first_part"]) + len(record["second_part"])
    total = sum(array.nbytes for array in record.values())
    return f"{len(record['part']) / edge**2:.4f} {edges / edge**2:.4f} {total}"


if __name__ == "__main__":
    main()
