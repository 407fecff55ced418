"""Region growing against scikit-image's flood and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import flood

from segpipe.methods.components import components
from segpipe.methods.region_growing import RegionGrowing, region_growing
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.stage_plans import build_method


def texture(seed: int, channels: int = 1, shape: tuple[int, int] = (47, 58)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((*shape, channels)), (2, 2, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * 60 + rng.integers(0, 3, smooth.shape)).astype(np.uint8)


def reached(image, seed, tolerance, connectivity, rule, inside):
    """What one seed reaches, pixel by pixel."""
    found = np.zeros(inside.shape, bool)
    if not inside[seed]:
        return found
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    found[seed] = True
    todo = [seed]
    while todo:
        y, x = todo.pop()
        for dy, dx in steps[: 4 * connectivity]:
            q = y + dy, x + dx
            if not (0 <= q[0] < inside.shape[0] and 0 <= q[1] < inside.shape[1]):
                continue
            model = image[seed] if rule == "seed" else image[y, x]
            near = np.abs(image[q].astype(int) - model).max() <= tolerance
            if inside[q] and near and not found[q]:
                found[q] = True
                todo.append(q)
    return found


def expected(image, seeds, tolerance, connectivity, rule, inside):
    owner = np.zeros(inside.shape, np.int32)
    for number, seed in reversed(list(enumerate(seeds))):
        owner[reached(image, seed, tolerance, connectivity, rule, inside)] = number + 1
    return components(owner, connectivity)


@pytest.mark.parametrize("rule", ["seed", "neighbour"])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_regions__are_what_the_seeds_reach(seed: int, connectivity: int, rule: str) -> None:
    rng = np.random.default_rng(seed)
    image = texture(seed, 1 + 2 * (seed % 2))
    inside = rng.random(image.shape[:2]) < 0.95
    seeds = [tuple(int(v) for v in rng.integers(0, image.shape[:2])) for _ in range(7)]
    tolerance = 7 if rule == "seed" else 1 + seed % 3
    wanted = expected(image, seeds, tolerance, connectivity, rule, inside)
    found = region_growing(
        image, seeds, tolerance, rule=rule, connectivity=connectivity, mask=inside
    )
    np.testing.assert_array_equal(found, wanted)
    method = RegionGrowing(tolerance, rule, tuple(seeds), connectivity=connectivity)
    info = ImageInfo(image.shape[:2], image.shape[2], "uint8", masked=True)
    for size in ((20, 20), (13, 31)):
        arrays = {"image": image, "mask": inside.view(np.uint8)}
        tiled, _tables = run_in_memory(method.passes(info), arrays, size)
        np.testing.assert_array_equal(tiled["labels"], wanted)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_one_seed__as_scikit_image(connectivity: int) -> None:
    image = texture(11)[..., 0]
    peer = flood(image, (20, 30), tolerance=12, connectivity=connectivity)
    found = region_growing(image, [(20, 30)], 12, rule="seed", connectivity=connectivity)
    np.testing.assert_array_equal(found > 0, peer)
    assert found.max() == 1


def test_region__winds_through_many_tiles() -> None:
    image = np.zeros((40, 40), np.uint8)
    image[1::4] = 200
    image[1::8, -1] = 0  # a serpentine
    image[5::8, 0] = 0
    found = region_growing(image, [(0, 0)], 0)
    np.testing.assert_array_equal(found > 0, image == 0)
    method = RegionGrowing(0, seeds=((0, 0),))
    info = ImageInfo((40, 40), 1, "uint8")
    tiled, _tables = run_in_memory(method.passes(info), {"image": image[..., None]}, (7, 6))
    np.testing.assert_array_equal(tiled["labels"], found)


@pytest.mark.parametrize("step", [5, 16, 100])
def test_automatic_seeds__lie_at_the_calmest_pixels(step: int) -> None:
    image = texture(3, 3)
    inside = np.random.default_rng(1).random(image.shape[:2]) < 0.9
    seeds = []
    for top in range(0, image.shape[0], step):
        for left in range(0, image.shape[1], step):
            best = None
            for y in range(top, min(top + step, image.shape[0])):
                for x in range(left, min(left + step, image.shape[1])):
                    if inside[y, x]:
                        around = [
                            np.abs(image[q].astype(int) - image[y, x])
                            for q in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                            if 0 <= q[0] < image.shape[0] and 0 <= q[1] < image.shape[1] and inside[q]
                        ]  # fmt: skip
                        g = int(np.max(around, axis=0).sum()) if around else 0
                        best = min(best, (g, y, x)) if best else (g, y, x)
            if best:
                seeds.append(best[1:])
    found = region_growing(image, (), 4, step=step, mask=inside)
    np.testing.assert_array_equal(found, region_growing(image, seeds, 4, mask=inside))
    assert found.max() > 0


def test_table__says_the_seed() -> None:
    image = np.array([[[10], [11], [90], [91]]], np.uint8)
    method = RegionGrowing(2, seeds=((0, 3), (0, 0)))
    _arrays, tables = run_in_memory(method.passes(ImageInfo((1, 4), 1, "uint8")), {"image": image})
    assert tables["segments"]["label"].tolist() == [1, 2]
    assert tables["segments"]["seed"].tolist() == [1, 0]


def test_masked_seed__grows_nothing() -> None:
    image = np.zeros((3, 4), np.uint8)
    mask = np.ones((3, 4), bool)
    mask[1, 1] = False
    for rule in ("seed", "neighbour"):
        assert not region_growing(image, [(1, 1)], 5, rule=rule, mask=mask).any()
    nan = np.full((3, 4), np.nan, np.float32)
    assert not region_growing(nan).any()


def test_one_pixel() -> None:
    assert region_growing(np.zeros((1, 1), np.uint8)).tolist() == [[1]]
    assert region_growing(np.zeros((1, 1), bool), [(0, 0)], rule="seed").tolist() == [[1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1}, "tolerance must be 0 or more"),
        ({"rule": "mean"}, "rule must be"),
        ({"rule": "seed"}, "needs 1 to 256 seeds, got 0"),
        ({"seeds": [(3, 0)]}, "outside the image of 3 rows and 3 columns"),
        ({"seeds": [(0, -1)]}, "outside the image"),
        ({"step": 1}, "step must be 2 to 512"),
        ({"connectivity": 8}, "connectivity must be"),
        ({"channel": 2}, "channel must be 0 to 0"),
    ],
)
def test_errors__name_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        region_growing(np.zeros((3, 3), np.uint8), **options)


def test_yaml_lists__become_seeds() -> None:
    assert build_method("region-growing", {"seeds": [[1, 2]]}).seeds == ((1, 2),)
