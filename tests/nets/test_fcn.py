"""A converted classifier is the classifier, everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segpipe.nets.fcn import FCN, bilinear, convolutional


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    head = nn.Sequential(nn.Linear(8 * 5 * 5, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 4))
    return nn.Sequential(features, nn.Flatten(), head).double().eval()


def test_convolutional__training_size_is_the_classifier() -> None:
    network = classifier()
    converted = convolutional(network, (8, 5, 5)).double().eval()
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(converted(x)[..., 0, 0], network(x))


def test_convolutional__larger_image_is_the_classifier_at_each_stride() -> None:
    network = classifier()
    converted = convolutional(network, (8, 5, 5)).double().eval()
    x = torch.rand(1, 1, 28 + 4 * 3, 28 + 4 * 2, dtype=torch.float64)
    scores = converted(x)
    assert scores.shape == (1, 4, 4, 3)
    for row in range(4):
        for column in range(3):
            window = x[..., 4 * row : 4 * row + 28, 4 * column : 4 * column + 28]
            torch.testing.assert_close(scores[..., row, column], network(window))


def test_convolutional__copies() -> None:
    network = classifier()
    before = network[2][0].weight.clone()
    convolutional(network, (8, 5, 5))[6].weight.data.zero_()
    assert torch.equal(network[2][0].weight, before)


@pytest.mark.parametrize(
    ("layers", "features", "message"),
    [
        ([nn.Conv2d(1, 2, 3)], (2, 1, 1), "no nn.Flatten"),
        ([nn.Flatten(), nn.Linear(10, 2)], (2, 2, 2), "takes 10 values"),
        ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)], (2, 4, 4), "nn.AvgPool2d"),
    ],
)
def test_convolutional__refuses(
    layers: list[nn.Module], features: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convolutional(nn.Sequential(*layers), features)


def test_bilinear__interpolates() -> None:
    x = torch.rand(1, 2, 6, 7)
    for factor in (2, 3, 4, 8):
        wanted = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        found = bilinear(2, factor)(x)
        inside = (..., slice(factor, -factor), slice(factor, -factor))
        assert found.shape == wanted.shape
        torch.testing.assert_close(found[inside], wanted[inside])


def stages() -> list[nn.Module]:
    torch.manual_seed(0)

    def down(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    return [down(1, 4), down(4, 8), nn.Sequential(down(8, 8), nn.Conv2d(8, 3, 1))]


@pytest.mark.parametrize("fused", [0, 1, 2])
def test_fcn__output_has_the_size_of_the_image(fused: int) -> None:
    network = FCN(stages(), (4, 8, 3), (2, 4, 8), fused)
    assert network(torch.rand(2, 1, 32, 40)).shape == (2, 3, 32, 40)
    assert network(torch.rand(1, 1, 37, 29)).shape == (1, 3, 37, 29)


def test_fcn__fusion_begins_from_the_coarser_result() -> None:
    """Inside, where interpolation in one step and in two agree about a linear map."""
    x = torch.rand(1, 1, 64, 64)
    coarse, fine = (FCN(stages(), (4, 8, 3), (2, 4, 8), fused) for fused in (0, 2))
    assert F.cosine_similarity(coarse(x).flatten(), fine(x).flatten(), 0) > 0.99


def test_fcn__fine_tuning_learns_what_coarse_scores_cannot_say() -> None:
    """Spots much smaller than the coarse stride: skip fusion brings the loss down."""
    torch.manual_seed(0)
    x = torch.rand(1, 1, 16, 16).round().repeat_interleave(2, 2).repeat_interleave(2, 3)
    truth = x[:, 0].long()
    losses = []
    for fused in (0, 2):
        network = FCN(stages(), (4, 8, 3), (2, 4, 8), fused)
        optimiser = torch.optim.Adam(network.parameters(), 0.03)
        for _ in range(30):
            found = F.cross_entropy(network(x), truth)
            optimiser.zero_grad()
            found.backward()
            optimiser.step()
        losses.append(float(found.detach()))
    assert losses[1] < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("channels", "strides", "fused", "message"),
    [
        ((4, 8), (2, 4, 8), 0, "same number"),
        ((4, 8, 3), (2, 4, 8), 3, "fused must be 0 to 2"),
        ((4, 8, 3), (2, 3, 8), 1, "multiple"),
    ],
)
def test_fcn__refuses(
    channels: tuple[int, ...], strides: tuple[int, ...], fused: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FCN(stages(), channels, strides, fused)
