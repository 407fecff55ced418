"""Scores against their definitions, published code, and what must hold whatever the labels are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import metrics as peer

from segpipe import quality
from segpipe.quality.contingency import Contingency
from segpipe.tiles import Grid
from tests.quality import naive

RANGED = [
    name
    for name in quality.METRICS
    if name not in ("leakage", "adjusted_rand") and not name.startswith("vi")
]
DTYPES = [np.uint8, np.uint16, np.int32, np.uint64, np.int64]


def blocks(shape: tuple[int, int], labels: int, seed: int) -> np.ndarray:
    """Labels in blocks and stripes, so that runs, borders and ties of size all occur."""
    rng = np.random.default_rng(seed)
    cell = tuple(int(n) for n in rng.integers(1, 6, 2))
    small = rng.integers(0, labels, [-(-n // c) for n, c in zip(shape, cell, strict=True)])
    return np.kron(small, np.ones(cell, int))[: shape[0], : shape[1]]


@st.composite
def images(draw: Callable, most: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Two label images of one shape: unrelated, related by merging, or noise."""
    shape = tuple(draw(st.tuples(st.integers(1, most), st.integers(1, most))))
    labels = blocks(shape, draw(st.integers(1, 9)), draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["blocks", "merged", "noise"]))
    if kind == "merged":
        truth = labels // 2
    elif kind == "blocks":
        truth = blocks(shape, draw(st.integers(1, 9)), draw(st.integers(0, 10**6)))
    else:
        truth = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 4)))
    dtypes = st.sampled_from(DTYPES)
    return labels.astype(draw(dtypes)), truth.astype(draw(dtypes))


def everything(labels: np.ndarray, truth: np.ndarray, radius: int = 1, **more) -> dict[str, float]:
    table = quality.contingency(labels, truth, **more)
    return (
        quality.score(labels, truth, radius=radius, **more)
        | quality.class_scores(table)[0]
        | quality.instance_scores(table)[0]
    )


@settings(max_examples=60, deadline=None)
@given(images(), st.integers(0, 3), st.sampled_from([0.5, 0.6, 0.75, 0.95, 1.0]))
def test_region_scores__follow_their_definitions(pair, radius: int, share: float) -> None:
    labels, truth = pair
    found = quality.score(labels, truth, radius=radius, share=share)
    segments, objects = naive.regions(labels), naive.regions(truth)
    truths, hit, marks, marks_hit = naive.border_counts(labels, truth, radius)
    expected = {
        "boundary_recall": hit / truths if truths else 1,
        "boundary_precision": marks_hit / marks if marks else 1,
        "undersegmentation": naive.undersegmentation(segments, objects),
        "leakage": naive.leakage(segments, objects),
        "asa": naive.asa(segments, objects),
        "containment": naive.containment(segments, objects, share),
        "covering": naive.covering(segments, objects),
        "rand": naive.rand(labels, truth),
        "adjusted_rand": naive.adjusted_rand(labels, truth),
        "vi_split": naive.conditional_entropy(segments, objects),
        "vi_merge": naive.conditional_entropy(objects, segments),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-12), name


@settings(max_examples=60, deadline=None)
@given(images(), st.integers(0, 4))
def test_ignored_pixels__do_not_count(pair, value: int) -> None:
    labels, truth = pair
    valid = truth != value
    if not valid.any():
        with pytest.raises(ValueError, match="no pixel counts"):
            quality.score(labels, truth, ignore=[value])
        return
    found = everything(labels, truth, ignore=[value])
    segments, objects = naive.regions(labels, valid), naive.regions(truth, valid)
    truths, hit, marks, marks_hit = naive.border_counts(labels, truth, 1, valid)
    assert found["boundary_recall"] == (hit / truths if truths else 1)
    assert found["boundary_precision"] == (marks_hit / marks if marks else 1)
    assert found["undersegmentation"] == float(naive.undersegmentation(segments, objects))
    assert found["rand"] == float(naive.rand(labels, truth, valid))
    assert found["pq"] == pytest.approx(float(naive.panoptic(labels, truth, valid)), abs=1e-12)
    same = everything(truth, labels, ignore_labels=[value])
    assert same["vi"] == found["vi"]
    assert same["boundary_recall"] == found["boundary_precision"]


