"""Speed of connected components: the kernel on one core, and whole runs beside dask-image.

    python tests/bench/bench_components.py [--size 8192] [--workers 2] [--image MASK]
        [--peers PYTHON]   # of an environment with dask-image, zarr, scikit-image and
                           # connected-components-3d, for the ratios to them

Kernel: `components(mask, foreground=True)` in memory, one core, against scipy.ndimage.label,
skimage.measure.label and cc3d on the same masks. Runs: `segpipe run` from a Zarr image to the
finished folder (labels, pyramids, digest, table), and only its two passes over the tiles, against
dask_image.ndmeasure.label from Zarr to Zarr with as many threads and several chunk sizes. All read
and write the same 8-bit mask and labels.

Two times are given: on the clock, and of the processor, all threads together, which a busy machine
distorts less. The processor times of the passes are those of one process that has done a run
before, as dask-image's are without its imports: what is left are reads, labels, writes. All keep
the memory that they have freed, as the workers of a run do. Ours include measuring the components
and making the coarser levels, dask-image's the labels alone. With one chunk for the whole image
dask-image is scipy.ndimage.label on one core.

A pass reads 1 byte a pixel. The first labels and sends rims, some 1 ns a pixel; the second labels
again, measures, halves and writes 5.3 bytes a pixel, 1.3 to 2.6 ns of it LZ4 and copying. The
ceiling, one core copying these bytes once, is at 0.6 ns.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from apart import KEPT_MEMORY, begin_with

from segpipe.methods.components import components
from segpipe.progress import Silent
from segpipe.session import load_config, opened

ROOT = Path(__file__).resolve().parents[2]

DASK_IMAGE = """
import sys, time, shutil
import dask, dask.array as da, numpy as np, zarr
from dask_image.ndmeasure import label
source, chunk, workers, target = sys.argv[1:5]
chunk, workers = int(chunk), int(workers)
mask = np.load(source)
store = target + "/in.zarr"
da.from_array(mask, chunks=(chunk, chunk)).to_zarr(store, overwrite=True)
if __name__ == "__main__":
    with dask.config.set(scheduler='threads', num_workers=workers):
        start, spent = time.perf_counter(), time.process_time()
        labels, count = label(da.from_zarr(store))
        da.to_zarr(labels.rechunk((chunk, chunk)), target + "/out.zarr", overwrite=True)
        print(time.perf_counter() - start, time.process_time() - spent, flush=True)
"""

KERNELS = """
import sys, time
import numpy as np
mask = np.load(sys.argv[1])
def best(function):
    function(); times = []
    for _ in range(3):
        start = time.perf_counter(); function(); times.append(time.perf_counter() - start)
    return min(times)
