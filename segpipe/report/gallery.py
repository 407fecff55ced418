"""The page of a collection: every image with its state, to be sorted and filtered, in one file.

Up to `INLINE` images the page holds all thumbnails itself. Of larger collections it shows those
that lie in the folders of the images, and loads only what is on the screen; the figures of all
images are in the page in any case, as columns, and a page of them is drawn at a time. So it opens
with a hundred thousand images as with ten.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from segpipe.config import dump
from segpipe.report import content, distributions, plots
from segpipe.report.distributions import REAL, UNIT_INTERVAL, WHOLE
from segpipe.report.templates import template
from segpipe.report.words import duration, figure, grouped, moment, without_secrets
from segpipe.store import column_name
from segpipe.store.columns import batches
from segpipe.store.folder import Folder
from segpipe.store.space import amount

IMAGES, TABLE, THUMBNAIL = "images", "images.parquet", "thumbnail.jpg"
INLINE = 200
"""Most images whose thumbnails are in the page itself (4 MB)."""
LISTED = 100
"""Most images set aside that are listed with their reasons; the gallery has all."""
DIGITS = 4
"""Digits of the figures in the gallery; the table of images has all."""

FIGURES = {
    "segments": "segments",
    "explained_variation": "explained variation",
    "boundary_strength": "boundary strength",
    "compactness": "compactness",
    "evenness": "evenness",
    "small_share": "small segments",
    "largest_share": "largest segment",
    "megapixels": "megapixels",
    "seconds": "seconds",
}
"""What images can be sorted by, besides name and status, and how it is called."""
PLOTTED = {
    "segments": ("Segments", "segments in an image", WHOLE, "How many segments an image has."),
    "explained_variation": (
        "Homogeneity", "explained variation", UNIT_INTERVAL,
        "How much of an image is left when every segment is painted in its mean colour.",
    ),
    "boundary_strength": (
        "Boundary strength", "change across borders over change inside", REAL,
        "How much more neighbouring pixels differ across borders of segments than inside.",
    ),
    "compactness": (
        "Compactness", "4πA/P², mean by area", UNIT_INTERVAL,
        "1 for discs, 0.79 for squares, towards 0 for ragged segments.",
    ),
    "megapixels": ("Size", "megapixels", REAL, "How large the images are."),
    "seconds": (
        "Time", "seconds for an image", REAL,
        "What an image took its worker, from opening the file to its last byte.",
    ),
}  # fmt: skip
"""Figure -> title, unit, limits of fine bins, and what it means."""
SHORT = {"boundary_strength": " ×", "megapixels": " Mpx", "seconds": " s"}
"""How their units are written behind numbers."""


def write_gallery(folder: Folder, state: Mapping[str, Any]) -> str:
    """Return the page of a collection as HTML.

    Parameters
    ----------
    folder
        Folder of the collection, with its table of images in place.
    state
        What ``collection.json`` says of it.
    """
    stages = [stage["name"] for stage in state["config"]["stages"]]
    columns = {
        name: column_name(name, stages[-1], alone=len(stages) == 1)
        if name not in ("megapixels", "seconds")
        else name
        for name in FIGURES
    }
    drawn, told = _distributions(folder, columns)
    script, places = plots.embedded(drawn)
    data = _data(folder, state, columns)
    return template("gallery.html.j2").render(
        _page(folder, state),
        data=Markup(_json(data)),
        aside=list(_aside(folder)),
        told=told,
        plots=places,
        library=plots.library() if drawn else "",
        script=script,
    )


def _page(folder: Folder, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of the collection as a whole."""
    counts, wall = state["counts"], state["wall_seconds"]
    given = state["config"]["input"]
    sources = [given] if isinstance(given, str) else list(given)
    fresh = counts["images"] - counts["reused"]
    name = sources[0].split("?")[0].rstrip("/").rpartition("/")[2]
    return {
        "title": without_secrets(name) if len(sources) == 1 else f"{len(sources)} places",
        "methods": ", ".join(dict.fromkeys(s["method"] for s in state["config"]["stages"])),
        "done": counts["done"],
        "images": counts["images"],
        "remarked": counts["remarked"],
        "ended": moment(state.get("ended")),
        "resumed": state["resumed"],
        "megapixels": figure(sum(float(np.nansum(part)) for part in _megapixels(folder))),
        "wall": duration(wall),
        "speed": figure(fresh / state["seconds_here"]) if fresh and state["seconds_here"] else "–",
        "shown_by": _parameters(state),
        "work": _work(state),
        "digest": state["digest"],
        "configuration": without_secrets(dump(_again(state))),
        "provenance": content.provenance(state, state["machine"]),
        "folder": without_secrets(str(folder)),
        "grouped": grouped,
        "inline": counts["images"] <= INLINE or not state["config"]["collection"]["thumbnail"],
        "pictured": state["config"]["collection"]["thumbnail"] > 0,
        "listed": LISTED,
    }


