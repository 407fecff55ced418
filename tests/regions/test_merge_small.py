"""Merging of small parts: any tiling against one tile, and the rounds against obvious ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from segpipe.passes import ImageInfo, Output, Pass, run_in_memory
from segpipe.regions import merge_small
from segpipe.regions.finish import label_pass
from segpipe.regions.merge_rounds import free, merge
from segpipe.tiles import Grid


def parts_of(classes: np.ndarray) -> tuple[np.ndarray, int]:
    """4-connected parts of equal class, 1..n by first pixel; class 0 is none."""
    out = np.zeros(classes.shape, np.int64)
    for value in np.unique(classes[classes > 0]):
        found, _ = label(classes == value)
        out = np.where(found > 0, found + out.max(), out)
    names, first = np.unique(out, return_index=True)
    order = names[names > 0][np.argsort(first[names > 0])]
    table = np.zeros(out.max() + 1, np.uint32)
    table[order] = np.arange(1, len(order) + 1)
    return table[out], len(order)


def passes(info: ImageInfo, min_size: int) -> tuple[Pass, ...]:
    """Channel 0 holds classes, the others what the means are taken of."""

    def values(window, _former):
        return np.ascontiguousarray(np.moveaxis(window.core("image")[..., 1:], 2, 0))

    def find(window, _part):
        classes = window.core("image")[..., 0]
        parts, n = parts_of(classes)
        record = merge_small.summary(
            parts, n, values(window, None), window.tile, window.grid.shape, classes
        )
        return Output({"parts": parts}, record)

    def solve(records, grid, former=None):
        return merge_small.solve_parts(records, grid, former, same=lambda a, b: a == b)

    first = Pass("find", find, writes={"parts": "uint32"}, solve=solve)
    return first, *merge_small.passes(info, min_size, values), label_pass(info)


def images(rng: np.random.Generator):
    """Classes with few and many small parts, large ones that wind, values with many ties."""
    for classes, share in ((2, 0.4), (4, 0.7), (30, 1.0)):
        picked = rng.integers(1, classes + 1, (70, 64))
        coarse = np.kron(rng.integers(1, classes + 1, (10, 8)), np.ones((7, 8), int))
        where = rng.random((70, 64)) < share
        image = np.where(where, picked, coarse)
        image[rng.random((70, 64)) < 0.03] = 0
        for levels in (2, 200):
            values = rng.integers(0, levels, (70, 64, 2))
            yield np.concatenate([image[..., None], values], axis=2).astype(np.uint8)


@pytest.mark.parametrize("min_size", [1, 2, 5, 20, 300])
def test_any_tiling__gives_the_same_regions(min_size: int) -> None:
    rng = np.random.default_rng(min_size)
    for image in images(rng):
        info = ImageInfo(image.shape[:2], 3, "uint8")
        steps = passes(info, min_size)
        whole = run_in_memory(steps, {"image": image})[0]["labels"]
        np.testing.assert_array_equal(whole, obvious(image, min_size))
        for _ in range(4):
            size = tuple(int(n) for n in rng.integers(3, 40, 2))
            order = rng.permutation(len(Grid(image.shape[:2], size)))
            tiled = run_in_memory(steps, {"image": image}, size, order)[0]["labels"]
            np.testing.assert_array_equal(tiled, whole, err_msg=f"tiles {size}")


def obvious(image: np.ndarray, min_size: int) -> np.ndarray:
    """The rounds on the whole image, with sets and dictionaries."""
    labels, n = parts_of(image[..., 0])
    values = image[..., 1:].reshape(-1, 2).astype(int)
    labels = labels.astype(int)
    total = np.stack([np.bincount(labels.ravel(), v, n + 1).astype(int) for v in values.T], axis=1)
    sums = {r: total[r] for r in range(1, n + 1)}
    size = dict(enumerate(np.bincount(labels.ravel(), minlength=n + 1).tolist()))
    mean = {r: (16 * sums[r] + size[r]) // (2 * size[r]) for r in sums}
    settled = {r for r in sums if size[r] >= min_size}
    while True:
        touching: dict[int, set[int]] = {r: set() for r in sums}
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            for p, q in {(int(p), int(q)) for p, q in zip(a.ravel(), b.ravel(), strict=True)}:
                if p != q and p and q:
                    touching[p].add(q)
                    touching[q].add(p)
        picks = {
            r: min(touching[r], key=lambda o: (((mean[r] - mean[o]) ** 2).sum(), o))
            for r in sums
            if r not in settled and touching[r]
        }
        if not picks:
            names, first = np.unique(labels, return_index=True)
            order = names[names > 0][np.argsort(first[names > 0])]
            table = np.zeros(labels.max() + 1, int)
            table[order] = np.arange(1, len(order) + 1)
            return table[labels]
        group = {r: frozenset([r]) for r in sums}
        for a, b in picks.items():
            both = group[a] | group[b]
            group |= dict.fromkeys(both, both)
        table = np.arange(labels.max() + 1)
        for g in set(group.values()):
            if len(g) == 1:
                continue
            head = min(g & settled or g)
            table[list(g)] = head
            if not g & settled:
                sums[head], size[head] = sum(sums[r] for r in g), sum(size[r] for r in g)
                mean[head] = (16 * sums[head] + size[head]) // (2 * size[head])
                if size[head] >= min_size:
                    settled.add(head)
        labels = table[labels]
        sums = {r: sums[r] for r in set(group_heads(group, table))}


def group_heads(group: dict[int, frozenset[int]], table: np.ndarray) -> list[int]:
    return [int(table[r]) for r in group]


def test_records__hold_what_lies_near_seams() -> None:
    """Everything is small, so a tile that gave away its area would show."""
    rng = np.random.default_rng(2)
    sizes = []
    for edge in (64, 128, 256):
        image = np.concatenate(
            [rng.integers(1, 7, (2 * edge, edge, 1)), rng.integers(0, 200, (2 * edge, edge, 2))], 2
        ).astype(np.uint8)
        first, unite, *_ = passes(ImageInfo(image.shape[:2], 3, "uint8"), 12)
        grid = Grid(image.shape[:2], (edge, edge))
        outputs = []

        def keep(window, part, kept=outputs, step=unite):
            kept.append(step.map(window, part))
            return kept[-1]

        watched = Pass("merge", keep, unite.reads, unite.writes)
        run_in_memory((first, watched), {"image": image}, (edge, edge))
        sizes.append(max(len(output.record["ids"]) for output in outputs))
        assert len(grid) == 2
    assert sizes[2] < 2.6 * sizes[1]


def test_rounds__end_soon() -> None:
    """A chain in which everybody prefers the next one halves every round."""
    n = 1024
    sums = np.column_stack([np.ones(n, int), np.arange(n) ** 2])
    edges = np.column_stack([np.arange(n - 1), np.arange(1, n)])
    merged = merge(free(np.arange(n), sums, edges, np.zeros(n, bool)), 64)
    ends = merged.ends()[:n]
    assert (np.bincount(ends)[np.unique(ends)] >= 64).all()
    assert merged.moves.max() <= 7
