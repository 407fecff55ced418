"""Watershed: against a slow Kruskal forest from the rules, against peers, and every tiling."""

import heapq

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.measure import label
from skimage.segmentation import watershed as peer

from segpipe.methods import watershed_altitude as land
from segpipe.methods import whole
from segpipe.methods.ranges import ranges_of
from segpipe.methods.region_merging import region_merging
from segpipe.methods.watershed import Watershed, watershed
from segpipe.passes import ImageInfo, Window, run_in_memory
from segpipe.tiles import Grid
from tests import naive_graph


def pictures():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:37, :45]
    smooth = ndimage.gaussian_filter(rng.normal(size=(37, 45, 3)), (2, 2, 0))
    return {
        "blobs": np.clip(128 + 900 * smooth, 0, 255).astype(np.uint8),
        "noise": rng.integers(0, 256, (37, 45, 3), np.uint8),
        "constant": np.full((37, 45, 3), 90, np.uint8),
        "two levels": np.repeat((rng.random((37, 45, 1)) < 0.4) * np.uint8(255), 3, 2),
        "checkerboard": np.repeat(((y // 5 + x // 5) % 2 * 200)[..., None], 3, 2).astype(np.uint8),
        "steps": (rng.integers(0, 4, (37, 45, 1)) * 1000).astype(np.uint16),
        "int16": (900 * smooth[..., :1]).astype(np.int16),
        "float": smooth[..., :2].astype(np.float32),
        "row": rng.integers(0, 256, (1, 60, 3), np.uint8),
        "pixel": np.zeros((1, 1, 3), np.uint8),
    }


PICTURES = pictures()
VARIANTS = [
    {},
    {"h": 0.0, "sigma": 0.0},
    {"h": 6.0},
    {"markers": "grid", "step": 7},
    {"markers": "grid", "step": 16, "sigma": 0.0},
    {"markers": [(0, 0), (0, 30), (20, 11), (21, 11), (36, 44)]},
]


def cases():
    for name, image in PICTURES.items():
        for parameters in VARIANTS:
            yield name, parameters
            if image.shape[2] == 1:
                yield name, {"altitude": "image", **parameters, "h": parameters.get("h", 1) * 30}


def rings(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (np.hypot(y - 17, x - 14) % 11 < 7) & ((3 * x + y) % 13 > 0)


def inside(parameters, shape):
    """Leave out points that the image does not have."""
    if isinstance(parameters.get("markers"), list):
        kept = [(y, x) for y, x in parameters["markers"] if y < shape[0] and x < shape[1]]
        return {**parameters, "markers": kept}
    return parameters


def flooded(image, parameters, mask):
    """Return altitude, valid, parameters as the method sees them on one tile."""
    method = Watershed(**parameters)
    info = ImageInfo(image.shape[:2], image.shape[2], image.dtype.name, False, mask is not None)
    valid = np.ones(image.shape[:2], bool) if mask is None else mask
    scale = ranges_of(image, valid)
    grid = Grid(info.shape, info.shape)
    window = Window(grid.tile(0), grid, {"image": image})
    altitude, kind = land.landscape(window, None if mask is None else mask, method, scale)
    core = (slice(1, -1), slice(1, -1))
    h = land.threshold(method, image.dtype, image.shape[2], scale) or None
    points = np.argwhere(kind[core] == land.MARKED)
    return altitude[core], valid, h, points


def in_tiles(image, parameters, mask, size, order=None):
    method = Watershed(**parameters)
    info = ImageInfo(image.shape[:2], image.shape[2], image.dtype.name, False, mask is not None)
    arrays = {"image": image} | ({} if mask is None else {"mask": mask.astype(np.uint8)})
    return run_in_memory(method.passes(info), arrays, size, order)[0]["labels"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "parameters"), list(cases()))
def test_watershed__equals_reference(name, parameters, masked):
    image = PICTURES[name]
    parameters = inside(parameters, image.shape)
    mask = rings(image.shape[:2]) if masked else None
    altitude, valid, h, points = flooded(image, parameters, mask)
    expected = naive_graph.watershed(altitude.astype(np.int64), valid, h, points)
    found = watershed(image, mask=mask, **parameters)
    if parameters.get("markers") == "grid":  # what no marker reaches is a region of its own
        assert (found[valid] > 0).all()
        found = np.where(expected > 0, found, 0)
        numbers = np.unique(found, return_inverse=True)[1].reshape(found.shape)
        found = numbers + (0 if (found == 0).any() else 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("parameters", VARIANTS)
@pytest.mark.parametrize("name", ["blobs", "two levels", "steps"])
def test_watershed__is_the_same_for_every_tiling(name, parameters, masked):
    image = PICTURES[name]
    parameters = inside(parameters, image.shape)
    mask = rings(image.shape[:2]) if masked else None
    whole = watershed(image, mask=mask, **parameters)
    for size in ((9, 13), (16, 45)):
        found = in_tiles(image, parameters, mask, size)
        np.testing.assert_array_equal(found, whole, err_msg=f"tiles {size}")


def test_watershed__agrees_with_scikit_image_from_an_array_of_markers():
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((200, 240)), 3)
    image = np.rint((image - image.min()) / np.ptp(image) * 65000).astype(np.uint16)
    lowest = ndimage.minimum_filter(image, 9) == image
    markers = ndimage.label(lowest)[0].astype(np.int32) * 7
    found = watershed(image, altitude="image", sigma=0, markers=markers)
    assert found.dtype == markers.dtype
    assert (found[lowest] == markers[lowest]).all()
    assert (found == peer(image, markers)).mean() > 0.97


def test_watershed__minima_are_those_of_h_minima():
    from skimage.morphology import h_minima

    cross = ndimage.generate_binary_structure(2, 1)
    rng = np.random.default_rng(1)
    image = (ndimage.gaussian_filter(rng.random((90, 80)), 2) * 60000).astype(np.uint16)
    for h in (1, 500, 2000):
        kept = ndimage.label(h_minima(image, h, cross), cross)[1]
        found = watershed(image, altitude="image", sigma=0, h=h).max()
        assert found == kept


def test_watershed__shares_out_plateaus_by_distance():
    image = np.full((40, 81), 9, np.uint8)
    found = watershed(image, markers=[(20, 10), (20, 70)], sigma=0)
    assert (found[:, :39] == 1).all()
    assert (found[:, 42:] == 2).all()


def test_watershed__far_from_all_points_is_the_same_for_every_tiling():
    """Beyond the distance that is looked at, a tile without points knows as much as one with."""
    image = np.full((1, 1000, 1), 9, np.uint8)
    parameters = {"altitude": "image", "sigma": 0, "markers": [(0, 0), (0, 999)]}
    whole = in_tiles(image, parameters, None, (1, 1000))
    assert set(np.unique(whole)) == {1, 2}
    for columns in (77, 200, 333):
        found = in_tiles(image, parameters, None, (1, columns))
        np.testing.assert_array_equal(found, whole, err_msg=f"{columns} columns")


def test_watershed__lightness_is_in_lab_units():
    """Minima of RGB are as deep as their lightness, in CIELAB."""
    grey = np.array([[119, 80, 119, 119, 90, 119]], np.uint8)
    image = np.repeat(grey[..., None], 3, axis=2)
    light = rgb2lab(image)[0, :, 0]
    depth = light[2] - light[4]
    for h, kept in ((depth - 0.3, 2), (depth + 0.3, 1)):
        assert watershed(image, altitude="image", sigma=0, h=h).max() == kept, h


def test_watershed__leaves_what_no_point_reaches():
    mask = np.ones((9, 9), bool)
    mask[:, 4] = False
    found = watershed(np.zeros((9, 9), np.uint8), markers=[(1, 1)], mask=mask)
    assert (found[:, :4] == 1).all()
    assert not found[:, 4:].any()


def compact(step, marks):
    """Dijkstra with one queue: every pixel joins the marker whose way there costs least."""
    queue = [(0, int(marks[y, x]), y, x) for y, x in np.argwhere((marks > 0) & (step > 0))]
    heapq.heapify(queue)
    owner = np.zeros(marks.shape, int)
    while queue:
        level, name, y, x = heapq.heappop(queue)
        if owner[y, x]:
            continue
        owner[y, x] = name
        for v, u in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            if 0 <= v < len(step) and 0 <= u < step.shape[1] and step[v, u] and not owner[v, u]:
                heapq.heappush(queue, (level + int(step[v, u]), name, v, u))
    return owner


@pytest.mark.parametrize("markers", ["grid", "segments", "points"])
@pytest.mark.parametrize("picture", ["noise", "steps", "constant"])
def test_compact_watershed__is_what_one_queue_finds(picture, markers):
    image, rng = PICTURES[picture], np.random.default_rng(2)
    shape, valid = image.shape[:2], rings(image.shape[:2])
    points = [(int(rng.integers(37)), int(rng.integers(45)), i // 2 + 3) for i in range(8)]
    segments = np.zeros(shape, np.uint32)
    for y, x, name in points:
        segments[y, x : x + 3] = name
    given = points if markers == "points" else markers
    method = Watershed(markers=given, step=12, compactness=2.0, sigma=0)
    info = ImageInfo(shape, image.shape[2], image.dtype.name, masked=True)
    arrays = {"image": image, "mask": valid.astype(np.uint8), "segments": segments}
    altitude, _, _, lowest = flooded(image, {"markers": "grid", "step": 12, "sigma": 0}, valid)
    marks = np.zeros(shape, int)
    if markers == "grid":
        for y, x in lowest:
            marks[y, x] = 1 + y // 12 * 4 + x // 12
    elif markers == "points":
        for y, x, name in sorted(points, key=lambda point: -point[2]):
            marks[y, x] = 1 + name
    else:
        marks = np.where(segments > 0, segments + 1, 0)
    cost = np.where(valid, (altitude.astype(np.int64) >> 22) + 16, 0)
    expected = label(compact(np.minimum(cost, 8191), marks), background=0, connectivity=1)
    for size in (None, (9, 13), (20, 11)):
        found = run_in_memory(method.passes(info), arrays, size)[0]["labels"]
        np.testing.assert_array_equal(found, expected, err_msg=f"tiles {size}")


@pytest.mark.parametrize("name", ["blobs", "constant", "float"])
def test_segments_as_markers__are_the_same_for_every_tiling(name):
    image, rng = PICTURES[name], np.random.default_rng(6)
    segments = np.where(rng.random(image.shape[:2]) < 0.02, 1, 0)
    segments = ndimage.label(ndimage.binary_dilation(segments))[0].astype(np.uint32) * 3
    method = Watershed(markers="segments")
    info = ImageInfo(image.shape[:2], image.shape[2], image.dtype.name)
    arrays = {"image": image, "segments": segments}
    whole, tables = run_in_memory(method.passes(info), arrays)
    plain = watershed(image, markers=segments)
    np.testing.assert_array_equal(label(plain, background=0, connectivity=1), whole["labels"])
    np.testing.assert_array_equal(np.unique(tables["segments"]["marker"]), np.unique(segments)[1:])
    assert (plain[segments > 0] == segments[segments > 0]).all()
    for size in ((9, 13), (16, 45)):
        found = run_in_memory(method.passes(info), arrays, size)[0]["labels"]
        np.testing.assert_array_equal(found, whole["labels"], err_msg=f"tiles {size}")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"h": -1}, "h must be 0 or more"),
        ({"h": np.nan}, "h must be 0 or more"),
        ({"sigma": -1}, "sigma must be 0"),
        ({"step": 1}, "step must be 2"),
        ({"markers": "maxima"}, "markers must be minima, grid, segments or points"),
        ({"markers": "segments"}, "give their array"),
        ({"markers": [(1, 2, 3, 4)]}, "markers must be points"),
        ({"compactness": 2}, "compactness needs markers"),
        ({"compactness": -1, "markers": "grid"}, "compactness must be 0 or more"),
        ({"markers": []}, "at least one point"),
        ({"markers": [(3, 10)]}, r"marker 1 at \[3, 10\] is outside the image of 8 rows"),
        ({"markers": [(-1, 0)]}, "is outside the image"),
        ({"markers": np.zeros((10, 8), int)}, r"array of integers of the shape \(8, 10\)"),
        ({"markers": np.zeros((8, 10))}, "array of integers"),
        ({"mask": np.ones((3, 3), bool)}, "mask must have the shape"),
        ({"altitude": "image", "image": np.zeros((8, 10, 4), np.uint8)}, "needs one channel"),
    ],
)
def test_watershed__raises_on(parameters, words):
    image = parameters.pop("image", np.zeros((8, 10, 3), np.uint8))
    with pytest.raises(ValueError, match=words):
        watershed(image, **parameters)


def test_arrays_too_large_for_one_piece__are_segmented_in_tiles(monkeypatch):
    rng = np.random.default_rng(3)
    image = ndimage.gaussian_filter(rng.random((150, 170, 3)), (3, 3, 0)) * 255
    segments = label(np.add.outer(np.arange(150) // 9, np.arange(170) // 9 * 20) + 1)
    wanted = watershed(image, h=1), region_merging(image, segments, threshold=9)
    monkeypatch.setattr(whole, "IN_ONE_PIECE", 10_000)
    monkeypatch.setattr(whole, "TILE", 64)
    found = watershed(image, h=1), region_merging(image, segments, threshold=9)
    for one, other in zip(found, wanted, strict=True):
        assert one.max() > 3
        np.testing.assert_array_equal(one, other)
