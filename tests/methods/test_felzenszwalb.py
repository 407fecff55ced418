"""Felzenszwalb-Huttenlocher: against the sequential algorithm, against a peer, and every tiling."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.metrics import adapted_rand_error
from skimage.segmentation import felzenszwalb as peer

from segpipe import colour
from segpipe.methods.felzenszwalb import SCALED_UNIT, UNIT, Felzenszwalb, felzenszwalb
from segpipe.methods.ranges import ranges_of
from segpipe.methods.slic import slic
from segpipe.methods.smooth_kernels import smooth
from segpipe.passes import ImageInfo, run_in_memory
from tests import naive_graph


def pictures():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:37, :45]
    soft = ndimage.gaussian_filter(rng.normal(size=(37, 45, 3)), (2, 2, 0))
    board = ((y // 5 + x // 5) % 2 * 200)[..., None]
    return {
        "blobs": np.clip(128 + 900 * soft, 0, 255).astype(np.uint8),
        "noise": rng.integers(0, 256, (37, 45, 3), np.uint8),
        "constant": np.full((37, 45, 3), 90, np.uint8),
        "two levels": np.repeat((rng.random((37, 45, 1)) < 0.4) * np.uint8(255), 3, 2),
        "board": np.repeat(board, 3, 2).astype(np.uint8),
        "noisy board": np.clip(board + rng.integers(0, 25, (37, 45, 1)), 0, 255).astype(np.uint8),
        "steps": (rng.integers(0, 4, (37, 45, 1)) * 1000).astype(np.uint16),
        "float": soft[..., :2].astype(np.float32),
        "12 channels": rng.integers(0, 256, (20, 23, 12), np.uint8),
        "row": rng.integers(0, 256, (1, 60, 3), np.uint8),
        "pixel": np.zeros((1, 1, 3), np.uint8),
    }


PICTURES = pictures()
VARIANTS = [
    {},
    {"scale": 20.0, "min_size": 0},
    {"scale": 2000.0, "sigma": 0.0, "min_size": 9},
    {"scale": 300.0, "sigma": 0.0, "min_size": 60},
    {"scale": 0.0, "sigma": 0.0, "min_size": 5},
]


def rings(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (np.hypot(y - 17, x - 14) % 11 < 7) & ((3 * x + y) % 13 > 0)


def expected(image, mask, scale=400.0, sigma=0.8, min_size=20):
    valid = np.ones(image.shape[:2], bool) if mask is None else mask
    if image.dtype == np.uint8:
        planes = np.moveaxis(image, 2, 0).astype(np.int16) * UNIT
    else:
        range_ = ranges_of(image, valid)
        planes = colour.planes(image, SCALED_UNIT, range_)[: image.shape[2]]
    planes = smooth(planes.astype(np.int16), valid, sigma).astype(np.int64)
    return naive_graph.felzenszwalb(planes, valid, scale, min_size, UNIT)


def in_tiles(image, parameters, mask, size, order=None):
    info = ImageInfo(image.shape[:2], image.shape[2], image.dtype.name, masked=mask is not None)
    arrays = {"image": image} | ({} if mask is None else {"mask": mask.astype(np.uint8)})
    passes = Felzenszwalb(**parameters).passes(info)
    return run_in_memory(passes, arrays, size, order)[0]["labels"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("parameters", VARIANTS)
@pytest.mark.parametrize("name", PICTURES)
def test_felzenszwalb__equals_reference_for_every_tiling(name, parameters, masked):
    image = PICTURES[name]
    mask = rings(image.shape[:2]) if masked else None
    reference = expected(image, mask, **parameters)
    np.testing.assert_array_equal(felzenszwalb(image, mask=mask, **parameters), reference)
    for size in ((9, 13), (16, 45), (5, 7)):
        found = in_tiles(image, parameters, mask, size)
        np.testing.assert_array_equal(found, reference, err_msg=f"tiles {size}")


def squares(shape, edge):
    """Equal segments: ties everywhere on flat ground."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y // edge * 100 + x // edge + 1).astype(np.uint32)


@pytest.mark.parametrize(("scale", "min_size"), [(100.0, 20), (600.0, 0), (3000.0, 90), (0.0, 30)])
@pytest.mark.parametrize("name", ["blobs", "noise", "constant", "board", "row", "pixel"])
def test_felzenszwalb_on_segments__equals_reference_for_every_tiling(name, scale, min_size):
    image = PICTURES[name]
    for segments in (slic(image, step=4, iterations=2), squares(image.shape, 3)):
        segments[10:13, 8:30] = 0  # what this cuts in two is two segments
        segments = label(segments, background=0, connectivity=2).astype(np.uint32)
        reference = naive_graph.felzenszwalb_on_segments(image, segments, scale, min_size)
        found = felzenszwalb(image, segments, scale=scale, min_size=min_size)
        np.testing.assert_array_equal(found, reference)
        info = ImageInfo(image.shape[:2], 3, "uint8", rgb=True)
        passes = Felzenszwalb(scale, 0.8, min_size, "segments").passes(info)
        for size in ((9, 13), (37, 5)):
            tiled = run_in_memory(passes, {"image": image, "segments": segments}, size)[0]
            np.testing.assert_array_equal(tiled["labels"], reference, err_msg=f"tiles {size}")


def test_felzenszwalb_on_segments__counts_their_pixels():
    """A region's grant is scale / pixels: the larger neighbour refuses, the smaller would not."""
    image = np.array([[0] * 12 + [40] * 4 + [80] * 2], np.uint8)
    segments = np.array([[1] * 12 + [2] * 4 + [3] * 2])
    # neighbours differ by 50 % of the range
    for scale, regions in ((12 * 50, 1), (4 * 50, 2), (4 * 50 - 1, 3)):
        assert felzenszwalb(image, segments, scale=scale, min_size=0).max() == regions


def test_felzenszwalb__agrees_with_scikit_image():
    rng = np.random.default_rng(3)
    image = np.repeat(np.repeat(rng.integers(0, 256, (6, 7, 3)), 25, 0), 25, 1)
    image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
    found = felzenszwalb(image, scale=200, min_size=50)
    theirs = peer(image, scale=200, sigma=0.8, min_size=50) + 1
    assert adapted_rand_error(theirs, found)[0] < 0.02
    assert found.max() == pytest.approx(theirs.max(), rel=0.1)


def test_felzenszwalb__leaves_nothing_small():
    image = PICTURES["noise"]
    assert np.bincount(felzenszwalb(image, scale=5, min_size=33).ravel())[1:].min() >= 33


def test_vertices__are_pixels_or_segments():
    with pytest.raises(ValueError, match="vertices must be pixels or segments, got 'edges'"):
        Felzenszwalb(vertices="edges")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"scale": -1}, "scale must be 0"),
        ({"scale": np.nan}, "scale must be 0"),
        ({"sigma": -0.1}, "sigma must be 0 to 16"),
        ({"min_size": -3}, "min_size must be 0"),
        ({"mask": np.ones((3, 3), bool)}, "mask must have the shape"),
        ({"segments": np.ones((3, 3), int)}, "of the shape \\(8, 10\\) of the image"),
        ({"segments": np.ones((8, 10), int), "mask": np.ones((8, 10), bool)}, "not both"),
        ({"image": np.zeros((4, 4), np.int64)}, "convert it first"),
    ],
)
def test_felzenszwalb__raises_on(parameters, words):
    image = parameters.pop("image", np.zeros((8, 10, 3), np.uint8))
    with pytest.raises(ValueError, match=words):
        felzenszwalb(image, **parameters)
