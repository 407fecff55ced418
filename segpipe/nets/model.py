"""A model for people who have an array: ``load_model(path).predict(image)``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segpipe.errors import InputError
from segpipe.nets.card import ModelCard
from segpipe.nets.files import located, open_model
from segpipe.nets.normalise import levels, normalise
from segpipe.nets.weights import load_network

if TYPE_CHECKING:
    import torch

    from segpipe.nets.ported import PortedModel


@dataclass(frozen=True)
class Model:
    """A network and its card."""

    network: torch.nn.Module
    card: ModelCard

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return the outputs of the network for a whole image.

        Parameters
        ----------
        image
            (H, W) or (H, W, C) of the channels that the card names, any numeric type.

        Returns
        -------
        outputs
            float32 (H, W, K): a probability for each class, of sum 1, and the distance (0 to 1) if
            the model has it. ``card.outputs`` names them.

        Raises
        ------
        InputError
            The channels are not those of the model, or a value is not finite.

        Notes
        -----
        The image is continued by reflection as far as the network looks. About 400 ``width / 16``
        bytes a pixel: for large images, `segpipe run` with method `unet`.
        """
        pixels = as_channels(image, self.card)
        rule = self.card.normalisation
        return self.forward(normalise(pixels, levels(pixels, rule), rule))

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """Return the outputs (H, W, K) of normalised inputs (C, H, W)."""
        import torch

        height, width = inputs.shape[1:]
        shape = self.card.architecture
        with torch.inference_mode():
            device = next(self.network.parameters()).device
            window = torch.from_numpy(surrounded(inputs, self.card))[None].to(device)
            # the halo of same-padded networks is a margin of their own output
            halo = shape.halo if shape.padding == "same" else 0
            logits = self.network(window.to(memory_format=torch.channels_last))
            cut = logits[:, :, halo : halo + height, halo : halo + width].float()
            return probabilities(cut, self.card)[0].permute(1, 2, 0).cpu().numpy()


def load_model(path: str | Path) -> Model | PortedModel:
    """Load a model: a file of ours, ONNX, bioimage.io, or `nuclei`, `nuclei-rgb`, `vessels`.

    Raises
    ------
    InputError
        See `segpipe.nets.files.open_model` and `segpipe.nets.weights.load_network`.
    """
    place = located(path)
    if place.suffix.lower() == ".safetensors":
        return Model(*load_network(place))
    from segpipe.nets.ported import PortedModel

    return PortedModel(open_model(place))


def probabilities(logits: torch.Tensor, card: ModelCard) -> torch.Tensor:
    """Return (N, K, H, W) probabilities of the classes, and the distance, of logits."""
    import torch

    number = len(card.classes)
    classes = logits[:, :number].softmax(1)
    return torch.cat([classes, logits[:, number:].sigmoid()], 1) if card.distance else classes


def surrounded(inputs: np.ndarray, card: ModelCard) -> np.ndarray:
    """Continue inputs (C, H, W) by reflection, so that every pixel of theirs gets an output.

    The result begins ``card.architecture.halo`` pixels above and left of them for `same` networks,
    and ``card.margin`` for `valid` ones, whose output then begins at the first pixel.
    """
    from segpipe.nets.unet import input_size

    shape = card.architecture
    same = shape.padding == "same"
    before = shape.halo if same else shape.margin
    pads = [(0, 0)]
    for edge in inputs.shape[1:]:
        total = input_size(edge + 2 * before if same else edge, shape)
        pads.append((before, total - edge - before))
    return np.pad(inputs, pads, mode="reflect" if min(inputs.shape[1:]) > 1 else "edge")


def as_channels(image: np.ndarray, card: ModelCard) -> np.ndarray:
    """Return an image as (H, W, C), or say that its channels are not those of the model."""
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] != len(card.channels):
        names = ", ".join(channel.name for channel in card.channels)
        raise InputError(
            f"the model {card.name} needs {len(card.channels)} channel(s) ({names}), got an array"
            f" of shape {image.shape}; choose or convert channels"
        )
    return pixels
