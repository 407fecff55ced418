"""Speed of exact SLIC on one core, stage by stage, and against peers.

    python tests/bench/bench_slic.py [--size 2048] [--runs 9] [--image PHOTO]
        [--fast-slic-python PYTHON]   # of an environment with fast-slic 0.4.0, for the ratio to it

RGB uint8 in memory -> connected labels 1..N; step 16, compactness 10, 10 iterations, one core. Peers
get the same number of seeds and the same compactness; fast-slic runs its defaults (every third
row, AVX2). Runs are interleaved; what counts is the processor time of the one thread, user and system,
so that other load of the machine counts for nobody; medians and bests are printed. All keep the memory
that they have freed, as the workers of a run do: what fresh pages cost belongs to the machine (on
virtual ones it varies from a tenth of our time to all of it).
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from apart import KEPT_MEMORY, begin_with

from segpipe import colour
from segpipe.methods import slic_clusters, slic_window
from segpipe.methods.slic import slic
from segpipe.regions import paint

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
DEFAULT_IMAGE = DATA / "earth_mosaic" / "bmng.jpg"

FAST_SLIC = """
import sys, time
import numpy as np
from fast_slic.avx2 import SlicAvx2
image = np.load(sys.argv[1])
seeds = min(65533, image.shape[0] * image.shape[1] // 256)
for line in sys.stdin:
    peer = SlicAvx2(num_components=seeds, compactness=10, num_threads=1)
    start = time.process_time()
    peer.iterate(image, 10)
    print(time.process_time() - start, flush=True)
"""

STAGES = {
    "colour": [(colour, "planes")],
    "samples": [(slic_clusters, "sample_cells"), (slic_clusters, "cell_totals")],
    "iterations": [(slic_clusters, n) for n in ("coefficients", "iterate")],
    "assignment": [(slic_clusters, "assign")],
    "components": [(slic_window, "components")],
    "absorption": [(slic_window, "absorb"), (slic_window, "seeds_of_roots")],
    "refinement": [(slic_window, "refine")],
    "small segments": [(slic_window, "settle")],
    "numbering": [(paint, n) for n in ("number_runs", "paint")],
}


def main():
    arguments = parsed()
    begin_with(KEPT_MEMORY)
    image = mosaic(arguments.image, arguments.size)
    print(
        f"machine   {cpu_name()}, {platform.system()}, Python {platform.python_version()}, 1 core"
    )
    print(f"image     {image.shape[0]} x {image.shape[1]} from {arguments.image}, mirrored, varied")
    pixels = image.shape[0] * image.shape[1]
    noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    runs = {
        "segpipe": lambda: timed(slic, image),
        "segpipe, refine=2": lambda: timed(slic, image, refine=2),
        "segpipe, refine=4": lambda: timed(slic, image, refine=4),
        "segpipe, white noise": lambda: timed(slic, noise),
    }
    with tempfile.TemporaryDirectory() as folder:
        if arguments.fast_slic_python:
            runs["fast-slic, defaults"] = fast_slic(arguments.fast_slic_python, image, folder)
        for run in runs.values():
            run()  # compile, warm up
        seconds = {name: [] for name in runs}
        for _ in range(arguments.runs):
            for name, run in runs.items():
                seconds[name].append(run())
    if not arguments.no_scikit_image:
        seconds["scikit-image"] = [timed(scikit_image, image[:2048, :2048])]
        seconds["scikit-image"][0] *= pixels / image[:2048, :2048, 0].size
    ours = statistics.median(seconds["segpipe"]), min(seconds["segpipe"])
    print(f"\n{'':22}{'Mpx/s median':>14}{'best':>8}{'segpipe is .. times faster':>30}")
    for name, values in seconds.items():
        median, best = statistics.median(values), min(values)
        print(
            f"{name:22}{pixels / median / 1e6:14.1f}{pixels / best / 1e6:8.1f}"
            f"{median / ours[0]:20.2f} (best {best / ours[1]:.2f})"
        )
    print("\nns/px by stage, median")
    for sweeps in (0, 4):
        print(f"  refine={sweeps}  {stages(image, sweeps, arguments.runs)}")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--image", type=Path, default=DEFAULT_IMAGE)
    parser.add_argument("--fast-slic-python")
    parser.add_argument("--no-scikit-image", action="store_true")
    return parser.parse_args()


def mosaic(path, size):
    """Fill size x size with mirrored, slightly brightened copies of a photo."""
    Image.MAX_IMAGE_PIXELS = None
    photo = np.asarray(Image.open(path).convert("RGB"))
    photo = photo[: min(len(photo), size), : min(photo.shape[1], size)]
    rows = -(-size // photo.shape[0])
    columns = -(-size // photo.shape[1])
    out = np.empty((rows * photo.shape[0], columns * photo.shape[1], 3), np.uint8)
    h, w = photo.shape[:2]
    for i in range(rows):
        for j in range(columns):
            part = photo[:: 1 - 2 * (i % 2), :: 1 - 2 * (j % 2)].astype(np.int16)
            part += 3 * ((i * columns + j) % 5)
            out[i * h : (i + 1) * h, j * w : (j + 1) * w] = part.clip(0, 255)
    return np.ascontiguousarray(out[:size, :size])


def timed(function, *arguments, **options):
    start = time.process_time()
    function(*arguments, **options)
    return time.process_time() - start


def scikit_image(image):
    from skimage.segmentation import slic as peer

    seeds = image.shape[0] * image.shape[1] // 256
    peer(image, n_segments=seeds, compactness=10, max_num_iter=10)


def fast_slic(python, image, folder):
    """Start the peer in its own process; each call times one run there."""
    path = Path(folder) / "image.npy"
    np.save(path, image)
    worker = subprocess.Popen(
        [python, "-c", FAST_SLIC, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run():
        worker.stdin.write("\n")
        worker.stdin.flush()
        return float(worker.stdout.readline())

    return run


def stages(image, sweeps, runs):
    """Median time of every stage in ns/px, by wrapping its functions for a while."""
    taken = defaultdict(float)
    originals = [(module, name) for parts in STAGES.values() for module, name in parts]
    saved = [getattr(module, name) for module, name in originals]
    for stage, parts in STAGES.items():
        for module, name in parts:
            setattr(module, name, measured(getattr(module, name), stage, taken))
    rows = []
    for _ in range(runs):
        taken.clear()
        taken["all"] = timed(slic, image, refine=sweeps)
        rows.append(dict(taken))
    for (module, name), function in zip(originals, saved, strict=True):
        setattr(module, name, function)
    scale = 1e9 / (image.shape[0] * image.shape[1])
    return {k: round(statistics.median(r[k] for r in rows) * scale, 2) for k in rows[0]}


def measured(function, stage, taken):
    def wrapper(*arguments):
        start = time.process_time()
        result = function(*arguments)
        taken[stage] += time.process_time() - start
        return result

    return wrapper


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