import cc3d, cv2
from skimage.measure import label
cv2.setNumThreads(1)
print("scikit-image", best(lambda: label(mask, connectivity=1)))
print("cc3d", best(lambda: cc3d.connected_components(mask, connectivity=4)))
print("OpenCV", best(lambda: cv2.connectedComponents(mask, connectivity=4)))
"""


def main():
    arguments = parsed()
    begin_with(KEPT_MEMORY)
    with tempfile.TemporaryDirectory() as folder:
        masks = pictures(arguments)
        kernels(masks, arguments.peers, Path(folder))
        if arguments.size:
            for name in ("land", "blobs"):
                runs(name, masks[name], arguments, Path(folder))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="edge of the masks (px)")
    parser.add_argument("--workers", type=int, default=2)
    default = ROOT.parent / "shared/data/earth_mosaic/landsea_17280x8640.png"
    parser.add_argument("--image", type=Path, default=default)
    parser.add_argument("--peers")
    parser.add_argument("--kernels-only", action="store_true")
    return parser.parse_args()


def pictures(arguments):
    """A real mask (land), and textures of coarse and fine grain."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    size = arguments.size
    land = np.asarray(Image.open(arguments.image))[:size, :size] > 0
    land = np.pad(land, [(0, size - n) for n in land.shape], mode="reflect")
    rng = np.random.default_rng(0)
    noise = rng.random((size // 2, size // 2), np.float32)
    textures = {
        name: (ndimage.gaussian_filter(noise, sigma, mode="wrap") > 0.5) for name, sigma in (("blobs", 4), ("fine", 1))
    }  # fmt: skip
    masks = {"land": land, **{name: np.tile(t, (2, 2)) for name, t in textures.items()}}
    return {name: np.ascontiguousarray(mask).view(np.uint8) for name, mask in masks.items()}


def kernels(masks, peers, folder):
    print(f"{'kernel, ns/px':<16}{'segpipe':>9}{'scipy':>9}")
    for name, mask in masks.items():
        part = mask[:4096, :4096]
        ours = best(lambda part=part: components(part, foreground=True))
        scipy = best(lambda part=part: ndimage.label(part))
        line = f"{name:<16}{ours / part.size * 1e9:9.2f}{scipy / part.size * 1e9:9.2f}"
        if peers:
            np.save(folder / "part.npy", part)
            command = [peers, "-c", KERNELS, str(folder / "part.npy")]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for row in text.splitlines():
                peer, seconds = row.split()
                line += f"  {peer} {float(seconds) / part.size * 1e9:.2f}"
        print(line)


def best(function, times=3):
    function()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


def runs(name, mask, arguments, folder):
    """Whole runs, from a file to a folder."""
    source = folder / f"{name}.tif"
    tifffile.imwrite(source, mask, tile=(512, 512), compression="zstd")
    clock = [segpipe_run(source, arguments.workers, folder) for _ in range(2)][-1]
    spent = [processor_times(source, folder) for _ in range(3)][1:]
    ours = {what: (clock[what], min(s[what] for s in spent)) for what in clock}
    print(f"\n{name}, {mask.shape[0]} x {mask.shape[1]}, {arguments.workers} workers")
    print(f"  {'':34}{'on the clock':>14}{'processor':>12}")
    for what, (seconds, used) in ours.items():
        print(
            f"  segpipe, {what:<25}{seconds:12.2f} s{used:10.2f} s{used / mask.size * 1e9:7.1f} ns/px"
        )
    if not arguments.peers:
        return
    np.save(folder / "mask.npy", mask)
    (folder / "peer.py").write_text(DASK_IMAGE)
    for chunk in (1024, 2048, 4096, arguments.size):
        command = [arguments.peers, folder / "peer.py", folder / "mask.npy", str(chunk), str(arguments.workers), str(folder)]  # fmt: skip
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds, used = map(float, text.split())
        ratios = ", ".join(f"{seconds / a:.1f} and {used / b:.1f} x {what}" for what, (a, b) in ours.items())  # fmt: skip
        print(f"  dask-image, chunks of {chunk:<12}{seconds:12.2f} s{used:10.2f} s = {ratios}")


def segpipe_run(source, workers, folder):
    output = folder / "run"
    shutil.rmtree(output, ignore_errors=True)
    config = ROOT / "configs/components.yaml"
    command = [sys.executable, "-m", "segpipe", "run", str(config), "--input", str(source), "--output", str(output)]  # fmt: skip
    command += ["--workers", str(workers), "--set", "parameters.foreground=true"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    state = json.loads((output / "run.json").read_text())
    steps = {step: values["wall"] for step, values in state["steps"].items()}
    passes = sum(seconds for step, seconds in steps.items() if step.startswith("components"))
    return {"whole run": state["wall_seconds"], "its two passes": passes}


def processor_times(source, folder):
    """Processor times of a run in this process, whose imports and kernels are there from before."""
    output = folder / "serial"
    shutil.rmtree(output, ignore_errors=True)
    changes = ["parameters.foreground=true", "cluster.workers=none", "tiles.size=4096"]
    config = load_config(ROOT / "configs/components.yaml", changes, str(source), str(output))
    begun, passes = time.process_time(), 0.0
    with opened(config, resume=False) as (run, executor):
        for step in run.steps():
            before = time.process_time()
            step.run(executor, Silent())
            if step.name.startswith("components"):
                passes += time.process_time() - before
    return {"whole run": time.process_time() - begun, "its two passes": passes}


if __name__ == "__main__":
    main()
