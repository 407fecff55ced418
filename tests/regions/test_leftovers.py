"""No segment stays below min_size if it has a neighbour, and what that takes stays near seams."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from segpipe import methods
from segpipe.methods.slic import Slic
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.stage_plans import build_method
from segpipe.tiles import Grid
from tests.naive import small_with_neighbours


def images() -> dict[str, np.ndarray]:
    """Images on which nearly every segment begins small."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:96, :90]
    lines = np.stack([x % 3 == c for c in range(3)], axis=2) * 220
    return {
        "noise": rng.integers(0, 256, (96, 90, 3), dtype=np.uint8),
        "normal": rng.normal(100, 30, (96, 90, 1)).astype(np.float32),
        "speckle": (90 * rng.exponential(size=(96, 90, 1))).astype(np.uint16),
        "lines": lines.astype(np.uint8),
        "checkerboard": np.repeat((y + x) % 2 * 255, 3).reshape(96, 90, 3).astype(np.uint8),
        "constant": np.full((96, 90, 3), 77, np.uint8),
    }


def run(name: str, image: np.ndarray, mask=None, size=None, **parameters):
    info = ImageInfo(
        image.shape[:2],
        image.shape[2],
        str(image.dtype),
        rgb=image.shape[2] == 3,
        masked=mask is not None,
        measure=frozenset({"area", "shape", "colour", "neighbours"}),
    )
    arrays = {"image": image} | ({} if mask is None else {"mask": mask})
    return run_in_memory(build_method(name, parameters).passes(info), arrays, size)


WITH_MIN_SIZE = ["slic", "mean-shift", "felzenszwalb"]


def test_methods__that_promise_a_size_are_tested_here() -> None:
    named = {
        name
        for name, method in methods.everything().items()
        if any(f.name == "min_size" for f in dataclasses.fields(method))
    }
    assert named - {"unet"} == set(WITH_MIN_SIZE)  # U-Nets leave small objects out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("picture", images())
@pytest.mark.parametrize("name", WITH_MIN_SIZE)
def test_segments__below_min_size_have_no_neighbour(name: str, picture: str, masked: bool) -> None:
    image = images()[picture]
    mask = (np.random.default_rng(1).random(image.shape[:2]) > 0.45).astype(np.uint8)
    for min_size in (7, 60, 200):
        found, _ = run(name, image, mask if masked else None, (50, 41), min_size=min_size)
        assert not small_with_neighbours(found["labels"], min_size)


@pytest.mark.parametrize("refine", [0, 3])
def test_tables__of_tiles_are_those_of_the_whole(refine: int) -> None:
    """Regions inside a tile that became one with others are measured as one."""
    given = {"step": 16, "iterations": 1, "refine": refine, "min_size": 150}
    for picture in ("noise", "speckle"):
        whole = run("slic", images()[picture], **given)
        tiled = run("slic", images()[picture], size=(37, 45), **given)
        np.testing.assert_array_equal(tiled[0]["labels"], whole[0]["labels"])
        for table, columns in whole[1].items():
            for column, values in columns.items():
                np.testing.assert_array_equal(tiled[1][table][column], values, err_msg=column)
        assert whole[1]["segments"]["area"].min() >= 150


def solved(image: np.ndarray, edge: int) -> tuple[list[int], dict[str, int]]:
    """Return how many segments each tile left, and what the solution notes."""
    step = Slic(step=8, iterations=1).passes(ImageInfo(image.shape[:2], 3, "uint8", rgb=True))[0]
    grid = Grid(image.shape[:2], (edge, edge))
    records = []

    def keep(window, part):
        output = step.map(window, part)
        records.append(output.record)
        return output

    run_in_memory([dataclasses.replace(step, map=keep, solve=None)], {"image": image}, grid.size)
    return [len(r["ids"]) for r in records], step.solve(records, grid, None).notes


def test_records__hold_what_lies_near_seams() -> None:
    image = np.random.default_rng(2).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    most = [max(solved(image, edge)[0]) for edge in (64, 128, 256)]
    assert most[2] < 2.2 * most[1]
    assert solved(image, 512) == ([0], {})


def test_records__are_empty_where_nobody_is_small() -> None:
    y, x = np.mgrid[:200, :200]
    smooth = np.stack([y, x, (y + x) // 2], axis=2).astype(np.uint8)
    assert solved(smooth, 70) == ([0] * 9, {})


def test_solution__notes_how_many_waited() -> None:
    image = np.random.default_rng(2).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    left, notes = solved(image, 64)
    assert list(notes) == ["small segments merged across seams"]
    assert 0 < notes["small segments merged across seams"] <= sum(left)
