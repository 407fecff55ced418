"""Held-out quality of a membrane model: ``python tests/bench/bench_membranes.py --model x.safetensors``.

Pixel error, and the Rand error of the ISBI 2012 challenge (Arganda-Carreras and others, Frontiers
in Neuroanatomy 2015, 10.3389/fnana.2015.00142): 1 - F of the pairs of pixels of cells that are in
one piece (scikit-image's `adapted_rand_error`). Pieces are the objects that a run finds, parted by
the watershed of the cells' probability. Thresholds are chosen on the validation sections.

The last columns are by the rules of the challenge: pieces are the connected parts of what is no
membrane, at the threshold that suits the sections best, of outputs averaged over eight
orientations, as the U-Net paper did over seven: it says .0611 and .0382 on the challenge's own test
sections, whose labels are not public; so figures are near, not the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from skimage.measure import label
from skimage.metrics import adapted_rand_error

from segpipe.nets import load_model
from segpipe.nets.grouping import group_instances, quantised
from segpipe.nets.model import Model
from segpipe.nets.training import batches, pairs, recipe

ROOT = Path(__file__).resolve().parents[2]
THRESHOLDS = np.arange(0.1, 0.95, 0.05)
"""Of the probability of membrane."""
CUTS = tuple(product((0.02, 0.05, 0.1, 0.2, 0.3, 0.5), (0.05, 0.1, 0.2, 0.3)))
"""Foreground and dynamics of objects."""
COLUMNS = "| part | sections | pixel error | Rand error | challenge: pixel | Rand |\n"

Scorer = Callable[[np.ndarray, np.ndarray], list[float]]
"""(outputs (H, W, K), true cells (H, W)) -> an error for every threshold."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=ROOT / "configs/training/membranes.yaml")
    parser.add_argument("--data", help="folder with image/ and label/ (train), not the YAML's")
    parser.add_argument("--model", required=True)
    given = parser.parse_args()
    parts = [f"data.{key}s={given.data}/{key}" for key in ("image", "label")]
    chosen = recipe.load(given.config, parts if given.data else ())
    model = load_model(given.model)
    found = pairs.find(chosen.data)
    objects = lambda outputs, cells: rand_of_objects(model, outputs, cells)  # noqa: E731
    print(COLUMNS + "|---" * 6 + "|")
    threshold = cut = 0
    for part in ("validation", "test"):
        samples = batches.load([p for p in found if p.part == part], chosen, model.card)
        cells = [sample.labels for sample in samples]
        once = [model.forward(sample.inputs) for sample in samples]
        turned = [oriented(model, sample.inputs) for sample in samples]
        pixel, rand = mean(pixel_errors, once, cells), mean(objects, once, cells)
        if part == "validation":
            threshold, cut = int(pixel.argmin()), int(rand.argmin())
        values = pixel[threshold], rand[cut]
        values += mean(pixel_errors, turned, cells).min(), mean(rand_of_parts, turned, cells).min()
        print(f"| {part} | {len(samples)} | " + " | ".join(f"{v:.4f}" for v in values) + " |")
    print(f"membrane from {THRESHOLDS[threshold]:.2f}; foreground, dynamics: {CUTS[cut]}")


def mean(scorer: Scorer, outputs: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> np.ndarray:
    """Return an error at every threshold, the mean of sections."""
    return np.mean([scorer(*pair) for pair in zip(outputs, cells, strict=True)], axis=0)


def pixel_errors(outputs: np.ndarray, cells: np.ndarray) -> list[float]:
    """Return the share of wrong pixels at every threshold."""
    return [float(((outputs[..., 0] < at) != (cells > 0)).mean()) for at in THRESHOLDS]


def rand_of_parts(outputs: np.ndarray, cells: np.ndarray) -> list[float]:
    """Return the Rand error of what membranes part, at every threshold."""
    return [
        adapted_rand_error(cells, label(outputs[..., 0] < at, connectivity=1))[0]
        for at in THRESHOLDS
    ]


def rand_of_objects(model: Model, outputs: np.ndarray, cells: np.ndarray) -> list[float]:
    """Return the Rand error of objects, for every foreground and dynamics."""
    shares, errors = quantised(outputs), []
    for foreground, dynamics in CUTS:
        values = {"foreground": foreground, "dynamics": dynamics}
        grouping = model.card.grouping.model_copy(update=values)
        card = model.card.model_copy(update={"grouping": grouping})
        errors.append(adapted_rand_error(cells, group_instances(shares, card))[0])
    return errors


def oriented(model: Model, inputs: np.ndarray) -> np.ndarray:
    """Return the outputs of a section, averaged over its eight orientations."""
    found = []
    for mirrored, turns in product((False, True), range(4)):
        image = np.rot90(inputs[:, :, ::-1] if mirrored else inputs, turns, (1, 2))
        outputs = np.rot90(model.forward(np.ascontiguousarray(image)), -turns)
        found.append(outputs[:, ::-1] if mirrored else outputs)
    return np.mean(found, axis=0)


if __name__ == "__main__":
    main()
