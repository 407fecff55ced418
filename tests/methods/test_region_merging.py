"""Region merging against a slow, obvious one written from the rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.measure import label

from segpipe import colour
from segpipe.methods.region_merging import RegionMerging, region_merging
from segpipe.methods.slic import slic
from segpipe.passes import ImageInfo, run_in_memory


def slow(image: np.ndarray, segments: np.ndarray, threshold: float) -> np.ndarray:
    """Merge the pair of least (floor of mean contrast, largest pixel pair) until none is below."""
    planes = colour.planes(image, 8, None).astype(np.int64)
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    height, width = segments.shape
    for y in range(height):
        for x in range(width):
            for down, (v, u) in enumerate(((y, x + 1), (y + 1, x))):
                if v < height and u < width and segments[y, x] and segments[v, u]:
                    ends = tuple(sorted((int(segments[y, x]), int(segments[v, u]))))
                    square = int(((planes[:, y, x] - planes[:, v, u]) ** 2).sum())
                    index = 2 * (y * width + x) + down
                    if ends[0] != ends[1]:
                        pairs.setdefault(ends, []).append((math.isqrt(square), index))
    labels = segments.astype(np.int64)
    while pairs:
        keys = {
            ends: ((sum(d for d, _ in seen) << 20) // len(seen), max(i for _, i in seen))
            for ends, seen in pairs.items()
        }
        a, b = min(keys, key=lambda ends: keys[ends])
        if keys[a, b][0] > int(threshold * 8 * 2**20):
            break
        labels[labels == b] = a
        merged: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for ends, seen in pairs.items():
            ends = tuple(sorted(a if end == b else end for end in ends))
            if ends[0] != ends[1]:
                merged.setdefault(ends, []).extend(seen)
        pairs = merged
    found, first = np.unique(labels[labels > 0], return_index=True)
    table = np.zeros(labels.max() + 1, np.uint32)
    table[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return table[labels]


def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:44, :52]
    waves = np.stack([np.sin(x / 7) * 90 + 120, np.cos(y / 5) * 90 + 120, x + y], axis=2)
    return {
        "constant": np.full((44, 52, 3), 70, np.uint8),
        "two-level": np.repeat(np.where(x < 25, 50, 54)[..., None], 3, axis=2).astype(np.uint8),
        "noise": rng.integers(0, 256, (44, 52, 3), dtype=np.uint8),
        "waves": (waves + rng.integers(0, 9, waves.shape)).astype(np.uint8),
    }


@pytest.mark.parametrize("picture", pictures())
@pytest.mark.parametrize("threshold", [0, 2.5, 8, 60])
@pytest.mark.parametrize("squares", [False, True])
def test_region_merging__equals_the_slow_one(picture: str, threshold: float, squares: bool) -> None:
    image = pictures()[picture]
    segments = slic(image, step=5, iterations=2)
    if squares:  # equal interfaces everywhere: ties
        y, x = np.mgrid[:44, :52]
        segments = (y // 4 * 13 + x // 4 + 1).astype(np.uint32)
    segments[10:14, 10:30] = 0  # what this cuts in two is two segments
    segments = label(segments, background=0, connectivity=2).astype(np.uint32)
    expected = slow(image, segments, threshold)
    np.testing.assert_array_equal(region_merging(image, segments, threshold=threshold), expected)


@pytest.mark.parametrize("seed", range(8))
def test_region_merging__any_tiles_any_segments(seed: int) -> None:
    """Segments of a few pixels, long ones across many tiles, gaps; tiles down to 5 pixels."""
    rng = np.random.default_rng(seed)
    image = (rng.random((61, 47, 1)) * [90, 60, 30]).astype(np.uint8)
    values = rng.integers(0, 2 + seed // 2, (61, 47))
    values[:, 20] = 50
    values[30] = 51
    segments = label(values, connectivity=1 + seed % 2).astype(np.uint32)
    arrays = {"image": image, "segments": segments}
    method = RegionMerging(threshold=rng.integers(1, 20))
    passes = method.passes(ImageInfo((61, 47), 3, "uint8", rgb=True))
    whole = run_in_memory(passes, arrays)[0]["labels"]
    for _ in range(6):
        size = tuple(int(n) for n in rng.integers(5, 30, 2))
        found = run_in_memory(passes, arrays, size=size)[0]["labels"]
        np.testing.assert_array_equal(found, whole, err_msg=f"tiles {size}")


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_region_merging__scales_other_images_by_their_range(dtype: str) -> None:
    values = np.repeat([[0, 10, 1000]], 4, axis=0).repeat(3, axis=1).astype(dtype)
    segments = np.repeat([[1, 2, 3]], 4, axis=0).repeat(3, axis=1)
    assert region_merging(values, segments).max() == 2


@pytest.mark.parametrize(
    ("segments", "threshold", "message"),
    [
        (np.ones((4, 5), int), -1, "threshold must be 0 to 200, got -1"),
        (np.ones((4, 4), int), 3, "of the shape \\(4, 5\\) of the image, got int64 of \\(4, 4\\)"),
        (np.ones((4, 5)), 3, "segments must be integers"),
        (-np.ones((4, 5), int), 3, "segments must be 0 or more, got -1"),
    ],
)
def test_region_merging__says_what_is_wrong(
    segments: np.ndarray, threshold: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        region_merging(np.zeros((4, 5, 3), np.uint8), segments, threshold=threshold)


def best_fitting(image, segments, criterion, scale, shape, compactness, rounds):
    """Unite mutual best pairs, with costs taken from the pixels of every union anew."""
    planes = np.moveaxis(colour.planes(image, 8, None), 0, 2) / 8
    labels = segments.astype(int)

    def heterogeneity(mask):
        n, colours = int(mask.sum()), planes[mask]
        if criterion == "ward":
            return ((colours - colours.mean(axis=0)) ** 2).sum()
        framed = np.pad(mask, 1)
        border = sum((framed != np.roll(framed, 1, axis)).sum() for axis in (0, 1))
        y, x = np.nonzero(mask)
        box = 2 * (np.ptp(y) + np.ptp(x) + 2)
        form = compactness * border * n**0.5 + (1 - compactness) * n * border / box
        return (1 - shape) * n * colours.std(axis=0).sum() + shape * form

    for _ in range(rounds or 99):
        names = np.unique(labels[labels > 0])
        alone = {a: heterogeneity(labels == a) for a in names}
        pairs = {
            tuple(sorted(p)) for p in zip(labels[:, 1:].flat, labels[:, :-1].flat, strict=True)
        }
        pairs |= {tuple(sorted(p)) for p in zip(labels[1:].flat, labels[:-1].flat, strict=True)}
        costs = {
            (a, b): heterogeneity((labels == a) | (labels == b)) - alone[a] - alone[b]
            for a, b in pairs
            if a > 0 and a != b
        }
        best = {
            a: min((c, p) for p, c in costs.items() if a in p)[1]
            for a in names
            if any(a in p for p in costs)
        }
        united = [p for p, c in costs.items() if best[p[0]] == best[p[1]] == p and c < scale**2]
        for a, b in united:
            labels[labels == b] = a
        if not united:
            return labels
    return labels


@pytest.mark.parametrize("criterion", ["baatz", "ward"])
@pytest.mark.parametrize(("scale", "rounds"), [(40, 0), (60, 2)])
def test_best_fitting__equals_the_slow_one(criterion: str, scale: float, rounds: int) -> None:
    image = pictures()["waves"][:30, :36]
    segments = slic(image, step=6, iterations=2)
    segments[8:11, 9:20] = 0
    segments = label(segments, background=0, connectivity=1).astype(np.uint32)
    expected = best_fitting(image, segments, criterion, scale, 0.3, 0.6, rounds)
    form = {"shape": 0.3, "compactness": 0.6} if criterion == "baatz" else {}
    parameters = {"scale": scale, "rounds": rounds, **form}
    found = region_merging(image, segments, criterion=criterion, **parameters)  # type: ignore[arg-type]
    assert 1 < found.max() < segments.max()
    pairs = np.unique(np.stack([found, expected], axis=-1).reshape(-1, 2), axis=0)
    assert len(pairs) == len(np.unique(found)) == len(np.unique(expected))
    method = RegionMerging(criterion=criterion, **parameters)  # type: ignore[arg-type]
    passes = method.passes(ImageInfo((30, 36), 3, "uint8", rgb=True))
    arrays = {"image": image, "segments": segments}
    for size in ((7, 9), (30, 11)):
        tiled = run_in_memory(passes, arrays, size=size)[0]["labels"]
        np.testing.assert_array_equal(tiled, found, err_msg=f"tiles {size}")
