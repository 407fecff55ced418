"""Quality of all methods and their peers on BSDS500, in one table.

    python tests/bench/bench_methods_quality.py [--images 20] [--training 60] [--only felzenszwalb …]

The parameter that decides how coarse a method is, is chosen on training images: of the values below,
that of the greatest covering; all others keep their defaults. The table is of validation images. So
many of either, evenly spread, as --images and --training say; all of them without. Means over images of
means over annotators:

  K     segments
  Rec   boundary recall, borders one pixel wide, within round(0.0025 diagonal)
  UE    under-segmentation error after Neubert and Protzel; ASA achievable segmentation accuracy
  PRI   probabilistic Rand index; VI variation of information (bits); Cov covering of the truth

Superpixels are many on purpose and keep their parameters; compare their Rec, UE and ASA at equal K, and
PRI, VI and Cov of the others. Methods that group segments, and their peers, get the same superpixels.
scikit-image's cut_normalized takes most of a minute for an image with these: rows with a star get the
larger superpixels of configs/normalised-cuts.yaml and fewer images, ours and theirs the same ones.

--values prints the training images' scores for each value: what defaults are chosen by. Rec, UE and
ASA are the better the finer a segmentation is, VI and covering, among the values that are of use,
the coarser; only PRI falls to both sides. So the default is the value of greatest PRI (24 images):
watershed h 2 (.751; .730 at 1; .648 at 4, which loses four of ten borders that 2 finds), split-merge
contrast 20 (.746; .740 at 16, .724 at 26), region-merging threshold 6 (.744; .741 at 8, .699 at 12, the
value of greatest covering), normalised-cuts threshold .03 on superpixels of step 24 (.789; .783 at .02,
.786 at .04). Mean shift keeps the bandwidths that its peers' users know.
"""

import argparse
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import methods_peers as peers
from bench_mean_shift import linked
from bench_quality import COLUMNS, DATA, scores

from segpipe import quality
from segpipe.methods.felzenszwalb import felzenszwalb
from segpipe.methods.mean_shift import mean_shift
from segpipe.methods.normalised_cuts import normalised_cuts
from segpipe.methods.region_growing import region_growing
from segpipe.methods.region_merging import region_merging
from segpipe.methods.seeded_growing import seeded_growing
from segpipe.methods.slic import slic
from segpipe.methods.split_merge import split_merge
from segpipe.methods.threshold import threshold
from segpipe.methods.watershed import watershed

SHOWN = ("Rec", "UE", "ASA", "PRI", "VI", "Cov")
FEW = 20
"""Images of either kind, at most, for rows with a star."""
STEP, COARSE = 12, 24
"""Of the superpixels that others group; of those for rows with a star."""


class Photo:
    """An image, its annotations, and superpixels when somebody asks for them."""

    def __init__(self, split, name):
        root = DATA / "bsds500"
        path = root / "images" / split / f"{name}.jpg"
        self.rgb = np.asarray(Image.open(path).convert("RGB"))
        self.truths = np.load(root / "gt" / split / f"{name}.npz")["segs"]

    @cached_property
    def superpixels(self):
        return slic(self.rgb, step=STEP)

    @cached_property
    def coarse(self):
        return slic(self.rgb, step=COARSE)


class Row(NamedTuple):
    """A method: labels of a photo for a value of its main parameter, and the values to try."""

    segment: object
    parameter: str = ""
    values: tuple = (None,)
    few: bool = False


