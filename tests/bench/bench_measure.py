"""Time of measuring all regions: against scikit-image, and as a share of SLIC's time.

    python tests/bench/bench_measure.py [--size 2048] [--runs 9] [--image PHOTO] [--dtype uint16]

RGB and the labels of SLIC (step 16) in memory, one core. Runs are interleaved with those of
SLIC, in CPU time; the best of each is compared, as other load on the machine only adds.
scikit-image is timed on a part of the image, as it takes minutes for all.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from bench_slic import DEFAULT_IMAGE, cpu_name, mosaic

from segpipe.methods.slic import slic
from segpipe.regions import contours, measure
from segpipe.regions.columns import STANDARD, Wanted
from segpipe.regions.measure_tile import Seen, tile_rows

CHOICES = {
    "basic": {"area"},
    "colour": {"area", "colour"},
    "shape": {"area", "shape"},
    "neighbours": {"area", "neighbours"},
    "standard": set(STANDARD),
    "full": {*STANDARD, "percentiles"},
}
PEER = 512
"""Edge of the part that scikit-image measures (px)."""
PEER_NAMES = (
    *("label", "area", "bbox", "centroid", "perimeter", "eccentricity", "orientation"),
    *("axis_major_length", "axis_minor_length", "intensity_mean", "intensity_std"),
    *("intensity_min", "intensity_max"),
)


def main():
    arguments = parsed()
    image = of_type(mosaic(arguments.image, arguments.size), arguments.dtype)
    labels = slic(image)
    jobs = {"SLIC": lambda: slic(image)}
    seen = alone(labels)
    for name, groups in CHOICES.items():
        jobs[name] = lambda groups=groups: tile(seen, image, groups)
    jobs["standard, plain function"] = lambda: measure.measure(labels, image)
    for job in jobs.values():
        job()  # compile
    best = dict.fromkeys(jobs, np.inf)
    for _ in range(arguments.runs):
        for name, job in jobs.items():
            best[name] = min(best[name], timed(job))
    print(f"machine   {cpu_name()}, 1 core")
    print(f"image     {image.shape[0]} x {image.shape[1]} {image.dtype}, {labels.max()} segments")
    print(f"\n{'':28}{'ns/px':>8}{'share of SLIC':>16}")
    for name, seconds in best.items():
        print(f"{name:28}{seconds / labels.size * 1e9:8.2f}{seconds / best['SLIC']:16.0%}")
    part = np.ascontiguousarray(labels[:PEER, :PEER])
    peer = timed(lambda: scikit_image(part, image[:PEER, :PEER])) / part.size
    ours = best["standard, plain function"] / labels.size
    print(f"{'scikit-image':28}{peer * 1e9:8.0f}{peer / ours:15.0f} times ours")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--image", type=Path, default=DEFAULT_IMAGE)
    parser.add_argument("--dtype", choices=["uint8", "uint16", "float32"], default="uint8")
    return parser.parse_args()


def of_type(image, dtype):
    """A photograph with as many different values as a camera of this depth would give."""
    if dtype == "uint8":
        return image
    fine = np.random.default_rng(0).random(image.shape, np.float32)
    return ((image + fine) * (256 if dtype == "uint16" else 1)).astype(dtype)


def alone(labels):
    """The whole image as a tile; a run knows the numbers of its regions, and what lies round it."""
    h, w = labels.shape
    ring = contours.Ring(
        *(np.full(s, contours.OUTSIDE) for s in ((2, w + 4), (2, w + 4), (h, 2), (h, 2)))
    )
    return Seen(labels, np.arange(int(labels.max()) + 1), ring, np.zeros(0, np.int64), (0, 0))


def tile(seen, image, groups):
    """What a run does with a tile."""
    wanted = Wanted(seen.regions.shape, 3, str(image.dtype), frozenset(groups))
    return tile_rows(seen, image, np.zeros(0, np.int64), wanted)


def timed(job):
    start = time.thread_time()
    job()
    return time.thread_time() - start


def scikit_image(labels, image):
    from skimage.measure import regionprops_table

    regionprops_table(labels.astype(np.int64), image, properties=PEER_NAMES)


if __name__ == "__main__":
    main()
