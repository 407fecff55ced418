"""Measurements against scikit-image and NumPy, and tiled against whole, bit by bit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segpipe.methods.slic import Slic, slic
from segpipe.passes import ImageInfo, Output, Pass, run_in_memory
from segpipe.regions import exact, histograms, measure, percentiles, places, rank
from segpipe.regions.columns import GROUPS, Wanted, finished
from segpipe.regions.finish import label_pass
from segpipe.regions.measure import measure as measure_all

Image.MAX_IMAGE_PIXELS = None
NAMES = (
    *("label", "area", "bbox", "centroid", "perimeter", "eccentricity", "orientation"),
    *("axis_major_length", "axis_minor_length", "intensity_mean", "intensity_std"),
    *("intensity_min", "intensity_max", "intensity_median"),
)


def region_image(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Connected regions numbered by first pixel, and pixels of none."""
    if kind == "noise":
        values = rng.integers(0, 3, shape)
    elif kind == "rows":
        values = np.broadcast_to(rng.integers(0, 4, (shape[0], 1)), shape)
    elif kind == "one":
        values = np.ones(shape, int)
    elif kind == "rings":
        y, x = np.mgrid[: shape[0], : shape[1]]
        values = (np.hypot(y - shape[0] / 2, x - shape[1] / 2) / 6).astype(int) % 3
    else:
        values = (ndimage.gaussian_filter(rng.random(shape), 2.5) * 60).astype(int) % 4
    ids, n = np.zeros(shape, np.int64), 0
    for value in (1, 2, 3):
        found, k = ndimage.label(values == value)
        ids[found > 0] = found[found > 0] + n
        n += k
    return by_first_pixel(ids)


def by_first_pixel(ids: np.ndarray) -> np.ndarray:
    found, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.flatnonzero(found > 0)[np.argsort(first[found > 0])]
    table = np.zeros(len(found), np.int64)
    table[order] = np.arange(1, len(order) + 1)
    return table[inverse].reshape(ids.shape)


def pictures(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    noise = rng.random((*shape, 5))
    return {
        "rgb": (noise[..., :3] * 256).astype(np.uint8),
        "five": (noise * 60000).astype(np.uint16),
        "signed": (noise[..., :1] * 60000 - 30000).astype(np.int16),
        "constant": np.full((*shape, 1), 1e-30, np.float32),
        "float": ((noise[..., :2] - 0.3) * 10.0 ** rng.integers(-30, 30, (*shape, 2))).astype(
            np.float32
        ),
        "double": (noise[..., :1] - 0.5) * 10.0 ** rng.integers(-300, 150, (*shape, 1)),
    }[kind]


def neighbours_of(labels: np.ndarray) -> dict[tuple[int, int], int]:
    """Edges between pixels of different labels, counted one by one."""
    found: dict[tuple[int, int], int] = {}
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        for i, j in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            for pair in ((i, j), (j, i)):
                if i != j and pair[0]:
                    found[pair] = found.get(pair, 0) + 1
    return found


def check_against_scikit_image(labels: np.ndarray, image: np.ndarray) -> None:
    from skimage.measure import regionprops_table

    tables = measure_all(labels, image, groups=GROUPS)
    found = tables["segments"]
    expected = regionprops_table(labels.astype(np.int64), image, properties=NAMES)
    # orientation is noise where both axes are of about the same length
    long, short = expected["axis_major_length"], expected["axis_minor_length"]
    turned = long - short > 1e-4 * np.maximum(long, 1)
    for name, column in expected.items():
        if name == "orientation":
            step = np.abs(np.asarray(found[name]) - column)[turned]
            assert np.minimum(step, np.pi - step).max(initial=0) < 1e-6
            continue
        loose = 2e-6 if name.startswith(("axis", "ecc")) else 0
        np.testing.assert_allclose(found[name], column, rtol=1e-9, atol=loose, err_msg=name)
    with np.errstate(divide="ignore"):
        compactness = 4 * np.pi * expected["area"] / expected["perimeter"] ** 2
    compactness[expected["perimeter"] == 0] = np.nan
    np.testing.assert_allclose(found["compactness"], compactness, rtol=1e-12)
    pairs = neighbours_of(labels)
    rows = tables["neighbours"]
    assert list(zip(rows["label"].tolist(), rows["neighbour"].tolist(), strict=True)) == sorted(
        pairs
    )
    assert rows["length"].tolist() == [pairs[pair] for pair in sorted(pairs)]
    touching = {i for i, j in pairs if j == 0}
    assert found["touches_none"].tolist() == [i in touching for i in found["label"].tolist()]
    edge = np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    assert set(found["label"][found["touches_border"]].tolist()) == set(edge[edge > 0].tolist())


@pytest.mark.parametrize("kind", ["blobs", "noise", "rows", "one", "rings"])
@pytest.mark.parametrize("shape", [(61, 47), (1, 40), (33, 1), (1, 1)])
def test_measure__equals_scikit_image(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(len(kind) + shape[0])
    labels = region_image(rng, shape, kind)
    if not labels.any():
        labels[0, 0] = 1
    check_against_scikit_image(labels, pictures(rng, shape, "rgb"))
    check_against_scikit_image(labels, pictures(rng, shape, "five"))


def test_measure__equals_scikit_image_on_the_slide(slide_rgb: np.ndarray) -> None:
    check_against_scikit_image(slic(slide_rgb), slide_rgb)


@pytest.mark.parametrize("path", ["carrot_weed/images/*", "earth_mosaic/shadedrelief.jpg"])
def test_measure__equals_scikit_image_on_photographs(path: str, data: Path) -> None:
    image = np.asarray(Image.open(sorted(data.glob(path))[0]).convert("RGB"))[:600, :700]
    check_against_scikit_image(slic(image, step=20), image)


def test_measure__takes_any_labels_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 3, 10**12, 7, 2**40], (50, 60))  # not connected, far apart
    image = pictures(rng, labels.shape, "float")
    whole = measure_all(labels, image, groups=GROUPS)
    monkeypatch.setattr(measure, "BLOCK", 13)
    blocks = measure_all(labels, image, groups=GROUPS)
    assert whole["segments"]["label"].tolist() == [3, 7, 10**12, 2**40]
    same(whole, blocks)


