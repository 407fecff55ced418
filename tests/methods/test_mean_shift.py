"""Mean shift against a slow reference written from the rules; the two ways to sum up a ball."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from segpipe import colour
from segpipe.methods.gradient_histogram import gradient_histogram
from segpipe.methods.mean_shift import MeanShift, mean_shift
from segpipe.methods.mean_shift_modes import mean_shift_filter, mean_shift_modes
from segpipe.methods.mean_shift_narrow import pieces, vector_rounded, vector_totals
from segpipe.methods.mean_shift_neighbours import vector_neighbours
from segpipe.methods.mean_shift_plain import (
    COLOUR,
    LANES,
    plain_neighbours,
    plain_successor,
    state_size,
)
from segpipe.methods.mean_shift_successor import vector_successor
from segpipe.methods.mean_shift_window import weights
from segpipe.methods.ranges import ranges_of
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.tiles import Box


def mean(total, n, half_up=1):
    return (2 * half_up * total + n) // (2 * n)


def integers(image, method, valid):
    """Colours as lists of Python integers, and the squared bandwidth."""
    hr = method.range_bandwidth
    if method.features == "lab":
        unit = min(8, 254 // hr)
        return colour.planes(image, unit, None).transpose(1, 2, 0).astype(object), (hr * unit) ** 2
    if method.features == ("colour", "gradient-histogram") and image.dtype == np.uint8:
        unit = min(8, 254 // hr)
        scaled = image.astype(int) * unit
        texture = gradients(scaled, valid, method.histogram_radius)
        return np.concatenate([scaled, texture], axis=2).astype(object), (hr * unit) ** 2
    if image.dtype.kind == "f":
        unit = min(64, 254 // hr)
        scale = ranges_of(image, valid)
        out = np.zeros(image.shape, np.int64)
        for c in range(image.shape[2]):
            low, high = scale.low[c], scale.high[c]
            gain = 255.0 * unit / (high - low) if high > low else 0.0
            v = (np.nan_to_num(image[..., c].astype(np.float64)) - low) * gain
            out[..., c] = np.floor(np.clip(v, 0, 255.0 * unit) + 0.5)
        return out.astype(object), (hr * unit) ** 2
    q = -(-hr // 254)
    lift = 32768 if image.dtype == np.int16 else 0
    return ((image.astype(np.int64) + lift + q // 2) // q).astype(object), hr * hr // q**2


def gradients(values, valid, radius):
    """Mean lengths of gradients in four orientations, pixel by pixel."""
    h, w, channels = values.shape
    votes, out = np.zeros((h, w, 4)), np.zeros((h, w, 4), int)

    def there(y, x, instead):
        return (y, x) if 0 <= y < h and 0 <= x < w and valid[y, x] else instead

    for p in zip(*np.nonzero(valid), strict=True):
        y, x = p
        best = (0, 0, 0)
        for c in range(channels):
            dy = int(values[(*there(y + 1, x, p), c)]) - int(values[(*there(y - 1, x, p), c)])
            dx = int(values[(*there(y, x + 1, p), c)]) - int(values[(*there(y, x - 1, p), c)])
            best = max(best, (dy * dy + dx * dx, dy, dx), key=lambda one: one[0])
        angle = np.degrees(np.arctan2(best[1], best[2]))
        votes[(*p, round(angle / 45) % 4)] = math.isqrt(best[0])
    for y, x in zip(*np.nonzero(valid), strict=True):
        box = slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1)
        n = valid[box].sum()
        out[y, x] = (votes[box].sum(axis=(0, 1)) + n) // (2 * n)
    return out


def trajectory(values, valid, y, x, method, limit, table):
    """The mode (y, x, colour) of a pixel."""
    h, w = valid.shape
    hs, s = method.spatial_bandwidth, method.sample
    at, state = (y, x), list(values[y, x])
    for _ in range(method.iterations):
        n, sums = 0, [0] * (2 + len(state))
        for v in range(max(0, at[0] - hs), min(h, at[0] + hs + 1)):
            for u in range(max(0, at[1] - hs), min(w, at[1] + hs + 1)):
                if v % s or u % s or not valid[v, u]:
                    continue
                apart = [int(a) - int(b) for a, b in zip(values[v, u], state, strict=True)]
                d = sum(a * a for a in apart)
                if d > limit:
                    continue
                weight = 1
                if table.size:
                    weight = int(table[abs(v - at[0]), abs(u - at[1]), 256 * d // (limit + 1)])
                n += weight
                for k, a in enumerate((v, u, *values[v, u])):
                    sums[k] += weight * int(a)
        if n == 0:
            break
        here = at
        at = mean(sums[0], n), mean(sums[1], n)
        state = [mean(a, n) for a in sums[2:]]
        if at == here:
            break
    return at, state


def reference(image, method, mask=None):
    """Return labels, and the modes' colours and places."""
    image = image[:, :, None] if image.ndim == 2 else image
    valid = np.isfinite(image).all(axis=2)
    valid = valid if mask is None else valid & (mask > 0)
    h, w = valid.shape
    values, limit = integers(image, method, valid)
    table = weights(method.kernel, method.spatial_bandwidth)
    pixels = [(y, x) for y in range(h) for x in range(w) if valid[y, x]]
    modes = {p: trajectory(values, valid, *p, method, limit, table) for p in pixels}

    def linked(p, q):
        (a, u), (b, v) = modes[p], modes[q]
        place = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        return (
            place < method.spatial_bandwidth**2
            and sum((i - j) ** 2 for i, j in zip(u, v, strict=True)) < limit
        )

    region = {}
    for p in pixels:
        if p not in region:
            region[p] = p
            queue = deque([p])
            while queue:
                a = queue.popleft()
                for b in around(a):
                    if b in modes and b not in region and linked(a, b):
                        region[b] = p
                        queue.append(b)
    # means of regions are taken of colours, whatever else was compared
    region = merged(region, values[:, :, : image.shape[2]], method.min_size)
    first = {}
    labels = np.zeros((h, w), int)
    for p in pixels:
        labels[p] = first.setdefault(region[p], len(first) + 1)
    return labels, modes


