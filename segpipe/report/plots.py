"""Small plots, drawn by Bokeh in the browser; the library travels in the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from segpipe.report.distributions import Distribution
from segpipe.report.words import figure, grouped

HEIGHT = 190
"""Of a plot (px); its width is that of its place on the page."""
BAR, MARK, OTHER = "#0b6e69", "#c2185b", "#9aa5ad"
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|(?<=[\"'])p\d{4,}(?=[\"'])")
TOOLS = "box_zoom,pan,reset,save"


@cache
def library() -> str:
    """Return Bokeh's script."""
    from bokeh.resources import Resources

    script = Resources(mode="inline", components=["bokeh"]).js_raw[0]
    # Bokeh's own way of saying so says it on the console
    return f'{script}\nBokeh.logger.set_level("warn");'


def embedded(plots: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the script that draws some plots, and for each the element that it fills."""
    from bokeh.document import Document
    from bokeh.embed import components

    if not plots:
        return "", {}
    document = Document()
    with document.models.freeze():  # else every plot that comes has all of them looked at again
        for plot in plots.values():
            document.add_root(plot)
    script, places = components(dict(plots), wrap_script=False)
    names: dict[str, str] = {}
    return _named(script, names), {key: _named(place, names) for key, place in places.items()}


def _named(text: str, names: dict[str, str]) -> str:
    """Replace Bokeh's ids, random or counted through the process, by the same ones every time."""
    return IDS.sub(lambda found: names.setdefault(found[0], f"id{len(names)}"), text)


def bars(
    found: Distribution,
    unit: str,
    *,
    whole: bool,
    line: tuple[float, str] | None = None,
    of: str = "segments",
) -> Any:
    """Return a histogram with the median marked, and a line at a value that matters, with its name.

    `of` is what is counted.
    """
    words = grouped if whole else figure
    last = found.limits - 1 if whole else found.limits
    data = {
        "left": found.limits[:-1].tolist(),
        "right": found.limits[1:].tolist(),
        "top": found.bars.tolist(),
        "says": [f"{words(a)} to {words(b)} {unit}".strip()
                 for a, b in zip(found.limits[:-1], last[1:], strict=True)],
        "count": [grouped(n) for n in found.bars],
    }  # fmt: skip
    plot = figure_of(
        unit,
        of,
        x_axis_type="log" if found.logarithmic else "linear",
        x_range=(float(found.limits[0]), float(found.limits[-1])),
        tooltips=[("", "@says"), (of, "@count")],
    )
    plot.quad(source=data, bottom=0, fill_color=BAR, line_color="white", line_width=0.5)
    _span(plot, found.median, "median", MARK)
    if line is not None and found.limits[0] < line[0] < found.limits[-1]:
        _span(plot, *line, OTHER)
    _legend(plot, 1.25 * float(found.bars.max(initial=1)))
    return plot


def densities(values: np.ndarray, shape: tuple[int, int]) -> Any:
    """Return a map of segments per megapixel by block of the image."""
    from bokeh.models import LinearColorMapper

    rows, columns = (a.ravel() for a in np.indices(values.shape))
    height, width = (n / k for n, k in zip(shape, values.shape, strict=True))
    flat = values.ravel()
    data = {
        "x": ((columns + 0.5) * width).tolist(),
        "y": ((rows + 0.5) * height).tolist(),
        "value": [None if np.isnan(v) else float(v) for v in flat],
        "says": ["none" if np.isnan(v) else grouped(round(v)) for v in flat],
    }
    high = float(np.nanmax(flat)) if np.isfinite(flat).any() else 1.0
    shades = [_mixed(i / 31) for i in range(32)]
    mapper = LinearColorMapper(palette=shades, low=0.0, high=high or 1.0, nan_color="#ffffff")
    plot = figure_of(
        "x (px)",
        "y (px)",
        x_range=(0, shape[1]),
        y_range=(shape[0], 0),
        tooltips=[("segments per megapixel", "@says")],
    )
    plot.rect(
        "x", "y", width, height, source=data, line_color=None,
        fill_color={"field": "value", "transform": mapper},
    )  # fmt: skip
    return plot


def pair(values: Mapping[str, float], unit: str) -> Any:
    """Return a few named bars."""
    names = list(values)
    data = {
        "name": names,
        "value": list(values.values()),
        "says": [f"{figure(v)} {unit}".strip() for v in values.values()],
        "colour": [MARK, BAR, OTHER, OTHER][: len(names)],
    }
    plot = figure_of(unit, "", y_range=names[::-1], tooltips=[("@name", "@says")])
    plot.hbar("name", right="value", height=0.6, source=data, fill_color="colour", line_color=None)
    plot.x_range.start = 0
    return plot


def steps(seconds: Mapping[str, float]) -> Any:
    """Return how long each step took."""
    data = {
        "name": list(seconds),
        "value": list(seconds.values()),
        "says": [f"{figure(s)} s" for s in seconds.values()],
    }
    plot = figure_of("seconds", "", y_range=list(seconds)[::-1], tooltips=[("@name", "@says")])
    plot.hbar("name", right="value", height=0.7, source=data, fill_color=BAR, line_color=None)
    plot.x_range.start = 0
    plot.height = max(HEIGHT, 60 + 22 * len(seconds))
    return plot


def lines(on_seams: Sequence[int], elsewhere: Sequence[int]) -> Any:
    """Return the shares of lines by density, seams against others."""
    n = len(on_seams)
    edges, highest = np.linspace(0, 1, n + 1), 0.0
    plot = figure_of("changes of label per pixel of the line", "share of lines", tooltips=[
        ("density", "@left{0.00} to @right{0.00}"), ("@kind", "@count"),
    ])  # fmt: skip
    for counts, kind, colour, filled in (
        (elsewhere, "lines elsewhere", OTHER, 0.55),
        (on_seams, "seams", MARK, 0.0),
    ):
        total = max(sum(counts), 1)
        highest = max(highest, max(counts) / total)
        data = {
            "left": edges[:-1].tolist(),
            "right": edges[1:].tolist(),
            "top": [c / total for c in counts],
            "count": [grouped(c) for c in counts],
            "kind": [kind] * n,
        }
        plot.quad(
            source=data, bottom=0, fill_color=colour, fill_alpha=filled, line_color=colour,
            line_width=1.5 if not filled else 0.5, legend_label=kind,
        )  # fmt: skip
    _legend(plot, 1.4 * max(highest, 0.1))
    return plot


def figure_of(x: str, y: str, **options: Any) -> Any:
    """Return an empty plot in the style of the page."""
    from bokeh.models import NoOverlap
    from bokeh.plotting import figure as bokeh_figure

    plot = bokeh_figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        tools=TOOLS,
        toolbar_location="above",
        x_axis_label=x,
        y_axis_label=y,
        output_backend="svg",
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.outline_line_color = None
    plot.xgrid.grid_line_color = None
    plot.ygrid.grid_line_alpha = 0.4
    plot.min_border = 4
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "11px"
        axis.axis_label_text_color = axis.major_label_text_color = "#5d6670"
        axis.minor_tick_line_color = None
        axis.major_label_policy = NoOverlap(min_distance=8)
        axis.axis_line_color = "#c6ccd1"
    return plot


def _span(plot: Any, at: float, name: str, colour: str) -> None:
    plot.vspan(x=[at], line_color=colour, line_dash="dashed", legend_label=name)


def _legend(plot: Any, top: float) -> None:
    """Style the legend, and make room for it: bars may stand anywhere, so it is above them."""
    plot.y_range.start, plot.y_range.end = 0, top
    plot.legend.orientation = "horizontal"
    plot.legend.label_text_font_size = "11px"
    plot.legend.background_fill_alpha = 0.0
    plot.legend.border_line_color = None
    plot.legend.padding = plot.legend.margin = 2


def _mixed(share: float) -> str:
    """Colour between white and `BAR`."""
    ends = (232, 240, 239), tuple(int(BAR[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*ends, strict=True))
