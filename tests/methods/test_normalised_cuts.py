"""Normalised cuts against a slow one with all eigenvectors, a peer, and every tiling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh
from skimage import graph
from skimage.measure import label

from segpipe.errors import InputError
from segpipe.methods import normalised_cuts as module
from segpipe.methods.normalised_cuts import (
    NormalisedCuts,
    best_cut,
    cut_graph,
    normalised_cuts,
    second_eigenvector,
)
from segpipe.methods.slic import slic
from segpipe.passes import ImageInfo, run_in_memory
from tests import naive_graph


def quarters(noise: float, seed: int = 0) -> np.ndarray:
    """Four colours in unequal rectangles, and noise."""
    rng = np.random.default_rng(seed)
    image = np.zeros((48, 60, 3))
    image[:, 25:] += [120, 20, 0]
    image[30:] += [0, 60, 110]
    return np.clip(40 + image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def ncut(weights: np.ndarray, side: np.ndarray) -> float:
    """Return cut / assoc(A) + cut / assoc(B), from the matrix of weights."""
    cut = weights[side][:, ~side].sum()
    return cut / weights[side].sum() + cut / weights[~side].sum()


def slow(weights: np.ndarray, nodes: list[int], threshold: float) -> list[list[int]]:
    """Cut recursively where a threshold on the second generalised eigenvector costs least."""
    if len(nodes) < 2:
        return [nodes]
    inner = weights[np.ix_(nodes, nodes)].astype(float)
    degree = np.diag(inner.sum(axis=1))
    vector = eigh(degree - inner, degree)[1][:, 1]
    sides = [vector <= level for level in np.sort(vector)[:-1]]
    value, best = min(((ncut(inner, side), i) for i, side in enumerate(sides)))
    if value > threshold:
        return [nodes]
    parts = []
    for side in (sides[best], ~sides[best]):
        members = [n for n, inside in zip(nodes, side, strict=True) if inside]
        for piece in connected(weights, members):
            parts += slow(weights, piece, threshold)
    return parts


def connected(weights: np.ndarray, nodes: list[int]) -> list[list[int]]:
    """Return the connected pieces of some nodes."""
    left, pieces = set(nodes), []
    while left:
        piece, front = set(), {min(left)}
        while front:
            piece |= front
            left -= front
            front = {b for b in left if any(weights[a, b] for a in front)}
        pieces.append(sorted(piece))
    return pieces


def dense(image: np.ndarray, segments: np.ndarray, contrast: float) -> np.ndarray:
    """Return the matrix of affinities in the order of labels, from the pixels."""
    means, sides = naive_graph.region_graph(image, segments)
    at = {a: i for i, a in enumerate(sorted(means))}
    weights = np.zeros((len(at), len(at)))
    for (a, b), length in sides.items():
        alike = np.exp(-(((means[a] - means[b]) ** 2).sum()) / contrast**2)
        weights[at[a], at[b]] = weights[at[b], at[a]] = length * (1 + alike * 2**20)
    return weights


def same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one.ravel(), two.ravel()], axis=1), axis=0)
    return len(pairs) == len(np.unique(one)) == len(np.unique(two))


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_normalised_cuts__equal_the_slow_ones(seed: int, threshold: float) -> None:
    image = quarters(25, seed)
    segments = slic(image, step=6, iterations=2)
    segments[20:22, 10:33] = 0
    segments = label(segments, background=0, connectivity=1).astype(np.uint32)
    weights = dense(image, segments, 10)
    expected = np.zeros(segments.shape, int)
    for piece in connected(weights, list(range(len(weights)))):
        for part in slow(weights, piece, threshold):
            expected[np.isin(segments, np.array(part) + 1)] = part[0] + 1
    found = normalised_cuts(image, segments, threshold=threshold)
    assert 1 < found.max() < segments.max()
    assert same_partition(found, expected)
    passes = NormalisedCuts(threshold=threshold).passes(ImageInfo((48, 60), 3, "uint8", rgb=True))
    for size in ((7, 9), (48, 11)):
        tiled = run_in_memory(passes, {"image": image, "segments": segments}, size)[0]["labels"]
        np.testing.assert_array_equal(tiled, found, err_msg=f"tiles {size}")


def test_normalised_cuts__find_what_scikit_image_finds() -> None:
    image = quarters(3)
    segments = slic(image, step=8, iterations=2)
    rag = graph.rag_mean_color(image, segments.astype(int), mode="similarity", sigma=80)
    theirs = graph.cut_normalized(segments, rag, thresh=0.01, num_cuts=50, rng=0)
    found = normalised_cuts(image, segments)
    assert found.max() == 4
    assert same_partition(found, theirs)


def test_normalised_cuts__stop_at_a_number_of_regions_with_the_clearest_cuts() -> None:
    image = quarters(10)
    segments = slic(image, step=6, iterations=2)
    alone = [normalised_cuts(image, segments, regions=n).max() for n in (1, 2, 3)]
    assert alone == [1, 2, 3]
    most = normalised_cuts(image, segments, threshold=2, regions=20)
    assert most.max() == 20
    finer = np.unique(
        np.stack([most, normalised_cuts(image, segments)], axis=2).reshape(-1, 2), axis=0
    )
    assert len(finer) == 20, "regions of many cuts lie within those of few"


@pytest.mark.parametrize("n", [2, 3, 40, 300])
def test_second_eigenvector__is_that_of_all_eigenvectors(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sparse solver too, for graphs of any size, with affinities over six decades."""
    monkeypatch.setattr(module, "FEW", 2)
    rng = np.random.default_rng(n)
    weights = np.triu(rng.random((n, n)) < 6 / n, 1) * 10 ** rng.uniform(0, 6, (n, n))
    weights[np.arange(n - 1), np.arange(1, n)] += 1  # connected
    weights = np.rint(weights + weights.T).astype(np.int64)
    degree = weights.sum(axis=1)
    root = np.sqrt(np.outer(degree, degree))
    values, vectors = eigh(np.eye(n) - weights / root)
    found = second_eigenvector(module.csr_array(weights), degree)
    assert found @ (np.eye(n) - weights / root) @ found == pytest.approx(values[1], rel=1e-6)
    assert abs(found @ vectors[:, 1]) == pytest.approx(1, abs=1e-6)
    value, side = best_cut(module.csr_array(weights))
    assert value == pytest.approx(ncut(weights, side))


