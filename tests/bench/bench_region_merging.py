"""Time region merging beside scikit-image's: `python tests/bench/bench_region_merging.py --size 2048`.

Both merge the same superpixels by the mean contrast along their borders (scikit-image:
``rag_boundary`` on a Sobel image and ``merge_hierarchical``, for an image a quarter as long at most,
since it takes minutes for more). Prints nanoseconds per pixel and segments merged per second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import graph
from skimage.color import rgb2gray
from skimage.filters import sobel

from segpipe.methods.region_merging import region_merging
from segpipe.methods.slic import slic

DATA = Path(__file__).resolve().parents[3] / "shared/data/earth_mosaic/bmng.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--threshold", type=float, default=6.0)
    parser.add_argument("--image", type=Path, default=DATA)
    args = parser.parse_args()
    image = picture(args.image, args.size)
    segments = slic(image)
    region_merging(image, segments, threshold=args.threshold)  # compiles
    taken, found = best(lambda: region_merging(image, segments, threshold=args.threshold), 5)
    report("segpipe", taken, segments, found)
    small = image[: args.size // 4, : args.size // 4]
    segments = slic(small)
    taken, found = best(lambda: theirs(small, segments), 1)
    report("scikit-image", taken, segments, found)


def picture(path: Path, size: int) -> np.ndarray:
    if not path.exists():
        raise SystemExit(f"there is no {path}; give an image with --image")
    Image.MAX_IMAGE_PIXELS = None
    image = np.asarray(Image.open(path).convert("RGB"))
    times = [-(-size // n) for n in image.shape[:2]]
    return np.ascontiguousarray(np.tile(image, (*times, 1))[:size, :size])


def best(function, times):
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        found = function()
        taken.append(time.perf_counter() - begun)
    return min(taken), found


def theirs(image: np.ndarray, segments: np.ndarray) -> np.ndarray:
    borders = sobel(rgb2gray(image))
    rag = graph.rag_boundary(segments.astype(np.int64), borders)
    return graph.merge_hierarchical(
        segments, rag, thresh=0.03, rag_copy=False, in_place_merge=True,
        merge_func=merge, weight_func=weigh,
    )  # fmt: skip


def merge(rag, source, target):
    """Nothing but the edges is kept up to date."""


def weigh(rag, source, target, neighbour):
    """Give the merged border its mean, as the library's example does."""
    none = {"weight": 0.0, "count": 0}
    one, two = rag[source].get(neighbour, none), rag[target].get(neighbour, none)
    count = one["count"] + two["count"]
    total = one["count"] * one["weight"] + two["count"] * two["weight"]
    return {"count": count, "weight": total / count}


def report(name: str, taken: float, segments: np.ndarray, found: np.ndarray) -> None:
    before, after = int(segments.max()), len(np.unique(found))
    print(
        f"{name:<14}{taken / segments.size * 1e9:10.1f} ns/px, {before} -> {after} segments,"
        f" {before / taken / 1e3:.0f} thousand segments a second"
    )


if __name__ == "__main__":
    main()
