"""The networks are those of the papers, and reach as far as they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segpipe.nets.card import Architecture, margin
from segpipe.nets.unet import UPSAMPLING, UNet, Unpooling, input_size, interleave, switch

UPSAMPLINGS = tuple(UPSAMPLING)


def built(**keys: object) -> UNet:
    torch.manual_seed(0)
    return UNet(Architecture(**{"width": 2, "depth": 2} | keys)).eval()


def test_unet__paper() -> None:
    """Figure 1 of the paper: 572 to 388, and 23 convolutions."""
    network = built(depth=4, width=64, norm="none")
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.modules()) == 23
    assert [block[0].out_channels for block in network.encoder] == [64, 128, 256, 512, 1024]
    small = built(depth=4, width=1, norm="none")
    assert small(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("wanted", [1, 37, 64])
def test_input_size__valid(upsampling: str, depth: int, wanted: int) -> None:
    network = built(depth=depth, upsampling=upsampling, padding="valid")
    edge = input_size(wanted, network.shape)
    found = network(torch.rand(1, 1, edge, edge)).shape[-1]
    assert found == edge - 2 * network.shape.margin
    assert wanted <= found < wanted + network.shape.align


@pytest.mark.parametrize(("depth", "pixels"), [(2, 20), (3, 44), (4, 92), (5, 188)])
def test_margin__construction(depth: int, pixels: int) -> None:
    assert margin(depth) == pixels
    shape = Architecture(depth=depth, width=1, padding="valid", norm="none")
    edge = input_size(1, shape)
    with torch.device("meta"):
        found = UNet(shape)(torch.zeros(1, 1, edge, edge)).shape[-1]
    assert (edge - found) / 2 == pixels


def reach(network: UNet, edge: int, at: int) -> tuple[int, int]:
    """How far left and right of pixel `at` of the input the gradient of its output goes."""
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() + 0.01  # nothing cancels
    x = torch.ones(1, 1, edge, edge, requires_grad=True)
    lost = 0 if network.shape.padding == "same" else network.shape.margin
    network(x)[0, 0, at - lost, at - lost].backward()
    assert x.grad is not None
    (touched,) = x.grad[0, 0].any(0).nonzero(as_tuple=True)
    return at - int(touched.min()), int(touched.max()) - at


@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "bilinear"])
@pytest.mark.parametrize(("depth", "padding"), [(2, "same"), (3, "same"), (2, "valid")])
def test_halo__gradient(
    depth: int, padding: str, upsampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far an aligned block is reached from, by the padded network; that sets the halo."""
    # the maximum passes a gradient to one pixel only, the mean to all that could be it
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    network = built(depth=depth, padding=padding, upsampling=upsampling, norm="none")
    shape = network.shape
    edge = input_size(2 * shape.halo + 3 * shape.align, shape)
    begin = (
        shape.halo + shape.align if padding == "same" else edge // 2 // shape.align * shape.align
    )
    found = [reach(network, edge, begin + n) for n in range(shape.align)]
    if padding == "same":
        left = max(left - n for n, (left, _) in enumerate(found))
        right = max(right - (shape.align - 1 - n) for n, (_, right) in enumerate(found))
        wanted = shape.margin + (3 if upsampling == "bilinear" else 2)
        assert (left, right) == (wanted, wanted)
        assert shape.halo >= wanted
    else:
        assert max(max(pair) for pair in found) <= shape.margin + shape.align - 1


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_same_padding__window_with_halo_is_the_whole(upsampling: str) -> None:
    network = built(depth=2, width=4, padding="same", upsampling=upsampling)
    network.double()  # so that the order of sums does not show
    shape = network.shape
    x = torch.rand(1, 1, 160, 160, dtype=torch.float64)
    whole = network(x)
    top, left, core = 64, 48, 32
    around = (
        slice(top - shape.halo, top + core + shape.halo),
        slice(left - shape.halo, left + core + shape.halo),
    )
    part = network(x[..., around[0], around[1]])[
        ..., shape.halo : -shape.halo, shape.halo : -shape.halo
    ]
    torch.testing.assert_close(part, whole[..., top : top + core, left : left + core])
    moved = network(x[..., around[0].start + 1 : around[0].stop + 1, around[1]])
    different = moved[..., shape.halo - 1 : -shape.halo - 1, shape.halo : -shape.halo]
    assert (different - part).abs().max() > 1e-6, "off the grid it must not be the same"


