"""Inference: a whole run against the bare network, and against MONAI's sliding window.

    python tests/bench/bench_unet.py --data ../shared/data/dsb2018   # the model that comes with it
    python tests/bench/bench_unet.py --data … --model x.safetensors --size 2048
    pip install --no-deps monai                         # to see MONAI beside it

The image is a mosaic of fields of nuclei, each stretched to the range of bytes. All on one core, in
the environment of a worker; processor time, so that other work on the machine does not count; runs
of the candidates alternate and the least of each is taken.

``bare`` is the fastest back end on windows that are ready, as many as the image needs, the very
ones of the run; ``padded`` the same back end on the same cells with the network as it was trained,
whose windows are computed up to their rims. ``run`` is all that a worker does: reading,
normalisation, network, probabilities, objects, labels, table, writing, digests, pyramids, the look
at the result and the report. ``inference`` is what of it turns pixels of a file into classes and
probabilities in a store, with their pyramids: what MONAI's sliding window does in memory.
``less report`` is the run without its last step, which takes the same for any size. Below, where the
time of the quickest run went.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

from apart import begin_with

from segpipe.config import parse
from segpipe.engine import SerialExecutor
from segpipe.nets import backends
from segpipe.nets.files import ModelFile, located, open_model
from segpipe.nets.weights import load_network
from segpipe.nets.windows import Layout
from segpipe.plan import Limits, make_plan
from segpipe.processes import ONE_THREAD
from segpipe.progress import Silent
from segpipe.readers import open_source
from segpipe.run import open_run

Candidate = Callable[[], dict[str, float]]
"""Does a job once; returns the seconds of its steps."""
EDGE = 256
"""Of the images that the mosaic is made of (px)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of dsb2018")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--size", type=int, default=3072)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    begin_with(ONE_THREAD)
    file = open_model(given.model)
    shape = (given.size, given.size)
    layout = file.frame.layout(shape)
    choice = backends.choose(file, window=layout.window)
    cells = [-(-n // s) for n, s in zip(shape, layout.stride, strict=True)]
    print(
        f"{choice.backend} {choice.precision}, {cells[0]} x {cells[1]} windows of {layout.window}"
    )
    pixels = mosaic(given.data, given.size)
    number = cells[0] * cells[1]
    candidates = {
        "bare": bare(backends.loaded(file, choice, layout.window, 1), layout.window, number),
        "padded": padded(file, choice, layout, number),
        "run": lambda: run(given.model, pixels),
        "MONAI": monai(given.model, pixels),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name, do in candidates.items() if do}
    for _ in range(given.repeat + 1):
        for name, rows in found.items():
            rows.append(candidates[name]())  # type: ignore[misc]
    # the first one compiles
    least = {name: min(rows[1:], key=lambda row: sum(row.values())) for name, rows in found.items()}
    show(least, given.size**2 / 1e6)


def show(least: dict[str, dict[str, float]], megapixels: float) -> None:
    """Print the time of each candidate, how it compares with two of them, and a run's steps."""
    table = {name: sum(row.values()) for name, row in least.items()}
    steps = least["run"]
    table["inference"] = sum(steps[n] for n in ("ingest", "unet-statistics", "unet-network"))
    table["less report"] = table["run"] - steps["publish"]
    print(f"{'':24} {'seconds':>8} {'Mpx/s':>8} {'of bare throughput':>19} {'times MONAI':>12}")
    for name, seconds in table.items():
        times = f"{table['MONAI'] / seconds:12.2f}" if "MONAI" in table else ""
        speed, share = megapixels / seconds, table["bare"] / seconds
        print(f"{name:24} {seconds:8.2f} {speed:8.2f} {share:19.1%} {times}")
    print("steps of the run, in shares of the time of bare")
    for name, seconds in steps.items():
        print(f"  {name:22} {seconds:8.2f} {seconds / table['bare']:28.1%}")


def bare(start: backends.Start, window: tuple[int, int], number: int) -> Candidate:
    """Return what computes some windows that are ready."""
    batch = np.random.default_rng(0).random((1, 1, *window)).astype(np.float32)
    return lambda: {"": timed(lambda: [start(batch)() for _ in range(number)])}


def padded(
    file: ModelFile, choice: backends.Choice, layout: Layout, number: int
) -> Candidate | None:
    """Return what computes as many windows with the padding of training, or None if it has none."""
    network, card = load_network(file.path)
    shape = card.architecture
    if shape.padding != "same":
        return None
    window = (layout.stride[0] + 2 * shape.halo, layout.stride[1] + 2 * shape.halo)
    with mock.patch("segpipe.nets.weights.load_unpadded", return_value=network):
        start = backends.loaded.__wrapped__(file, choice, window, 1)
    return bare(start, window, number)


def timed(do: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    begun = time.process_time()
    do()
    return time.process_time() - begun


def mosaic(data: Path, size: int) -> np.ndarray:
    """Put fields of fluorescent nuclei (2 x 2 images that were neighbours) beside each other."""
    quads = json.loads((data / "mosaics_2x2.json").read_text())["quads"]
    there = {path.stem for path in (data / "images").glob("*.png")}
    fields = []
    for quad in quads:
        square = quad["tile_w"] == quad["tile_h"] == EDGE
        if quad["type"] == "fluo" and square and there.issuperset(quad["tiles"]):
            parts = [
                np.asarray(Image.open(data / f"images/{tile}.png").convert("L"), np.float32)
                for tile in quad["tiles"]
            ]
            field = np.block([parts[:2], parts[2:]])
            low, high = np.percentile(field, (0.1, 99.9))
            fields.append(((field - low) / (high - low) * 255).clip(0, 255).astype(np.uint8))
    across = -(-size // (2 * EDGE))
    rows = [[fields[(y * across + x) % len(fields)] for x in range(across)] for y in range(across)]
    return np.ascontiguousarray(np.block(rows)[:size, :size])


def run(model: str, pixels: np.ndarray) -> dict[str, float]:
    """Do a whole run in this process; return the seconds of each step."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tif"
        tifffile.imwrite(path, pixels, tile=(256, 256))
        chosen = parse(
            {
                "input": str(path),
                "output": f"{folder}/run",
                "method": "unet",
                "parameters": {"model": model},
                "cluster": {"workers": "none"},
            }
        )
        begun = time.process_time()
        plan = make_plan(chosen, open_source(path).info, Limits(1, 8 << 30))
        started = open_run(plan, resume=False)
        executor, watch = SerialExecutor(), Silent()
        found = {"plan": time.process_time() - begun}
        for step in started.steps():
            found[step.name] = timed(partial(step.run, executor, watch))
        return found


def monai(model: str, pixels: np.ndarray) -> Candidate | None:
    """Return MONAI's sliding window with the same weights, or None if it is not there."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return None
    import torch

    network, _card = load_network(located(model))
    torch.set_num_threads(1)
    image = torch.from_numpy(pixels.astype(np.float32) / 255)[None, None]

    def slide() -> None:
        with torch.inference_mode():
            # its users' usual setting: windows of the size of training, a quarter overlapping
            sliding_window_inference(image, (256, 256), 4, network, overlap=0.25, mode="gaussian")

    return lambda: {"": timed(slide)}


if __name__ == "__main__":
    main()
