"""Exact SLIC: against an obvious reference, and every tiling against the whole image."""

from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from segpipe import colour
from segpipe.methods import slic_window
from segpipe.methods.ranges import ranges_of
from segpipe.methods.slic import Slic, slic
from segpipe.methods.slic_window import reach, slic_regions
from segpipe.regions import leftovers
from segpipe.tiles import Grid
from tests import naive


def photo(height, width, *, seed=0):
    """Smooth colours, edges and texture: soft blobs, a few discs, noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for c in range(3):
        a, b, d = rng.uniform(8, 40, 3)
        image[..., c] = 120 + 50 * np.sin(y / a + c) * np.cos(x / b) + 20 * np.sin((x + y) / d)
    for _ in range(height * width // 1500):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 25)
        image[np.hypot(y - cy, x - cx) < r] = rng.uniform(0, 255, 3)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def gray(values):
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def noise(height, width, channels=3):
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)


def checkerboard(height, width, size):
    y, x = np.mgrid[:height, :width]
    return gray((y // size + x // size) % 2 * 255)


def speckle(height, width):
    """A radar image of one look: the brightness of every pixel is a draw of its own."""
    y, x = np.mgrid[:height, :width]
    ground = 90 + 60 * np.sin(y / 31) * np.cos(x / 23)
    drawn = np.random.default_rng(3).exponential(size=(height, width))
    return np.clip(ground * drawn, 0, 65535).astype(np.uint16)[..., None]


def stripes(height, width):
    """Lines one pixel wide in three colours: every piece is thin and short, none is settled."""
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250]], np.uint8)
    return np.repeat(colours[np.arange(width) % 3][None], height, axis=0)


def rings(height, width):
    """A mask of rings: pieces of all shapes, holes, islands; seams cut them."""
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - height / 2, x - width / 3) % 37 < 24


def scaling_of(image, valid=None):
    if colour.is_rgb(image):
        return None
    return ranges_of(image, valid)


def expected(image, parameters, mask=None):
    """Labels by the reference."""
    image = image[..., None] if image.ndim == 2 else image
    valid = np.ones(image.shape[:2], bool) if mask is None else mask
    unit, _ = naive.units(parameters.compactness)
    if colour.is_rgb(image):
        colours = naive.lab(image, unit)
    else:
        if image.dtype.kind == "f":
            valid = valid & ~np.isnan(image).any(axis=2)
        scale = scaling_of(image, valid)
        colours = naive.scaled(np.nan_to_num(image), unit, scale.low, scale.high)
    return naive.slic(
        colours,
        valid,
        parameters.step,
        parameters.compactness,
        parameters.iterations,
        parameters.smallest,
        parameters.refine,
    )


def run(image, parameters, mask=None):
    return slic(image, mask=mask, **asdict(parameters))


IMAGES = {
    "photo": photo(50, 71),
    "noise": noise(41, 52),
    "constant": gray(np.full((40, 50), 93)),
    "two levels": gray(np.where(np.arange(60) < 31, 40, 200)[None].repeat(45, 0)),
    "checkerboard 1": checkerboard(45, 50, 1),
    "checkerboard 5": checkerboard(45, 50, 5),
    "speckle": speckle(45, 40),
    "stripes": stripes(50, 61),
    "gray": photo(45, 50)[..., 0],
    "gray uint16": photo(45, 50)[..., :1].astype(np.uint16) * 200,
    "int16, 2 channels": photo(45, 50)[..., :2].astype(np.int16) * 100 - 9000,
    "4 channels": np.dstack([photo(45, 50), noise(45, 50, 1)]),
    "float": photo(45, 50).astype(np.float32) / 255,
    "1 x 1": photo(1, 1),
    "1 x 70": photo(1, 70),
    "33 x 2": photo(33, 2),
}


@pytest.mark.parametrize("refine", [0, 3])
@pytest.mark.parametrize("name", IMAGES)
def test_slic__equals_reference(name, refine):
    parameters = Slic(refine=refine)
    np.testing.assert_array_equal(run(IMAGES[name], parameters), expected(IMAGES[name], parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        Slic(step=4),
        Slic(step=7, refine=2),
        Slic(step=13, iterations=3, refine=1),
        Slic(step=45),
        Slic(iterations=0),
        Slic(min_size=1),
        Slic(step=8, min_size=64),
        Slic(compactness=0.2, refine=2),
        Slic(compactness=40.0),
        Slic(compactness=170.0, step=9),
    ],
    ids=str,
)
def test_slic__equals_reference_for_parameters(parameters):
    image = photo(47, 66, seed=3)
    np.testing.assert_array_equal(run(image, parameters), expected(image, parameters))


@pytest.mark.parametrize("refine", [0, 3])
@pytest.mark.parametrize("step", [7, 16])
def test_slic__masked_equals_reference(step, refine):
    image = photo(60, 71, seed=4)
    speckled = np.random.default_rng(5).random((60, 71)) > 0.4
    for mask in (rings(60, 71), speckled):
        parameters = Slic(step=step, refine=refine)
        labels = run(image, parameters, mask)
        np.testing.assert_array_equal(labels, expected(image, parameters, mask))
        assert ((labels == 0) == ~mask).all()


def test_slic__nan_is_masked():
    image = photo(40, 50).astype(np.float32)
    image[10:20, 5:30] = np.nan
    labels = slic(image)
    assert ((labels == 0) == np.isnan(image[..., 0])).all()
    np.testing.assert_array_equal(labels, expected(image, Slic()))


def test_slic__nothing_valid():
    assert not slic(photo(20, 20), mask=np.zeros((20, 20), bool)).any()


def test_slic__regions_connected_and_numbered_in_raster_order():
    from scipy import ndimage

    image = photo(150, 170, seed=6)
    for refine in (0, 4):
        labels = slic(image, step=11, refine=refine)
        first = np.unique(labels, return_index=True)[1]
        assert (np.diff(first) > 0).all()
        assert all(ndimage.label(labels == k)[1] == 1 for k in range(1, labels.max() + 1))


def test_slic__does_not_touch_its_input():
    image, mask = photo(50, 50), rings(50, 50)
    before = image.copy(), mask.copy()
    slic(image, mask=mask, refine=2)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [("step", 3), ("compactness", 0.0), ("iterations", -1), ("refine", 99), ("min_size", 0)],
)
def test_slic__raises_on_bad_parameter(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .* got {value}"):
        Slic(**{field: value})


def test_slic__raises_on_bad_image():
    with pytest.raises(ValueError, match="convert it first"):
        slic(np.zeros((4, 4), np.int64))
    with pytest.raises(ValueError, match="not empty"):
        slic(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="mask must have the shape"):
        slic(photo(4, 4), mask=np.ones((3, 3), bool))


def stitched(image, valid, size, parameters, halo=None):
    """Labels of all pixels, computed tile by tile in shuffled order."""
    shape = image.shape[:2]
    grid, scale = Grid(shape, size), scaling_of(image, valid)
    halo = reach(parameters) if halo is None else halo
    parts, records = np.zeros(shape, np.uint32), [{} for _ in range(len(grid))]
    for number in np.random.default_rng(7).permutation(len(grid)):
        tile = grid.tile(int(number), halo)
        index = tile.window.slices
        mask, start = None if valid is None else valid[index], tile.window.start
        found = slic_regions(image[index], mask, start, shape, tile.inner, parameters, scale)
        regions, ids = found.regions, found.ids
        first = np.unique(regions, return_index=True)[1][int(regions.min() > 0) - 1 or None :]
        assert (np.diff(first) > 0).all()  # numbered by first pixel in the core
        assert regions.max(initial=0) == len(ids) == len(np.unique(ids))
        parts[tile.core.slices], records[number] = regions, found.record(tile, shape)
    ranks = leftovers.solve(parameters.smallest, records, grid)
    out = np.zeros(shape, np.int64)
    for tile, record in zip(grid.tiles(), records, strict=True):
        out[tile.core.slices] = ranks.table(tile, record)[parts[tile.core.slices]]
    return out


TILED = {
    "photo": (photo(700, 640, seed=8), None),
    "photo, rings": (photo(640, 700, seed=9), rings(640, 700)),
    "noise": (noise(600, 560), None),
    "noise, speckled": (noise(500, 560), np.random.default_rng(2).random((500, 560)) > 0.4),
    "constant": (gray(np.full((500, 500), 93)), None),
    "checkerboard 1": (checkerboard(500, 450, 1), None),
    "checkerboard 5": (checkerboard(450, 500, 5), None),
    "speckle": (speckle(450, 500), None),
    "speckle, rings": (speckle(300, 320), rings(300, 320)),
    "speckle, tiles without a pixel": (speckle(300, 320), np.mgrid[:300, :320][1] < 100),
    "stripes": (stripes(430, 450), None),
    "4 channels": (np.dstack([photo(300, 320), noise(300, 320, 1)]), None),
    "float": (photo(300, 320)[..., :1].astype(np.float32), rings(300, 320)),
}


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        (Slic(), (192, 211)),
        (Slic(step=8, iterations=4, refine=3), (100, 137)),
        (Slic(step=5, iterations=2), (130, 97)),
        (Slic(step=12, iterations=1, min_size=144), (90, 120)),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", TILED)
def test_tiles__equal_whole(name, parameters, size):
    """All tiles together give the labels of the plain function on the whole image."""
    image, valid = TILED[name]
    labels = run(image, parameters, valid)
    np.testing.assert_array_equal(stitched(image, valid, size, parameters), labels)


@pytest.mark.parametrize("refine", [0, 4])
@pytest.mark.parametrize("name", TILED)
def test_slic__leaves_no_small_segment_that_has_a_neighbour(name, refine):
    image, valid = TILED[name]
    for parameters in (Slic(refine=refine), Slic(8, iterations=2, refine=refine, min_size=64)):
        labels = run(image, parameters, valid)
        assert not naive.small_with_neighbours(labels, parameters.smallest)


def test_slic__pieces_without_neighbours_stay():
    mask = np.zeros((40, 40), bool)
    mask[3, 5:9] = mask[20:23, 10:12] = mask[30, 30] = True
    mask[5:36, 18:28] = True
    sizes = np.bincount(slic(noise(40, 40), mask=mask, min_size=200)[mask])
    assert sorted(sizes[1:]) == [1, 4, 6, 310]


@pytest.mark.parametrize("name", ["noise", "speckle", "stripes"])
def test_slic__larger_min_size_gives_fewer_segments(name):
    image = TILED[name][0][:260, :260]
    counts = [slic(image, step=16, min_size=n).max() for n in (1, 2, 4, 10, 20, 42, 90, 180, 256)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 260 * 260 / 256


def test_tiles__random_sizes_on_real_image(data):
    path = sorted((data / "carrot_weed" / "images").glob("*.jpg"))
    if not path:
        pytest.skip(f"no carrot_weed images in {data}; SEGPIPE_TEST_DATA names their folder")

    image = np.asarray(Image.open(path[0]).convert("RGB"))[:900, :1100]
    rng = np.random.default_rng(11)
    for parameters in (Slic(), Slic(step=9, iterations=5, refine=4)):
        whole = stitched(image, None, image.shape[:2], parameters)
        for size in rng.integers(60, 700, (3, 2)):
            got = stitched(image, None, tuple(map(int, size)), parameters)
            np.testing.assert_array_equal(got, whole)


def test_tiles__too_small_halo_is_refused():
    image, parameters = TILED["photo"][0], Slic()
    with pytest.raises(ValueError, match="read a halo of 352 pixels"):
        stitched(image, None, (192, 192), parameters, halo=reach(parameters) - 1)


@pytest.mark.parametrize("halo", [0, 16, 48])
def test_tiles__too_small_halo_differs(monkeypatch, halo):
    """Control: the comparison can fail, so the halo is what makes it pass."""
    image, parameters = TILED["photo"][0], Slic(iterations=10)
    whole = stitched(image, None, image.shape[:2], parameters)
    monkeypatch.setattr(slic_window, "reach", lambda _: halo)
    assert (stitched(image, None, (192, 192), parameters, halo=halo) != whole).any()


def test_tiles__certificate_falls_back(monkeypatch):
    """Chains of orphans reach beyond the near zone: such tiles take the far one, and agree."""
    image, parameters = noise(500, 500), Slic(step=8, iterations=1, min_size=60)
    whole = stitched(image, None, image.shape[:2], parameters)
    zones = []
    cluster = slic_window.cluster
    monkeypatch.setattr(
        slic_window, "cluster", lambda *given: zones.append(given[1]) or cluster(*given)
    )
    tiles = len(Grid((500, 500), (90, 90)))
    got = stitched(image, None, (90, 90), parameters)
    assert len(zones) > tiles
    np.testing.assert_array_equal(got, whole)


def test_tiles__without_certificate_differ(monkeypatch):
    """Control: the near zone alone is not always right, so the certificate is needed."""
    image, parameters = noise(500, 500), Slic(step=8, iterations=1, min_size=60)
    whole = stitched(image, None, image.shape[:2], parameters)
    monkeypatch.setattr(slic_window._Owners, "prove", lambda *_: True)
    monkeypatch.setattr(slic_window, "NEAR", 1)
    assert (stitched(image, None, (90, 90), parameters) != whole).any()


def test_tiles__empty_core_returns_at_once(monkeypatch):
    image, parameters = photo(400, 400), Slic(step=4, iterations=1)
    valid = np.zeros((400, 400), bool)
    valid[:100] = True
    monkeypatch.setattr(slic_window, "cluster", None)
    core = (slice(200, 400), slice(0, 400))
    found = slic_regions(image, valid, (0, 0), (400, 400), core, parameters)
    assert not found.regions.any()
    assert found.regions.shape == (200, 400)
    assert len(found.ids) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_histogram__adds_up_over_tiles(dtype):
    image = (photo(64, 50).astype(np.float64) * 3 - 300).clip(*_range(dtype)).astype(dtype)
    tiles = sum(colour.histogram(image[a : a + 17], None) for a in range(0, 64, 17))
    np.testing.assert_array_equal(tiles, colour.histogram(image, None))
    assert tiles.sum() == image.size


def _range(dtype):
    info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    return info.min, info.max


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_scaling__covers_the_quantiles(dtype):
    values = np.arange(1000).clip(*_range(dtype)).astype(dtype)
    scale = colour.scaling(colour.histogram(values[:, None, None], None), values.dtype)
    low, high = np.quantile(values, [0.005, 0.995])
    step = 1 if np.dtype(dtype).kind != "f" else 8  # a bin of float32: 1/128 of the value
    assert low - step <= scale.low[0] <= low + step
    assert high - step <= scale.high[0] <= high + step


def test_ranges__of_floats_that_differ_by_little_are_not_rounded():
    """Heights of a flat country: far from 0, and few apart."""
    values = (2000 + np.arange(3000) / 1000).astype(np.float32)[:, None, None]
    found = ranges_of(values, None)
    low, high = np.quantile(values, [0.005, 0.995])
    np.testing.assert_allclose([found.low[0], found.high[0]], [low, high], atol=0.002)
    masked = np.zeros((5, 5, 1), np.float32)
    assert ranges_of(masked, np.zeros((5, 5), bool)).low, "nothing counts, nothing fails"


def test_lab__close_to_scikit_image():
    from skimage.color import rgb2lab

    rgb = noise(64, 64)
    got = np.moveaxis(colour.planes(rgb, 8, None), 0, 2) / 8 + [50, 0, 0]
    assert np.abs(got - rgb2lab(rgb)).max() < 0.6


def test_lab__tables_are_the_same_on_every_machine():
    """The tables are the only place where a mathematical library could matter."""
    import hashlib

    digest = hashlib.sha256(colour.LINEAR.tobytes() + colour.ROOT.tobytes()).hexdigest()
    assert digest.startswith("707ff10f2161e258")


@pytest.mark.parametrize("masked", [False, True])
def test_large_images__are_cut_into_tiles_that_do_not_show(slide_rgb, monkeypatch, masked):
    mask = np.hypot(*np.mgrid[-200:200, -250:250]) < 220 if masked else None
    whole = slic(slide_rgb, step=9, iterations=3, mask=mask)
    monkeypatch.setattr("segpipe.methods.slic.TILE", 90)
    monkeypatch.setattr("segpipe.methods.slic.IN_ONE_PIECE", 1000)
    assert np.array_equal(slic(slide_rgb, step=9, iterations=3, mask=mask), whole)