ROWS = {
    "slic": Row(lambda p, _: slic(p.rgb)),
    "  scikit-image slic": Row(lambda p, _: peers.slic(p.rgb, 256)),
    "seeded-growing": Row(lambda p, _: seeded_growing(p.rgb)),
    "watershed, compact": Row(
        lambda p, v: watershed(p.rgb, markers="grid", step=16, compactness=v), "compactness", (2.0,)
    ),
    "  scikit-image compact watershed": Row(
        lambda p, v: peers.compact_watershed(p.rgb, 16, v), "compactness", (10.0,)
    ),
    "mean-shift": Row(
        lambda p, v: mean_shift(p.rgb, range_bandwidth=v),
        "range_bandwidth",
        (8, 12, 16, 24, 32),
    ),
    "  OpenCV mean shift + our regions": Row(
        lambda p, v: linked(peers.mean_shift(p.rgb, v)), "sr", (8, 12, 16, 24, 32)
    ),
    "felzenszwalb, pixels": Row(
        lambda p, v: felzenszwalb(p.rgb, scale=v), "scale", (100, 200, 400, 600, 800, 1200)
    ),
    "  scikit-image felzenszwalb": Row(
        lambda p, v: peers.felzenszwalb(p.rgb, v), "scale", (100, 200, 400, 600, 800, 1200)
    ),
    "felzenszwalb, segments": Row(
        lambda p, v: felzenszwalb(p.rgb, p.superpixels, scale=v),
        "scale",
        (4000, 6000, 8000, 12000, 16000),
    ),
    "region-merging, contrast": Row(
        lambda p, v: region_merging(p.rgb, p.superpixels, threshold=v),
        "threshold",
        (4, 6, 8, 10, 12, 15, 20),
    ),
    "  scikit-image merge_hierarchical": Row(
        lambda p, v: peers.merge_hierarchical(p.rgb, p.superpixels, v),
        "thresh",
        (0.04, 0.06, 0.08, 0.12),
    ),
    "region-merging, baatz": Row(
        lambda p, v: region_merging(p.rgb, p.superpixels, criterion="baatz", scale=v),
        "scale",
        (60, 120, 200, 250, 300, 400),
    ),
    "region-merging, ward": Row(
        lambda p, v: region_merging(p.rgb, p.superpixels, criterion="ward", scale=v),
        "scale",
        (400, 800, 1200, 1600, 2400),
    ),
    "normalised-cuts": Row(
        lambda p, v: normalised_cuts(p.rgb, p.superpixels, threshold=v),
        "threshold",
        (0.005, 0.01, 0.015, 0.02, 0.03),
    ),
    "normalised-cuts *": Row(
        lambda p, v: normalised_cuts(p.rgb, p.coarse, threshold=v),
        "threshold",
        (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08),
        few=True,
    ),
    "  scikit-image cut_normalized *": Row(
        lambda p, v: peers.cut_normalized(p.rgb, p.coarse, v),
        "thresh",
        (0.001, 0.005),
        few=True,
    ),
    "watershed, minima": Row(lambda p, v: watershed(p.rgb, h=v), "h", (1, 2, 4, 6, 8, 12)),
    "  scikit-image h-minima, watershed": Row(
        lambda p, v: peers.minima_watershed(p.rgb, v), "h", (5, 10, 20, 40, 80)
    ),
    "split-merge": Row(
        lambda p, v: split_merge(p.rgb, contrast=v), "contrast", (8, 12, 16, 20, 26, 34)
    ),
    "region-growing": Row(
        lambda p, v: region_growing(p.rgb, tolerance=v), "tolerance", (3, 4, 6, 8, 12)
    ),
    "threshold, otsu": Row(lambda p, v: threshold(p.rgb, classes=v), "classes", (2, 3, 4)),
    "  scikit-image multi-Otsu": Row(
        lambda p, v: peers.multi_otsu(p.rgb, v), "classes", (2, 3, 4)
    ),
}  # fmt: skip


def main():
    arguments = parsed()
    training = photos("train", arguments.training or arguments.images)
    validation = photos("val", arguments.images)
    print(f"BSDS500, {len(training)} training and {len(validation)} validation images")
    print(f"{'':35}{'s/image':>8}{'K':>7}" + "".join(f"{c:>7}" for c in SHOWN) + "  chosen")
    for name, row in ROWS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        few, judged = ((spread(p, FEW) if row.few else p) for p in (training, validation))
        if arguments.values:
            for value in row.values:
                print(f"{line(name, row, value, few)}  {row.parameter} {value}", flush=True)
            continue
        value, trace = choose(row, few)
        chosen = f"  {row.parameter} {value}" if row.parameter else ""
        print(line(name, row, value, judged) + chosen + trace, flush=True)
    print(f"* superpixels of step {COARSE}, at most {FEW} images")


def line(name, row, value, pictures):
    """Segment pictures and say how that went."""
    begun = time.process_time()
    labels = [row.segment(photo, value) for photo in pictures]
    seconds = (time.process_time() - begun) / len(labels)
    pairs = zip(labels, pictures, strict=True)
    k, *means = np.mean([scores(x, photo.rgb, photo.truths) for x, photo in pairs], axis=0)
    found = dict(zip(COLUMNS, means, strict=True))
    return f"{name:35}{seconds:8.2f}{k:7.0f}" + "".join(f"{found[c]:7.3f}" for c in SHOWN)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help="validation images; all without it")
    parser.add_argument(
        "--training", type=int, help="training images; as many as --images without it"
    )
    parser.add_argument("--only", nargs="+", default=(), help="rows whose names hold one of these")
    parser.add_argument("--values", action="store_true", help="training images, for each value")
    return parser.parse_args()


def photos(split, count):
    names = sorted(p.stem for p in (DATA / "bsds500/images" / split).glob("*.jpg"))
    if not names:
        raise SystemExit(f"there is no BSDS500 in {DATA}; set SEGPIPE_TEST_DATA")
    return [Photo(split, name) for name in spread(names, count or len(names))]


def spread(items, count):
    """As many of the items, evenly spread."""
    return items[:: max(1, len(items) // count)][:count]


def choose(row, training):
    """The value of greatest mean covering on the training images, and the covering of each."""
    if len(row.values) == 1:
        return row.values[0], ""
    means = [np.mean([covering(row.segment(p, v), p.truths) for p in training]) for v in row.values]
    pairs = zip(row.values, means, strict=True)
    return row.values[int(np.argmax(means))], "  of " + ", ".join(f"{v}: {m:.3f}" for v, m in pairs)


def covering(labels, truths):
    one = quality.as_labels(np.unique(labels, return_inverse=True)[1].reshape(labels.shape) + 1)
    return np.mean(
        [quality.covering(quality.contingency(one, quality.as_labels(t))) for t in truths]
    )


if __name__ == "__main__":
    main()
