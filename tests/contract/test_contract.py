"""The contract that every method is held to: tiled equals whole, bit by bit."""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpipe import methods
from segpipe.methods.slic import slic
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.stage_plans import build_method

QUICK = {
    "seeded-growing": [
        {"seeds": [[0, 20], [0, 21, 7], [0, 80, 7], [0, 149]], "rounds": 1},
    ],
    "slic": [
        {"step": 8, "iterations": 3},
        {"step": 11, "iterations": 2, "refine": 2},
        {"step": 12, "iterations": 1, "min_size": 144},
    ],
    "region-merging": [
        {"threshold": 2},
        {"criterion": "baatz"},
        {"criterion": "ward", "rounds": 4},
    ],
    "components": [
        {"background": None, "connectivity": 2},
        {"tolerance": 12, "background": None},
        {"foreground": True, "background": 40, "connectivity": 2, "channel": 0},
    ],
    "region-growing": [
        {"step": 17, "tolerance": 20, "connectivity": 2},
        {"rule": "seed", "tolerance": 30, "seeds": [[0, 20], [0, 21], [0, 80], [0, 149]]},
    ],
    "split-merge": [
        {"block": 8, "deviation": 3, "contrast": 12},
        {"block": 32, "deviation": 20, "contrast": 0},
        {"block": 16, "deviation": 12, "contrast": 40, "channel": 0},
    ],
    "threshold": [
        {"classes": 4, "connectivity": 2},
        {"rule": "local", "radius": 9, "offset": 2.5},
        {"rule": "fixed", "levels": [0.3, 50, 120], "background": 1},
    ],
    "mean-shift": [
        {"spatial_bandwidth": 4, "iterations": 4, "range_bandwidth": 25, "min_size": 15},
        {"spatial_bandwidth": 5, "iterations": 2, "sample": 1, "min_size": 200},
        {
            "spatial_bandwidth": 4,
            "iterations": 3,
            "features": "gradient-histogram",
            "histogram_radius": 3,
        },
    ],
    "felzenszwalb": [
        {"scale": 400.0, "sigma": 0.0, "min_size": 70},
        {"scale": 2000.0, "vertices": "segments"},
    ],
    "watershed": [
        {"h": 0.0, "sigma": 0.0},
        {"markers": "grid", "step": 13, "sigma": 0.5},
        {"markers": "grid", "step": 15, "compactness": 3.0},
        {"markers": [[0, 3], [0, 4, 7], [0, 13, 7], [0, 19]], "sigma": 0.5},
    ],
    "normalised-cuts": [{"contrast": 4.0, "threshold": 0.2, "regions": 12}],
}
"""Parameters that keep halos small beside the test images; the default ones are always tried too."""
QUICK["unet"] = [{"output": "classes", "window": 96}, {"output": "instances", "dynamics": 0.1}]
CASES = [
    pytest.param(name, parameters, id=f"{name}-{i}")
    for name in methods.everything()
    for i, parameters in enumerate([{}, *QUICK.get(name, [])])
    if parameters or name != "unet"  # the default model is too slow here; see tests/methods
]


FEW_LEVELS = [827, *range(12)]
"""Seeds of noise of two to four levels. In 827, a region that is finished joins a large one across
which a seam runs, by its size alone: the seam's edges must not count as the large one's."""


@cache
def network() -> str:
    """Return the file of a small network with random weights."""
    pytest.importorskip("torch", reason="networks need pip install 'segpipe[nets]'")
    from tests.nets.tiny import tiny_model

    return str(tiny_model(Path(tempfile.mkdtemp())))


def needed(name: str, channels: int = 1) -> dict[str, Any]:
    """Return parameters that a method cannot do without here."""
    if name != "unet":
        return {}
    return {"model": network()} | ({"channels": [0]} if channels not in (1, 3) else {})


