"""Connected components against SciPy, scikit-image and a flood fill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from segpipe.methods.components import Components, components
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.stage_plans import build_method
from tests import naive


def ranked(labels: np.ndarray) -> np.ndarray:
    """Renumber labels 1..N by first pixel."""
    return naive.numbered(np.where(labels > 0, labels.astype(int), -1))


def textures(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 90, 2))
    levels = int(rng.integers(2, 6))
    smooth = ndimage.gaussian_filter(rng.random(shape), rng.choice([0.0, 0.7, 2.0]))
    order = np.argsort(np.argsort(smooth, axis=None)).reshape(shape)
    return (order * levels // smooth.size).astype(np.uint8)


def flood(image, inside, connectivity, tolerance):
    """Link neighbours that differ by `tolerance` at most in every channel."""
    labels = np.zeros(inside.shape, int)
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    for place in np.ndindex(inside.shape):
        if labels[place] or not inside[place]:
            continue
        labels[place] = labels.max() + 1
        todo = [place]
        while todo:
            y, x = todo.pop()
            for dy, dx in steps[: 4 * connectivity]:
                q = y + dy, x + dx
                if (
                    0 <= q[0] < inside.shape[0]
                    and 0 <= q[1] < inside.shape[1]
                    and inside[q]
                    and not labels[q]
                    and all(abs(float(a) - float(b)) <= tolerance for a, b in zip(image[q], image[y, x], strict=True))
                ):  # fmt: skip
                    labels[q] = labels[place]
                    todo.append(q)
    return labels


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("seed", range(25))
def test_values__as_scikit_image(seed: int, connectivity: int) -> None:
    image = textures(seed)
    for background in (0, 2, None):
        # scikit-image knows no "no background": give it a value that does not occur
        peer = measure.label(image, background=99 if background is None else background, connectivity=connectivity)  # fmt: skip
        found = components(image, connectivity, background=background)
        np.testing.assert_array_equal(found, ranked(peer))
        assert found.dtype == np.uint32


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("seed", range(25))
def test_foreground__as_scipy(seed: int, connectivity: int) -> None:
    image = textures(seed)
    structure = ndimage.generate_binary_structure(2, connectivity)
    peer, n = ndimage.label(image, structure)
    found = components(image, connectivity, foreground=True)
    np.testing.assert_array_equal(found, ranked(peer))
    assert found.max(initial=0) == n


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
def test_tolerance__as_a_flood_fill(
    tolerance: float, channels: int, dtype: str, connectivity: int
) -> None:
    rng = np.random.default_rng(int(tolerance * 2) + channels)
    image = rng.integers(0, 7, (23, 31, channels)).astype(dtype)
    mask = rng.random((23, 31)) < 0.9
    inside = mask & (image != 3).any(axis=2)
    if image.dtype.kind == "f":
        image += rng.random(image.shape).astype(dtype) / 4
        image[rng.random(image.shape) < 0.02] = np.nan
        inside = mask & np.isfinite(image).all(axis=2)
    options = {"background": 3, "tolerance": tolerance, "mask": mask}
    found = components(image, connectivity, **options)
    np.testing.assert_array_equal(found, flood(image, inside, connectivity, tolerance))


def test_negative_zero__equals_zero() -> None:
    image = np.array([[0.0, -0.0, 1.0]], np.float32)
    assert components(image).tolist() == [[0, 0, 1]]
    assert components(image, background=None).tolist() == [[1, 1, 2]]


def test_mask_without_background__labels_zeros_too() -> None:
    image = np.array([[0, 0, 1], [1, 0, 1]], np.uint8)
    mask = np.array([[1, 0, 1], [1, 1, 1]], bool)
    assert components(image, background=None, mask=mask).tolist() == [[1, 0, 2], [3, 4, 2]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros((1, 1), np.uint8), [[0]]),
        (np.ones((1, 1), bool), [[1]]),
        (np.array([[1, 0, 1, 1]], np.uint16), [[1, 0, 2, 2]]),
        (np.array([[5], [5], [0], [5]], np.int32), [[1], [1], [0], [2]]),
        (np.full((2, 2), np.nan, np.float32), [[0, 0], [0, 0]]),
    ],
)
def test_edges(image: np.ndarray, expected: list) -> None:
    assert components(image).tolist() == expected
    assert components(image, 2).tolist() == expected


def test_background__that_no_pixel_can_have() -> None:
    image = np.array([[0, 1]], np.uint8)
    for background in (-1, 0.5, 300):
        with pytest.raises(ValueError, match="null labels every pixel"):
            components(image, background=background)
    assert components(image, background=None).tolist() == [[1, 2]]


@pytest.mark.parametrize("size", [(64, 64), (133, 100), (57, 90)])
@pytest.mark.parametrize("connectivity", [1, 2])
def test_photograph__is_the_same_in_tiles(
    size: tuple[int, int], connectivity: int, data: Path
) -> None:
    from PIL import Image

    path = sorted((data / "bsds500/images/val").glob("*.jpg"))[3]
    image = (np.asarray(Image.open(path).convert("L"))[..., None] // 64).astype(np.uint8)
    method = Components(connectivity)
    info = ImageInfo(image.shape[:2], image.shape[2], str(image.dtype))
    found, _tables = run_in_memory(method.passes(info), {"image": image}, size)
    assert found["labels"].max() > 100
    np.testing.assert_array_equal(found["labels"], components(image, connectivity))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connectivity": 4}, "1 .sides. or 2"),
        ({"tolerance": -1}, "0 or more"),
        ({"tolerance": float("nan")}, "0 or more"),
        ({"background": float("nan")}, "must be a number"),
        ({"foreground": True, "background": None}, "needs a background"),
        ({"foreground": True, "tolerance": 2}, "tolerance must be 0"),
        ({"channel": 3}, "channel must be 0 to 0, got 3"),
        ({"mask": np.ones((2, 2))}, "mask must have the shape"),
    ],
)
def test_errors__name_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        components(np.zeros((3, 3), np.uint8), **options)


@pytest.mark.parametrize("image", [np.zeros((0, 3)), np.zeros(3), np.zeros((2, 2), complex)])
def test_images__that_cannot_be_labelled(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image must be"):
        components(image)


def test_yaml_values__make_the_method() -> None:
    assert build_method("components", {"background": None}).background is None
    assert build_method("components", {"background": 3}).background == 3.0