def test_cut_graph__takes_graphs_without_edges_and_in_pieces() -> None:
    none = np.zeros((0, 2), np.int64)
    assert cut_graph(0, none, none[:, 0], 1).tolist() == []
    assert cut_graph(3, none, none[:, 0], 1).tolist() == [0, 1, 2]
    pairs = np.array([[0, 3], [1, 2]])
    assert cut_graph(4, pairs, np.array([5, 5]), 0.5).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contrast": 0}, "contrast must be 0.5 to 200, got 0"),
        ({"threshold": -1}, "threshold must be 0 to 2, got -1"),
        ({"threshold": np.nan}, "threshold must be 0 to 2, got nan"),
        ({"regions": -2}, "regions must be 0 to .*, got -2"),
        ({"segments": np.ones((4, 4), int)}, "of the shape"),
    ],
)
def test_normalised_cuts__say_what_is_wrong(parameters: dict, message: str) -> None:
    segments = parameters.pop("segments", np.ones((4, 5), int))
    with pytest.raises(ValueError, match=message):
        normalised_cuts(np.zeros((4, 5, 3), np.uint8), segments, **parameters)


def test_too_many_segments__are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 19)
    with pytest.raises(InputError, match=r"at most 19 segments, got 20.*larger superpixels"):
        normalised_cuts(np.zeros((4, 5, 3), np.uint8), np.arange(1, 21).reshape(4, 5))
