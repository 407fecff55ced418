"""Held-out quality of the model `nuclei`: ``python tests/bench/bench_nuclei.py``.

The protocol is that of the StarDist paper (Schmidt, Weigert, Broaddus, Myers, MICCAI 2018,
10.1007/978-3-030-00934-2_30): AP = TP / (TP + FP + FN) at a threshold of IoU, of each image, mean
over images, on fluorescence images of the Data Science Bowl 2018. Its table (50 images of its own
split) says U-Net .8136, Mask R-CNN .8323, StarDist .8641 at IoU .5. Nothing was chosen by the test
part here; thresholds come from the validation part. Images of one field are in one part.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from segpipe.nets import load_model
from segpipe.nets.grouping import group_instances
from segpipe.nets.training import batches, evaluate, pairs, recipe
from segpipe.quality import contingency, matches

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("AP.5", "AP.7", "AP.5 to .95", "PQ", "F1", "precision", "recall")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=ROOT / "configs/training/nuclei.yaml")
    parser.add_argument("--data", help="folder with images/ and labels/, instead of the YAML's")
    parser.add_argument("--model", default="nuclei", help="name or file")
    given = parser.parse_args()
    parts = [f"data.{part}={given.data}/{part}" for part in ("images", "labels")]
    chosen = recipe.load(given.config, parts if given.data else ())
    model = load_model(given.model)
    found = pairs.find(chosen.data)
    print("| part | images | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 2) + "|")
    for part in ("validation", "test"):
        samples = batches.load([pair for pair in found if pair.part == part], chosen, model.card)
        rows = [
            (sample, evaluate.score_one(outputs, sample, model))
            for sample, outputs in evaluate.predicted(model, samples)
        ]
        print_row(part, [scores for _, scores in rows])
        if part == "test":
            for shape in sorted({sample.labels.shape for sample, _ in rows}):
                chosen_rows = [scores for sample, scores in rows if sample.labels.shape == shape]
                print_row(f"test, {shape[1]} x {shape[0]} px", chosen_rows)
            print_objects(model, samples)


def print_row(name: str, rows: list[dict[str, float]]) -> None:
    mean = evaluate.mean(rows)
    print(f"| {name} | {len(rows)} | " + " | ".join(f"{mean[c]:.3f}" for c in COLUMNS) + " |")


def print_objects(model: object, samples: list[batches.Sample]) -> None:
    """Counts over all objects of the test part, and the worst images by name."""
    total, begin, pixels = [0, 0, 0], time.thread_time(), 0
    worst = []
    for sample in samples:
        labels = group_instances(model.forward(sample.inputs), model.card)
        found = matches(contingency(labels, sample.labels), 0.5)
        counts = (found.true_positives, found.false_positives, found.false_negatives)
        total = [a + b for a, b in zip(total, counts, strict=True)]
        worst.append((found.ap, sample.name))
        pixels += labels.size
    tp, fp, fn = total
    print(
        f"\nall objects of the test part: {tp} found, {fp} wrong, {fn} missed: {tp / sum(total):.3f}"
    )
    print("worst images: " + ", ".join(f"{name} {ap:.2f}" for ap, name in sorted(worst)[:5]))
    print(f"{pixels / 1e6 / (time.thread_time() - begin):.2f} Mpx/s of this thread's time")


if __name__ == "__main__":
    main()