@settings(max_examples=60, deadline=None)
@given(images())
def test_scores__agree_with_scikit_image(pair) -> None:
    labels, truth = (values.astype(np.int64) for values in pair)
    table = quality.contingency(labels, truth)
    dense = np.zeros((truth.max() + 1, labels.max() + 1))
    dense[table.truths[table.column], table.labels[table.row]] = table.pixels
    np.testing.assert_array_equal(dense, peer.contingency_table(truth, labels).toarray())
    merge, split = peer.variation_of_information(labels, truth)
    found = quality.variation_of_information(table)
    np.testing.assert_allclose(sorted(found), sorted([split, merge]), atol=1e-9)
    if labels.size > 1 and len(table.truths) < labels.size > len(table.labels):
        error = peer.adapted_rand_error(truth, labels, ignore_labels=())[0]
        assert quality.adapted_rand_error(table) == pytest.approx(error, abs=1e-12)


def test_variation_of_information__tells_splits_from_merges() -> None:
    truth = np.array([[1, 1, 1, 1]])
    halves = np.array([[1, 1, 2, 2]])
    assert quality.variation_of_information(quality.contingency(halves, truth)) == (1.0, 0.0)
    assert quality.variation_of_information(quality.contingency(truth, halves)) == (0.0, 1.0)
    # scikit-image's order is H(second | first), H(first | second)
    assert tuple(peer.variation_of_information(truth, halves)) == (1.0, 0.0)


@settings(max_examples=80, deadline=None)
@given(images(most=9), st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.75, 1.0]), st.booleans())
def test_matches__are_the_most_possible(pair, iou: float, above: bool) -> None:
    labels, truth = pair
    labels = labels % 5
    segments, objects = naive.regions(labels), naive.regions(truth)
    segments.pop(0, None), objects.pop(0, None)
    found = quality.matches(quality.contingency(labels, truth), iou, above=above)
    assert found.true_positives == naive.best_matching(segments, objects, iou, above)
    assert found.false_positives == len(segments) - found.true_positives
    assert found.false_negatives == len(objects) - found.true_positives


def test_matches__of_an_object_cut_in_half_is_one() -> None:
    table = quality.contingency(np.array([[1, 1, 2, 2]]), np.array([[5, 5, 5, 5]]))
    found = quality.matches(table, 0.5)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (1, 1, 0)
    assert quality.matches(table, 0.5, above=True).true_positives == 0


def test_panoptic_quality__as_in_the_paper() -> None:
    """Two matches of IoU 1 and 2/3, one false positive, one miss, one void segment."""
    truth = np.array([[1, 1, 0, 2, 2, 2, 0, 3, 3, 9, 9]])
    labels = np.array([[4, 4, 0, 5, 5, 0, 6, 0, 0, 7, 7]])
    table = quality.contingency(labels, truth, ignore=[9])
    found = quality.matches(table, above=True)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (2, 1, 1)
    assert found.mean_iou == pytest.approx((1 + 2 / 3) / 2)
    assert found.pq == pytest.approx((1 + 2 / 3) / (2 + 0.5 + 0.5))


def test_matches__a_segment_mostly_over_void_is_no_false_positive() -> None:
    truth = np.array([[9, 9, 0, 9, 0, 0]])
    labels = np.array([[1, 1, 1, 2, 2, 2]])
    found = quality.matches(quality.contingency(labels, truth, ignore=[9]))
    assert found.false_positives == 1


@settings(max_examples=60, deadline=None)
@given(images())
def test_classes__follow_their_definitions(pair) -> None:
    labels, truth = pair
    found = quality.classes(quality.contingency(labels, truth))
    assert found.accuracy == (labels.astype(np.int64) == truth.astype(np.int64)).mean()
    assert set(found.values) == set(labels.ravel().tolist()) | set(truth.ravel().tolist())
    for value, dice, jaccard in zip(found.values, found.dice, found.jaccard, strict=True):
        a, b = labels == value, truth == value
        assert jaccard == (a & b).sum() / (a | b).sum()
        assert dice == 2 * (a & b).sum() / (a.sum() + b.sum())


@settings(max_examples=40, deadline=None)
@given(images())
def test_score__of_the_truth_with_itself_is_perfect(pair) -> None:
    truth = pair[1]
    for name, value in everything(truth, truth.copy()).items():
        assert value == (1.0 if quality.METRICS[name].best == "high" else 0.0), name


@settings(max_examples=60, deadline=None)
@given(images())
def test_scores__lie_in_their_ranges(pair) -> None:
    found = everything(*pair)
    for name in RANGED:
        assert 0 <= found[name] <= 1, name
    assert -1 <= found["adjusted_rand"] <= 1
    assert found["leakage"] >= 0
    assert found["vi"] >= 0
    assert found["undersegmentation"] >= 1 - found["asa"] - 1e-12


