"""The conditions of a good segmentation, and the seams, in words and plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.quality.conditions import BLOCKS, SMALL
from segpipe.quality.contrast import UNIT
from segpipe.report import distributions, plots
from segpipe.report.words import duration, figure, grouped, percent
from segpipe.store.folder import Folder

NOT_MEASURED = "not measured"
CLASSES = 3
"""Most classes whose shares are told at the top of the page."""
SPARSE = 0.9
"""Segments that cover less of the image are explained as such."""


@dataclass(frozen=True)
class Score:
    """One condition: its figures, what they mean, and a picture."""

    title: str
    figures: list[tuple[str, str]]
    """(value, what it is called)"""
    says: str
    plot: Any | None = None
    note: str = ""


def scores(folder: Folder, table: str, stage: str, state: Mapping[str, Any]) -> list[Score]:
    """Return all conditions of a stage; what was not measured says so."""
    found = state.get("conditions", {}).get(stage, {})
    shape = (state["source"]["shape"][0], state["source"]["shape"][1])
    return [
        _homogeneity(folder, table, found, shape),
        _size(folder, table, found),
        _compactness(folder, table, found),
        _evenness(folder, table, found, shape),
        _strength(found, shape, floating=state["source"]["dtype"].startswith("float")),
        _time(state, shape),
    ]


def headline(
    folder: Folder, table: str, scored: Sequence[Score], state: Mapping[str, Any], stage: str
) -> list[tuple[str, str]]:
    """Return the two or three figures that say most of a stage's labels.

    Of classes it is what share of the image each has, of objects what share they have together, of
    a partition how much of the image it explains.
    """
    if not scored:
        return []
    pixels = math.prod(state["source"]["shape"])
    shares = distributions.class_areas(folder, table)
    if len(shares) > 1:
        first = sorted(shares.items(), key=lambda pair: -pair[1])[:CLASSES]
        return [(percent(n / pixels), f"of the image in class {value}") for value, n in first]
    homogeneity, size = (score.figures[0] for score in scored[:2])
    objects = state.get("conditions", {}).get(stage, {}).get("background")
    if objects and (areas := distributions.areas(folder, table)):
        covered = areas.mean * areas.count / pixels
        return [(percent(covered), "of the image in segments"), size]
    return [told for told in (homogeneity, size) if told[0] != NOT_MEASURED]


def _homogeneity(
    folder: Folder, table: str, found: Mapping[str, Any], shape: tuple[int, int]
) -> Score:
    spread, areas = distributions.deviations(folder, table), distributions.areas(folder, table)
    inside = areas.mean * areas.count / (shape[0] * shape[1]) if areas else 1.0
    note = ""
    if spread and not spread.largest:
        spread, note = None, "Every segment is of one value. "
    if inside < SPARSE:
        note += (
            f"Only pixels inside segments count, {percent(inside)} of the image: few and small "
            "segments explain their own pixels well, and say nothing of the rest."
        )
    return Score(
        "Homogeneity",
        [
            (_number(found.get("explained_variation"), percent), "explained variation"),
            (_number(found.get("intra_cluster_variation")), "mean deviation inside (image values)"),
        ],
        "How much of the image is left when every segment is painted in its mean colour; the rest "
        "is variation inside segments.",
        spread
        and plots.bars(spread, "standard deviation inside a segment (image values)", whole=False),
        note,
    )


def _size(folder: Folder, table: str, found: Mapping[str, Any]) -> Score:
    areas = distributions.areas(folder, table)
    figures = [
        (f"{_half(areas.median)} px" if areas else NOT_MEASURED, "median area"),
        (_number(found.get("small_share"), percent), f"have fewer than {SMALL} px"),
    ]
    note = ""
    if areas:
        note = (
            f"{grouped(areas.count)} segments, smallest {grouped(areas.smallest)}, mean "
            f"{grouped(areas.mean)}, largest {grouped(areas.largest)} px. The outer bars hold what "
            f"lies beyond them."
        )
    return Score(
        "Size",
        figures,
        f"Segments must be large enough to inform: in fewer than {SMALL} pixels a standard "
        f"deviation is uncertain by more than 13 %.",
        areas and plots.bars(areas, "area (px)", whole=True, line=(SMALL, f"{SMALL} px")),
        note,
    )


def _compactness(folder: Folder, table: str, found: Mapping[str, Any]) -> Score:
    ratio = distributions.compactnesses(folder, table)
    return Score(
        "Compactness",
        [(_number(found.get("compactness")), "mean, by area")],
        "4πA/P²: 1 for a disc, 0.79 for a square, towards 0 for ragged or drawn-out segments.",
        ratio and plots.bars(ratio, "4πA/P²", whole=False),
    )


def _evenness(
    folder: Folder, table: str, found: Mapping[str, Any], shape: tuple[int, int]
) -> Score:
    density = distributions.densities(folder, table, shape)
    return Score(
        "Evenness",
        [(_number(found.get("evenness"), percent), "of segments are evenly spread")],
        f"The image is cut into {BLOCKS} × {BLOCKS} blocks; the rest of the segments would have to "
        f"be elsewhere for every block to have as large a share of the segments as of the pixels. "
        f"Darker: more segments.",
        None if density is None else plots.densities(density, shape),
    )


def _strength(found: Mapping[str, Any], shape: tuple[int, int], *, floating: bool) -> Score:
    plot, value, note = None, found.get("boundary_strength"), ""
    (n, across), (m, inside) = found.get("contrast", ((0, 0), (0, 0)))
    included = ", those with the background included," if found.get("background") else ""
    if n and m:
        unit = UNIT if floating else 1
        means = {"across borders": across / n / unit, "inside segments": inside / m / unit}
        plot = plots.pair(means, "mean difference of neighbours (image values)")
        share = found["sampled_pixels"] / (shape[0] * shape[1])
        if share < 0.99:
            note = f"Sampled: {percent(share)} of the image, round segments drawn at random."
    return Score(
        "Boundary strength",
        [("–" if value is None else f"{figure(value)} ×", _elsewhere(n, m, inside))],
        f"How much more neighbouring pixels differ across borders of segments{included} than "
        f"inside: 1 means that borders lie anywhere.",
        plot,
        note,
    )


def _elsewhere(borders: int, pairs: int, inside: int) -> str:
    """Say what borders are compared with, or why they cannot be."""
    if borders and pairs:
        return "the change elsewhere" if inside else "nothing changes inside segments"
    return "no segment has a neighbour" if not borders else "no segment has an inside"


def _time(state: Mapping[str, Any], shape: tuple[int, int]) -> Score:
    seconds = {name: step["wall"] for name, step in state["steps"].items()}
    megapixels, compiled = shape[0] * shape[1] / 1e6, state.get("compile_seconds", 0.0)
    without = " Without compiling kernels, which only the first run does." if compiled >= 1 else ""
    spent = max(0.0, state["wall_seconds"] - compiled)
    return Score(
        "Time",
        [(duration(spent / megapixels), "per megapixel, from reading to report")],
        f"What the segmentation cost, reading, checking and writing included, the start of Python "
        f"not.{without}",
        plots.steps(seconds) if seconds else None,
    )


def seams(stage: str, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the page says of the seams of a stage; None where they were not looked at."""
    found = state.get("seams", {}).get(stage)
    if found is None:
        return None
    return {
        "figures": _seam_figures(found),
        "sentence": _compared(found),
        "plot": plots.lines(found["lines"], found["lines_elsewhere"]) if found["pairs"] else None,
        "check": _check(found.get("check"), state["exactness"][stage]),
        "refused": [part["refused"] for part in found.get("check", {}).get("refused", [])],
        "windows": [_window(w) for w in found.get("check", {}).get("windows", [])],
        "worst": [_seam(seam) for seam in found["worst"]],
    }