def around(p):
    return [(p[0] - 1, p[1]), (p[0], p[1] - 1), (p[0], p[1] + 1), (p[0] + 1, p[1])]


def merged(region, values, min_size):
    """Pixel -> name of its region after the rounds; names are first pixels."""
    pixels = {}
    for p, name in region.items():
        pixels.setdefault(name, []).append(p)
    size = {r: len(ps) for r, ps in pixels.items()}
    total = {
        r: [sum(int(values[p][c]) for p in ps) for c in range(values.shape[2])]
        for r, ps in pixels.items()
    }
    middle = {r: [(16 * t + size[r]) // (2 * size[r]) for t in total[r]] for r in size}
    settled = {r for r in size if size[r] >= min_size}
    while True:
        touching = {r: set() for r in size}
        for p, r in region.items():
            touching[r] |= {region[q] for q in around(p) if q in region} - {r}
        picks = {
            r: min(
                touching[r],
                key=lambda o: (
                    sum((a - b) ** 2 for a, b in zip(middle[r], middle[o], strict=True)),
                    o,
                ),
            )
            for r in size
            if r not in settled and touching[r]
        }
        if not picks:
            return region
        group = {r: {r} for r in size}
        for a, b in picks.items():
            if group[a] is not group[b]:
                group[a] |= group[b]
                for r in group[b]:
                    group[r] = group[a]
        renamed = {}
        for g in {id(g): g for g in group.values()}.values():
            heads = g & settled
            assert len(heads) <= 1
            if heads or len(g) == 1:
                name = next(iter(heads or g))
            else:
                name = min(g)
                size[name], total[name] = (
                    sum(size[r] for r in g),
                    [sum(t) for t in zip(*(total[r] for r in g), strict=True)],
                )
                middle[name] = [(16 * t + size[name]) // (2 * size[name]) for t in total[name]]
                if size[name] >= min_size:
                    settled.add(name)
            renamed |= dict.fromkeys(g, name)
        region = {p: renamed[r] for p, r in region.items()}
        size = {r: size[r] for r in set(region.values())}


def pictures():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:26, :31]
    soft = 60 + 40 * np.sin(x / 4) + 30 * (y > 12) + rng.normal(0, 6, (26, 31))
    rgb = np.stack([soft, soft[::-1], 255 - soft], axis=2).astype(np.uint8)
    holes = rgb.astype(np.float32) / 7
    holes[rng.random((26, 31)) < 0.1] = np.nan
    return {
        "rgb": rgb,
        "gray": rgb[:, :, 0],
        "four": np.concatenate([rgb, rgb[:, ::-1, :1]], axis=2),
        "seven": np.concatenate([rgb, rgb[::-1], rgb[:, ::-1, :1]], axis=2),
        "uint16": rgb.astype(np.uint16) * 250,
        "int16": (rgb.astype(np.int16) - 128) * 30,
        "float": holes,
        "two-level": np.where(rng.random((26, 31)) < 0.5, 100, 112).astype(np.uint8),
        "extremes": np.where(rng.random((26, 31, 3)) < 0.5, 0, 255).astype(np.uint8),
        "constant": np.full((26, 31, 3), 9, np.uint8),
        "one-row": rgb[:1],
        "one-pixel": rgb[:1, :1],
    }


SETTINGS = [
    MeanShift(3, 16, 12, 4, sample=1),
    MeanShift(4, 20, 20, 6),
    MeanShift(9, 12, 1, 1, sample=1),
    MeanShift(4, 25, 8, 3, kernel="gaussian"),
    MeanShift(3, 25, 8, 3, kernel="epanechnikov", sample=1),
]


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_labels__equal_the_rules(name: str, number: int) -> None:
    method, image = SETTINGS[number], pictures()[name]
    if name in ("uint16", "int16"):
        factor = 250 if name == "uint16" else 30
        method = MeanShift(**{**vars(method), "range_bandwidth": method.range_bandwidth * factor})
    mask = None
    if number == 1:
        mask = np.random.default_rng(8).random(image.shape[:2]) > 0.15
    wanted, modes = reference(image, method, mask)
    found = mean_shift(image, **vars(method), mask=mask)
    np.testing.assert_array_equal(found, wanted)
    if name in ("rgb", "four", "two-level"):
        filtered, places = mean_shift_filter(
            image, **{k: v for k, v in vars(method).items() if k != "min_size"}, mask=mask
        )
        for p, (place, state) in modes.items():
            assert tuple(places[p]) == place
            assert np.atleast_1d(filtered[p]).tolist() == [int(v) for v in state]


def test_labels__equal_the_rules_in_lab() -> None:
    method = MeanShift(4, 10, 15, 4, features="lab")
    image = pictures()["rgb"]
    np.testing.assert_array_equal(mean_shift(image, **vars(method)), reference(image, method)[0])


def test_labels__equal_the_rules_with_gradients() -> None:
    method = MeanShift(4, 20, 15, 4, features=("colour", "gradient-histogram"), histogram_radius=2)
    image = pictures()["rgb"]
    mask = np.random.default_rng(2).random(image.shape[:2]) > 0.1
    wanted, _modes = reference(image, method, mask)
    np.testing.assert_array_equal(mean_shift(image, **vars(method), mask=mask), wanted)


def test_gradient_histogram__knows_orientations() -> None:
    y, x = np.mgrid[:60, :60]
    for angle in range(0, 180, 15):
        turn = np.radians(angle)
        wave = 128 + 100 * np.sin((x * np.cos(turn) + y * np.sin(turn)) / 3)
        found = gradient_histogram(wave[None].astype(np.uint8), None, 8)[:, 30, 30]
        assert found.argmax() == round(angle / 45) % 4


def test_gaussian_feature__is_the_method_on_a_smoothed_image() -> None:
    """What a smoothed image was is told by SciPy; only means of regions are those of the image."""
    image = pictures()["gray"]
    smoothed = gaussian_filter(image.astype(float), 1.5, mode="constant")
    smoothed /= gaussian_filter(np.ones(image.shape), 1.5, mode="constant")
    plain = mean_shift_filter(np.rint(smoothed).astype(np.uint8), 3, 10, sample=1)[0]
    found = mean_shift_filter(image, 3, 10, sample=1, features="gaussian", sigma=1.5)[0]
    assert np.abs(found.astype(int) - plain).mean() < 1


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 1), (3, 5)])
def test_reach__is_the_halo_and_no_less(shift: tuple[int, int]) -> None:
    """A stair of colours lets trajectories climb; a halo of one step less than the reach shows."""
    rng = np.random.default_rng(4)
    image = np.add.outer(np.arange(120) * 3, np.arange(90) * 2)[..., None] // 2
    image = (image + rng.integers(0, 3, image.shape)).astype(np.uint8)
    image = np.roll(image, shift, (0, 1))
    method = MeanShift(4, 14, 10, 5)
    info = ImageInfo(image.shape[:2], 1, "uint8")
    whole = run_in_memory(method.passes(info), {"image": image})[0]["labels"]
    tiled = run_in_memory(method.passes(info), {"image": image}, size=(17, 23))[0]["labels"]
    np.testing.assert_array_equal(tiled, whole)


