"""The network behind `segpipe/nets/models/vessels.onnx`, and how that file was made.

    python -m tests.nets.lwnet ../shared/data/models/lwnet_drive/weights_state_dict.npz vessels.onnx

Two U-Nets in a row, the second of which sees the image and the logits of the first: Galdran, Anjos,
Dolz, Chakor, Lombaert, Ben Ayed, "State-of-the-art retinal vessel segmentation with minimalistic
models", Scientific Reports 2022, 10.1038/s41598-022-09675-y. The weights are those of its authors
(MIT), who found vessels where the probability is above .42: the last bias is changed by so much
that it is .5 here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (8, 16, 32)
THRESHOLD = 0.42


class Convolutions(nn.Module):
    """Two 3 x 3 convolutions, to which a 1 x 1 convolution of the input is added."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_convolution(before, after), *_convolution(after, after))
        self.shortcut = nn.Sequential(
            nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.shortcut(x)


class Up(nn.Module):
    """Twice the resolution, beside what a convolution makes of the same level's features."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.up_layer = nn.ModuleDict(
            {"block": nn.Sequential(nn.ConvTranspose2d(before, after, 2, stride=2))}
        )
        self.conv_bridge_layer = nn.ModuleDict(
            {"block": nn.Sequential(*_convolution(after, after))}
        )
        self.conv_layer = Convolutions(2 * after, after)

    def forward(self, x: Tensor, same_level: Tensor) -> Tensor:
        enlarged = self.up_layer["block"](x)
        return self.conv_layer(
            torch.cat([enlarged, self.conv_bridge_layer["block"](same_level)], 1)
        )


class SmallUNet(nn.Module):
    """Three levels; from an image to logits of one class."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolutions(channels, WIDTHS[0])
        pairs = list(pairwise(WIDTHS))
        self.down_path = nn.ModuleList(Convolutions(a, b) for a, b in pairs)
        self.up_path = nn.ModuleList(Up(b, a) for a, b in reversed(pairs))
        self.final = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x)]
        for down in self.down_path:
            features.append(down(F.max_pool2d(features[-1], 2)))
        x = features.pop()
        for up in self.up_path:
            x = up(x, features.pop())
        return self.final(x)


class WNet(nn.Module):
    """(N, 3, H, W) in 0 to 1 to logits (N, 1, H, W) of vessels."""

    def __init__(self) -> None:
        super().__init__()
        self.unet1, self.unet2 = SmallUNet(3), SmallUNet(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.unet2(torch.cat([x, self.unet1(x)], 1))


def built(weights: Mapping[str, np.ndarray]) -> WNet:
    """Return the network with the authors' weights, ready for inference."""
    network = WNet()
    network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights})
    with torch.no_grad():
        network.unet2.final.bias -= math.log(THRESHOLD / (1 - THRESHOLD))
    return network.eval().requires_grad_(False)


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(after)]


def main(weights: str, path: str) -> None:
    free = {0: "images", 2: "rows", 3: "columns"}
    with np.load(weights) as arrays:
        network = built(dict(arrays))
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 64, 64),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["outputs"],
        dynamic_axes={"image": free, "outputs": free},
    )
    print(f"{path}: {Path(path).stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
