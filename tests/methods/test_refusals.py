"""Bad parameters of every method: refused by its function and by a run, before any work."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segpipe import methods
from tests.commands import run_command

IMAGE = np.zeros((20, 24, 3), np.uint8)
BAD: dict[str, list[tuple[dict[str, Any], str]]] = {
    "slic": [
        ({"step": 0}, "step must be 4 to 256, got 0"),
        ({"step": 16.5}, "step must be a whole number, got 16.5"),
        ({"compactness": -1}, "compactness must be 0.125 to 200"),
        ({"iterations": -1}, "iterations must be 0 to 50, got -1"),
        ({"min_size": 10_000}, "min_size must be 1 to step \\* step = 256, got 10000"),
    ],
    "mean-shift": [
        ({"spatial_bandwidth": 0}, "spatial_bandwidth must be 1 to 63, got 0"),
        ({"range_bandwidth": 0}, "range_bandwidth must be 1 to 65535, got 0"),
        ({"range_bandwidth": 300}, "range_bandwidth must be 1 to 254 for uint8, got 300"),
        ({"min_size": 0}, "min_size must be 1 to"),
        ({"kernel": "box"}, "kernel must be flat, epanechnikov or gaussian, got 'box'"),
        ({"features": 3}, "features must be one or several of .*, got 3"),
    ],
    "felzenszwalb": [
        ({"scale": -1}, "scale must be 0 to 1e9, got -1"),
        ({"scale": float("nan")}, "scale must be 0 to 1e9, got nan"),
        ({"sigma": -0.5}, "sigma must be 0 to 16, got -0.5"),
        ({"min_size": -1}, "min_size must be 0 to"),
    ],
    "watershed": [
        ({"markers": [[500, 3]]}, "marker 1 at \\[500, 3\\] is outside the image of 20 rows"),
        ({"markers": []}, "at least one point"),
        ({"markers": "edges"}, "markers must be minima, grid, segments or points, got 'edges'"),
        ({"altitude": "depth"}, "altitude must be gradient or image, got 'depth'"),
        ({"h": -1}, "h must be 0 or more, got -1"),
        ({"h": float("nan")}, "h must be 0 or more, got nan"),
        ({"step": 1}, "step must be 2 to 256, got 1"),
        ({"compactness": 2}, "compactness needs markers that are known before"),
    ],
    "seeded-growing": [
        ({"seeds": [[3, 24]]}, "seed 1 at \\[3, 24\\] is outside the image of 20 rows and 24"),
        ({"seeds": [[-1, 0]]}, "seed 1 at \\[-1, 0\\] is outside"),
        ({"seeds": [[1]]}, "seeds must be points"),
        ({"step": 0}, "step must be 2 to 128, got 0"),
        ({"compactness": None}, "compactness must be a number, got None"),
        ({"rounds": 0}, "rounds must be 1 to 20, got 0"),
        ({"reach": 0}, "reach must be 1 to"),
    ],
    "region-growing": [
        ({"seeds": [[20, 0]]}, "seed 1 at \\[20, 0\\] is outside the image of 20 rows"),
        ({"seeds": [[1.5, 0]]}, "seeds must be points"),
        ({"tolerance": -1}, "tolerance must be 0 or more, got -1"),
        ({"rule": "seed"}, "rule: seed needs 1 to"),
        ({"rule": "mean"}, "rule must be neighbour or seed, got 'mean'"),
        ({"channel": 3}, "channel must be 0 to 2, got 3: the image has 3 channels"),
    ],
    "region-merging": [
        ({"threshold": -1}, "threshold must be 0 to 200, got -1"),
        ({"criterion": "ward", "shape": 0.3}, "shape belongs to criterion: baatz, got 0.3 with"),
        ({"scale": 90}, "scale belongs to criterion: baatz or ward, got 90 with criterion: contr"),
        ({"criterion": "size"}, "criterion must be contrast, baatz or ward, got 'size'"),
        ({"criterion": "baatz", "scale": -5}, "scale must be 0 to"),
        ({"shape": 2}, "shape must be 0 to 1, got 2"),
        ({"rounds": 1.5}, "rounds must be a whole number, got 1.5"),
    ],
    "normalised-cuts": [
        ({"contrast": 0}, "contrast must be 0.5 to 200, got 0"),
        ({"threshold": 3}, "threshold must be 0 to 2, got 3"),
        ({"regions": -1}, "regions must be 0 to"),
    ],
    "components": [
        ({"connectivity": 3}, "connectivity must be 1 \\(sides\\) or 2"),
        ({"tolerance": -1}, "tolerance must be 0 or more, got -1"),
        ({"channel": 7}, "channel must be 0 to 2, got 7"),
        ({"foreground": True, "background": None}, "foreground: true needs a background"),
        ({"background": 300}, "background must be a whole number from 0 to 255 .*, got 300"),
        ({"background": 0.5}, "background must be a whole number from 0 to 255 .*, got 0.5"),
    ],
    "split-merge": [
        ({"block": 48}, "block must be a power of two from 2 to 128, got 48"),
        ({"deviation": -1}, "deviation must be 0 or more"),
        ({"contrast": "low"}, "contrast must be a number, got 'low'"),
        ({"channel": 3}, "channel must be 0 to 2, got 3"),
    ],
    "threshold": [
        ({"rule": "local", "classes": 4}, "classes belongs to rule: otsu, got 4 with rule: local"),
        ({"offset": 3}, "offset belongs to rule: local, got 3"),
        ({"classes": 1}, "classes must be 2 to 16, got 1"),
        ({"rule": "fixed"}, "levels"),
        ({"rule": "fixed", "levels": [float("nan")]}, "1 to 254 levels, numbers .*, got \\[nan\\]"),
        ({"rule": "fixed", "levels": [300]}, "levels must be 0 to 254 .*, got \\[300"),
        ({"rule": "mean"}, "rule must be otsu, local or fixed, got 'mean'"),
        ({"rule": "local", "radius": 0}, "radius must be 1 to 1024, got 0"),
        ({"background": 9}, "background must be a class, 0 to 1, got 9"),
    ],
    "unet": [
        ({"foreground": 2}, "foreground must be 0.0 to 1.0, got 2"),
        ({"marker": -1}, "marker must be 0.0 to 1.0, got -1"),
    ],
}
CASES = [
    pytest.param(name, parameters, message, id=f"{name}-{json.dumps(parameters)}")
    for name, rows in BAD.items()
    for parameters, message in rows
]
GIVEN: dict[str, dict[str, Any]] = {
    "region-merging": {"segments": np.ones((20, 24), np.uint32)},
    "normalised-cuts": {"segments": np.ones((20, 24), np.uint32)},
    "unet": {"model": "nuclei"},
}
"""What the functions cannot do without."""


def function(name: str) -> Any:
    """Return the plain function of a method."""
    module = name.replace("-", "_")
    return getattr(import_module(f"segpipe.methods.{module}"), module)


def test_every_method__has_bad_parameters_here() -> None:
    assert set(BAD) == set(methods.everything())


@pytest.mark.parametrize(("name", "parameters", "message"), CASES)
def test_function__says_what_is_wrong(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(name)(IMAGE, **GIVEN.get(name, {}), **parameters)


@pytest.mark.parametrize("name", list(BAD))
def test_function__refuses_arrays_of_another_shape(name: str) -> None:
    known = inspect.signature(function(name)).parameters
    others = [other for other in ("mask", "segments", "markers") if other in known]
    assert others
    for other in others:
        given = GIVEN.get(name, {}) | {other: np.ones((20, 23), np.int32)}
        with pytest.raises(ValueError, match=f"{other} must .*\\(20, 24\\)"):
            function(name)(IMAGE, **given)


@pytest.mark.parametrize(("name", "parameters", "message"), CASES)
def test_run__ends_before_work(
    name: str, parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "image.tif", IMAGE, photometric="rgb")
    model = {"model": "nuclei"} if name == "unet" else {}
    stages: list[dict[str, Any]] = [{"method": name, "parameters": model | parameters}]
    if "segments" in GIVEN.get(name, {}):
        stages = [{"method": "slic"}, stages[0] | {"reads": "slic"}]
    given = {"input": str(tmp_path / "image.tif"), "output": str(tmp_path / "run")}
    (tmp_path / "run.yaml").write_text(
        json.dumps(given | {"stages": stages}).replace("NaN", ".nan")
    )
    code, said = run_command("run", tmp_path / "run.yaml")
    said = " ".join(said.split())
    assert code == 2, said
    assert "Traceback" not in said
    assert re.search(message, said) or any(word in said for word in parameters), said
    assert not (tmp_path / "run").exists()
