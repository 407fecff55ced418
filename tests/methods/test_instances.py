"""Objects from fields: the watershed that exists, with what does not count left out; on tiles too."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from segpipe.methods.instances import Rule, instance_passes, instances
from segpipe.methods.instances_kernels import LEVELS
from segpipe.methods.watershed import watershed
from segpipe.nets.grouping import object_planes
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.regions.finish import label_pass

RULES = (
    Rule(depth=(3,), dynamics=90, marker=110, border=2, border_share=128, min_size=12),
    Rule(depth=(3,), dynamics=20, marker=60),
    Rule(depth=(1,), dynamics=1, marker=1, min_size=3),
    Rule(depth=(1, 3), dynamics=255, marker=128, min_size=40, min_score=100),
)


def fields(seed: int, shape: tuple[int, int] = (150, 170)) -> np.ndarray:
    """Outputs of a network that is not sure: blobs that meet, noise, and a hole without pixels."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 6)
    inside = np.clip(0.5 + smooth * 9 + rng.normal(0, 0.03, shape), 0, 1)
    depth = np.clip(inside - 0.3 + gaussian_filter(rng.normal(size=shape), 2), 0, 1)
    border = np.clip(gaussian_filter(rng.normal(size=shape), 2) * 3, 0, 1) * inside
    planes = np.stack([1 - inside, inside - border, border, depth], axis=2)
    out = np.round(255 * planes).astype(np.uint8)
    out[20:40, 60:75] = 0
    return out


def by_watershed(given: np.ndarray, rule: Rule) -> np.ndarray:
    """The same by the method `watershed`, step by step."""
    planes = given.astype(int)
    altitude = LEVELS - planes[..., list(rule.depth)].max(axis=2)
    if rule.border is not None:
        altitude += planes[..., rule.border] * rule.border_share >> 8
    inside = (LEVELS - planes[..., 0] >= rule.foreground) & (planes[..., 1:].max(axis=2) > 0)
    found = watershed(
        (64 * altitude).astype(np.uint16), altitude="image", sigma=0, markers="minima",
        h=64 * rule.dynamics, mask=inside,
    )  # fmt: skip
    for number in range(1, int(found.max()) + 1):
        mine = found == number
        score = planes[..., list(rule.classes)][mine].sum(axis=0).max()
        deep = altitude[mine].min() <= LEVELS - rule.marker
        if not deep or mine.sum() < rule.min_size or score < rule.min_score * mine.sum():
            found[mine] = 0
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", [0, 1])
def test_instances__is_the_watershed(rule: Rule, seed: int) -> None:
    given = fields(seed)
    labels = instances(given, rule)
    assert labels.max() > 2
    np.testing.assert_array_equal(labels, by_watershed(given, rule))


@pytest.mark.parametrize("rule", RULES)
def test_instances__tiled_is_whole(rule: Rule) -> None:
    given = fields(2)
    whole = instances(given, rule)
    info = ImageInfo(given.shape[:2], 4, "uint8")
    rng = np.random.default_rng(3)
    for _ in range(3):
        size = tuple(int(n) for n in rng.integers(16, 90, 2))
        tiles = int(np.prod([-(-n // s) for n, s in zip(given.shape, size, strict=False)]))
        found, _ = run_in_memory(
            (*instance_passes(rule), label_pass(info)), {"image": given, "fields": given},
            size=size, order=rng.permutation(tiles),
        )  # fmt: skip
        np.testing.assert_array_equal(found["labels"], whole, err_msg=f"tiles {size}")


def test_instances__two_peaks_are_two_objects_if_both_rise() -> None:
    depth = np.array([[0, 100, 200, 150, 230, 90, 0]], np.uint8)
    inside = np.where(depth > 0, 255, 0).astype(np.uint8)
    given = np.stack([255 - inside, inside, depth], axis=2)
    for dynamics, wanted in ((50, 2), (51, 1)):
        rule = Rule(depth=(2,), dynamics=dynamics, marker=150)
        assert instances(given, rule).max() == wanted
    assert instances(given, Rule(depth=(2,), dynamics=50, marker=201)).max() == 1
    assert instances(given, Rule(depth=(2,), dynamics=50, marker=231)).max() == 0


def test_object_planes__borders_are_no_objects() -> None:
    assert object_planes(("background", "interior", "border")) == (1,)
    assert object_planes(("background", "a", "b")) == (1, 2)
