"""Objects from outputs: markers, watershed, sizes."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.nets.card import Architecture, Channel, Grouping, ModelCard
from segpipe.nets.grouping import group_instances, quantised


def card(distance: bool = True, **grouping: float) -> ModelCard:
    return ModelCard(
        name="cells",
        architecture=Architecture(out_channels=3 + distance),
        classes=("background", "interior", "border"),
        distance=distance,
        channels=(Channel(name="DAPI"),),
        grouping=Grouping(**grouping),
    )


def discs(
    *centres: tuple[int, int], radius: int = 8, shape: tuple[int, int] = (40, 60)
) -> np.ndarray:
    """Outputs of a perfect network: touching discs, deep in their middles."""
    y, x = np.indices(shape)
    away = np.array([np.hypot(y - b, x - a) for b, a in centres]).min(axis=0)
    depth = np.clip(1 - away / radius, 0, 1).astype(np.float32)
    inside = (away < radius).astype(np.float32)
    border = inside * (away > radius - 2)
    return np.stack([1 - inside, inside - border, border, depth], axis=2)


@pytest.mark.parametrize("distance", [True, False])
def test_group__touching_discs(distance: bool) -> None:
    outputs = discs((20, 15), (20, 29), (20, 45))[..., : 3 + distance]
    labels = group_instances(outputs, card(distance))
    assert labels.max() == 3
    assert labels[20, 15] != labels[20, 29] != labels[20, 45]
    assert np.array_equal(labels > 0, outputs[..., 0] < 0.5)
    first = [np.flatnonzero(labels.ravel() == n)[0] for n in (1, 2, 3)]
    assert first == sorted(first), "numbered by first pixel"


def test_group__is_the_same_of_255ths() -> None:
    rng = np.random.default_rng(0)
    outputs = discs((20, 15), (20, 29)) * rng.uniform(0.9, 1, (40, 60, 1)).astype(np.float32)
    assert np.array_equal(
        group_instances(outputs, card()), group_instances(quantised(outputs), card())
    )


def test_group__small_and_shallow_objects_go() -> None:
    outputs = discs((20, 15)) + 0
    outputs[2:4, 40:42] = (0, 1, 0, 1)
    assert group_instances(outputs, card()).max() == 2
    assert group_instances(outputs, card(min_size=5)).max() == 1
    outputs[2:4, 40:42, 3] = 0.4
    assert group_instances(outputs, card()).max() == 1
    assert group_instances(outputs, card(marker=0.3)).max() == 2
    assert group_instances(outputs, card(min_size=10_000)).max() == 0


def test_group__nothing_there() -> None:
    outputs = np.zeros((5, 6, 4), np.float32)
    outputs[..., 0] = 1
    assert not group_instances(outputs, card()).any()


def test_group__classes_only() -> None:
    classes = ModelCard(name="a", classes=("background", "vessel"), channels=(Channel(name="g"),))
    with pytest.raises(ValueError, match="finds classes, not objects"):
        group_instances(np.zeros((4, 4, 2)), classes)
