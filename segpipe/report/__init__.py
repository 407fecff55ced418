"""The report of a finished run: one HTML file pictures inside, for any browser, offline."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from segpipe.report import content, pictures
from segpipe.report.areas import read_areas
from segpipe.report.display import Display, open_display
from segpipe.store.folder import Folder

__all__ = ["overlay_png", "write_report"]


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
    Reads a coarse level, four small windows and one column of the table: time and memory do not
    grow with the image.
    """
    display = open_display(folder, state)
    stages = [_stage(folder, state, display, name) for name in state["labels"]]
    template = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    # file names and parameters are other people's text: everything is escaped
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return page.from_string(template).render(content.page(folder, state), stages=stages)


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
    across = pictures.segment_width(display, stage, state["labels"][stage]["segments"])
    buffer = io.BytesIO()
    pictures.overlay(display, stage, across, max_edge).save(buffer, "PNG")
    return buffer.getvalue()


def _stage(folder: Folder, state: Mapping[str, Any], display: Display, name: str) -> dict[str, Any]:
    """Return everything the page says and shows of one label image."""
    found = state["labels"][name]
    across = pictures.segment_width(display, name, found["segments"])
    table = "segments.parquet" if len(state["labels"]) == 1 else f"segments-{name}.parquet"
    areas = read_areas(folder, table)
    overview, colour = pictures.overview(display, name, across)
    tile = (state["tile"][0], state["tile"][1])
    return {
        "name": name,
        "segments": found["segments"],
        "digest": found["digest"],
        "promise": content.PROMISES[state["exactness"][name]],
        "parameters": content.parameters(state, name),
        "overview": overview,
        "shape": display.shape,
        "places": pictures.places(display, name, across, tile, colour),
        "areas": areas,
        "histogram": content.histogram(areas) if areas else None,
    }
