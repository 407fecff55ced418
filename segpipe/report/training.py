"""The report of a training: curves, scores and examples on one page, for any browser, offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from PIL import Image

from segpipe.report import plots
from segpipe.report.pictures import border_mask, data_uri
from segpipe.report.templates import template
from segpipe.report.words import duration, grouped

TRUE, FOUND = (0, 235, 255), (255, 225, 0)
"""Colours of true outlines and of those that the model finds."""
COLOURS = (plots.BAR, plots.MARK, plots.OTHER, "#3457a6", "#b8860b", "#7b4ea3", "#6b8e23")
APART = ("step", "seconds", "loss")
"""Columns of the history that are no score."""


@dataclass(frozen=True)
class Example:
    """An image that the model has not been trained on, what is there and what it finds."""

    name: str
    image: np.ndarray
    """(H, W) or (H, W, 3) in 0 to 1."""
    truth: np.ndarray
    """(H, W) labels."""
    found: np.ndarray
    """(H, W) labels."""
    scores: Mapping[str, float]


def training_page(
    title: str,
    facts: Mapping[str, str],
    scores: Mapping[str, Mapping[str, float]],
    history: Sequence[Mapping[str, float]],
    examples: Sequence[Example],
    recipe: str,
) -> str:
    """Return the report of a training as HTML.

    Parameters
    ----------
    title
        Name of the model.
    facts
        What is to be said of it, by name.
    scores
        By part of the data, then by name.
    history
        A row per look at the validation part: step, seconds, loss and scores.
    examples
        To be shown.
    recipe
        The configuration, as YAML.
    """
    drawn = _curves(history)
    script, places = plots.embedded(drawn)
    return template("training.html.j2").render(
        title=title,
        facts=facts,
        scores=_table(scores),
        time=duration(sum(row["seconds"] for row in history)),
        steps=grouped(history[-1]["step"] if history else 0),
        examples=[_shown(example) for example in examples],
        recipe=recipe,
        plots=places,
        library=plots.library() if drawn else "",
        script=script,
    )


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return loss and scores over steps."""
    if not history:
        return {}
    names = [name for name in history[0] if name not in APART]
    found = {"Loss, mean since the look before": _lines(history, ["loss"])}
    if names:
        found["Scores on the validation part"] = _lines(history, names, 260)
    return found


def _lines(history: Sequence[Mapping[str, float]], names: Sequence[str], height: int = 200) -> Any:
    plot = plots.figure_of(
        "steps", "", tooltips=[("@name", "@value{0.0000}"), ("steps", "@step{0,0}")]
    )
    plot.height = height
    for name, colour in zip(names, cycle(COLOURS), strict=False):
        data = {
            "step": [row["step"] for row in history],
            "value": [row[name] for row in history],
            "name": [name] * len(history),
        }
        legend = {"legend_label": name} if len(names) > 1 else {}
        plot.line("step", "value", source=data, line_color=colour, line_width=2, **legend)
        plot.scatter("step", "value", source=data, fill_color=colour, line_color=None, size=4)
    if len(names) > 1:
        plot.legend.location = "bottom_right"
        plot.legend.orientation = "horizontal"
        plot.legend.background_fill_alpha = 0.6
        plot.legend.border_line_color = None
        plot.legend.label_text_font_size = "11px"
    return plot


def _table(scores: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    return [
        {"part": part, **{name: f"{value:.3f}" for name, value in row.items()}}
        for part, row in scores.items()
    ]


def _shown(example: Example) -> dict[str, str]:
    """Return an example as two pictures: with true outlines, with those found."""
    pixels = np.round(255 * np.clip(example.image, 0, 1)).astype(np.uint8)
    return {
        "name": example.name,
        "truth": _outlined(pixels, example.truth, TRUE),
        "found": _outlined(pixels, example.found, FOUND),
        "scores": ", ".join(f"{name} {value:.2f}" for name, value in example.scores.items()),
    }


def _outlined(pixels: np.ndarray, labels: np.ndarray, colour: tuple[int, int, int]) -> str:
    picture = (
        Image.fromarray(pixels)
        .convert("RGB")
        .resize((2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.BILINEAR)
    )
    fine = labels.repeat(2, axis=0).repeat(2, axis=1)
    picture.paste(colour, mask=Image.fromarray(border_mask(fine)))
    return data_uri(picture, "JPEG", quality=85)
