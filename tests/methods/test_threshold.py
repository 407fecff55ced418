"""Threshold classes against scikit-image, brute force and sums by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters, measure

from segpipe.methods.components import components
from segpipe.methods.threshold import Threshold, otsu_levels, threshold
from segpipe.methods.threshold_kernels import otsu_bins
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.stage_plans import build_method


def photo(seed: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((70, 83)), 3)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    modes = 0.2 * smooth + 0.7 * (smooth > 0.55) + 0.05 * rng.random(smooth.shape)
    return (modes * {"uint8": 255, "uint16": 40_000}.get(dtype, 3.0)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("seed", range(6))
def test_otsu__as_scikit_image(seed: int, dtype: str) -> None:
    image = photo(seed, dtype)
    assert otsu_levels(image)[0] == filters.threshold_otsu(image)


def within(counts: np.ndarray, cuts: tuple[int, ...]) -> float:
    """Sum of squared distances from the means of the classes."""
    values = np.arange(len(counts))
    total = 0.0
    for a, b in itertools.pairwise((-1, *cuts, len(counts) - 1)):
        n, v = counts[a + 1 : b + 1], values[a + 1 : b + 1]
        if n.sum():
            total += (n * (v - (n * v).sum() / n.sum()) ** 2).sum()
    return total


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(12))
def test_otsu_bins__are_the_best_of_all_cuts(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, 16) * (rng.random(16) < 0.8)
    found = tuple(otsu_bins(counts, classes))
    best = min(within(counts, cuts) for cuts in itertools.combinations(range(15), classes - 1))
    assert within(counts, found) == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert list(found) == sorted(set(found))


def test_multi_otsu__as_scikit_image() -> None:
    image = photo(3)
    levels = otsu_levels(image, 4)
    peer = filters.threshold_multiotsu(image, 4)
    counts = np.bincount(image.ravel(), minlength=256)
    ours, theirs = (within(counts, tuple(int(v) for v in x)) for x in (levels, peer))
    assert ours <= theirs * (1 + 1e-9)


def test_otsu__of_floats_is_near_that_of_finer_bins() -> None:
    image = photo(1, "float32") - 7
    assert otsu_levels(image)[0] == pytest.approx(
        filters.threshold_otsu(image, nbins=4096), abs=0.2
    )
    parts = image > otsu_levels(image)[0]
    fine = image > filters.threshold_otsu(image, nbins=4096)
    assert (parts == fine).mean() > 0.995


@pytest.mark.parametrize("connectivity", [1, 2])
def test_segments__are_the_components_of_the_classes(connectivity: int) -> None:
    image = photo(2)
    classes = np.digitize(image, otsu_levels(image, 3), right=True).astype(np.uint8)
    found = threshold(image, classes=3, connectivity=connectivity)
    np.testing.assert_array_equal(found, components(classes, connectivity, background=None))
    dropped = threshold(image, classes=3, connectivity=connectivity, background=1)
    expected = components(classes, connectivity, background=1)
    np.testing.assert_array_equal(dropped, expected)


@pytest.mark.parametrize("offset", [0, -3, 2.5])
@pytest.mark.parametrize("radius", [1, 4, 200])
def test_local__compares_with_the_mean_of_the_square(radius: int, offset: float) -> None:
    rng = np.random.default_rng(radius)
    image = rng.integers(0, 256, (21, 26), np.uint8)
    mask = rng.random(image.shape) < 0.8
    expected = np.zeros(image.shape, np.uint8)
    for y, x in np.argwhere(mask):
        box = (slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1))
        known = image[box][mask[box]].astype(int)
        expected[y, x] = 1 + ((int(image[y, x]) + offset) * len(known) > known.sum())
    found = threshold(image, "local", radius=radius, offset=offset, mask=mask)
    np.testing.assert_array_equal(found, components(expected))


def test_local__as_scikit_image_away_from_the_border() -> None:
    image = photo(5)
    peer = image > filters.threshold_local(image, 11, method="mean", offset=4)
    found = threshold(image, "local", radius=5, offset=4, background=0)
    inner = (slice(5, -5), slice(5, -5))
    np.testing.assert_array_equal((found > 0)[inner], peer[inner])


def test_local__of_floats_follows_the_values() -> None:
    image = photo(4).astype(np.float32) / 3
    peer = image > filters.threshold_local(image, 11, method="mean")
    found = threshold(image, "local", radius=5, background=0)
    inner = (slice(5, -5), slice(5, -5))
    assert ((found > 0)[inner] == peer[inner]).mean() > 0.999


def test_fixed__counts_the_levels_below() -> None:
    image = np.array([[1.0, 2.0, 2.5, np.nan, 9.0]], np.float32)
    assert threshold(image, "fixed", levels=[1, 2]).tolist() == [[1, 2, 3, 0, 4]]
    assert threshold(image, "fixed", levels=[2.5]).tolist() == [[1, 1, 1, 0, 2]]


def test_channels__luminance_one_or_mean() -> None:
    rgb = np.zeros((1, 3, 3), np.uint8)
    rgb[0, 0, 0], rgb[0, 1, 1], rgb[0, 2, 2] = 255, 255, 255  # 76, 149, 29
    assert threshold(rgb, "fixed", levels=[50, 100]).tolist() == [[1, 2, 3]]
    assert threshold(rgb, "fixed", levels=[100], channel=2).tolist() == [[1, 1, 2]]
    bands = np.array([[[1, 2], [2, 3], [9, 9]]], np.uint16)
    assert threshold(bands, "fixed", levels=[2]).tolist() == [[1, 2, 2]]


def test_table__says_the_class_of_every_segment() -> None:
    image = photo(6)[..., None]
    method = Threshold(classes=3)
    info = ImageInfo(image.shape[:2], 1, "uint8")
    expected = np.digitize(image[..., 0], otsu_levels(image, 3), right=True)
    for size in (image.shape[:2], (31, 40)):
        arrays, tables = run_in_memory(method.passes(info), {"image": image}, size)
        columns = tables["segments"]
        told = dict(zip(columns["label"].tolist(), columns["class"].tolist(), strict=True))
        labels = arrays["labels"]
        assert sorted(told) == list(range(1, labels.max() + 1))
        assert all((expected[labels == label] == told[label]).all() for label in told)


def test_constant_and_tiny_images__have_one_class() -> None:
    for image in (np.full((5, 7), 9, np.uint8), np.full((5, 7), 0.5, np.float32)):
        assert (threshold(image) == 1).all()
        assert otsu_levels(image).size == 0
        assert (threshold(image, "local") == 1).all()
    assert threshold(np.zeros((1, 1), np.uint8)).tolist() == [[1]]
    assert (threshold(np.full((3, 3), np.nan, np.float32)) == 0).all()
    assert (threshold(photo(0), mask=np.zeros((70, 83), bool)) == 0).all()


def test_foreground__is_what_users_of_scikit_image_get() -> None:
    image = photo(7)
    peer = measure.label(image > filters.threshold_otsu(image), connectivity=2)
    assert threshold(image, background=0, connectivity=2).max() == peer.max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "mean"}, "rule must be otsu, local or fixed"),
        ({"classes": 1}, "classes must be 2 to 16, got 1"),
        ({"rule": "local", "radius": 0}, "radius must be 1 to 1024"),
        ({"rule": "fixed"}, "needs 1 to 254 levels"),
        ({"rule": "fixed", "levels": [3, 2]}, "must ascend"),
        ({"levels": [3]}, "levels belong to rule: fixed"),
        ({"rule": "fixed", "levels": [-1, 9, 255]}, r"0 to 254 .* uint8, got \[-1, 255\]"),
        ({"background": 2}, "background must be a class, 0 to 1"),
        ({"connectivity": 8}, "connectivity must be 1 to 2"),
        ({"channel": 1}, "channel must be 0 to 0"),
        ({"offset": float("inf")}, "offset must be a number"),
    ],
)
def test_errors__name_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold(np.zeros((3, 3), np.uint8), **options)


def test_wide_integers__are_refused() -> None:
    with pytest.raises(ValueError, match="up to 16 bits"):
        threshold(np.zeros((2, 2), np.int32))


def test_yaml_lists__become_levels() -> None:
    assert build_method("threshold", {"rule": "fixed", "levels": [1, 2]}).levels == (1.0, 2.0)
