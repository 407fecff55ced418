"""The report of a finished run: one HTML file pictures inside, for any browser, offline."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from segpipe.report import content, pictures, plots
from segpipe.report.display import Display, open_display
from segpipe.report.places import choose, worst_seams
from segpipe.report.scores import headline, scores, seams
from segpipe.report.templates import template
from segpipe.report.words import plain
from segpipe.store import table_name
from segpipe.store.folder import Folder

__all__ = ["overlay_png", "thumbnail_jpeg", "write_report"]


def write_report(folder: Folder, state: Mapping[str, Any]) -> str:
    """Return the report of a run as HTML.

    Parameters
    ----------
    folder
        Folder of the run, with image, labels and tables in place.
    state
        What ``run.json`` says (or will say) of the run.

    Notes
    -----
    Reads a coarse level, a few small windows and some columns of the table, a batch of rows at a
    time: memory does not grow with the image.
    """
    display = open_display(folder, state)
    stages = [_stage(folder, state, display, name) for name in state["labels"]]
    drawn = {key: plot for stage in stages for key, plot in stage.pop("plots").items()}
    script, places = plots.embedded(drawn)
    return template("report.html.j2").render(
        content.page(folder, state),
        stages=stages,
        plots=places,
        library=plots.library() if drawn else "",
        script=script,
    )


def overlay_png(folder: Folder, stage: str, max_edge: int = pictures.OVERVIEW) -> bytes:
    """Return the whole image of a finished run as PNG, with borders if they can be seen.

    Parameters
    ----------
    folder
        Folder of the run.
    stage
        Name of the label image.
    max_edge
        Largest width or height of the picture (px).
    """
    state = folder.get_json("run.json")
    display = open_display(folder, state)
    across = _across(display, state, stage)
    buffer = io.BytesIO()
    pictures.overlay(display, stage, across, max_edge).save(buffer, "PNG")
    return buffer.getvalue()


def thumbnail_jpeg(folder: Folder, state: Mapping[str, Any], stage: str, edge: int) -> bytes:
    """Return the whole image of a finished run as a small JPEG, with borders if they can be seen.

    `state` is what ``run.json`` says, `edge` the largest width or height of the picture (px).
    """
    display = open_display(folder, state)
    across = _across(display, state, stage)
    buffer = io.BytesIO()
    pictures.thumbnail(display, stage, across, edge).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def _stage(folder: Folder, state: Mapping[str, Any], display: Display, name: str) -> dict[str, Any]:
    """Return everything the page says and shows of one label image."""
    found = state["labels"][name]
    across = _across(display, state, name)
    table = table_name("segments", name, alone=len(state["labels"]) == 1)
    number = list(state["labels"]).index(name)
    overview, colour = pictures.overview(display, name, across)
    edge, tile = pictures.place_edge(display, across), (state["tile"][0], state["tile"][1])
    chosen = choose(display, name, edge, state)
    seam_places = worst_seams(display, name, edge // 2, state)
    scored = scores(folder, table, name, state) if found["segments"] else []
    traces = seams(name, state) if found["segments"] else None
    drawn = {f"s{number}-{i}": score.plot for i, score in enumerate(scored)}
    drawn[f"s{number}-seams"] = traces and traces["plot"]
    return {
        "name": name,
        "number": number,
        "segments": found["segments"],
        "remark": content.sentence(state.get("remarks", {}).get(name, "")),
        "digest": found["digest"],
        "exactness": state["exactness"][name],
        "promise": content.PROMISES[state["exactness"][name]],
        "parameters": content.parameters(state, name),
        "found": {k: plain(v) for k, v in state.get("found", {}).get(name, {}).items()},
        "overview": overview,
        "shape": display.shape,
        "places": pictures.places(display, name, chosen, tile, colour),
        "seam_places": pictures.places(display, name, seam_places, tile, colour),
        "scores": scored,
        "headline": headline(folder, table, scored, state, name),
        "seams": traces,
        "plots": {key: plot for key, plot in drawn.items() if plot is not None},
    }


def _across(display: Display, state: Mapping[str, Any], name: str) -> float:
    """Return how many pixels wide a segment is on average."""
    area = state.get("conditions", {}).get(name, {}).get("mean_area")
    if area is not None:
        return math.sqrt(area)
    return pictures.segment_width(display, name, state["labels"][name]["segments"])
