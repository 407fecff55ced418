"""Quality of superpixels on BSDS500 at matched numbers of superpixels.

    python tests/bench/bench_quality.py [--split val] [--every 1]
        [--fast-slic-python PYTHON]   # of an environment with fast-slic 0.4.0

Every method runs with compactness 10 and 10 iterations; its grid is chosen so that the mean number K of
superpixels lies within 3 % of that of segpipe at step 16. Means over images of means over annotators.

  Rec   boundary recall, share of annotated border pixels with a superpixel border within
        round(0.0025 diagonal), borders one pixel wide: stricter than
  RecS  the same with borders two pixels wide, as in the code of Stutz, Hermans, Leibe (CVIU 166,
        2018, 10.1016/j.cviu.2017.03.007)
  UE    under-segmentation error after Neubert and Protzel: sum of min(inside, outside) / pixels
  UEc   the same after van den Bergh / Stutz ("corrected"): pixels outside the best overlap, 1 - ASA
  ASA   achievable segmentation accuracy;  EV  explained variation of RGB
  PRI   probabilistic Rand index;  VI  variation of information (bits);  Cov  covering of the truth
        (these three compare partitions, and superpixels cut regions up on purpose)
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from segpipe import quality
from segpipe.methods.slic import slic

DATA = Path(
    os.environ.get("SEGPIPE_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)

COLUMNS = ("Rec", "RecS", "UE", "UEc", "ASA", "PRI", "VI", "Cov", "EV")

FAST_SLIC = """
import sys
import numpy as np
from fast_slic.avx2 import SlicAvx2
images = np.load(sys.argv[1])
seeds, target = float(sys.argv[2]), sys.argv[3]
labels = {}
for name in images.files:
    image = np.ascontiguousarray(images[name])
    k = round(image.shape[0] * image.shape[1] * seeds)
    found = SlicAvx2(num_components=k, compactness=10, num_threads=1).iterate(image, 10)
    labels[name] = found.view(np.uint16).astype(np.int32)
np.savez(target, **labels)
"""


def main():
    arguments = parsed()
    root = DATA / "bsds500"
    names = sorted(p.stem for p in (root / "images" / arguments.split).glob("*.jpg"))
    names = names[:: arguments.every]
    images = {
        n: np.asarray(Image.open(root / "images" / arguments.split / f"{n}.jpg").convert("RGB"))
        for n in names
    }
    truths = {n: np.load(root / "gt" / arguments.split / f"{n}.npz")["segs"] for n in names}
    print(f"BSDS500 {arguments.split}, {len(names)} images, mean over annotators")
    print(f"{'':24}{'K':>7}" + "".join(f"{name:>8}" for name in COLUMNS))

    def ours(refine, step=16):
        return {n: slic(i, step=step, refine=refine) for n, i in images.items()}

    base = ours(0)
    target = mean_count(base)
    show("segpipe", base, images, truths)
    for refine in (2, 4, 8):
        show(f"segpipe, refine={refine}", ours(refine), images, truths)
    show("scikit-image", matched(scikit_image, images, target), images, truths)
    if arguments.fast_slic_python:
        peer = fast_slic(arguments.fast_slic_python)
        show("fast-slic, defaults", matched(peer, images, target), images, truths)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--fast-slic-python")
    return parser.parse_args()


def mean_count(labels):
    return np.mean([len(np.unique(found)) for found in labels.values()])


def matched(method, images, target):
    """Labels of a method whose mean count is within 3 % of the target, by secant steps."""
    seeds = 1 / 256
    for _ in range(8):
        labels = method(images, seeds)
        count = mean_count(labels)
        if abs(count / target - 1) < 0.01:
            break
        seeds *= target / count
    if abs(count / target - 1) > 0.03:
        raise RuntimeError(f"could not match {target:.0f} superpixels, got {count:.0f}")
    return labels


def scikit_image(images, seeds):
    from skimage.segmentation import slic as peer

    return {
        n: peer(
            i, n_segments=round(i.shape[0] * i.shape[1] * seeds), compactness=10, max_num_iter=10
        )
        for n, i in images.items()
    }


def fast_slic(python):
    def run(images, seeds):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "images.npz", Path(folder) / "labels.npz"
            np.savez(source, **images)
            command = [python, "-c", FAST_SLIC, str(source), str(seeds), str(target)]
            subprocess.run(command, check=True)
            with np.load(target) as found:
                return {n: found[n] for n in found.files}

    return run


def show(name, labels, images, truths):
    rows = [scores(labels[n], images[n], truths[n]) for n in images]
    k, *means = np.mean(rows, axis=0)
    print(f"{name:24}{k:7.0f}" + "".join(f"{mean:8.4f}" for mean in means), flush=True)


def scores(labels, image, truths):
    """K and the columns, of one image."""
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    radius = quality.tolerance(labels.shape)
    found = []
    for truth in truths:
        known = [quality.as_labels(values) for values in (labels, truth)]
        thin = quality.recall(quality.border_counts(*known, radius, thin=True))
        one = quality.score(labels, truth, radius=radius)
        names = ("boundary_recall", "undersegmentation", "asa", "rand", "vi", "covering")
        recall, error, asa, *others = (one[name] for name in names)
        found.append((thin, recall, error, 1 - asa, asa, *others))
    count = labels.max() + 1
    return (count, *np.mean(found, axis=0), explained(labels, image, count))


def explained(labels, image, count):
    """Share of the colour variance that the superpixels' means explain."""
    values = image.reshape(-1, 3).astype(float)
    size = np.bincount(labels.ravel(), minlength=count)[:, None]
    means = [np.bincount(labels.ravel(), v, count) for v in values.T]
    means = np.stack(means, axis=1) / size
    centre = values.mean(axis=0)
    return (size * (means - centre) ** 2).sum() / ((values - centre) ** 2).sum()


if __name__ == "__main__":
    main()
