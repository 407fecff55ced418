"""From sums to the columns of a table; partial sums of regions across seams put together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from segpipe import passes
from segpipe.passes import GROUPS, Columns, Table
from segpipe.regions import colours, contours, percentiles, places
from segpipe.regions.modes import mode_columns

STANDARD = passes.STANDARD
RULES = {
    "places": np.add,
    "low": np.minimum,
    "high": np.maximum,
    "borders": np.add,
    "colours": np.add,
    "least": np.minimum,
    "most": np.maximum,
    "class": np.maximum,  # the same in all tiles
    "votes": np.add,
    "shifts": np.add,
    "modes": np.add,
}
"""How the partial sums of a region become its sums."""
Sums = Mapping[str, np.ndarray]
"""``label`` and some of `RULES`, with a row per region."""
Open = Mapping[str, Columns]


@dataclass(frozen=True)
class Wanted:
    """What to measure, and of what image."""

    shape: tuple[int, int]
    """(height, width) of the whole image."""
    channels: int
    dtype: str
    """NumPy name of the pixel type, one of those that `colours.measurable` returns."""
    groups: frozenset[str] = frozenset(STANDARD)
    transform: tuple[float, float, float, float, float, float] | None = None
    """(a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f, where pixel
    (0, 0) covers columns and rows 0 to 1; None: no world coordinates."""
    classes: str | None = None
    """Name of a column with the class of each segment; None: the method has no classes."""

    votes: tuple[int, ...] = ()
    """Classes that pixels vote for in 255ths; the table says whose sum is greatest (``class``), and
    its mean (``score``)."""
    modes: str | None = None
    """Type of the filtered image whose modes are told (see `segpipe.regions.modes`); None: the
    method has none."""

    def __post_init__(self) -> None:
        places.check_size(self.shape)
        for name in self.groups - set(GROUPS):
            raise ValueError(f"there is no group `{name}` of measurements; {', '.join(GROUPS)}")


def tables(wanted: Wanted) -> dict[str, Table]:
    """Return the tables that are wanted, and how their rows at seams are put together."""
    pieces = ("sums", "values") if "percentiles" in wanted.groups else ("sums",)
    found = {"segments": Table(pieces, merge, partial(close, wanted=wanted))}
    if "neighbours" in wanted.groups:
        found["neighbours"] = Table(("lengths",), merge_lengths, close_lengths)
    return found


def merge(parts: Open) -> dict[str, Columns]:
    """Add up partial sums (and counts of values) of each label; sorted by label."""
    sums = parts["sums"]
    order = np.argsort(sums["label"], kind="stable")
    labels = sums["label"][order]
    start = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]][: len(labels)])
    added = {"label": labels[start]}
    for name, rule in RULES.items():
        if name in sums:
            column = sums[name][order]
            added[name] = rule.reduceat(column, start, axis=0) if len(start) else column
    found: dict[str, Columns] = {"sums": added}
    if "values" in parts:
        found["values"] = percentiles.merge(parts["values"])
    return found


def close(parts: Open, wanted: Wanted) -> dict[str, np.ndarray]:
    """Return the rows of merged sums."""
    table = finished(parts["sums"], wanted)
    if "values" in parts:
        areas = parts["sums"]["places"][:, places.AREA]
        table |= percentiles.named(
            percentiles.of_counts(parts["values"], areas, np.dtype(wanted.dtype), wanted.channels)
        )
    return table


def merge_lengths(parts: Open) -> dict[str, Columns]:
    """Add up the lengths of borders of each pair; sorted by label, then neighbour."""
    rows = parts["lengths"]
    order = np.lexsort((rows["neighbour"], rows["label"]))
    return {"lengths": add_lengths({name: column[order] for name, column in rows.items()})}


def add_lengths(rows: Columns) -> dict[str, np.ndarray]:
    """Add up the lengths of the same pair in rows that follow each other."""
    label, neighbour, length = rows["label"], rows["neighbour"], rows["length"]
    new = np.ones(len(label), bool)
    new[1:] = (label[1:] != label[:-1]) | (neighbour[1:] != neighbour[:-1])
    if new.all():
        return dict(rows)
    start = np.flatnonzero(new)
    length = np.add.reduceat(length, start)
    return {"label": label[start], "neighbour": neighbour[start], "length": length}


def close_lengths(parts: Open) -> dict[str, np.ndarray]:
    """Return the rows of merged lengths."""
    return dict(parts["lengths"])


def finished(sums: Sums, wanted: Wanted) -> dict[str, np.ndarray]:
    """Return the columns that sums allow, without percentiles."""
    total, low, high = sums["places"], sums["low"], sums["high"]
    area = total[:, places.AREA]
    table = {"label": sums["label"], "area": area}
    for i, box in enumerate((low[:, 0], low[:, 1], high[:, 0], high[:, 1])):
        table[f"bbox-{i}"] = box.astype(np.int32)
    y, x = total[:, places.ROWS] / area, total[:, places.COLUMNS] / area
    table |= {"centroid-0": y, "centroid-1": x}
    if wanted.transform is not None:
        a, b, c, d, e, f = wanted.transform
        table["world_x"] = a * (x + 0.5) + b * (y + 0.5) + c
        table["world_y"] = d * (x + 0.5) + e * (y + 0.5) + f
    first, last = (low == 0).T, (high == np.array(wanted.shape)).T
    table["touches_border"] = first[0] | first[1] | last[0] | last[1]
    if wanted.classes is not None:
        table[wanted.classes] = sums["class"]
    if wanted.votes:
        best = sums["votes"].argmax(axis=1)
        table["class"] = np.asarray(wanted.votes, np.int64)[best]
        table["score"] = sums["votes"].max(axis=1) / (255 * area)
    if wanted.modes is not None:
        table |= mode_columns(sums, wanted.modes)
    if "borders" in sums:
        table |= _shape(sums)
    if "colours" in sums:
        table |= _colour(sums, np.dtype(wanted.dtype))
    return table


def _shape(sums: Sums) -> dict[str, np.ndarray]:
    counts, total = sums["borders"], sums["places"]
    straight, diagonal, mixed = contours.WEIGHTS
    # term by term: a matrix product rounds differently for other numbers of rows
    perimeter = counts[:, 0] * straight + counts[:, 1] * diagonal + counts[:, 2] * mixed
    with np.errstate(divide="ignore", invalid="ignore"):
        compactness = 4 * math.pi * total[:, places.AREA] / perimeter**2
    ellipse = np.empty((len(total), 4))
    places.ellipse(total, sums["low"], sums["high"], ellipse)
    return {
        "perimeter": perimeter,
        "compactness": np.where(perimeter > 0, compactness, np.nan),
        "eccentricity": ellipse[:, 0],
        "axis_major_length": ellipse[:, 1],
        "axis_minor_length": ellipse[:, 2],
        "orientation": ellipse[:, 3],
        "touches_none": counts[:, 3] > 0,
    }


def _colour(sums: Sums, dtype: np.dtype) -> dict[str, np.ndarray]:
    least, most = sums["least"], sums["most"]
    channels = least.shape[1]
    digits = sums["colours"].reshape(
        len(least), channels, sum(colours.DIGITS[colours.key_of(dtype)])
    )
    area = sums["places"][:, places.AREA]
    mean, deviation = colours.moments(area, digits, least, most, dtype)
    found: dict[str, np.ndarray] = {}
    for name, values in (
        ("mean", mean),
        ("std", deviation),
        ("min", colours.extremes(least, dtype)),
        ("max", colours.extremes(most, dtype)),
    ):
        found |= {f"intensity_{name}-{c}": values[:, c] for c in range(channels)}
    return found
