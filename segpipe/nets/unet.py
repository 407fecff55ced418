"""The U-Net and the encoder-decoder, as in the paper.

Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015, 10.1007/978-3-319-24574-4_28: two 3 x 3 convolutions per level, 2 x 2 max-pooling,
channels that double on the way down and halve on the way up, the cropped features of the same level
beside them, and a 1 x 1 convolution to the classes.

The ways to double the resolution other than the paper's 2 x 2 transposed convolution halve the
channels by a 1 x 1 convolution and then enlarge: by interpolation, with zeros between the values
("bed of nails"), or by putting each value where the maximum was that pooling took there (Zeiler,
Fergus, 2014, 10.1007/978-3-319-10590-1_53; SegNet, 10.1109/TPAMI.2016.2644615).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segpipe.nets.card import Architecture, Upsampling


class UNet(nn.Module):
    """The U-Net, or the encoder-decoder of the same shape.

    Parameters
    ----------
    shape
        Kind, channels, depth, width, padding, upsampling and normalisation.

    Attributes
    ----------
    skips
        Whether features of the encoder go to the decoder.

    Notes
    -----
    Input (N, C, H, W), output (N, K, H', W') logits. With `valid` padding H' is H less twice
    `shape.margin`, and not every H fits, see `input_size`; with `same` H' is H, a multiple of
    ``shape.align``. About ``7e-5 * (width / 16) ** 2`` GFLOP and, in training, ``0.6 * width``
    values of memory a pixel.

    Examples
    --------
    >>> paper = Architecture(kind="unet", depth=4, width=2, padding="valid", norm="none")
    >>> UNet(paper)(torch.zeros(1, 1, 572, 572)).shape
    torch.Size([1, 2, 388, 388])
    """

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        widths = [shape.width * 2**level for level in range(shape.depth + 1)]
        padded = shape.padding == "same"
        self.shape, self.skips = shape, shape.kind == "unet"
        self.encoder = nn.ModuleList(
            _convolutions(before, width, shape)
            for before, width in zip([shape.in_channels, *widths], widths, strict=False)
        )
        self.enlarge = nn.ModuleList(
            UPSAMPLING[shape.upsampling](2 * width, width, padded) for width in widths[:-1]
        )
        self.decoder = nn.ModuleList(
            _convolutions(2 * width if self.skips else width, width, shape) for width in widths[:-1]
        )
        self.head = nn.Conv2d(shape.width, shape.out_channels, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        features = []
        for level, convolutions in enumerate(self.encoder):
            x = convolutions(F.max_pool2d(x, 2) if level else x)
            features.append(x)
        for level in reversed(range(self.shape.depth)):
            same_level = features[level]
            x = self.enlarge[level](x, same_level)
            if self.skips:
                x = torch.cat([_centre(same_level, x), x], 1)
            x = self.decoder[level](x)
        return self.head(x)


def input_size(output: int, shape: Architecture) -> int:
    """Return the smallest input edge whose output has at least `output` pixels.

    >>> input_size(388, Architecture(depth=4, padding="valid"))
    572
    >>> input_size(388, Architecture(depth=4, padding="same"))
    400
    """
    step = shape.align
    if shape.padding == "same":
        return -(-output // step) * step
    # every level that is pooled has to be even: the input is 4 less than a multiple of the step
    return -(-(output + 2 * shape.margin + 4) // step) * step - 4


class Transposed(nn.Module):
    """The paper's up-convolution: a transposed 2 x 2 convolution of stride 2."""

    def __init__(self, before: int, after: int, padded: bool) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(before, after, 2, stride=2)

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Return x at twice the resolution."""
        return self.convolution(x)


class _Enlarged(nn.Module):
    """A 1 x 1 convolution that halves the channels, and a fixed rule that enlarges."""

    def __init__(self, before: int, after: int, padded: bool) -> None:
        super().__init__()
        self.padded = padded
        self.convolution = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Return x at twice the resolution; `pooled` is what the encoder pooled at that level."""
        return self.enlarged(self.convolution(x), pooled)

    def enlarged(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Return x at twice the resolution."""
        raise NotImplementedError


class Nearest(_Enlarged):
    """Every value four times."""

    def enlarged(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Repeat every value."""
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Bilinear(_Enlarged):
    """Bilinear interpolation; what would need values beyond the rim is cut off without padding."""

    def enlarged(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Interpolate between values."""
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x if self.padded else x[..., 1:-1, 1:-1]


class BedOfNails(_Enlarged):
    """The value at the upper left of each 2 x 2 block, zeros elsewhere."""

    def enlarged(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Put zeros between values."""
        nothing = torch.zeros_like(x)
        return interleave(x, nothing, nothing, nothing)


class Unpooling(_Enlarged):
    """The value where the maximum of the block was, zeros elsewhere."""

    def enlarged(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Put values back to where they came from."""
        switches = _centre(switch(pooled), x)
        return interleave(*(torch.where(switches == place, x, 0.0) for place in range(4)))


UPSAMPLING: dict[Upsampling, type[nn.Module]] = {
    "transposed": Transposed,
    "bilinear": Bilinear,
    "nearest": Nearest,
    "bed-of-nails": BedOfNails,
    "unpooling": Unpooling,
}


def switch(x: Tensor) -> Tensor:
    """Return in which place of each 2 x 2 block its (first) maximum lies: 0 to 3 in raster order.

    >>> switch(torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]])).item()
    1
    """
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 2, 4, 3, 5)
    return blocks.reshape(n, c, h // 2, w // 2, 4).argmax(-1)


def interleave(*places: Tensor) -> Tensor:
    """Return (N, C, 2H, 2W) of which each 2 x 2 block has its four values from four tensors."""
    n, c, h, w = places[0].shape
    blocks = torch.stack(places, 2).reshape(n, c, 2, 2, h, w)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n, c, 2 * h, 2 * w)


def _convolutions(before: int, after: int, shape: Architecture) -> nn.Sequential:
    """Two 3 x 3 convolutions, each followed by batch normalisation, if any, and ReLU."""
    padding = 1 if shape.padding == "same" else 0
    batch = shape.norm == "batch"
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, 3, padding=padding, bias=not batch))
        layers += [nn.BatchNorm2d(after)] if batch else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _centre(x: Tensor, like: Tensor) -> Tensor:
    """Cut the middle of x, as large as `like`."""
    # numbers that the shape has no say in, so that an exported graph holds for other shapes, too
    more = (int(a) - int(b) for a, b in zip(x.shape[2:], like.shape[2:], strict=True))
    rows, columns = (slice(n // 2, n // 2 - n or None) for n in more)
    return x if rows == columns == slice(0, None) else x[..., rows, columns]


def _initialise(module: nn.Module) -> None:
    """Draw weights with deviation sqrt(2 / N), N the inputs of a neuron, as the paper does."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
