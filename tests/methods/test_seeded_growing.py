"""Seeded growing against a slow one with a queue for the whole image, and its tiles."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from skimage.measure import label

from segpipe import colour
from segpipe.methods.seeded_growing import SeededGrowing, seeded_growing
from segpipe.passes import ImageInfo, run_in_memory

ROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def slow(image, seeds, compactness, rounds, reach, mask):
    """Grow the regions of seeds (row, column, label) as the rule says; owners, -1 = none."""
    height, width = mask.shape
    planes = np.moveaxis(colour.planes(image, 8, None), 0, 2).astype(int)
    base = round((8 * compactness) ** 2) >> 3
    members = {}
    for y, x, name in seeds:
        near = [(y + dy, x + dx) for dy, dx in ROUND]
        near = [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width and mask[v, u]]
        if mask[y, x]:
            members.setdefault(name, []).extend(planes[v, u] for v, u in near)
    for _ in range(rounds):
        means = {
            name: [(2 * sum(c) + len(c)) // (2 * len(c)) for c in zip(*colours, strict=True)]
            for name, colours in members.items()
        }
        queue = [(0, name, y, x) for y, x, name in seeds if mask[y, x]]
        heapq.heapify(queue)
        owner = np.full(mask.shape, -1)
        while queue:
            level, name, y, x = heapq.heappop(queue)
            if owner[y, x] >= 0:
                continue
            owner[y, x] = name
            for v, u in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
                if 0 <= v < height and 0 <= u < width and mask[v, u] and owner[v, u] < 0:
                    square = int(((planes[v, u] - means[name]) ** 2).sum())
                    there = level + min(base + square // 8, 8191)
                    if reach is None or there <= reach * base:
                        heapq.heappush(queue, (there, name, v, u))
        for name in members:
            if (owner == name).any():
                members[name] = list(planes[owner == name])
    return owner


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:41, :53]
    pictures = (
        rng.integers(0, 256, (41, 53, 3)),
        np.stack([np.sin(x / 7) * 90 + 120, np.cos(y / 5) * 90 + 120, x + y], axis=2),
        np.repeat(np.where(x < 25, 50, 54)[..., None], 3, axis=2),
    )
    return pictures[seed % 3].astype(np.uint8), rng.random((41, 53)) > 0.03


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reach", [None, 9])
def test_seeded_growing__is_what_one_queue_finds(seed: int, reach: int | None) -> None:
    rng = np.random.default_rng(seed)
    image, mask = scene(seed)
    seeds = [(int(rng.integers(41)), int(rng.integers(53)), i % 6) for i in range(9)]
    compactness = (0.5, 3.0)[seed % 2]
    owner = slow(image, seeds, compactness, 2, reach, mask)
    expected = label(owner, background=-1, connectivity=1)
    parameters = SeededGrowing(tuple(seeds), compactness=compactness, rounds=2, reach=reach)
    passes = parameters.passes(ImageInfo((41, 53), 3, "uint8", rgb=True, masked=True))
    arrays = {"image": image, "mask": mask.astype(np.uint8)}
    sizes = [None, *(tuple(int(n) for n in rng.integers(7, 40, 2)) for _ in range(2))]
    for size in sizes:
        found, tables = run_in_memory(passes, arrays, size=size)
        np.testing.assert_array_equal(found["labels"], expected, err_msg=f"tiles {size}")
        first = [np.flatnonzero(expected == i)[0] for i in tables["segments"]["label"]]
        np.testing.assert_array_equal(tables["segments"]["seed"], owner.ravel()[first])


def test_pixels_far_from_seeds__travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a halo too small for any certainty the result is the same."""
    image, _mask = scene(4)
    monkeypatch.setattr(SeededGrowing, "halo", 1)
    parameters = SeededGrowing(step=20, rounds=2)
    passes = parameters.passes(ImageInfo((41, 53), 3, "uint8", rgb=True))
    whole = run_in_memory(passes, {"image": image})[0]["labels"]
    tiled = run_in_memory(passes, {"image": image}, size=(9, 11))[0]["labels"]
    np.testing.assert_array_equal(tiled, whole)


def test_two_seeds__of_one_label_may_give_two_segments() -> None:
    image = np.array([[10, 10, 90, 10, 10]], np.uint8)
    seeds = [(0, 0, 4), (0, 2, 1), (0, 4, 4)]
    assert seeded_growing(image, seeds).tolist() == [[1, 1, 2, 3, 3]]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seeds": [(1, 1), (3, 0)]}, r"seed 2 at \[3, 0\] is outside the image of 3 rows"),
        ({"seeds": [(1.5, 1)]}, "seeds must be points.*; point 1 is"),
        ({"seeds": [(1, 1, -4)]}, "label of a point must be 0 to .*; point 1 has -4"),
        ({"seeds": "here"}, "seeds must be points"),
        ({"compactness": 0}, "compactness must be 0.5 to 30"),
        ({"rounds": 0}, "rounds must be 1 to 20, got 0"),
        ({"reach": 0}, "reach must be 1 to 1024, got 0"),
        ({"step": 1}, "step must be 2 to 128, got 1"),
    ],
)
def test_seeded_growing__says_what_is_wrong(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seeded_growing(np.zeros((3, 3), np.uint8), **parameters)
