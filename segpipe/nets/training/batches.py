"""Random crops of the training images: a pure function of seed, process and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segpipe.errors import InputError
from segpipe.nets.card import ModelCard
from segpipe.nets.normalise import levels, normalise
from segpipe.nets.training import pairs, targets
from segpipe.nets.training.augment import Augmenter
from segpipe.nets.training.recipe import Recipe
from segpipe.nets.unet import input_size


@dataclass(frozen=True)
class Sample:
    """An image ready for training."""

    name: str
    inputs: np.ndarray
    """(C, H, W) float32, normalised."""
    labels: np.ndarray
    """(H, W) int32."""
    counts: np.ndarray
    """(H, W) bool: where labels count."""
    soft: np.ndarray
    """(2, H, W) float16: distance, and the weight of the pixel."""
    weight: float = 1.0
    """How often crops are taken from it, next to others of its size."""


@dataclass(frozen=True)
class Batch:
    """Crops and what is to be learned of them."""

    inputs: Tensor
    """(N, C, H, W) float32."""
    classes: Tensor
    """(N, h, w) int64."""
    distance: Tensor
    """(N, h, w) float32."""
    weight: Tensor
    """(N, h, w) float32."""


def load(found: Sequence[pairs.Pair], recipe: Recipe, card: ModelCard) -> list[Sample]:
    """Read images and labels, and prepare what does not change from crop to crop."""
    return [_prepared(pair, recipe, card) for pair in found]


def _prepared(pair: pairs.Pair, recipe: Recipe, card: ModelCard) -> Sample:
    pixels, labels, counts = pairs.read(pair, recipe.data)
    try:
        inputs = _inputs(pixels, counts, card)
    except InputError as error:
        raise InputError(f"{pair.image}: {error}") from error
    classes = len(recipe.targets.classes)
    if recipe.data.kind == "classes" and labels.max(initial=0) >= classes:
        raise InputError(
            f"{pair.labels} has a class {labels.max()}; targets.classes names {classes}, from 0"
        )
    soft = np.zeros((2, *labels.shape), np.float16)
    if recipe.targets.distance:
        soft[0] = targets.distance(labels)
    of = recipe.loss
    soft[1] = counts * (
        1
        + targets.border_weights(labels, of.border_weight, of.border_sigma, inside=of.border_inside)
    )
    return Sample(pair.name, inputs, labels, counts, soft, pair.weight)


def _inputs(pixels: np.ndarray, counts: np.ndarray, card: ModelCard) -> np.ndarray:
    """Return what the network sees of an image; what does not count may be anything."""
    from segpipe.nets.model import as_channels

    pixels, rule = as_channels(pixels, card), card.normalisation
    if pixels.dtype.kind == "f":
        pixels = np.where(counts[..., None] | np.isfinite(pixels), pixels, 0)
    return normalise(pixels, levels(pixels, rule, counts), rule)


class Batches:
    """Batches of a training, by step."""

    def __init__(
        self,
        samples: Sequence[Sample],
        recipe: Recipe,
        card: ModelCard,
        *,
        process: tuple[int, int] = (0, 1),
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.recipe, self.device = samples, recipe, torch.device(device)
        self.rank, self.processes = process
        self.edge = input_size(recipe.schedule.crop, card.architecture)
        lost = 0 if card.architecture.padding == "same" else card.margin
        self.centre = slice(lost, self.edge - lost)
        self.augment = Augmenter(recipe.augmentation, self.edge)
        # an image with four times the pixels has twice the share of the crops
        share = np.array([sample.weight * sample.labels.size**0.5 for sample in samples])
        self.share = share / share.sum()

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same whenever it is asked for."""
        seed = [self.recipe.schedule.seed, self.rank, step]
        rng = np.random.default_rng(seed)
        number = max(1, self.recipe.schedule.batch // self.processes)
        chosen = rng.choice(len(self.samples), number, p=self.share)
        crops = [self._crop(self.samples[n], rng) for n in chosen]
        image, soft, labels = (self._sent(np.stack(part)) for part in zip(*crops, strict=True))
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(int(rng.integers(2**63)))
            image, soft, labels = self.augment(image, soft, labels)
        return self._targets(image, soft, labels[:, 0])

    def _crop(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Cut a window at random; images that are smaller are continued by reflection."""
        shape, edge = sample.labels.shape, self.edge
        short = [max(edge - n, 0) for n in shape]
        top, left = (int(rng.integers(max(n - edge, 0) + 1)) for n in shape)
        at = (..., slice(top, top + edge), slice(left, left + edge))
        cut: tuple[np.ndarray, ...] = sample.inputs[at], sample.soft[at], sample.labels[at][None]
        pads = [(0, 0), *((n // 2, n - n // 2) for n in short)]
        if any(short):
            cut = tuple(np.pad(part, pads, mode="symmetric") for part in cut)
        return tuple(part.astype(np.float32) for part in cut)

    def _sent(self, part: np.ndarray) -> Tensor:
        """Return an array on the device; from pinned memory, a GPU copies while it computes."""
        tensor = torch.from_numpy(part)
        if self.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _targets(self, image: Tensor, soft: Tensor, labels: Tensor) -> Batch:
        centre = (..., self.centre, self.centre)
        of = self.recipe.targets
        instances = self.recipe.data.kind == "instances"
        classes = (
            targets.classes_of(labels, of.border, len(of.classes)) if instances else labels.long()
        )
        inputs = image.contiguous(memory_format=torch.channels_last)
        return Batch(inputs, classes[centre], soft[:, 0][centre], soft[:, 1][centre])


def class_weights(samples: Sequence[Sample], recipe: Recipe) -> Tensor:
    """Return the weight of each class in the loss, of mean 1 over the pixels."""
    given, number = recipe.loss.class_weights, len(recipe.targets.classes)
    if not isinstance(given, str):
        return torch.tensor(given, dtype=torch.float32)
    if given == "equal":
        return torch.ones(number)
    counts = sum(np.bincount(found, minlength=number) for found in _classes(samples, recipe))
    weight = 1 / np.sqrt(np.maximum(counts, 1) / np.sum(counts))
    return torch.tensor(weight * np.sum(counts) / np.sum(weight * counts), dtype=torch.float32)


def _classes(samples: Sequence[Sample], recipe: Recipe) -> Iterator[np.ndarray]:
    for sample in samples:
        labels = torch.from_numpy(sample.labels)[None]
        if recipe.data.kind == "instances":
            of = recipe.targets
            labels = targets.classes_of(labels.float(), of.border, len(of.classes))
        yield labels[0].numpy()[sample.counts].astype(np.int64)
