"""The conditions of a good segmentation: against slow references, in any tiling and numbering."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops_table

from segpipe.quality.conditions import SMALL, Sums, exact_sum, scores
from segpipe.quality.contrast import BORDER, INSIDE, UNIT, boundary_strength, contrast
from segpipe.tiles import Grid

SHAPE = (61, 83)


def table_of(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """The table of segments as scikit-image measures it."""
    names = ("label", "area", "centroid", "perimeter", "intensity_mean", "intensity_std")
    table = regionprops_table(labels, image, properties=names)
    if image.shape[2] == 1:  # names of a single channel have no number
        for name in ("intensity_mean", "intensity_std"):
            table[f"{name}-0"] = table.pop(name, table.get(f"{name}-0"))
    return table


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = 90 + 60 * np.sin(y / 9)[..., None] * np.cos(x / 7 + np.arange(3)[:, None, None]).T.swapaxes(0, 1)  # fmt: skip
    return np.clip(smooth + rng.normal(0, 9, (*SHAPE, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    rng = np.random.default_rng(2)
    seeds = rng.integers(0, SHAPE, (60, 2))
    places = np.stack(np.mgrid[: SHAPE[0], : SHAPE[1]], -1)
    near = np.abs(places[:, :, None] - seeds).sum(-1).argmin(-1)
    found = np.unique(near, return_inverse=True)[1].reshape(SHAPE) + 1
    found[:9, :14] = 0
    return found.astype(np.uint32)


def test_scores__agree_with_pixels(image: np.ndarray, labels: np.ndarray) -> None:
    """Every score again from the pixels, in plain NumPy."""
    found = scores(Sums.of(table_of(labels, image), SHAPE))
    inside = labels > 0
    pixels = image[inside].astype(float)
    present = np.unique(labels[inside])
    parts = {k: image[labels == k].astype(float) for k in present}
    total = ((pixels - pixels.mean(0)) ** 2).sum()
    within = sum(((p - p.mean(0)) ** 2).sum() for p in parts.values())
    assert found["explained_variation"] == pytest.approx(1 - within / total, rel=1e-9)
    spread = [math.sqrt(p.var(0).sum()) for p in parts.values()]
    assert found["intra_cluster_variation"] == pytest.approx(np.mean(spread), rel=1e-9)
    sizes = np.array([len(p) for p in parts.values()])
    assert found["mean_area"] == pytest.approx(sizes.mean())
    assert found["small_share"] == pytest.approx((sizes < SMALL).mean())
    assert found["largest_share"] == pytest.approx(sizes.max() / sizes.sum())
    assert found["small_pixel_share"] == pytest.approx(sizes[sizes < SMALL].sum() / sizes.sum())
    table = table_of(labels, image)
    ratio = np.minimum(4 * math.pi * table["area"] / table["perimeter"] ** 2, 1)
    assert found["compactness"] == pytest.approx((ratio * table["area"]).sum() / sizes.sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_sums__do_not_depend_on_order_or_batches(seed: int, batches: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    table = {"area": rng.integers(1, 10**9, n), "perimeter": rng.random(n) * 1e5}
    for i in range(3):
        table[f"intensity_mean-{i}"] = rng.normal(0, 1, n) * 10.0 ** rng.integers(-20, 20, n)
        table[f"intensity_std-{i}"] = rng.random(n) * 10.0 ** rng.integers(-20, 20, n)
    for axis in range(2):
        table[f"centroid-{axis}"] = rng.random(n) * (SHAPE[axis] - 1)
    order = rng.permutation(n)
    cuts = np.array_split(order, batches)
    parts = [Sums.of({k: v[c] for k, v in table.items()}, SHAPE) for c in cuts]
    assert scores(reduce(Sums.__add__, parts)) == scores(Sums.of(table, SHAPE))


def test_exact_sum__is_exact() -> None:
    values = np.random.default_rng(0).normal(0, 1, 500) * 10.0 ** np.arange(-250, 250)
    assert exact_sum(values) == sum((Fraction(v) for v in values.tolist()), Fraction(0))
    assert exact_sum(np.zeros(0)) == 0
    assert exact_sum(np.array([-5e-324, 5e-324, -3.5])) == Fraction(-7, 2)
    with pytest.raises(ValueError, match="finite"):
        exact_sum(np.array([1.0, np.nan]))


def test_scores__identities() -> None:
    one = {"area": np.array([50, 50]), "perimeter": np.array([40.0, 40.0]),
           "centroid-0": np.array([2.0, 2.0]), "centroid-1": np.array([2.0, 7.0]),
           "intensity_mean-0": np.array([0.0, 8.0]), "intensity_std-0": np.array([0.0, 0.0])}  # fmt: skip
    found = scores(Sums.of(one, (10, 10)))
    assert found["explained_variation"] == 1.0
    assert found["intra_cluster_variation"] == 0.0
    assert found["evenness"] == 1.0
    blurred = one | {"intensity_mean-0": np.full(2, 3.0), "intensity_std-0": np.full(2, 2.0)}
    assert scores(Sums.of(blurred, (10, 10)))["explained_variation"] == 0.0
    flat = blurred | {"intensity_std-0": np.zeros(2)}
    assert scores(Sums.of(flat, (10, 10)))["explained_variation"] == 1.0
    # all but one segment crowd in a corner that holds 10 % of the pixels
    crowd = {"area": np.array([90, *[1] * 10]), "centroid-0": np.array([9.0, *[0.0] * 10]),
             "centroid-1": np.array([9.0, *[0.0] * 10])}  # fmt: skip
    assert scores(Sums.of(crowd, (10, 10)))["evenness"] == pytest.approx(1 - (10 / 11 - 0.1))


def test_scores__say_what_was_not_measured() -> None:
    found = scores(Sums.of({"area": np.array([4])}, (2, 2)))
    assert found["mean_area"] == 4
    for name in ("explained_variation", "intra_cluster_variation", "compactness", "evenness"):
        assert found[name] is None
    empty = {"area": np.zeros(0, np.int64), "intensity_mean-0": np.zeros(0)}
    assert set(scores(Sums.of(empty, (2, 2))).values()) == {None}


def naive_contrast(
    image: np.ndarray, labels: np.ndarray, background: np.ndarray
) -> list[list[float]]:
    out = [[0, 0.0], [0, 0.0]]
    height, width = labels.shape
    for y, x in itertools.product(range(height), range(width)):
        for v, u in ((y, x + 1), (y + 1, x)):
            if v >= height or u >= width:
                continue
            counts = [labels[p] > 0 or background[p] for p in ((y, x), (v, u))]
            if all(counts) and (labels[y, x] or labels[v, u]):
                step = np.abs(image[y, x].astype(float) - image[v, u].astype(float)).sum()
                if np.isfinite(step):
                    k = BORDER if labels[y, x] != labels[v, u] else INSIDE
                    out[k][0] += 1
                    out[k][1] += step
    return out


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_contrast__agrees_with_a_slow_one(
    image: np.ndarray, labels: np.ndarray, dtype: str, objects: bool
) -> None:
    pixels = image.astype(dtype)
    if dtype == "float32":
        pixels[5:9, 20:30, 1] = np.nan
    background = np.full(SHAPE, objects)
    if objects:
        labels = np.where(labels % 3 == 1, labels, 0)
        background[:, 5:30] = False
    found = contrast(pixels, labels, background=background if objects else None).astype(float)
    found[:, 1] /= UNIT if dtype == "float32" else 1
    np.testing.assert_array_equal(found, naive_contrast(pixels, labels, background))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_contrast__is_the_same_in_any_tiling_and_numbering(
    rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, SHAPE).repeat(1)
    labels = labels.reshape(SHAPE)
    names = rng.permutation(1000)[:4] + 1
    names[0] = 0
    total = np.zeros((2, 2), np.int64)
    for tile in Grid(SHAPE, (rows, columns)).tiles(1):
        window = (slice(tile.core.start[0], tile.window.stop[0]), slice(tile.core.start[1], tile.window.stop[1]))  # fmt: skip
        total += contrast(image[window], names[labels][window], tile.core.shape)
    np.testing.assert_array_equal(total, contrast(image, labels))


def test_boundary_strength__known_values() -> None:
    assert boundary_strength(np.array([[2, 20], [4, 8]])) == 5.0
    assert boundary_strength(np.array([[0, 0], [4, 8]])) is None
    assert boundary_strength(np.array([[2, 20], [4, 0]])) is None


def test_scores__rise_with_a_better_segmentation(image: np.ndarray, labels: np.ndarray) -> None:
    """Borders that follow the image explain more of it than the same borders moved."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    quarters = (1 + (y >= 30) * 2 + (x >= 40)).astype(np.uint32)
    painted = (quarters * 50)[..., None].astype(np.uint8) + (image % 8)
    moved = np.roll(quarters, 9, (0, 1))
    good, bad = (scores(Sums.of(table_of(q, painted), SHAPE)) for q in (quarters, moved))
    assert good["explained_variation"] > bad["explained_variation"]
    strong, weak = (boundary_strength(contrast(painted, q)) for q in (quarters, moved))
    assert strong > 3 > weak
