"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segpipe.nets.training.batches import Batch
from segpipe.nets.training.recipe import Loss


def loss(logits: Tensor, batch: Batch, rule: Loss, class_weights: Tensor) -> Tensor:
    """Return the mean loss of a batch, a float32 scalar.

    Cross-entropy of every pixel, times the weight of its class and of the pixel (the paper's map; 0
    where labels do not count); plus, if wanted, 1 - Dice of the classes but the first, over the
    batch, and the mean absolute error of the distance, weighted by pixel alike.
    """
    logits, number = logits.float(), len(class_weights)
    scores = logits[:, :number]
    weight = batch.weight
    entropy = F.cross_entropy(scores, batch.classes, class_weights, reduction="none")
    total = (entropy * weight).sum() / weight.sum().clamp_min(1)
    counts = (weight > 0).float()
    if rule.dice:
        total = total + rule.dice * (1 - _dice(scores.softmax(1), batch.classes, counts))
    if logits.shape[1] > number:
        away = (logits[:, number].sigmoid() - batch.distance).abs()
        total = total + rule.distance * (away * weight).sum() / weight.sum().clamp_min(1)
    return total


def _dice(shares: Tensor, classes: Tensor, counts: Tensor) -> Tensor:
    """Return the mean Dice of the classes but the first, of probabilities (N, K, h, w)."""
    truth = F.one_hot(classes, shares.shape[1]).permute(0, 3, 1, 2).to(shares.dtype)
    both, either = (
        (part * counts[:, None]).sum((0, 2, 3))[1:] for part in (shares * truth, shares + truth)
    )
    one = torch.ones((), dtype=shares.dtype, device=shares.device)
    return ((2 * both + one) / (either + one)).mean()