FLAT = weights("flat", 1)
STRIDE, BEFORE, BEHIND = 70, 300, 12000
"""Of the planes below: where windows begin, and what they may read behind."""


def planes_and_colours(dtype, channels, rng):
    """Planes of small and of large spread, each with colours that occur in it."""
    top = 256 if dtype == np.int16 else 65536
    for spread in (40, top):
        low = rng.integers(0, top - spread + 1)
        size = BEFORE + BEHIND
        planes = rng.integers(low, low + spread, (channels, size)).astype(dtype)
        yield tuple(planes), lambda n, p=planes: p[:, rng.integers(p.shape[1], size=n)]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_successor__equals_its_plain_twin(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(channels)
    size = state_size(channels)
    for planes, colours in planes_and_colours(dtype, channels, rng):
        for _ in range(200):
            states = np.zeros(3 * size, np.uint16)
            states[size + COLOUR : size + COLOUR + channels] = colours(1)[:, 0]
            rows, columns = int(rng.integers(0, 100)), int(rng.integers(1, 70))
            window = BEFORE + int(rng.integers(60)), STRIDE, rows, columns, 65530, 4
            usual = int(rng.integers(max(0, rows - 1), 100))
            limit = int(rng.choice([0, 30, 300, 10000, 254**2]))
            rule = usual, int(rng.integers(3)), limit
            found, wanted = np.full((2, 3 * size), 7, np.uint16)
            vector_successor(planes, window, rule, states, size, found, 2 * size)
            plain_successor(planes, window, rule, FLAT, states, size, wanted, 2 * size)
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize(("radius", "bits"), [(8, 1), (4, 0), (3, 0), (17, 2)])
def test_narrow_windows__equal_their_plain_twin(
    dtype: type, channels: int, radius: int, bits: int
) -> None:
    """All over a small window of an image, whose pixels are sampled from an odd place on."""
    rng = np.random.default_rng(channels)
    size, before, shape = state_size(channels), 128, (64, 80)
    here = Box((9, 5), (64, 70))
    there = [-(-n >> bits) for n in shape]
    first = [-(-n >> bits) for n in here.start]
    rows, stride = ((n - 1 >> bits) + 1 - f for n, f in zip(here.stop, first, strict=True))
    lattice = (stride, first[0], first[1] - before, *there)
    for planes, colours in planes_and_colours(dtype, channels, rng):
        limit = int(rng.choice([30, 3000, 254**2]))
        flat = tuple(p[: before + rows * stride + before] for p in planes)
        stripes, inside, by_row, by_column, _begin = pieces(
            flat, before, lattice, here, (9, radius, bits, limit)
        )
        for _ in range(60):
            margin = 0 if here.stop[0] == shape[0] else radius
            y = int(rng.integers(9 + radius, 64 - margin))
            x = int(rng.integers(5 + radius, 70 - radius))
            states = np.zeros(3 * size, np.uint16)
            states[size + COLOUR - 2 : size + COLOUR + channels] = y, x, *colours(1)[:, 0]
            top, left = ((n - radius + (1 << bits) - 1) >> bits for n in (y, x))
            down, across = (
                min(n + radius >> bits, m - 1) for n, m in zip((y, x), there, strict=True)
            )
            offset = before + (top - first[0]) * stride + left - first[1]
            window = offset, stride, down - top + 1, across - left + 1, top << bits, left << bits
            found, wanted = np.full((2, 3 * size), 7, np.uint16)
            plain_successor(planes, window, (0, bits, limit), FLAT, states, size, wanted, size)
            row, column = by_row[y - 9], by_column[x - 5]
            totals = np.full(3 * size, 7, np.int32)
            place, corner = tuple((row + column)[:2]), (row[2], column[2])
            vector_totals((stripes, inside), place, states, size, totals, size)
            vector_rounded(stripes, totals, size, corner, bits, states, size, found, size)
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_neighbours__equal_their_plain_twin(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(channels)
    for planes, colours in planes_and_colours(dtype, channels, rng):
        for left in (-20, -3, 0, 5, 30, 33, 50):
            rows, columns = int(rng.integers(0, 20)), int(rng.integers(1, 20))
            bits = int(rng.integers(3))
            window = BEFORE + left, STRIDE, rows, columns, 16380, left
            place = 65530, 65500 + int(rng.integers(70))
            most = (32767 // max(1, rows * columns)) ** 2  # sums have 16 bits
            rule = bits, min(int(rng.choice([0, 30, 300, 10000, 254**2])), most), 40
            own = np.ascontiguousarray(colours(LANES).astype(np.uint16))
            found, wanted = np.full((2, 5 + (LANES << bits) * state_size(channels)), 7, np.uint16)
            vector_neighbours(planes, window, place, rule, own, found, 5)
            plain_neighbours(planes, window, place, rule, own, wanted, 5)
            np.testing.assert_array_equal(found, wanted)


FEATURES = [
    ("rgb", "colour", {}),
    ("rgb", "lab", {}),
    ("rgb", ("lab", "gradient-histogram"), {"histogram_radius": 3}),
    ("float", ("gaussian", "gradient-histogram"), {"sigma": 0.7}),
    ("float", "colour", {}),
    ("int16", "gaussian", {}),
]


@pytest.mark.parametrize(("name", "features", "options"), FEATURES)
def test_modes__are_what_segments_contain(name: str, features: Any, options: dict) -> None:
    image = pictures()[name]
    bandwidth = 600 if name == "int16" else 20
    parameters = (4, bandwidth, 20)
    mask = np.random.default_rng(6).random(image.shape[:2]) > 0.05
    options = {"features": features, "mask": mask, **options}
    labels, filtered, table = mean_shift_modes(image, *parameters, **options)
    np.testing.assert_array_equal(labels, mean_shift(image, *parameters, **options))
    wanted, places = mean_shift_filter(image, *parameters[:2], **options)
    np.testing.assert_array_equal(filtered, wanted)
    assert filtered.dtype == (image.dtype if name in ("int16", "rgb") else np.float32) or (
        features != "colour" and filtered.dtype == np.float32
    )
    assert (table["label"] == np.arange(1, labels.max() + 1)).all()
    for row, label in enumerate(table["label"]):
        here = labels == label
        assert table["area"][row] == here.sum()
        for k in range(2):
            np.testing.assert_allclose(table[f"mode-{k}"][row], places[here][:, k].mean())
        for c in range(filtered.shape[2]):
            mean_colour = filtered[here][:, c].astype(np.float64).mean()
            np.testing.assert_allclose(table[f"intensity_mode-{c}"][row], mean_colour, rtol=1e-12)


@pytest.mark.parametrize(("name", "features", "options"), FEATURES)
def test_modes__do_not_show_the_tiles(name: str, features: Any, options: dict) -> None:
    image = np.concatenate([pictures()[name]] * 3, axis=1)
    image = np.concatenate([image, image[::-1]])
    bandwidth = 600 if name == "int16" else 20
    method = MeanShift(3, bandwidth, 15, 3, features=features, filtered=True, modes=True, **options)
    info = ImageInfo(image.shape[:2], image.shape[2], image.dtype.name)
    arrays, tables = run_in_memory(method.passes(info), {"image": image})
    for size in ((13, 40), (30, 17)):
        tiled, columns = run_in_memory(method.passes(info), {"image": image}, size=size)
        for array in ("labels", "filtered", "shift"):
            np.testing.assert_array_equal(tiled[array], arrays[array])
        assert list(columns["segments"]) == list(tables["segments"])
        for title, column in tables["segments"].items():
            np.testing.assert_array_equal(columns["segments"][title], column, err_msg=title)


def test_filtered__values_are_in_units_of_the_features() -> None:
    """A constant image is its own mode, whatever is compared."""
    image = np.full((12, 14, 3), (200, 40, 90), np.uint8)
    filtered = mean_shift_filter(image, 3, 8, features=("lab", "gradient-histogram"))[0]
    np.testing.assert_allclose(filtered[5, 5, :3], rgb2lab(image)[5, 5], atol=0.15)
    assert not filtered[..., 3:].any()
    ramp = np.repeat(np.arange(0, 120, 4, dtype=np.uint8)[None], 20, axis=0)
    gradient = mean_shift_filter(ramp, 3, 8, features="gradient-histogram")[0]
    np.testing.assert_allclose(gradient[10, 12], [4, 0, 0, 0])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"spatial_bandwidth": 0}, "spatial_bandwidth must be 1 to 63, got 0"),
        ({"range_bandwidth": 0}, "range_bandwidth must be 1 to 65535, got 0"),
        ({"min_size": 0}, "min_size must be 1 to"),
        ({"iterations": 0}, "iterations must be 1 to 100"),
        ({"iterations": 100, "spatial_bandwidth": 63}, "may reach 1024 pixels"),
        ({"sample": 3}, "sample must be one of"),
        ({"sample": 4, "spatial_bandwidth": 2}, "empty; take a smaller sample"),
        ({"kernel": "box"}, "kernel must be flat, epanechnikov or gaussian"),
        ({"features": "space"}, "features must be one or several of"),
        ({"features": ("lab", "lab")}, "features must be one or several of"),
        ({"sigma": 0.0}, "sigma must be 0.2 to 16"),
        ({"histogram_radius": 40}, "histogram_radius must be 1 to 32"),
        ({"range_bandwidth": 300}, "1 to 254 for uint8"),
    ],
)
def test_parameters__are_refused_in_words(parameters: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mean_shift(np.zeros((5, 5, 3), np.uint8), **parameters)


def test_images__are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="uint8, uint16, int16 or float, got uint32"):
        mean_shift(np.zeros((5, 5), np.uint32))
    with pytest.raises(ValueError, match="three channels of uint8"):
        mean_shift(np.zeros((5, 5), np.uint16), features="lab")
    with pytest.raises(ValueError, match="not empty"):
        mean_shift(np.zeros((0, 5), np.uint8))
