"""Inference: a whole run against the bare network, and against MONAI's sliding window.

    python tests/bench/bench_unet.py                    # the network that comes with segpipe
    python tests/bench/bench_unet.py --model x.safetensors --size 2048
    pip install --no-deps monai                         # to see MONAI beside it

All on one core; processor time, so that other work on the machine does not count; runs of the
candidates alternate and the least of each is taken. ``bare`` is the fastest back end on windows
that are ready, as many as the image needs; ``run`` all that a worker does: reading, normalisation,
network, probabilities, objects, labels, table, writing, digest, pyramids and the look at the result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from segpipe.config import parse
from segpipe.nets import backends
from segpipe.nets.files import open_model
from segpipe.plan import Limits, make_plan
from segpipe.progress import Silent
from segpipe.readers import open_source
from segpipe.run import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    file = open_model(given.model)
    shape = (given.size, given.size)
    layout = file.frame.layout(shape)
    choice = backends.choose(file, window=layout.window)
    cells = [-(-n // s) for n, s in zip(shape, layout.stride, strict=True)]
    print(
        f"{choice.backend} {choice.precision}, {cells[0]} x {cells[1]} windows of {layout.window}"
    )
    pixels = picture(given.size)
    start = backends.loaded(file, choice, layout.window, 1)
    window = np.random.default_rng(0).random((1, 1, *layout.window)).astype(np.float32)
    candidates = {
        "bare": lambda: [start(window)() for _ in range(cells[0] * cells[1])],
        "run": lambda: run(given.model, pixels),
        "MONAI": monai(given.model, pixels),
    }
    seconds: dict[str, list[float]] = {name: [] for name, do in candidates.items() if do}
    network: list[float] = []
    for _ in range(given.repeat + 1):
        for name in seconds:
            begun = time.process_time()
            found = candidates[name]()  # type: ignore[misc]
            seconds[name].append(time.process_time() - begun)
            if name == "run":
                network.append(found)
    least = {name: min(values[1:]) for name, values in seconds.items()}  # the first one compiles
    least["run, network pass alone"] = min(network[1:])
    for name, value in least.items():
        print(
            f"{name:24} {value:7.2f} s  {given.size**2 / value / 1e6:6.2f} Mpx/s"
            f"  bare is {least['bare'] / value:.1%} of it"
        )


def picture(size: int) -> np.ndarray:
    """Blobs, about as many as nuclei in a dense field."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).random((512, 512)), 5, mode="wrap")
    tile = np.clip((noise - noise.mean()) / noise.std() * 40 + 30, 0, 255).astype(np.uint8)
    return np.tile(tile, (-(-size // 512), -(-size // 512)))[:size, :size]


def run(model: str, pixels: np.ndarray) -> float:
    """Do a whole run in this process; return the seconds that the pass of the network took."""
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
        plan = make_plan(chosen, open_source(path).info, Limits(1, 8 << 30))
        started = open_run(plan, resume=False)
        from segpipe.cluster import SerialExecutor

        taken = 0.0
        for step in started.steps():
            begun = time.process_time()
            step.run(SerialExecutor(), Silent())
            if step.name == "unet-network":
                taken = time.process_time() - begun
        return taken


def monai(model: str, pixels: np.ndarray):  # type: ignore[no-untyped-def]
    """Return MONAI's sliding window with the same weights, or None if it is not there."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return None
    import torch

    from segpipe.nets.files import located
    from segpipe.nets.weights import load_network

    network, _card = load_network(located(model))
    torch.set_num_threads(1)
    image = torch.from_numpy(pixels.astype(np.float32) / 255)[None, None]

    def do() -> None:
        with torch.inference_mode():
            # its users' usual setting: windows of the size of training, a quarter overlapping
            sliding_window_inference(image, (256, 256), 4, network, overlap=0.25, mode="gaussian")

    return do


if __name__ == "__main__":
    main()