@pytest.mark.parametrize("kind", ["unet", "encoder-decoder"])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_same_padding__inside_of_a_window_needs_no_padding(upsampling: str, kind: str) -> None:
    """Weights trained with padding, computed without: the window is just as large as it has to."""
    keys = {"depth": 2, "width": 4, "upsampling": upsampling, "kind": kind}
    network = built(padding="same", **keys).double()
    without = built(padding="valid", **keys).double()
    for parameter in network.parameters():
        parameter.data = torch.rand_like(parameter) - 0.4
    without.load_state_dict(network.state_dict())
    shape = network.shape
    x = torch.rand(1, 1, 160, 160, dtype=torch.float64)
    top, left, core, cut = 64, 48, 32, shape.reach - shape.margin
    part = x[
        ...,
        top - shape.reach : top + core + shape.reach,
        left - shape.reach : left + core + shape.reach,
    ]
    found = without(part)[..., cut : cut + core, cut : cut + core]
    torch.testing.assert_close(
        found, network(x)[..., top : top + core, left : left + core], rtol=1e-12, atol=1e-12
    )
    assert without(part).shape[-1] == core + 2 * cut


def test_valid_padding__window_is_the_whole() -> None:
    network = built(depth=2, width=4, padding="valid").double()
    shape = network.shape
    x = torch.rand(1, 1, input_size(100, shape), input_size(100, shape), dtype=torch.float64)
    whole = network(x)
    edge = input_size(40, shape)
    part = network(x[..., 16 : 16 + edge, 8 : 8 + edge])
    size = part.shape[-1]
    torch.testing.assert_close(part, whole[..., 16 : 16 + size, 8 : 8 + size])


def test_transposed__is_a_direct_convolution_of_the_spread_input() -> None:
    """Zeros between and around the values, then a convolution with the flipped kernel."""
    torch.manual_seed(1)
    layer = nn.ConvTranspose2d(3, 2, 2, stride=2).double()
    x = torch.rand(1, 3, 5, 7, dtype=torch.float64)
    nothing = torch.zeros_like(x)
    spread = interleave(x, nothing, nothing, nothing)  # values at even places, zeros elsewhere
    direct = F.conv2d(
        F.pad(spread, (1, 0, 1, 0)), layer.weight.flip(2, 3).transpose(0, 1), layer.bias
    )
    torch.testing.assert_close(layer(x), direct)


def test_unpooling__puts_maxima_back() -> None:
    x = torch.rand(2, 3, 8, 12)
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    layer = Unpooling(3, 3, True)
    torch.testing.assert_close(layer.enlarged(pooled, x), F.max_unpool2d(pooled, indices, 2))
    assert switch(x).shape == pooled.shape


def test_unpooling__valid_uses_the_switches_of_the_middle() -> None:
    x = torch.rand(1, 1, 20, 20)
    inner = torch.ones(1, 1, 4, 4)
    found = Unpooling(1, 1, False).enlarged(inner, x)
    _, indices = F.max_pool2d(x, 2, return_indices=True)
    everything = F.max_unpool2d(torch.ones(1, 1, 10, 10), indices, 2)
    torch.testing.assert_close(found, everything[..., 6:14, 6:14])


def test_encoder_decoder__has_no_skips() -> None:
    """Without skips, nothing of the first level reaches the output but through the pooling."""
    with_skips, without = built(kind="unet"), built(kind="encoder-decoder")
    assert with_skips.decoder[0][0].in_channels == 2 * without.decoder[0][0].in_channels


def test_bilinear__is_that_of_torch_inside() -> None:
    layer = UPSAMPLING["bilinear"](2, 1, False).double()
    x = torch.rand(1, 2, 6, 6, dtype=torch.float64)
    whole = F.interpolate(layer.convolution(x), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(layer(x, x), whole[..., 1:-1, 1:-1])
