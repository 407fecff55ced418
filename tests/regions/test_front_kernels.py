"""Fronts in slices of levels against one queue."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from segpipe.regions.front_kernels import BANDS, FAR, LEVELS, SHIFT, advance


def queue(sources, width, step, colours, means, cap):
    """Return levels and owners as the rule of `segpipe.regions.fronts` has them."""
    level, owner = np.where(step > 0, FAR, -1), np.zeros(step.size, np.int32)
    offers = zip(*(array.tolist() for array in sources), strict=True)
    waiting = [(at, mine, p) for p, at, mine in offers]
    heapq.heapify(waiting)
    while waiting:
        at, mine, p = heapq.heappop(waiting)
        if owner[p] or at > cap:
            continue
        level[p], owner[p] = at, mine
        for q in (p - width, p - 1, p + 1, p + width):
            if step[q] and not owner[q]:
                square = int(((colours[q].astype(int) - means[mine - 1]) ** 2).sum())
                there = at + min(int(step[q]) + (square >> SHIFT), LEVELS - 1)
                heapq.heappush(waiting, (there, mine, q))
    return level, owner


@pytest.mark.parametrize("least", [1, 7, 32, LEVELS // 2])
@pytest.mark.parametrize("kind", ["even", "noise"])
def test_advance__is_what_one_queue_finds(least: int, kind: str) -> None:
    rng = np.random.default_rng(least)
    shape = (120, 130)
    step = np.full(shape, least, np.uint16)
    colours = np.zeros((*shape, 3), np.int16)
    if kind == "noise":
        step += rng.integers(0, 50, shape, dtype=np.uint16)
        step[rng.random(shape) < 0.2] = 0
        colours[:] = rng.integers(-400, 400, colours.shape)
    step[[0, -1]] = 0
    step[:, [0, -1]] = 0
    flat = step.reshape(-1)
    # every second row is a source at once, and a few come after all others have ended
    rows = np.arange(shape[0] * shape[1]).reshape(shape)[1:-1:2, 1:-1].reshape(-1)
    pixels = np.concatenate([rows[flat[rows] > 0], np.flatnonzero(flat)[-3:]])
    levels = np.concatenate([np.zeros(len(pixels) - 3, np.int64), [10**6, 10**6 + 5, 10**9]])
    owners = rng.integers(1, 6, len(pixels)).astype(np.int32)
    assert len(pixels) > BANDS, "nothing is sorted"
    means = rng.integers(-300, 300, (5, 3)).astype(np.int32) * (kind == "noise")
    sources, cap = (pixels, levels, owners), 10**8
    none = np.zeros((0, 4), np.int64)
    found = advance(
        sources, (none, shape[1], flat, colours.reshape(-1, 3), means.astype(np.int32), cap)
    )
    expected = queue(sources, shape[1], flat, colours.reshape(-1, 3), means, cap)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
