"""Fully convolutional networks: a trained classifier looks at every place of a larger image.

Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015,
10.1109/CVPR.2015.7298965: a fully connected layer on h x w features is a convolution with an h x w
kernel, those after it are 1 x 1 convolutions. On an image of the training size the result is the
classifier's, to the last bit of rounding; on a larger one it is a map of scores, one for each
position of the window. The map is coarse, one score per stride of the classifier; `FCN` enlarges it
and adds what finer layers say (FCN-32s, -16s, -8s).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolutional(classifier: nn.Sequential, features: tuple[int, int, int]) -> nn.Sequential:
    """Turn the fully connected end of a classifier into convolutions.

    Parameters
    ----------
    classifier
        Layers in order, for example features, ``nn.Flatten()``, ``nn.Linear``, ``nn.ReLU``,
        ``nn.Dropout``, ``nn.Linear``. Inner sequences are taken apart. It is not changed; the
        convolutions hold copies of its weights.
    features
        Shape (channels, h, w) of what is flattened, at the training size.

    Returns
    -------
    network
        (N, C, H, W) to a map (N, classes, H', W'): 1 x 1 at the training size.

    Raises
    ------
    ValueError
        There is nothing to convert, or the first linear layer does not fit `features`.

    Examples
    --------
    >>> classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    >>> network = convolutional(classifier, (4, 6, 6))
    >>> network(torch.zeros(1, 1, 8, 8)).shape, network(torch.zeros(1, 1, 20, 30)).shape
    (torch.Size([1, 10, 1, 1]), torch.Size([1, 10, 13, 23]))
    """
    layers: list[nn.Module] = []
    flat = converted = False
    for layer in _layers(classifier):
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            _same_size(layer, features)
        elif isinstance(layer, nn.Flatten):
            flat = True
        elif isinstance(layer, nn.Linear) and flat:
            shape = (layer.in_features, 1, 1) if converted else features
            layers.append(_as_convolution(layer, shape))
            converted = True
        elif isinstance(layer, nn.Dropout):
            layers.append(nn.Dropout2d(layer.p))
        else:
            layers.append(layer)
    if not converted:
        raise ValueError("the classifier has no nn.Flatten followed by an nn.Linear to convert")
    return nn.Sequential(*layers)


class FCN(nn.Module):
    """Scores of a converted classifier at the resolution of the image, with finer ones added.

    Parameters
    ----------
    stages
        Parts of the classifier in order; the output of each is coarser than that of the one before,
        the last gives scores. For example VGG cut behind its third and fourth pooling and the rest
        converted.
    channels
        Of the outputs of the stages.
    strides
        Of the outputs of the stages, in pixels of the image, for example (8, 16, 32).
    fused
        How many stages before the last are added: 0 is FCN-32s, 1 FCN-16s, 2 FCN-8s. Their scores
        are 1 x 1 convolutions that begin as zero, so fusion starts from what was there before.

    Notes
    -----
    Enlarging is by transposed convolutions that begin as bilinear interpolation and can be trained.
    The result is cut or continued to the image's size. A stage that does not pad gives a smaller
    map; then the maps' centres are laid on each other.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        strides: Sequence[int],
        fused: int = 0,
    ) -> None:
        super().__init__()
        if not len(stages) == len(channels) == len(strides):
            raise ValueError(
                f"stages, channels and strides need the same number, got {len(stages)},"
                f" {len(channels)}, {len(strides)}"
            )
        if not 0 <= fused < len(stages):
            raise ValueError(f"fused must be 0 to {len(stages) - 1}, got {fused}")
        if any(b % a for a, b in pairwise(strides)):
            raise ValueError(f"each stride must be a multiple of the one before, got {strides}")
        self.stages, self.fused = nn.ModuleList(stages), fused
        classes = channels[-1]
        used = range(len(stages) - 2, len(stages) - 2 - fused, -1)
        self.finer = nn.ModuleList(nn.Conv2d(channels[n], classes, 1) for n in used)
        for layer in self.finer:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        steps = [strides[-1], *(strides[n] for n in used), 1]
        self.enlarge = nn.ModuleList(bilinear(classes, a // b) for a, b in pairwise(steps))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, classes, H, W) of an image (N, C, H, W)."""
        outputs, size = [], x.shape[2:]
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        for number, finer in enumerate(self.finer):
            scores = finer(outputs[-2 - number])
            x = scores + fitted(self.enlarge[number](x), scores.shape[2:])
        return fitted(self.enlarge[-1](x), size)


def bilinear(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that enlarges each channel by bilinear interpolation.

    >>> bilinear(1, 2)(torch.tensor([[[[0.0, 4.0]]]]))[0, 0, 0].tolist()
    [0.0, 0.75, 2.25, 2.25]
    """
    edge = 2 * factor - factor % 2
    centre = (edge - 1) / 2
    line = 1 - (torch.arange(edge) - centre).abs() / factor
    layer = nn.ConvTranspose2d(
        channels, channels, edge, stride=factor, padding=(edge - factor + 1) // 2,
        output_padding=(edge - factor) % 2, groups=channels, bias=False,
    )  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_((line[:, None] * line).expand_as(layer.weight))
    return layer


def fitted(x: Tensor, size: Sequence[int]) -> Tensor:
    """Cut or continue a map around its centre to a size; what is continued repeats the rim."""
    pads = []
    for have, want in zip(reversed(x.shape[2:]), reversed(size), strict=True):
        before = (want - have) // 2
        pads += [before, want - have - before]
    return F.pad(x, pads, mode="replicate") if max(pads) > 0 else F.pad(x, pads)


def _layers(module: nn.Module) -> list[nn.Module]:
    """Return the layers of nested sequences in order."""
    if isinstance(module, nn.Sequential):
        return [layer for inner in module for layer in _layers(inner)]
    return [module]


def _same_size(layer: nn.AdaptiveAvgPool2d, features: tuple[int, int, int]) -> None:
    """Refuse a pooling that does something at the training size; the others can be left out."""
    size: Any = layer.output_size
    wanted = (size, size) if isinstance(size, int) else tuple(size)
    if wanted != features[1:]:
        raise ValueError(
            f"an adaptive pooling to {wanted} has no fixed window; put nn.AvgPool2d in its place,"
            " with the window that it has at the training size"
        )


def _as_convolution(layer: nn.Linear, features: tuple[int, int, int]) -> nn.Conv2d:
    channels, height, width = features
    if layer.in_features != channels * height * width:
        raise ValueError(
            f"the linear layer takes {layer.in_features} values, but features are {channels} x"
            f" {height} x {width}; give the shape that is flattened at the training size"
        )
    made = nn.Conv2d(channels, layer.out_features, (height, width), bias=layer.bias is not None)
    with torch.no_grad():
        made.weight.copy_(layer.weight.reshape(made.weight.shape))
        if made.bias is not None:
            made.bias.copy_(layer.bias)
    return made
