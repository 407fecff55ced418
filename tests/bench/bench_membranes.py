"""Held-out quality of a membrane model: ``python tests/bench/bench_membranes.py --model x.safetensors``.

Pixel error, and the Rand error of the ISBI 2012 challenge (Arganda-Carreras and others, Frontiers
in Neuroanatomy 2015, 10.3389/fnana.2015.00142): 1 - F of the pairs of pixels of cells that are in
one piece, pieces being what the membranes part (scikit-image's `adapted_rand_error`). The threshold
of each is chosen on the validation sections. The U-Net paper says .0611 and .0382 on the
challenge's own test sections, whose labels are not public; so figures are near, not the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
from skimage.measure import label
from skimage.metrics import adapted_rand_error

from segpipe.nets import load_model
from segpipe.nets.training import batches, evaluate, pairs, recipe

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
    errors: dict[str, list[tuple[list[float], list[float]]]] = {}
    for part in ("validation", "test"):
        samples = batches.load([p for p in found if p.part == part], chosen, model.card)
        errors[part] = [
            section(outputs[..., 1], sample.labels == 1)
            for sample, outputs in evaluate.predicted(model, samples)
        ]
    best = [
        int(np.argmin([fmean(rows[kind][t] for rows in errors["validation"]) for t in places()]))
        for kind in (0, 1)
    ]
    print("| part | sections | pixel error | Rand error |\n|---|---|---|---|")
    for part, rows in errors.items():
        pixel, rand = (fmean(row[kind][best[kind]] for row in rows) for kind in (0, 1))
        print(f"| {part} | {len(rows)} | {pixel:.4f} | {rand:.4f} |")
    print("thresholds: " + ", ".join(f"{THRESHOLDS[t]:.2f}" for t in best))


def places() -> range:
    """Return the numbers of the thresholds."""
    return range(len(THRESHOLDS))


def section(membrane: np.ndarray, truth: np.ndarray) -> tuple[list[float], list[float]]:
    """Return pixel error and Rand error of one section at every threshold."""
    cells = label(~truth, connectivity=1)
    pixel, rand = [], []
    for threshold in THRESHOLDS:
        found = membrane >= threshold
        pixel.append(float((found != truth).mean()))
        rand.append(float(adapted_rand_error(cells, label(~found, connectivity=1))[0]))
    return pixel, rand


if __name__ == "__main__":
    main()
