"""What training is for: objects that touch come out apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from segpipe.nets import load_model
from segpipe.nets.grouping import group_instances
from segpipe.nets.training import batches, pairs, recipe
from segpipe.nets.training.loss import loss
from segpipe.nets.training.train import card_of, train
from segpipe.quality import contingency, matches

EDGE, CELL, RADIUS = 96, 32, 8


def pair_of_discs(rng: np.random.Generator) -> np.ndarray:
    """Two discs in a cell that have a side in common, one as bright as the other: 1, 2, else 0."""
    angle, middle = rng.uniform(0, np.pi), (CELL - 1) / 2
    y, x = np.indices((CELL, CELL)) - middle
    half = rng.uniform(0.75, 0.85) * RADIUS * np.array([np.sin(angle), np.cos(angle)])
    away = [np.hypot(y - side * half[0], x - side * half[1]) for side in (1, -1)]
    nearest = np.argmin(away, axis=0)
    return np.where(np.min(away, axis=0) < RADIUS, nearest + 1, 0)


def write_pairs(folder: Path, number: int) -> None:
    """Images of nine such pairs each, on noise."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for n in range(number):
        rng, labels = np.random.default_rng(n), np.zeros((EDGE, EDGE), np.uint16)
        for k in range((EDGE // CELL) ** 2):
            row, column = divmod(k, EDGE // CELL)
            cell = labels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            found = pair_of_discs(rng)
            cell[...] = np.where(found > 0, found + 2 * k, 0)
        image = 60 + 100 * (labels > 0) + rng.normal(0, 6, labels.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"images/{n}.png")
        Image.fromarray(labels).save(folder / f"labels/{n}.png")


def values(folder: Path, **more: Any) -> recipe.Recipe:
    return recipe.Recipe.model_validate(
        {
            "name": "pairs",
            "output": str(folder / "run"),
            "data": {
                "images": str(folder / "images"),
                "labels": str(folder / "labels"),
                "table": str(folder / "parts.csv"),
            },
            "network": {"depth": 2, "width": 8},
            "targets": {"border": 1},
            "loss": {"border_weight": 4, "border_sigma": 2, "border_inside": True},
            "augmentation": {"elastic": 0, "blur": 0, "scale": [0.9, 1.1]},
            "schedule": {
                "crop": EDGE, "batch": 3, "steps": 90, "validate_every": 90, "warmup": 10,
                "ema": 0.9, "device": "cpu", "precision": "float32", "learning_rate": 0.01,
                "threads": 1,
            },
        } | more
    )  # fmt: skip


def test_train__learns_to_part_what_touches(tmp_path: Path) -> None:
    """Pairs of discs without a seam between them, by the border class alone.

    What is not parted has an IoU of a half with either disc: at 0.7 it counts for nothing.
    """
    write_pairs(tmp_path, 10)
    parts = ["train"] * 7 + ["validation"] * 2 + ["test"]
    rows = [f"{n},{part}" for n, part in enumerate(parts)]
    (tmp_path / "parts.csv").write_text("\n".join(["name,part", *rows]))
    model = load_model(train(values(tmp_path))["model"])
    assert not model.card.distance
    image, truth = (np.asarray(Image.open(tmp_path / f"{d}/9.png")) for d in ("images", "labels"))
    labels = group_instances(model.predict(image), model.card)
    found = matches(contingency(labels, truth.astype(np.int32)), 0.7)
    assert found.true_positives >= 15, "of 18 discs"
    assert found.false_positives <= 3


def test_loss__weighs_most_where_objects_touch(tmp_path: Path) -> None:
    """What a pixel does to the loss is the map of the paper: 1 far away, 1 + w0 at a contact."""
    write_pairs(tmp_path, 1)
    (tmp_path / "parts.csv").write_text("name,part\n0,train")
    still = {
        "flip": False, "rotation": 0, "scale": [1, 1], "elastic": 0, "gamma": 1, "brightness": 0,
        "noise": 0, "blur": 0,
    }  # fmt: skip
    chosen = values(tmp_path, augmentation=still)
    card = card_of(chosen)
    samples = batches.load(pairs.find(chosen.data), chosen, card)
    batch = batches.Batches(samples, chosen, card).batch(0)
    logits = torch.zeros(len(batch.classes), 3, EDGE, EDGE, requires_grad=True)
    loss(logits, batch, chosen.loss, torch.ones(3)).backward()
    assert logits.grad is not None
    pull = logits.grad.abs().sum(1)[0]
    pull = (pull / pull[0, 0]).numpy()  # far from any object
    labels = samples[0].labels
    beside = (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] > 0) & (labels[:, 1:] > 0)
    # the other object is one pixel away: 1 + 4 exp(-1 / 8)
    np.testing.assert_allclose(pull[:, :-1][beside], 1 + 4 * np.exp(-1 / 8), rtol=0.01)
    assert beside.sum() > 50
