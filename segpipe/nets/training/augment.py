"""Random changes of crops: whole batches of tensors, on the CPU or the GPU.

One sampling by torch does flips, rotation, scale and the elastic deformation together, so that
values are interpolated once. The deformation is the paper's: random vectors on a coarse grid,
bicubic between them. Kornia, the library for this, smooths noise by large kernels instead and would
sample a second time: its deformation alone took 0.13 s of one core for 8 x 256^2 pixels of one
channel (kernels of 63), all that is done here 0.04 s for image, targets and labels. Draws come from
torch's generator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from segpipe.nets.training.recipe import Augmentation

SPACING = 48
"""Distance of the vectors of the deformation (px)."""
DEVIATIONS = 2.5
"""The largest displacement is so many standard deviations of a vector's parts."""


class Augmenter:
    """Change crops, their soft targets and their labels alike.

    Parameters
    ----------
    rule
        What is changed, and how much at most.
    edge
        Of the crops (px).
    """

    def __init__(self, rule: Augmentation, edge: int) -> None:
        self.rule, self.edge = rule, edge

    def __call__(self, image: Tensor, soft: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return image (N, C, H, W), soft targets (N, S, H, W) and labels (N, 1, H, W) changed."""
        grid = self._grid(len(image), image.device)
        together = _sampled(torch.cat([image, soft], 1), grid, "bilinear")
        channels = image.shape[1]
        image, soft = together[:, :channels], together[:, channels:]
        return self._values(image), soft, _sampled(labels, grid, "nearest")

    def _grid(self, number: int, device: torch.device) -> Tensor:
        """Return where each pixel is taken from, (N, H, W, 2) in -1 to 1 across the crop."""
        rule = self.rule
        angle = _uniform((number,), -rule.rotation, rule.rotation, device).deg2rad()
        low, high = (math.log(scale) for scale in rule.scale)
        shrink = _uniform((number,), -high, -low, device).exp()
        sine, cosine = angle.sin() * shrink, angle.cos() * shrink
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
        if rule.flip:
            turn = turn * (2 * torch.randint(0, 2, (number, 2, 1), device=device) - 1)
        affine = torch.cat([turn, turn.new_zeros(number, 2, 1)], 2)
        grid = F.affine_grid(affine, [number, 1, self.edge, self.edge], align_corners=False)
        return grid + self._displacement(number, device) if rule.elastic else grid

    def _displacement(self, number: int, device: torch.device) -> Tensor:
        """Return the elastic deformation, (N, H, W, 2) in half edges."""
        nodes = math.ceil(self.edge / SPACING) + 1
        vectors = torch.randn((number, 2, nodes, nodes), device=device).clamp(
            -DEVIATIONS, DEVIATIONS
        )
        strength = _uniform((number, 1, 1, 1), 0, self.rule.elastic, device)
        vectors = vectors * strength / DEVIATIONS * 2 / self.edge
        smooth = F.interpolate(vectors, (self.edge,) * 2, mode="bicubic", align_corners=True)
        return smooth.permute(0, 2, 3, 1)

    def _values(self, image: Tensor) -> Tensor:
        """Change contrast curve, gain, offset and sharpness of every channel, and add noise."""
        rule, shape, device = self.rule, (*image.shape[:2], 1, 1), image.device
        gamma = math.log(rule.gamma)
        curve = _uniform(shape, -gamma, gamma, device).exp()
        image = image.sign() * image.abs().clamp_min(1e-6) ** curve
        gain = _uniform(shape, -rule.brightness, rule.brightness, device)
        offset = _uniform(shape, -rule.brightness / 2, rule.brightness / 2, device)
        image = image * (1 + gain) + offset
        if rule.blur:
            # of half of the crops, up to the whole of it
            share = _uniform(shape, -1, 1, device).clamp_min(0)
            image = image + share * (_blurred(image, rule.blur) - image)
        return image + torch.randn_like(image) * _uniform(shape, 0, rule.noise, device)


def _uniform(shape: tuple[int, ...], low: float, high: float, device: torch.device) -> Tensor:
    return torch.empty(shape, device=device).uniform_(low, high)


def _sampled(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Take values at places; what lies beyond the crop is its reflection."""
    return F.grid_sample(x, grid, mode, padding_mode="reflection", align_corners=False)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Smooth every channel by a Gaussian of `sigma` pixels."""
    reach = math.ceil(3 * sigma)
    weights = [math.exp(-(at**2) / (2 * sigma**2)) for at in range(-reach, reach + 1)]
    height, width = image.shape[2:]
    # sums of slices: on the CPU several times as fast as a convolution of few channels
    padded = F.pad(image, (reach,) * 4, mode="reflect")
    slices = [w * padded[..., at : at + height, :] for at, w in enumerate(weights)]
    rows = torch.stack(slices).sum(0)
    slices = [w * rows[..., at : at + width] for at, w in enumerate(weights)]
    return torch.stack(slices).sum(0) / sum(weights) ** 2
