"""Photos per second of a collection, and where the time of one goes.

    python tests/bench/bench_collection.py --photos FOLDER [--workers 2] [--count 300]

First some photos one by one in this process, in turn with what a script of scikit-image does to get
labels and a table (``slic`` of as many segments, ``regionprops_table``; it writes nothing): CPU
time of a photo. Then the whole collection with workers: wall time of the step that does the images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.collection import session as collection
from segpipe.collection.listing import find_items
from segpipe.collection.work import Images, do_images
from segpipe.config import Config, parse
from segpipe.plan import Limits
from segpipe.store.folder import Folder

STEP, WARM, TIMED = 16, 3, 30
COLUMNS = ("label", "area", "centroid", "bbox", "perimeter", "eccentricity", "intensity_mean")


class Steps:
    """A watch that notes how long each step takes."""

    def __enter__(self) -> Steps:
        self.seconds: dict[str, float] = {}
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, step: str, _total: int) -> None:
        self.seconds[step] = -time.perf_counter()

    def advance(self, step: str, done: int) -> None: ...

    def end(self, step: str) -> None:
        self.seconds[step] += time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--peer", action="store_true", help="time scikit-image too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        single(configuration(options.photos, f"{scratch}/single", options.workers), options.peer)
        photos = Path(scratch) / "photos"
        photos.mkdir()
        items = find_items(options.photos, scratch)
        for number in range(options.count):
            item = items[number % len(items)]
            (photos / f"{number:06}{Path(item.where).suffix}").symlink_to(item.where)
        whole(configuration(str(photos), f"{scratch}/out", options.workers), options.count)


def configuration(photos: str, output: str, workers: int) -> Config:
    cluster = {"workers": workers, "dashboard": "127.0.0.1:0"}
    values = {"input": photos, "output": output, "method": "slic", "cluster": cluster}
    return parse(values | {"parameters": {"step": STEP}})


def single(config: Config, peer: bool) -> None:
    images = Images(config, Folder(config.output), Limits(1, 8 << 30))
    items = find_items(config.input, config.output)
    ours, theirs, phases = [], [], []
    for number, item in enumerate(items[: WARM + TIMED]):
        begun = time.process_time()
        (outcome,) = do_images(images, [item])
        spent = time.process_time() - begun
        if peer:
            begun = time.process_time()
            scikit_image(item.where)
            other = time.process_time() - begun
        if number >= WARM:
            ours.append(spent)
            step = Folder(f"{config.output}/{outcome.item.name}").get_json("run.json")["steps"][
                "whole"
            ]
            phases.append([step[name] for name in ("read", "compute", "write")])
            if peer:
                theirs.append(other)
    print(f"one photo, CPU: {1e3 * statistics.median(ours):.1f} ms", end="")
    read, compute, write = 1e3 * np.median(phases, axis=0)
    print(f" (read {read:.1f}, compute {compute:.1f}, write {write:.1f}; the rest: plan, metadata,"
          f" thumbnail)")  # fmt: skip
    if peer:
        print(f"scikit-image, nothing written: {1e3 * statistics.median(theirs):.1f} ms")


def scikit_image(where: str) -> None:
    from skimage.measure import regionprops_table
    from skimage.segmentation import slic

    pixels = np.asarray(Image.open(where).convert("RGB"))
    count = pixels.shape[0] * pixels.shape[1] // STEP**2
    labels = slic(pixels, n_segments=count, compactness=10, start_label=1)
    regionprops_table(labels, pixels, properties=COLUMNS)


def whole(config: Config, count: int) -> None:
    steps = Steps()
    collection.execute(config, steps, resume=False)
    seconds = steps.seconds["images"]
    files = sum(p.is_file() for p in Path(config.output).rglob("*"))
    print(f"{count} photos, {config.cluster.workers} workers: {count / seconds:.1f} images/s; "
          f"{(files - 3) / count:.1f} files each")  # fmt: skip
    collection.execute(config, steps, resume=True)
    print(f"looked through again: {count / steps.seconds['images']:.0f} images/s")


if __name__ == "__main__":
    main()
