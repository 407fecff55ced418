"""The seam report: counts against slow ones, and that it sees seams where there are some."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.quality.seams import (
    changed,
    line_boxes,
    line_counts,
    merged_check,
    moved_seams,
    summary,
)
from segpipe.tiles import Grid


def counts_of(labels: np.ndarray, grid: Grid) -> np.ndarray:
    boxes = (line_boxes(tile, grid) for tile in grid.tiles())
    return np.stack(
        [line_counts([None if b is None else labels[b.slices] for b in four]) for four in boxes]
    )


def naive(labels: np.ndarray, size: tuple[int, int], shift: tuple[int, int]) -> tuple[int, int]:
    """Pairs and changes on the lines size, 2 size, … moved by `shift`, counted on the whole."""
    pairs = changes = 0
    for axis in range(2):
        turned = labels if axis == 0 else labels.T
        first = shift[axis] or size[axis]
        if size[axis] == 1 and shift == (size[0] // 2, size[1] // 2):
            continue
        for at in range(first, len(turned), size[axis]):
            a, b = turned[at - 1], turned[at]
            both = (a > 0) & (b > 0)
            pairs += int(both.sum())
            changes += int((both & (a != b)).sum())
    return pairs, changes


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.integers(0, 2**32 - 1),
)
def test_summary__counts_every_seam_once(
    shape: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint32)
    found = summary(counts_of(labels, Grid(shape, size)), Grid(shape, size))
    assert (found["pairs"], found["changes"]) == naive(labels, size, (0, 0))
    names = np.random.default_rng(seed).permutation(90)[:4] + 1
    names[0] = 0
    assert summary(counts_of(names[labels], Grid(shape, size)), Grid(shape, size)) == found
    half = (size[0] // 2, size[1] // 2)
    assert (found["pairs_elsewhere"], found["changes_elsewhere"]) == naive(labels, size, half)
    for seam in found["worst"]:
        assert seam["pairs"] > 0
        y, x = seam["where"]
        assert 0 <= y < shape[0]
        assert 0 <= x < shape[1]
        at = y if seam["axis"] == "y" else x
        assert at == seam["at"]
        assert at % size[0 if seam["axis"] == "y" else 1] == 0


def test_summary__sees_a_cut_and_names_it() -> None:
    """Blobs that end on one seam: its density stands out, and it comes first."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:400, :300]
    wavy = (y + (4 * np.sin(x / 5)).astype(int)) // 7, (x + (4 * np.sin(y / 5)).astype(int)) // 7
    labels = rng.integers(1, 9, (60, 50))[wavy].astype(np.uint32)
    grid = Grid(labels.shape, (100, 100))
    clean = summary(counts_of(labels, grid), grid)
    assert 0.7 < clean["ratio"] < 1.4
    below = y - 200  # a wedge that touches no other seam
    labels[(below >= 0) & (x >= 101 + below) & (x < 199 - below)] += 100
    cut = summary(counts_of(labels, grid), grid)
    assert cut["ratio"] > clean["ratio"] + 0.05
    first = cut["worst"][0]
    assert (first["axis"], first["at"], first["start"], first["stop"]) == ("y", 200, 100, 200)
    assert first["density"] >= 0.98


def test_summary__one_tile_has_no_seams() -> None:
    labels = np.ones((20, 30), np.uint32)
    grid = Grid(labels.shape, (20, 30))
    found = summary(counts_of(labels, grid), grid)
    assert found["density"] is None
    assert found["ratio"] is None
    assert found["worst"] == []
    assert found["pairs_elsewhere"] == 50


def test_summary__finds_the_worst_stretch() -> None:
    labels = np.ones((20, 1000), np.uint32)
    labels[10:, 600:700] = 2
    grid = Grid(labels.shape, (10, 1000))
    y, x = summary(counts_of(labels, grid), grid)["worst"][0]["where"]
    assert y == 10
    assert 560 <= x <= 740


def naive_changed(a: np.ndarray, b: np.ndarray) -> int:
    both = (a > 0) & (b > 0)
    one_only = ((a > 0) != (b > 0)).sum()

    def outside(p: np.ndarray, q: np.ndarray) -> int:
        return sum(
            int((p == k).sum() - max(((p == k) & (q == m)).sum() for m in np.unique(q)))
            for k in np.unique(p)
        )

    return int(one_only + max(outside(a[both], b[both]), outside(b[both], a[both])))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_changed__agrees_with_a_slow_one(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, most + 1, (2, 7, 9)).astype(np.uint32)
    assert changed(a, b) == naive_changed(a, b) == changed(b, a)
    names = np.concatenate([[0], rng.permutation(90)[:most] + 1]).astype(np.uint64)
    assert changed(names[a], b) == changed(a, b)
    assert changed(names[a], a) == 0
    assert changed(a, np.zeros_like(a)) == (a > 0).sum()


def test_changed__wants_one_shape() -> None:
    with pytest.raises(ValueError, match="one shape"):
        changed(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_moved_seams__tells_a_method_that_feels_its_tiles() -> None:
    shape = (64, 80)
    tiles = []

    def blocks(size: tuple[int, int]) -> np.ndarray:
        tiles.append(size)
        y, x = np.mgrid[: shape[0], : shape[1]]
        return (1 + y // size[0] * 5 + x // size[1]).astype(np.uint32)

    felt = moved_seams(blocks, shape)
    assert tiles == [(32, 40), (48, 60)]
    assert felt["changed"] > 0.2 * felt["pixels"]
    whole = moved_seams(lambda _size: np.ones(shape, np.uint32), shape)
    assert (whole["changed"], whole["identical"], whole["pixels"]) == (0, True, 64 * 80)
    both = merged_check([felt, whole])
    assert both["pixels"] == 2 * 64 * 80
    assert both["changed"] == felt["changed"]
    assert both["share"] == felt["changed"] / both["pixels"]
    assert not both["identical"]