def _work(state: Mapping[str, Any]) -> dict[str, str]:
    counts, machine = state["counts"], state["machine"]
    return {
        "done": f"{grouped(counts['done'])} of {grouped(counts['images'])} images",
        "set aside": grouped(counts["set aside"]),
        "found as they were": grouped(counts["reused"]) if state["resumed"] else "–",
        "retries": content.retries({"images": state}),
        "interruptions": f"resumed {state['resumed']}×" if state["resumed"] else "none",
        "workers": f"{machine['workers']}, {amount(machine['worker_memory'])} each",
    }


def _parameters(state: Mapping[str, Any]) -> list[dict[str, str]]:
    return [content.parameters(state, stage["name"]) for stage in state["config"]["stages"]]


def _again(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state["config"].items() if key != "cluster"}


def _distributions(
    folder: Folder, columns: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return plots, and what belongs to each."""
    drawn, told = {}, []
    for name, (title, unit, fine, meaning) in PLOTTED.items():
        stream = partial(_values, folder, columns[name])
        found = distributions.distribution(stream, fine)
        if found is None:
            continue
        drawn[name] = plots.bars(found, unit, whole=fine is WHOLE, of="images")
        words = grouped if fine is WHOLE else figure
        short = SHORT.get(name, "")
        ends = f"{words(found.smallest)} to {words(found.largest)}"
        told.append(
            {"key": name, "title": title, "median": f"{words(found.median)}{short}"}
            | {"ends": f"{ends}{short}", "meaning": meaning}
        )
    return drawn, told


def _values(folder: Folder, name: str) -> Iterator[np.ndarray]:
    """Yield what is known of a figure, batch by batch."""
    parts = (
        _megapixels(folder)
        if name == "megapixels"
        else (rows[name] for rows in batches(folder, TABLE, [name]))
    )
    for part in parts:
        values = np.asarray(part, float)
        known = values[np.isfinite(values)]
        if len(known):
            yield known


def _megapixels(folder: Folder) -> Iterator[np.ndarray]:
    for rows in batches(folder, TABLE, ["height", "width"]):
        yield np.asarray(rows["height"], float) * np.asarray(rows["width"], float) / 1e6


def _aside(folder: Folder) -> Iterator[dict[str, str]]:
    """Yield the first images that were set aside."""
    left = LISTED
    wanted = ("name", "path", "status", "error")
    for rows in batches(folder, TABLE, wanted):
        for name, path, status, error in zip(*(rows[key] for key in wanted), strict=True):
            if status != "done" and left:
                left -= 1
                yield {"image": name, "reason": reason(path, error)}


def reason(path: str, error: str) -> str:
    """Return why an image was set aside, without its path where the name stands beside it.

    >>> reason("/a/b.png", "/a/b.png is empty (0 bytes); copy it again")
    'is empty (0 bytes); copy it again'
    """
    return without_secrets(error.removeprefix(path).lstrip(": "))


def _data(folder: Folder, state: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return what the script of the page works on: columns of all images."""
    data: dict[str, Any] = {name: [] for name in ("name", "size", "done", *FIGURES)}
    data |= {"titles": FIGURES, "errors": {}, "remarks": {}, "pictures": {}}
    wanted = ["name", "path", "status", "error", "remark", "height", "width", *columns.values()]
    for rows in batches(folder, TABLE, wanted):
        _append(data, rows, columns)
    thumbnails = state["config"]["collection"]["thumbnail"] > 0
    if thumbnails and len(data["name"]) <= INLINE:
        for number, name in enumerate(data["name"]):
            picture = folder.get(f"{IMAGES}/{name}/{THUMBNAIL}") if data["done"][number] else None
            if picture is not None:
                coded = base64.b64encode(picture).decode()
                data["pictures"][number] = f"data:image/jpeg;base64,{coded}"
    data["beside"] = thumbnails and not data["pictures"]
    data["folder"] = without_secrets(f"{folder}/{IMAGES}")
    data["pages"] = state["config"]["collection"]["pages"]
    return data


def _append(
    data: dict[str, Any], rows: Mapping[str, np.ndarray], columns: Mapping[str, str]
) -> None:
    first = len(data["name"])
    data["name"] += rows["name"].tolist()
    done = [status == "done" for status in rows["status"]]
    data["done"] += map(int, done)
    for number, error in enumerate(rows["error"]):
        if not done[number]:
            data["errors"][first + number] = reason(rows["path"][number], error)
    data["remarks"] |= {first + number: text for number, text in enumerate(rows["remark"]) if text}
    sides = zip(rows["width"].tolist(), rows["height"].tolist(), strict=True)
    data["size"] += [f"{w:.0f} × {h:.0f}" if _known(w) else "" for w, h in sides]
    area = np.asarray(rows["height"], float) * np.asarray(rows["width"], float) / 1e6
    for name, column in columns.items():
        data[name] += _short(area if name == "megapixels" else rows[column])


def _short(values: Iterable[Any]) -> list[float | None]:
    """Return figures with the digits that are shown; None for what is not known."""
    return [_rounded(float(v)) if _known(v) else None for v in values]


def _rounded(value: float) -> float:
    found = float(f"{value:.{DIGITS}g}") if abs(value) < 10**DIGITS else round(value)
    return int(found) if found == int(found) else found


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _json(data: Mapping[str, Any]) -> str:
    """Return JSON that nothing in it can end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