def same(a: dict, b: dict) -> None:
    """Equal bit by bit, NaN included."""
    assert list(a) == list(b)
    for table in a:
        assert list(a[table]) == list(b[table])
        for name, column in a[table].items():
            assert column.dtype == b[table][name].dtype, name
            assert column.tobytes() == b[table][name].tobytes(), f"{table}: {name}"


def from_ids(window, _part) -> Output:
    """A pass that takes regions, by id, from the mask."""
    ids = window.core("mask").astype(np.int64)
    regions = by_first_pixel(ids)
    found = np.zeros(regions.max(initial=0), np.int64)
    found[regions[regions > 0] - 1] = ids[regions > 0]
    record = rank.summary(regions.astype(np.uint32), found, window.tile, window.grid.shape)
    return Output({"regions": regions.astype(np.uint32)}, record)


@pytest.mark.parametrize("picture", ["rgb", "five", "signed", "constant", "float", "double"])
@pytest.mark.parametrize("seed", range(4))
def test_tiled__equals_whole(picture: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(20, 70, 2))
    kinds = ["blobs", "noise", "rings", "one", "rows"]
    labels = region_image(rng, shape, kinds[(seed + len(picture)) % 5])
    image = pictures(rng, shape, picture)
    transform = (0.5, 0.1, 1000.0, -0.1, -0.5, 2000.0)
    kind, groups = str(image.dtype), frozenset(GROUPS)
    info = ImageInfo(shape, image.shape[2], kind, False, True, groups, transform)
    first = Pass("regions", from_ids, ("mask",), {"regions": "uint32"}, solve=rank.solve)
    passes = (first, label_pass(info))
    expected = measure_all(labels, image, groups=GROUPS, transform=transform)
    for size in (None, *((int(a), int(b)) for a, b in rng.integers(1, 40, (3, 2)))):
        found, tables = run_in_memory(passes, {"image": image, "mask": labels}, size)
        np.testing.assert_array_equal(found["labels"], labels)
        same(tables, expected)