@settings(max_examples=60, deadline=None)
@given(images())
def test_scores__are_symmetric_where_they_should_be(pair) -> None:
    labels, truth = pair
    there, back = everything(labels, truth), everything(truth, labels)
    both = ("boundary_f", "rand", "adjusted_rand", "adapted_rand_error", "vi", "accuracy")
    for name in (*both, "mean_dice", "mean_jaccard", "pq", "sq", "rq", "ap"):
        assert there[name] == pytest.approx(back[name], abs=1e-14), name
    assert there["boundary_recall"] == back["boundary_precision"]
    assert there["vi_split"] == back["vi_merge"]


@settings(max_examples=60, deadline=None)
@given(images(), st.integers(0, 10**6))
def test_scores__do_not_depend_on_the_names_of_labels(pair, seed: int) -> None:
    """Bit for bit; 0 keeps its name, as it is the background of objects, and classes are names."""
    rng = np.random.default_rng(seed)
    renamed = []
    for values in pair:
        drawn = rng.choice(10**6, int(values.max()) + 1, replace=False) + 1
        names = np.concatenate([[0], drawn])
        renamed.append(names[values.astype(np.int64)] * 10**12)
    before, after = everything(*pair), everything(*renamed)
    for name in set(before) - {"accuracy", "mean_dice", "mean_jaccard"}:
        assert before[name] == after[name], name


@settings(max_examples=30, deadline=None)
@given(images(), st.integers(0, 10**6))
def test_classes__do_not_depend_on_their_names(pair, seed: int) -> None:
    """The same new names on both sides, 0 among them."""
    names = np.random.default_rng(seed).permutation(40) * 10**12
    renamed = [names[values.astype(np.int64)] for values in pair]
    before, after = (quality.class_scores(quality.contingency(*p))[0] for p in (pair, renamed))
    assert before == after


def test_metrics__are_all_held_to_these_properties() -> None:
    one = np.ones((3, 4), int)
    assert set(everything(one, one)) == set(quality.METRICS)


@settings(max_examples=40, deadline=None)
@given(images(), st.integers(0, 10**6))
def test_scores__of_finer_segments_are_no_worse_at_what_is_achievable(pair, seed: int) -> None:
    """Cut segments anywhere: what they could achieve rises, what leaks falls."""
    labels, truth = (values.astype(np.int64) for values in pair)
    cuts = np.random.default_rng(seed).integers(0, 3, labels.shape)
    coarse, fine = everything(labels, truth), everything(labels * 3 + cuts, truth)
    for name in ("asa", "boundary_recall"):
        assert fine[name] >= coarse[name], name
    for name in ("undersegmentation", "leakage", "vi_merge"):
        assert fine[name] <= coarse[name] + 1e-12, name
    assert fine["vi_split"] >= coarse["vi_split"] - 1e-12


@settings(max_examples=40, deadline=None)
@given(images(), st.integers(0, 10**6))
def test_variation_of_information__is_a_metric(pair, seed: int) -> None:
    """No way round is shorter, and only equal partitions are at distance 0."""
    labels, truth = (values.astype(np.int64) for values in pair)
    third = blocks(labels.shape, 5, seed)
    ways = [(labels, truth), (labels, third), (third, truth)]
    direct, first, second = (quality.score(a, b, radius=0)["vi"] for a, b in ways)
    assert direct <= first + second + 1e-12
    assert (direct < 1e-12) == (quality.score(labels, truth, radius=0)["rand"] == 1)


@settings(max_examples=40, deadline=None)
@given(images(most=40), st.integers(0, 4), st.integers(0, 10**6), st.booleans())
def test_counts__do_not_depend_on_the_tiling(pair, radius: int, seed: int, masked: bool) -> None:
    labels, truth = (quality.as_labels(values) for values in pair)
    rng = np.random.default_rng(seed)
    valid = rng.random(labels.shape) < 0.9 if masked else None
    whole = quality.overlaps(labels, truth, valid)
    edges = quality.border_counts(labels, truth, radius, valid=valid)
    grid = Grid(labels.shape, tuple(int(n) for n in rng.integers(1, 20, 2)))
    rows, counts = [], np.zeros(4, np.int64)
    for number in rng.permutation(len(grid)):
        tile = grid.tile(int(number), radius + 1)
        core, window = tile.core.slices, tile.window.slices
        part = None if valid is None else valid[core]
        rows.append(quality.overlaps(labels[core], truth[core], part))
        part = None if valid is None else valid[window]
        counts += quality.border_counts(
            labels[window], truth[window], radius, valid=part, inner=tile.inner
        )
    found = quality.combine(np.concatenate(rows))
    np.testing.assert_array_equal(found, whole)
    np.testing.assert_array_equal(counts, edges)
    if valid is None:
        table = quality.tabulate(found)
        tiled = quality.region_scores(table, counts)
        tiled |= quality.class_scores(table)[0] | quality.instance_scores(table)[0]
        assert tiled == everything(labels, truth, radius)


