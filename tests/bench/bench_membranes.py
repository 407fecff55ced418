"""Held-out quality of a membrane model: ``python tests/bench/bench_membranes.py --model x.safetensors``.

Pixel error, and the Rand error of the ISBI 2012 challenge (Arganda-Carreras and others, Frontiers
in Neuroanatomy 2015, 10.3389/fnana.2015.00142): 1 - F of the pairs of pixels of cells that are in
one piece, pieces being what the membranes part (scikit-image's `adapted_rand_error`). The threshold
of each is chosen on the validation sections. The last columns are by the rules of the challenge,
which takes the threshold that suits the sections best, and of outputs averaged over eight
orientations, as the U-Net paper did over seven: it says .0611 and .0382 on the challenge's own test
sections, whose labels are not public; so figures are near, not the same.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from skimage.measure import label
from skimage.metrics import adapted_rand_error

from segpipe.nets import load_model
from segpipe.nets.model import Model
from segpipe.nets.training import batches, pairs, recipe

ROOT = Path(__file__).resolve().parents[2]
THRESHOLDS = np.arange(0.1, 0.95, 0.05)


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
    print(
        "| part | sections | pixel error | Rand error | challenge: pixel | Rand |\n"
        + "|---" * 6
        + "|"
    )
    best = np.zeros(2, int)
    for part in ("validation", "test"):
        samples = batches.load([p for p in found if p.part == part], chosen, model.card)
        truths = [sample.labels == 1 for sample in samples]
        once = errors([model.forward(s.inputs)[..., 1] for s in samples], truths)
        turned = errors([oriented(model, s.inputs) for s in samples], truths)
        best = once.argmin(axis=1) if part == "validation" else best
        values = [*once[(0, 1), best], *turned.min(axis=1)]
        print(f"| {part} | {len(samples)} | " + " | ".join(f"{v:.4f}" for v in values) + " |")
    print("thresholds: " + ", ".join(f"{THRESHOLDS[t]:.2f}" for t in best))


def oriented(model: Model, inputs: np.ndarray) -> np.ndarray:
    """Return the membranes of a section, averaged over its eight orientations."""
    found = []
    for mirrored, turns in product((False, True), range(4)):
        image = np.rot90(inputs[:, :, ::-1] if mirrored else inputs, turns, (1, 2))
        membrane = np.rot90(model.forward(np.ascontiguousarray(image))[..., 1], -turns)
        found.append(membrane[:, ::-1] if mirrored else membrane)
    return np.mean(found, axis=0)


def errors(membranes: list[np.ndarray], truths: list[np.ndarray]) -> np.ndarray:
    """Return pixel error and Rand error at every threshold, (2, thresholds), mean of sections."""
    rows = [section(*pair) for pair in zip(membranes, truths, strict=True)]
    return np.mean(rows, axis=0)


def section(membrane: np.ndarray, truth: np.ndarray) -> list[list[float]]:
    """Return pixel error and Rand error of one section at every threshold."""
    cells = label(~truth, connectivity=1)
    found = [membrane >= threshold for threshold in THRESHOLDS]
    pixel = [float((one != truth).mean()) for one in found]
    return [pixel, [adapted_rand_error(cells, label(~one, connectivity=1))[0] for one in found]]


if __name__ == "__main__":
    main()