def _seam_figures(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of the seams in a number or two, and what they are.

    Where windows came out the same with other seams, how labels change on these seams and elsewhere
    is no more than chance: it is told below, but would only alarm as a figure.
    """
    check, figures = found.get("check") or {}, []
    if check.get("pixels"):
        figures.append((percent(check["share"]), "of pixels change their segment as seams move"))
        if not check["changed"]:
            return figures
    if found["pairs"] and found["density_elsewhere"] is not None:
        both = (_number(found[key], percent) for key in ("density", "density_elsewhere"))
        figures.append((" / ".join(both), "label changes on seams / elsewhere"))
    return figures


def _compared(found: Mapping[str, Any]) -> str:
    if not found["pairs"]:
        return "No segment lies across a seam of tiles."
    here = (
        f"Across the seams of tiles the label changes at {_number(found['density'], percent)} of "
        f"{grouped(found['pairs'])} pixels"
    )
    if found["density_elsewhere"] is None:
        return f"{here}; there is nothing to compare it with."
    return (
        f"{here}, across the same lines moved by half a tile at "
        f"{_number(found['density_elsewhere'], percent)} of {grouped(found['pairs_elsewhere'])}. "
        f"Single lines differ much more than that, seams or not, where segments follow a lattice."
    )


def _check(check: Mapping[str, Any] | None, exactness: str) -> str:
    if check is None:
        return "No window was segmented again (report.seam_check is off)."
    if not check["pixels"]:
        return "No pixel could be segmented again."
    what = (
        f"Computed, not assumed: {len(check['windows'])} window"
        f"{'s were' if len(check['windows']) != 1 else ' was'} segmented again twice, the second "
        f"time with all seams half a tile further. "
    )
    if not check["changed"]:
        same = "every label is the same" if check["identical"] else "every segment is the same"
        return f"{what}Of {grouped(check['pixels'])} pixels none changed: {same}."
    failed = (
        " This method promises that none does: please report it." if exactness == "exact" else ""
    )
    return (
        f"{what}Of {grouped(check['pixels'])} pixels {grouped(check['changed'])} "
        f"({percent(check['share'])}) changed their segment.{failed}"
    )


def _window(window: Mapping[str, Any]) -> dict[str, str]:
    (y, x), (bottom, right) = window["start"], window["stop"]
    return {
        "window at x, y": f"{grouped(x)}, {grouped(y)}",
        "size (px)": f"{grouped(right - x)} × {grouped(bottom - y)}",
        "tiles (px)": f"{grouped(window['tile'][1])} × {grouped(window['tile'][0])}",
        "pixels": grouped(window["pixels"]),
        "changed": grouped(window["changed"]),
        "share": percent(window["changed"] / window["pixels"]) if window["pixels"] else "–",
    }


def _seam(seam: Mapping[str, Any]) -> tuple[str, str]:
    """Return where a seam is, and how often labels change on it."""
    along = "x" if seam["axis"] == "y" else "y"
    return (
        f"Seam {seam['axis']} {grouped(seam['at'])}, {along} {grouped(seam['start'])} to "
        f"{grouped(seam['stop'])}.",
        f"The label changes at {grouped(seam['changes'])} of {grouped(seam['pairs'])} pixels, "
        f"{percent(seam['density'])}.",
    )


def _half(value: float) -> str:
    """Write a median of whole numbers: a whole or a half."""
    return grouped(value) + (".5" if value % 1 else "")


def _number(value: float | None, words: Any = figure) -> str:
    return NOT_MEASURED if value is None else str(words(value))