def test_slic__measures_the_same_for_any_tiling(slide_rgb: np.ndarray) -> None:
    image = slide_rgb[:230, :260]
    info = ImageInfo((230, 260), 3, "uint8", rgb=True, measure=frozenset(GROUPS))
    passes = Slic(step=9, iterations=2).passes(info)
    labels = run_in_memory(passes, {"image": image})[0]["labels"]
    expected = measure_all(labels, image, groups=GROUPS)
    for size in ((64, 100), (97, 64)):
        same(run_in_memory(passes, {"image": image}, size)[1], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_moments__are_those_of_exact_fractions(dtype: str) -> None:
    rng = np.random.default_rng(4)
    exponents = rng.integers(-120 if dtype == "float32" else -900, 1, 600)
    values = (rng.normal(size=600) * 2.0**exponents).astype(dtype)
    cases = [values, np.full(600, 0.1, dtype), (1e6 + values).astype(dtype)]
    largest, smallest = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    cases += [np.array([largest, largest, smallest, -largest], dtype), np.array([smallest], dtype)]
    for case in cases:
        found = measure_all(np.ones((1, len(case)), int), case[None])["segments"]
        numbers = [Fraction(float(value)) for value in case]
        mean = sum(numbers) / len(numbers)
        variance = sum((value - mean) ** 2 for value in numbers) / len(numbers)
        np.testing.assert_allclose(found["intensity_mean-0"], float(mean), rtol=4e-16)
        scale = Fraction(float(np.abs(case).max()))
        deviation = float(variance / scale**2) ** 0.5 * float(scale)
        np.testing.assert_allclose(found["intensity_std-0"], deviation, rtol=1e-15)
        assert found["intensity_max-0"][0] == case.max()


def test_not_a_number__spreads_as_in_numpy() -> None:
    image = np.array([[1, np.nan, 2, np.inf, 5, -np.inf, np.inf, 7]], np.float32)
    labels = np.array([[1, 1, 2, 2, 3, 4, 4, 3]])
    found = measure_all(labels, image, groups=GROUPS)["segments"]
    np.testing.assert_array_equal(found["intensity_mean-0"], [np.nan, np.inf, 6, np.nan])
    np.testing.assert_array_equal(found["intensity_std-0"], [np.nan, np.nan, 1, np.nan])
    np.testing.assert_array_equal(found["intensity_min-0"], [np.nan, 2, 5, -np.inf])
    np.testing.assert_array_equal(found["intensity_max-0"], [np.nan, np.inf, 7, np.inf])
    assert np.isnan(found["intensity_median-0"][0])
    assert found["intensity_median-0"][2] == 6


@pytest.mark.parametrize("picture", ["rgb", "five", "signed", "float", "double"])
def test_percentiles__are_numpys(picture: str) -> None:
    rng = np.random.default_rng(2)
    labels = region_image(rng, (60, 50), "blobs")
    image = pictures(rng, labels.shape, picture)
    found = measure_all(labels, image, groups=["percentiles"])["segments"]
    for c in range(image.shape[2]):
        for q in percentiles.PERCENTS:
            name = f"intensity_median-{c}" if q == 50 else f"intensity_p{q}-{c}"
            for i in range(labels.max()):
                values = image[..., c][labels == i + 1].astype(float)
                if values.dtype.kind == "f" and picture in ("float", "double"):
                    rounded = percentiles.values_of(percentiles.keys_of(values), np.dtype("f8"))
                    np.testing.assert_allclose(rounded, values, rtol=2.0**-16)
                    values = rounded
                np.testing.assert_allclose(found[name][i], np.percentile(values, q), rtol=1e-14)


@pytest.mark.parametrize("picture", ["rgb", "five", "signed"])
def test_percentiles__counted_and_sorted_are_equal(
    picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether values are counted in histograms (of 16 or 32 bits, all channels or some) or sorted."""
    rng = np.random.default_rng(5)
    labels = region_image(rng, (130, 90), "blobs")
    image = pictures(rng, labels.shape, picture)
    found = []
    for room, narrow in ((0, True), (1 << 30, True), (1 << 30, False), (None, True)):
        size = 2 * 256 * (int(labels.max()) + 1)  # one channel of a single block
        monkeypatch.setattr(
            histograms, "BYTES", -(-2 * size // (labels > 0).sum()) if room is None else room
        )
        if not narrow:
            monkeypatch.setattr(histograms, "_type", lambda areas: np.dtype(np.uint32))
        found.append(measure_all(labels, image, groups=["percentiles"])["segments"])
    for other in found[1:]:
        assert list(other) == list(found[0])
        for name, column in found[0].items():
            np.testing.assert_array_equal(other[name], column, err_msg=name)


def test_percentiles__of_a_region_that_overflows_16_bits() -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8), 600).reshape(300, 512)
    found = measure_all(np.ones(image.shape, int), image, groups=["percentiles"])["segments"]
    for q in percentiles.PERCENTS:
        name = "intensity_median-0" if q == 50 else f"intensity_p{q}-0"
        assert found[name][0] == np.percentile(image, q)


def test_large_places_and_values__do_not_overflow() -> None:
    """Digits against Python's integers, far beyond 64 bits."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, q, a = (int(rng.integers(1, 2**40)), *(int(x) << 20 for x in rng.integers(1, 2**42, 2)))
        a = min(a, int((n * q) ** 0.5))
        digits = [np.array([x >> 32 * k & exact.MASK for k in range(4)]) for x in (q, a)]
        f, e = exact.spread(n, digits[0], digits[1], digits[1])
        assert f * 2.0**e == pytest.approx(n * q - a * a, rel=1e-15, abs=1)
    far = np.zeros((3, 1), np.uint8)
    wanted = Wanted((2_000_000, 2_000_000), 1, "uint8", frozenset({"area", "shape"}))
    assert wanted.groups
    with pytest.raises(ValueError, match="too large to be measured"):
        Wanted((1 << 21, 5), 1, "uint8")
    assert measure_all(far)["segments"]["area"].tolist() == []


@pytest.mark.parametrize(
    ("labels", "image", "groups", "message"),
    [
        (np.zeros((3, 3)), None, ["area"], "labels must be"),
        (np.zeros((3, 0), int), None, ["area"], "not empty"),
        (np.full((3, 3), -1), None, ["area"], "negative"),
        (np.ones((3, 3), int), np.ones((3, 4)), ["area"], "differ in shape"),
        (np.ones((3, 3), int), np.ones((3, 3), complex), ["area"], "convert it first"),
        (np.ones((3, 3), int), None, ["form"], "no group `form`"),
    ],
)
def test_bad_input__is_explained(labels, image, groups, message) -> None:
    with pytest.raises(ValueError, match=message):
        measure_all(labels, image, groups=groups)


@pytest.mark.parametrize("kind", ["rgb", "five", "signed"])
def test_measure__adds_up_across_the_blocks_of_a_sweep(kind: str) -> None:
    """Taller than the longest stretch and wider than a strip, with pixels of no region."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.repeat(rng.integers(0, 4, (4, 60)), 150, 0), 70, 1)[:590, :4150]
    labels[rng.random(labels.shape) < 1e-3] = 2
    image = pictures(rng, labels.shape, kind)
    found = measure_all(labels, image, groups=("area", "shape", "colour"))["segments"]
    y, x = np.indices(labels.shape)
    for at, label in enumerate(found["label"]):
        inside = labels == label
        values = image[inside].astype(np.int64)
        assert found["area"][at] == inside.sum()
        assert found["centroid-0"][at] == y[inside].sum() / inside.sum()
        assert found["centroid-1"][at] == x[inside].sum() / inside.sum()
        for c in range(image.shape[2]):
            assert found[f"intensity_mean-{c}"][at] == values[:, c].sum() / inside.sum()
            assert found[f"intensity_max-{c}"][at] == values[:, c].max()
            assert found[f"intensity_min-{c}"][at] == values[:, c].min()
            np.testing.assert_allclose(found[f"intensity_std-{c}"][at], values[:, c].std())
    cut = measure_all(labels[:, ::-1], image[:, ::-1], groups=("area", "shape", "colour"))
    np.testing.assert_array_equal(cut["segments"]["perimeter"], found["perimeter"])
    np.testing.assert_array_equal(cut["segments"]["touches_none"], found["touches_none"])


@pytest.mark.parametrize("most", [65533, 65534, 65535, 65536])
def test_measure__tells_many_regions_of_a_tile_apart(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what 16 bits hold, where numbers and the outside could be taken for each other."""
    labels = (np.arange(256 * 258).reshape(256, 258) % most) + 1
    whole = measure_all(labels, groups=("area", "shape"))
    monkeypatch.setattr(measure, "BLOCK", 60)
    same(whole, measure_all(labels, groups=("area", "shape")))


def test_columns__do_not_depend_on_the_rows_beside() -> None:
    """Tiles finish other numbers of rows at once, and vector code may round by their number."""
    rng = np.random.default_rng(3)
    n = 37
    size = rng.integers(1, 300, (n, 2))
    counts = rng.integers(0, 2000, (n, 4))
    total = np.ones((n, places.PLACES), np.int64)
    total[:, places.AREA] = size.prod(axis=1)
    total[:, [places.ROWS, places.COLUMNS]] = size * total[:, :1] // 2
    low = np.zeros((n, 2), np.int64)
    sums = {
        "label": np.arange(n) + 1,
        "places": total,
        "low": low,
        "high": size,
        "borders": counts,
    }
    wanted = Wanted((300, 300), 1, "uint8", frozenset({"area", "shape"}))
    together = finished(sums, wanted)
    for first in range(0, n, 3):
        for rows in (1, 2, 3):
            part = slice(first, first + rows)
            alone = finished({name: column[part] for name, column in sums.items()}, wanted)
            for name, values in alone.items():
                np.testing.assert_array_equal(values, together[name][part], err_msg=name)
