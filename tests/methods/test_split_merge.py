"""Split and merge against a recursion and a greedy loop written from the rules."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import ndimage

from segpipe.methods.components import components
from segpipe.methods.split_merge import SplitMerge, split_merge
from segpipe.methods.split_merge_kernels import leaves
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.regions.agglomerate import agglomerate, summed
from segpipe.regions.graph import Interfaces
from segpipe.stage_plans import build_method


def texture(seed: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(16, 34, 2))
    smooth = ndimage.gaussian_filter(rng.random((*shape, channels)), (3, 3, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    levels = (4, 12, 255)[seed % 3]
    return (np.floor(smooth * levels) * (255 // levels) + rng.integers(0, 3, smooth.shape)).astype(np.uint8)  # fmt: skip


def split(image, valid, top, left, side, deviation, found):
    """Collect the leaves of a block: (top, left, side, mean in 1/16 per channel)."""
    box = (slice(top, top + side), slice(left, left + side))
    pixels = image[box][valid[box]].astype(object)
    n = len(pixels)
    if n == 0:
        return
    sums = [sum(int(v) for v in pixels[:, c]) for c in range(image.shape[2])]
    squares = [sum(int(v) ** 2 for v in pixels[:, c]) for c in range(image.shape[2])]
    limit = n * n * Fraction(deviation) ** 2
    if side == 1 or all(n * q - s * s <= limit for q, s in zip(squares, sums, strict=True)):
        found.append((top, left, side, [(32 * s + n) // (2 * n) for s in sums]))
        return
    half = side // 2
    for dy in (0, half):
        for dx in (0, half):
            if top + dy < image.shape[0] and left + dx < image.shape[1]:
                split(image, valid, top + dy, left + dx, half, deviation, found)


def expected(image, valid, deviation, contrast, block):
    """Labels by the rules, with plain loops; also the number of leaves."""
    found: list = []
    for top in range(0, image.shape[0], block):
        for left in range(0, image.shape[1], block):
            split(image, valid, top, left, block, deviation, found)
    owner = np.zeros(image.shape[:2], int)
    for number, (top, left, side, _mean) in enumerate(found):
        owner[top : top + side, left : left + side] = number + 1
    owner[~valid] = 0
    means = [mean for *_box, mean in found]
    between: dict = {}
    width = image.shape[1]
    for y, x in np.ndindex(owner.shape):
        for down, q in enumerate(((y, x + 1), (y + 1, x))):
            if q[0] < owner.shape[0] and q[1] < width and owner[y, x] and owner[q]:
                a, b = sorted((owner[y, x], owner[q]))
                if a != b:
                    d = sum(abs(u - v) for u, v in zip(means[a - 1], means[b - 1], strict=True))
                    s, n, _ = between.get((a, b), (0, 0, 0))
                    between[a, b] = (s + d, n + 1, 2 * (y * width + x) + down)
    region = {i: i for i in range(len(found) + 1)}
    limit = contrast * image.shape[2] * 16 * 2**20
    while between:
        key, pair = min(((s << 20) // n, last, pair) for pair, (s, n, last) in between.items())[::2]
        if key > limit:
            break
        a, b = pair
        region = {i: a if r == b else r for i, r in region.items()}
        merged: dict = {}
        for (u, v), (s, n, last) in between.items():
            u, v = sorted((a if u == b else u, a if v == b else v))
            if u != v:
                s0, n0, last0 = merged.get((u, v), (0, 0, 0))
                merged[u, v] = (s + s0, n + n0, max(last, last0))
        between = merged
    return components(np.vectorize(region.get)(owner).astype(np.int32)), len(found)


@pytest.mark.parametrize("seed", range(14))
def test_labels__follow_the_rules_in_any_tiling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = texture(seed, 1 + 2 * (seed % 2))
    valid = rng.random(image.shape[:2]) < (1.0 if seed % 4 else 0.9)
    deviation, contrast, block = 2 + seed % 5, [3, 6, 14][seed % 3], [4, 8, 16][seed // 2 % 3]
    wanted, leaf_count = expected(image, valid, deviation, contrast, block)
    assert wanted.max() < leaf_count
    found = split_merge(image, deviation, contrast, block=block, mask=valid)
    np.testing.assert_array_equal(found, wanted)
    method = SplitMerge(deviation, contrast, block)
    info = ImageInfo(image.shape[:2], image.shape[2], "uint8", masked=True)
    arrays = {"image": image, "mask": valid.view(np.uint8)}
    for _ in range(6):
        size = tuple(int(n) for n in rng.integers(3, 22, 2))
        tiled, _tables = run_in_memory(method.passes(info), arrays, size)
        np.testing.assert_array_equal(tiled["labels"], wanted, err_msg=str(size))


def collect(ends: np.ndarray, sums: np.ndarray, n: int) -> Interfaces:
    return summed(Interfaces(ends, *sums.T), n)


@pytest.mark.parametrize("seed", range(30))
def test_postponed_merges__equal_those_of_the_whole(seed: int) -> None:
    """Random graphs with many ties, cut in two: what is open goes on to the second round."""
    rng = np.random.default_rng(seed)
    n, m = 40, 90
    ends = rng.integers(0, n, (m, 2))
    sums = np.column_stack([rng.integers(0, 9, m), rng.integers(1, 4, m), rng.permutation(m)])
    limit = 3 << 20
    whole, _open, _rest = agglomerate(n, collect(ends, sums, n), limit, np.zeros(n, bool))
    side = rng.integers(0, 2, n)
    cross = side[ends[:, 0]] != side[ends[:, 1]]
    root, rest_ends, rest_sums = np.arange(n), [ends[cross]], [sums[cross]]
    for half in (0, 1):
        mine = (side[ends] == half).all(axis=1)
        at_cut = np.zeros(n, bool)
        at_cut[ends[cross].ravel()] = True
        part, _is_open, rest = agglomerate(n, collect(ends[mine], sums[mine], n), limit, at_cut)
        root[side == half] = part[side == half]
        rest_ends.append(rest.ends)
        rest_sums.append(np.column_stack(rest[1:]))
    joined = collect(np.concatenate(rest_ends), np.concatenate(rest_sums), n)
    final = agglomerate(n, joined, limit, np.zeros(n, bool))[0][root]
    pairs = np.unique(np.stack([final, whole]), axis=1)
    assert pairs.shape[1] == len(np.unique(whole)) == len(np.unique(final))


def test_leaves__are_the_same_wherever_the_tile_lies() -> None:
    image = np.tile(texture(2), (3, 3, 1))[:48, :40].astype(np.int32)
    valid = np.ones(image.shape[:2], bool)
    whole = leaves(image, valid, (0, 0, 100), (0, *image.shape[:1], 0, image.shape[1]), (4, 4.0))
    part = leaves(image[16:], valid[16:], (16, 0, 100), (3, 20, 5, 31), (4, 4.0))
    number = whole.number[19:36, 5:31]
    np.testing.assert_array_equal(part.first[part.number - 1], whole.first[number - 1])
    np.testing.assert_array_equal(part.mean[part.number - 1], whole.mean[number - 1])


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_other_types__give_the_same_regions(dtype: str) -> None:
    image = texture(2)
    image[0, 0], image[0, 1] = 0, 255  # the range of floats: 257 steps a grey value
    wanted = split_merge(image, 6, 9, block=16)
    shifted = image.astype(dtype) - (7 if dtype != "uint16" else 0)
    np.testing.assert_array_equal(split_merge(shifted.astype(dtype), 6, 9, block=16), wanted)


def test_extremes() -> None:
    image = texture(4)
    assert split_merge(image, 1e6, 1e6).max() == 1
    assert (split_merge(np.zeros((5, 9), np.uint8)) == 1).all()
    assert split_merge(np.zeros((1, 1), np.uint8)).tolist() == [[1]]
    everything = split_merge(image, 0, 0, block=8)
    np.testing.assert_array_equal(everything, components(image, background=None))
    assert not split_merge(image, mask=np.zeros(image.shape[:2], bool)).any()
    assert not split_merge(np.full((3, 4), np.nan, np.float32)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deviation": -1}, "deviation must be 0 or more"),
        ({"contrast": float("nan")}, "contrast must be 0 or more"),
        ({"block": 24}, "power of two from 2 to 128, got 24"),
        ({"channel": 1}, "channel must be 0 to 0"),
    ],
)
def test_errors__name_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_merge(np.zeros((3, 3), np.uint8), **options)


def test_wide_integers__are_refused() -> None:
    with pytest.raises(ValueError, match="up to 16 bits"):
        split_merge(np.zeros((3, 3), np.int32))


def test_yaml_values__make_the_method() -> None:
    assert build_method("split-merge", {"block": 32}).block == 32
