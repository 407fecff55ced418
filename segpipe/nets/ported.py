"""Models of others for people who have an array: ``load_model(path).predict(image)``."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from segpipe.errors import InputError
from segpipe.nets import inference, statistics
from segpipe.nets.files import ModelFile


@dataclass(frozen=True)
class PortedModel:
    """An ONNX network, alone or in a bioimage.io package."""

    file: ModelFile

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return the probabilities of a whole image.

        Parameters
        ----------
        image
            (H, W) or (H, W, C) of the channels that ``file.channels`` names, any numeric type.

        Returns
        -------
        outputs
            float32 (H, W, K), named by ``file.outputs``: background first.

        Raises
        ------
        InputError
            The channels are not those of the model, or a value is not finite.

        Notes
        -----
        An image of the shape that the network is bound to is computed at once, as it is; any other
        one in windows, continued by reflection.
        """
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.ndim != 3 or pixels.shape[2] != len(self.file.channels):
            raise InputError(
                f"the model {self.file.name} needs {len(self.file.channels)} channel(s)"
                f" ({', '.join(self.file.channels)}), got an array of shape {image.shape}"
            )
        if not np.isfinite(pixels).all():
            raise InputError("the image holds values that are not finite; replace them")
        levels = statistics.image_levels(self.file, pixels)
        return inference.predict(self.file, pixels, levels, os.cpu_count() or 1)