@settings(max_examples=60, deadline=None)
@given(images(), st.integers(0, 6), st.booleans(), st.integers(0, 10**6))
def test_border_counts__of_two_sided_and_thin_borders(
    pair, radius: int, thin: bool, seed: int
) -> None:
    labels, truth = (quality.as_labels(values) for values in pair)
    valid = np.random.default_rng(seed).random(labels.shape) < 0.8
    found = quality.border_counts(labels, truth, radius, valid=valid, thin=thin)
    assert found.tolist() == naive.border_counts(labels, truth, radius, valid, thin)


def test_border_counts__over_many_strips_and_doublings() -> None:
    """Wider than a strip of columns, radius 11: a window of 23 = 1 + 1 + 2 + 4 + 8 + 7."""
    from scipy.ndimage import maximum_filter
    from skimage.segmentation import find_boundaries

    labels, truth = blocks((90, 1300), 9, 1), blocks((90, 1300), 9, 2)
    labels[:, 200:900] = 3
    a, b = (find_boundaries(values, connectivity=1) for values in (labels, truth))
    near = [maximum_filter(marks, size=23) for marks in (a, b)]
    expected = [b.sum(), (b & near[0]).sum(), a.sum(), (a & near[1]).sum()]
    assert quality.border_counts(labels, truth, 11).tolist() == expected


def test_precision_stutz__counts_what_is_found_in_the_truth() -> None:
    counts = np.array([10, 8, 30, 20])
    assert quality.recall(counts) == 0.8
    assert quality.precision(counts) == pytest.approx(2 / 3)
    assert quality.precision_stutz(counts) == 8 / (8 + 10)


def test_many_pairs__grow_the_table() -> None:
    """Every pixel a pair of its own, in columns and rows far apart and beyond 32 bits."""
    n = 300
    labels = np.arange(n * n).reshape(n, n) * (1 << 40)
    truth = -np.arange(n * n).reshape(n, n)[::-1]
    table: Contingency = quality.contingency(labels, truth)
    assert len(table.pixels) == table.total == n * n
    assert quality.rand_index(table) == 1.0
    assert quality.adjusted_rand_index(table) == 1.0


def test_large_counts__are_exact() -> None:
    """A terapixel image of two regions: squares of counts do not fit in 64 bits."""
    n = 10**12
    table = quality.tabulate(np.array([[1, 1, n], [2, 1, n], [2, 2, n]]))
    assert quality.rand_index(table) == pytest.approx(5 / 9, abs=1e-12)
    split, merge = quality.variation_of_information(table)
    assert split == pytest.approx(2 / 3)
    assert merge == pytest.approx(2 / 3)
    assert quality.achievable_accuracy(table) == 2 / 3


@pytest.mark.parametrize(
    ("labels", "truth", "words"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), ["(2, 3)", "(3, 2)"]),
        (np.zeros((2, 3)) + 0.5, np.zeros((2, 3), int), ["whole numbers"]),
        (np.full((2, 3), np.nan), np.zeros((2, 3), int), ["whole numbers"]),
        (np.full((2, 3), 1e30), np.zeros((2, 3), int), ["whole numbers"]),
        (np.zeros((2, 3, 1), int), np.zeros((2, 3), int), ["(H, W)", "(2, 3, 1)"]),
        (np.zeros((0, 3), int), np.zeros((0, 3), int), ["not empty"]),
        (np.array([["a"]]), np.zeros((1, 1), int), ["integers"]),
    ],
)
def test_score__refuses_what_is_no_pair_of_label_images(labels, truth, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        quality.score(labels, truth)
    for word in words:
        assert word in str(error.value)


def test_parameters__out_of_range_are_refused() -> None:
    one = np.ones((2, 2), int)
    table = quality.contingency(one, one)
    with pytest.raises(ValueError, match="0 to 1, got 95"):
        quality.containment(table, 95)
    for iou in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="IoU"):
            quality.matches(table, iou)
    with pytest.raises(ValueError, match="tolerance"):
        quality.border_counts(one, one, -1)


def test_borders_and_images_of_one_pixel() -> None:
    one = np.ones((1, 1), np.uint8)
    found = everything(one, one * 7)
    for name in ("boundary_recall", "rand", "adjusted_rand", "asa", "covering", "containment"):
        assert found[name] == 1.0
    assert found["accuracy"] == 0.0


def test_borders__radius_larger_than_the_image() -> None:
    labels, truth = np.array([[1, 1, 1, 2]]), np.array([[1, 2, 2, 2]])
    assert quality.border_counts(labels, truth, 50).tolist() == [2, 2, 2, 2]