def images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images that are hard on seams and ties."""
    y, x = np.mgrid[:230, :190]
    rgb = lambda plane: np.repeat(plane[..., None].astype(np.uint8), 3, axis=2)  # noqa: E731
    return {
        "constant": rgb(np.full_like(x, 93)),
        "two-level": rgb(np.where(x < 95, 40, 200)),
        "checkerboard-1": rgb((y + x) % 2 * 255),
        "checkerboard-5": rgb((y // 5 + x // 5) % 2 * 255),
        "noise": rng.integers(0, 256, (230, 190, 3), dtype=np.uint8),
        "gray16": rng.integers(0, 4000, (230, 190, 1)).astype(np.uint16),
        "bands": (rng.random((230, 190, 5)) * np.sin(x / 9)[..., None]).astype(np.float32),
        "gaps": np.where(rng.random(y.shape) < 0.02, np.nan, x // 3 * y % 7)[..., None].astype(
            "f4"
        ),
        "signed": (rng.integers(-900, 900, (230, 190, 1)) // 300 * 300).astype(np.int16),
        "double": np.stack([np.sin(x / 7) - y / 40, (y // 9 % 3 - 1) * 1e-3], axis=2),
        "one-row": rng.integers(0, 256, (1, 150, 3), dtype=np.uint8),
    }


NAMES = list(images(np.random.default_rng(0)))


def labels_of(
    name: str, parameters: dict, image: np.ndarray, mask: np.ndarray | None, **how
) -> np.ndarray:
    method = build_method(name, needed(name, image.shape[2]) | parameters)
    info = ImageInfo(
        image.shape[:2],
        image.shape[2],
        str(image.dtype),
        rgb=image.shape[2] == 3,
        masked=mask is not None,
    )
    arrays = {"image": image} | ({} if mask is None else {"mask": mask})
    passes = method.passes(info)
    if any("segments" in step.reads for step in passes):
        arrays["segments"] = slic(image, step=6, iterations=2, mask=mask)
    found, _tables = run_in_memory(passes, arrays, **how)
    return found["labels"]


def check(
    name: str, parameters: dict, image: np.ndarray, mask: np.ndarray | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    before = image.copy()
    whole = labels_of(name, parameters, image, mask)
    for _ in range(3):
        size = tuple(int(n) for n in rng.integers(40, 150, 2))
        tiles = int(np.prod([-(-n // s) for n, s in zip(image.shape, size, strict=False)]))
        tiled = labels_of(name, parameters, image, mask, size=size, order=rng.permutation(tiles))
        np.testing.assert_array_equal(tiled, whole, err_msg=f"tiles {size}")
    np.testing.assert_array_equal(image, before, err_msg="the method changed its input")
    if mask is not None:
        assert (whole[mask == 0] == 0).all()
        leaves_some = getattr(build_method(name, needed(name) | parameters), "partial", False)
        assert (whole[mask == 1] > 0).all() or leaves_some
    present, first = np.unique(whole[whole > 0], return_index=True)
    np.testing.assert_array_equal(present, np.arange(1, len(present) + 1))
    assert (np.diff(first) > 0).all(), "labels are not in raster order of first pixels"


@pytest.mark.parametrize(("name", "parameters"), CASES)
@pytest.mark.parametrize("picture", NAMES)
def test_tiled__equals_whole_on_hard_images(name: str, parameters: dict, picture: str) -> None:
    image = images(np.random.default_rng(7))[picture]
    check(name, parameters, image, None, seed=NAMES.index(picture))


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_tiled__equals_whole_on_small_images_of_few_levels(name: str, parameters: dict) -> None:
    if name == "unet":
        pytest.skip("its windows are larger than these images, and take their time")
    for seed in FEW_LEVELS:
        rng = np.random.default_rng(seed)
        h, w = rng.integers(20, 90, 2)
        levels = int(rng.integers(2, 5))
        image = (rng.integers(0, levels, (h, w, 1)) * (240 // levels)).astype(np.uint8)
        inside = [seed for seed in parameters.get("seeds", ()) if seed[0] < h and seed[1] < w]
        given = parameters | ({"seeds": inside} if inside else {})
        whole = labels_of(name, given, image, None)
        for size in ((20, 33), tuple(int(n) for n in rng.integers(7, 40, 2))):
            tiled = labels_of(name, given, image, None, size=size)
            np.testing.assert_array_equal(tiled, whole, err_msg=f"seed {seed}, tiles {size}")


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_tiled__equals_whole_on_a_slide(name: str, parameters: dict, slide_rgb: np.ndarray) -> None:
    check(name, parameters, slide_rgb, None, seed=1)


@pytest.mark.parametrize(("name", "parameters"), CASES)
@pytest.mark.parametrize("folder", ["carrot_weed/images", "bsds500/images/val"])
def test_tiled__equals_whole_on_photographs(
    name: str, parameters: dict, folder: str, data: Path
) -> None:
    path = sorted((data / folder).glob("*.jpg"))[0]
    image = np.asarray(Image.open(path).convert("RGB"))[:700, :600]
    check(name, parameters, image, None, seed=2)


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_tiled__equals_whole_under_a_mask(
    name: str, parameters: dict, slide_rgb: np.ndarray
) -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: slide_rgb.shape[0], : slide_rgb.shape[1]]
    mask = ((y - 180) ** 2 + (x - 220) ** 2 < 170**2) & (rng.random(y.shape) > 0.02)
    check(name, parameters, slide_rgb, mask.astype(np.uint8), seed=3)
    nothing = np.zeros_like(mask, np.uint8)
    assert not labels_of(name, parameters, slide_rgb, nothing, size=(128, 128)).any()


@pytest.mark.parametrize("name", list(methods.everything()))
def test_method__is_data(name: str) -> None:
    method = build_method(name, needed(name))
    assert pickle.loads(pickle.dumps(method)) == method
    assert build_method(name, dataclasses.asdict(method)) == method
    assert method.exactness in ("exact", "certified", "measured")
    assert type(method).__doc__
    info = ImageInfo((100, 100), 3, "uint8", rgb=True)
    for step in method.passes(info):
        assert pickle.loads(pickle.dumps(step)).name == step.name
        assert step.halo >= 0
