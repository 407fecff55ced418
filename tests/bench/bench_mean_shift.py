"""Speed, memory and segment quality of exact mean shift on one core, and of its peers.

    python tests/bench/bench_mean_shift.py speed [--size 1024] [--runs 3] [--image PHOTO] [--no-otb]
    python tests/bench/bench_mean_shift.py memory [--sizes 2048 8192]
    python tests/bench/bench_mean_shift.py quality [--split val] [--every 10] [--no-otb]

Spatial bandwidth 8, range bandwidth 16, 10 steps, regions of at least 50 pixels. Ours is the whole
chain, image to labels, OpenCV's (`pyrMeanShiftFiltering`, its default pyramid) the filter alone;
where the Orfeo ToolBox is installed (Debian: otb-bin; ``otbcli_*`` on the path), its LSMS chain is
run as well, files included, once. Times are CPU times of one thread, best of the runs, taken in
turns; compare ratios. All keep the memory that they have freed, as the workers of a run do. `speed` takes photographs of BSDS500 and an aerial mosaic, or what --image
names. OpenCV's labels for the quality: our links and merging of its filtered image, as it has none
of its own. `quality` scores BSDS500 and 800 x 800 pixels of each photo of carrot_weed, whose truth
are classes (soil, weed, carrot): read Rec, UE and ASA there, not VI and Cov. Columns as in
bench_quality.py.

At the defaults a pixel takes its first step over 72 sampled pixels (some 70 instructions on 16
lanes, and 20 for means and states) and, since states are shared, 0.9 (aerial) to 1.5 further
windows of some 180 instructions: half of them for six vectors of pixels, the others for sums across
lanes, rounding and addresses. States are compared, hashed and linked in about 100 instructions. So
350 to 450 instructions a pixel in the filter, or 25 to 32 ns at four a cycle and 3.5 GHz: what is
measured is half as much again to twice that. Outside the filter it moves about 80 bytes a pixel:
arithmetic and branches bind, not memory. OpenCV takes three channels of 8 bits only: what is
measured on others is compared with its time on these.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from apart import KEPT_MEMORY, begin_with
from bench_quality import COLUMNS, DATA, scores
from bench_slic import cpu_name, mosaic

from segpipe.methods import mean_shift_kernels, mean_shift_links
from segpipe.methods.mean_shift import mean_shift
from segpipe.methods.mean_shift_modes import mean_shift_modes
from segpipe.regions import merge_small, merge_tile
from segpipe.regions.merge_rounds import merge

OTB = "MeanShiftSmoothing", "LSMSSegmentation", "LSMSSmallRegionsMerging"
TEXTURE = "gradient-histogram"


def main():
    arguments = parsed()
    begin_with(KEPT_MEMORY)
    {"speed": speed, "memory": memory, "quality": quality, "once": once}[arguments.what](arguments)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "memory", "quality", "once"))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--no-otb", action="store_true")
    parser.add_argument("--who", default="segpipe")
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=10)
    return parser.parse_args()


def has_otb(arguments):
    return not arguments.no_otb and all(shutil.which(f"otbcli_{name}") for name in OTB)


def photographs(size):
    """Fill size x size with pieces of BSDS500, each seen once."""
    names = sorted((DATA / "bsds500" / "images" / "val").glob("*.jpg"))
    edge, across = 320, -(-size // 320)
    out = np.empty((across * edge, across * edge, 3), np.uint8)
    for k in range(across**2):
        photo = np.asarray(Image.open(names[k % len(names)]).convert("RGB"))[:edge, :edge]
        y, x = k // across * edge, k % across * edge
        out[y : y + edge, x : x + edge] = photo
    return np.ascontiguousarray(out[:size, :size])


def opencv(image):
    import cv2

    cv2.setNumThreads(1)
    return cv2.pyrMeanShiftFiltering(image, 8, 16)


def timed(function, *arguments, **options):
    start = time.process_time()
    function(*arguments, **options)
    return time.process_time() - start


def speed(arguments):
    print(f"machine   {cpu_name()}, 1 core; {arguments.size} x {arguments.size}")
    if arguments.image:
        compare(arguments, arguments.image.name, mosaic(arguments.image, arguments.size))
        return
    compare(arguments, "photographs", photographs(arguments.size))
    aerial = DATA / "earth_mosaic" / "bmng.jpg"
    compare(arguments, aerial.name, mosaic(aerial, arguments.size))


def compare(arguments, title, image):
    wide = image.astype(np.uint16) * 16
    four = np.concatenate([image, image[:, :, :1] // 2 + 60], axis=2)
    runs = {
        "OpenCV, filter alone": lambda: timed(opencv, image),
        "segpipe": lambda: timed(mean_shift, image),
        "segpipe, and its modes": lambda: timed(mean_shift_modes, image),
        "segpipe, sample=1": lambda: timed(mean_shift, image, sample=1),
        "segpipe, sample=4": lambda: timed(mean_shift, image, sample=4),
        "segpipe, lab": lambda: timed(mean_shift, image, range_bandwidth=8, features="lab"),
        "segpipe, gradients": lambda: timed(mean_shift, image, 8, 6, features=TEXTURE),
        "segpipe, gray": lambda: timed(mean_shift, image[:, :, 1]),
        "segpipe, 4 channels": lambda: timed(mean_shift, four),
        "segpipe, uint16": lambda: timed(mean_shift, wide, range_bandwidth=256),
    }
    seconds = {name: [] for name in runs}
    for name, run in runs.items():
        if name.startswith("segpipe"):
            run()  # compile
    for _ in range(arguments.runs):
        for name, run in runs.items():
            seconds[name].append(run())
    if has_otb(arguments):
        seconds["OTB LSMS chain"] = [otb(image)[0]]
    pixels = image.shape[0] * image.shape[1]
    mine, base = min(seconds["segpipe"]), min(seconds["OpenCV, filter alone"])
    print(f"{title:24}{'Mpx/s':>8}{'of OpenCV':>12}{'segpipe takes':>16}")
    for name, values in seconds.items():
        best = min(values)
        print(f"{name:24}{pixels / best / 1e6:8.2f}{base / best:11.1f}x{best / mine:12.1f} x")
    print("ns/px by stage ", stages(image), flush=True)


def otb(image):
    """CPU time of the chain's three programs, on files, and the labels."""
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: str(Path(folder) / name)  # noqa: E731
        Image.fromarray(image).save(at("i.tif"))
        tiles = ["-tilesizex", "1000", "-tilesizey", "1000"]
        radii = ["-spatialr", "8", "-ranger", "16"]
        smooth = ["-in", at("i.tif"), "-fout", at("f.tif"), "float", "-foutpos", at("p.tif")]
        smooth += ["float", *radii, "-thres", "0.1", "-maxiter", "10", "-modesearch", "0"]
        cut = ["-in", at("f.tif"), "-inpos", at("p.tif"), "-out", at("s.tif"), "uint32", *radii]
        cut += ["-minsize", "0", *tiles, "-tmpdir", folder]
        join = ["-in", at("f.tif"), "-inseg", at("s.tif"), "-out", at("m.tif"), "uint32"]
        commands = smooth, cut, [*join, "-minsize", "50", *tiles]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
        for name, options in zip(OTB, commands, strict=True):
            subprocess.run(
                [f"otbcli_{name}", *options], check=True, capture_output=True, env=environment
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return spent, tifffile.imread(at("m.tif")).astype(np.int64)


def stages(image):
    """Time of every stage in ns/px, by wrapping its functions for a while."""
    parts = {
        "filter": (mean_shift_kernels, "follow"),
        "link": (mean_shift_links, "_parts"),
        "sums": (merge_tile, "sums"),
        "edges": (merge_tile, "_edges"),
        "merge": (merge_small, "merge"),
    }
    taken = dict.fromkeys(parts, 0.0)

    def measured(function, stage):
        def wrapper(*arguments):
            start = time.process_time()
            result = function(*arguments)
            taken[stage] += time.process_time() - start
            return result

        return wrapper

    for stage, (module, name) in parts.items():
        setattr(module, name, measured(getattr(module, name), stage))
    taken["all"] = timed(mean_shift, image)
    assert merge is not merge_small.merge
    scale = 1e9 / (image.shape[0] * image.shape[1])
    return {k: round(v * scale, 1) for k, v in taken.items()}


def memory(arguments):
    """Peak memory of a process of its own beyond the image."""
    for size in arguments.sizes:
        for who in ("segpipe", "opencv"):
            if who == "opencv" and size > 2048:
                continue
            command = [sys.executable, __file__, "once", "--size", str(size), "--who", who]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{size} x {size}  {who:10}{done.stdout.strip()}", flush=True)


def once(arguments):
    image = photographs(arguments.size)
    run = opencv if arguments.who == "opencv" else mean_shift
    run(np.ascontiguousarray(image[:64, :64]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = timed(run, image)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = image.shape[0] * image.shape[1]
    print(
        f"peak {peak / 1024:.0f} MB, {(peak - before) * 1024 / pixels:.0f} bytes per pixel more"
        f" than before, {pixels / seconds / 1e6:.2f} Mpx/s"
    )


def quality(arguments):
    """Scores of bench_quality at default parameters."""
    root = DATA / "bsds500"
    names = sorted(p.stem for p in (root / "images" / arguments.split).glob("*.jpg"))
    images = [root / "images" / arguments.split / f"{name}.jpg" for name in names]
    chosen = list(zip(images, names, strict=True))[:: arguments.every]
    table(
        arguments,
        f"BSDS500 {arguments.split}, {len(chosen)} images, mean over annotators",
        (
            (read(path), np.load(root / "gt" / arguments.split / f"{name}.npz")["segs"])
            for path, name in chosen
        ),
    )
    root = DATA / "carrot_weed"
    middle = slice(820, 1620), slice(1230, 2030)
    table(
        arguments,
        "carrot_weed, the middle of each photo",
        (
            (read(path)[middle], [read(root / "labels" / f"{path.stem}.png", "L")[middle]])
            for path in sorted((root / "images").glob("*.jpg"))
        ),
    )


def read(path, mode="RGB"):
    return np.ascontiguousarray(Image.open(path).convert(mode))


def table(arguments, title, pairs):
    rows = {}
    for image, truths in pairs:
        found = {
            "segpipe": mean_shift(image),
            "segpipe, sample=1": mean_shift(image, sample=1),
            "segpipe, sample=4": mean_shift(image, sample=4),
            "segpipe, lab, range 8": mean_shift(image, range_bandwidth=8, features="lab"),
            "OpenCV + our regions": linked(opencv(image)),
        }
        if has_otb(arguments):
            found["OTB LSMS chain"] = otb(image)[1]
        for who, labels in found.items():
            rows.setdefault(who, []).append(scores(labels, image, truths))
    print(title)
    print(f"{'':24}{'K':>7}" + "".join(f"{name:>8}" for name in COLUMNS))
    for who, values in rows.items():
        k, *rest = np.mean(values, axis=0)
        print(f"{who:24}{k:7.0f}" + "".join(f"{value:8.4f}" for value in rest), flush=True)


def linked(filtered):
    """Regions of a filtered image by our rules: a step that goes nowhere leaves it as it is."""
    from segpipe.methods.mean_shift import MeanShift
    from segpipe.methods.mean_shift_links import parts
    from segpipe.passes import ImageInfo, Output, Pass, run_in_memory

    method = MeanShift()
    steps = method.passes(ImageInfo(filtered.shape[:2], 3, "uint8", rgb=True))
    values = np.ascontiguousarray(np.moveaxis(filtered, 2, 0))

    def find(window, _part):
        numbers, n = parts(values, np.zeros((2, *values.shape[1:]), np.int16), None, 256, 8)
        record = merge_small.summary(
            numbers, n, values, window.tile, window.grid.shape, np.moveaxis(values, 0, 2)
        )
        return Output({"parts": numbers}, record)

    first = Pass("find", find, writes={"parts": "uint32"}, solve=steps[0].solve)
    return run_in_memory((first, *steps[1:]), {"image": filtered})[0]["labels"]


if __name__ == "__main__":
    main()
