"""What is said when one segment is nearly everything: true, and followed it helps."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segpipe import methods
from segpipe.methods.threshold import otsu_levels
from segpipe.quality.conditions import Sums, scores
from segpipe.remarks import remark
from segpipe.report.words import plain
from segpipe.stage_plans import build_method
from tests.commands import run_command
from tests.report.runs import table_of

SHAPE = (96, 128)
MARKERS = ((66, 80), (0, 79), (25, 38))
"""Two on edges, which the third floods."""
COARSE: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("slic", {"step": 128}, "lower step (now 128)", {"step": 16}),
    ("mean-shift", {}, "lower range_bandwidth (now 16)", {"range_bandwidth": 2}),
    ("felzenszwalb", {"scale": 1e5}, "lower scale (now 100000)", {"scale": 100}),
    ("felzenszwalb", {"vertices": "segments", "scale": 1e5}, "lower scale", {"scale": 400}),
    ("region-merging", {"threshold": 60}, "lower threshold (now 60)", {"threshold": 1}),
    ("region-merging", {"criterion": "ward", "scale": 1e6}, "lower scale", {"scale": 50}),
    ("split-merge", {"contrast": 90}, "lower contrast (now 90)", {"contrast": 1}),
    ("normalised-cuts", {"threshold": 0}, "raise threshold (now 0)", {"threshold": 0.5}),
    ("region-growing", {"tolerance": 30}, "lower tolerance (now 30)", {"tolerance": 1}),
    ("watershed", {"h": 90}, "lower h (now 90)", {"h": 0.1}),
    ("watershed", {"markers": "grid", "step": 128}, "lower step (now 128)", {"step": 16}),
    ("watershed", {"markers": MARKERS}, "raise compactness", {"compactness": 5}),
    ("components", {"tolerance": 40, "background": None}, "lower tolerance", {"tolerance": 0}),
    ("components", {"foreground": True}, "take threshold with a background", {}),
]


@pytest.fixture(scope="module")
def soft() -> np.ndarray:
    """A picture of waves and of two halves, a slope between them, one with faint squares."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    slope = 60 / (1 + np.exp((64 - x) / 12))
    gray = 90 + slope + 12 * np.sin(y / 9) * np.cos(x / 11)
    gray += 9 * ((x // 16 + y // 16) % 2) * (x > 64)
    rgb = np.stack([gray, gray + 8 * np.sin(x / 15), gray - 10], axis=2)
    return np.clip(rgb, 1, 255).astype(np.uint8)


def labelled(name: str, image: np.ndarray, parameters: dict[str, Any]) -> np.ndarray:
    module = name.replace("-", "_")
    function = getattr(import_module(f"segpipe.methods.{module}"), module)
    if name in ("region-merging", "normalised-cuts") or "vertices" in parameters:
        blocks = np.indices(SHAPE) // 8
        given = blocks[0] * 100 + blocks[1] + 1
        parameters = {k: v for k, v in parameters.items() if k != "vertices"}
        return function(image, segments=given.astype(np.uint32), **parameters)
    return function(image, **parameters)


def said(name: str, image: np.ndarray, parameters: dict[str, Any]) -> tuple[str | None, int]:
    """Return the remark on a method's labels, and the number of segments."""
    labels = labelled(name, image, parameters)
    scored = scores(Sums.of(table_of(labels, image), SHAPE))
    method = build_method(name, json.loads(json.dumps(parameters)))
    return remark(method, scored, (labels > 0).mean()), int(labels.max())


@pytest.mark.parametrize(("name", "parameters", "advice", "turned"), COARSE)
def test_remark__says_what_helps(
    name: str, parameters: dict[str, Any], advice: str, turned: dict[str, Any], soft: np.ndarray
) -> None:
    text, few = said(name, soft, parameters)
    assert text is not None
    assert re.match(r"one segment covers [\d.]+ % of the pixels; for a finer result, ", text)
    assert advice in text
    if turned:
        text, many = said(name, soft, parameters | turned)
        assert text is None
        assert many > few or "markers" in parameters


def test_remark__names_parameters_that_there_are() -> None:
    for name, parameters, advice, _ in COARSE:
        fields = [field.name for field in dataclasses.fields(methods.find(name))]
        turned = re.match(r"(?:lower|raise) (\w+)", advice)
        assert turned is None or turned[1] in fields, (name, parameters)


def test_remark__is_silent_or_exact_where_one_segment_is_right(soft: np.ndarray) -> None:
    flat = np.full_like(soft, 93)
    assert said("mean-shift", flat, {})[0] is None, "nothing to tell apart"
    nearly = {"largest_share": 0.99999, "intra_cluster_variation": 9.0}
    text = remark(build_method("slic", {}), nearly, 1.0)
    assert (
        text == "one segment covers 99.9 % of the pixels; for a finer result, lower step (now 16)"
    )
    mask = np.zeros_like(soft)
    mask[20:70, 30:90] = soft[20:70, 30:90]
    assert said("components", mask, {"foreground": True})[0] is None, "the one object there is"


def test_run__says_it_in_print_and_on_its_page(soft: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "soft.tif", soft, photometric="rgb")
    (tmp_path / "run.yaml").write_text(
        "input: soft.tif\nmethod: region-growing\nparameters: {tolerance: 30}\n"
        f"output: {tmp_path}/run\ncluster: {{workers: none}}\nmeasure: full\n"
    )
    code, text = run_command("run", tmp_path / "run.yaml")
    assert code == 0, text
    words = "ne segment covers 100 % of the pixels; for a finer result, lower tolerance (now 30)"
    assert re.search(rf"\nnote +o{re.escape(words)}\n", text)
    state = json.loads((tmp_path / "run/run.json").read_text())
    assert state["remarks"] == {"region-growing": f"o{words}"}
    assert f"O{words}." in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_run__says_the_levels_that_it_found(dtype: str, soft: np.ndarray, tmp_path: Path) -> None:
    gray = soft[:, :, 0].astype(dtype)
    tifffile.imwrite(tmp_path / "gray.tif", gray)
    (tmp_path / "run.yaml").write_text(
        "input: gray.tif\nmethod: threshold\nparameters: {classes: 3}\n"
        f"output: {tmp_path}/run\ncluster: {{workers: none}}\ntiles: {{size: 64}}\n"
    )
    code, text = run_command("run", tmp_path / "run.yaml")
    assert code == 0, text
    expected = otsu_levels(gray, 3).tolist()
    state = json.loads((tmp_path / "run/run.json").read_text())
    assert state["found"]["threshold"]["levels"] == expected
    (line,) = [line for line in text.splitlines() if line.startswith("levels ")]
    printed = [float(number) for number in line.split(maxsplit=1)[1].split(",")]
    assert printed == pytest.approx(expected, rel=1e-9)
    page = (tmp_path / "run/report.html").read_text()
    assert f"<dt>levels</dt><dd>{plain(expected)}</dd>" in page
