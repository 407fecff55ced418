"""The table of segments as the client wants it: to list, to sort and to search segments.

In the client's segment list, ``area>500`` and ``mean_red<80`` choose by number, ``#class-3`` by
class, and ``/#f0`` by colour; ``|area`` shows a column. The format is neuroglancer's precomputed
segment properties.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from segpipe.quality.conditions import compactness
from segpipe.store.columns import batches, column_names
from segpipe.store.folder import Folder

MOST = 500_000
"""Segments that a browser lists; of more, the largest."""
COLUMNS = ("label", "area", "perimeter", "class", "intensity_mean-", "intensity_std-")
"""Beginnings of the columns that are handed out."""


def segment_properties(folder: Folder, table: str, rgb: bool, most: int = MOST) -> bytes:
    """Return the ``info`` of a table of segments.

    Parameters
    ----------
    folder, table
        Where the table lies.
    rgb
        The first three channels are red, green and blue.
    most
        Of more segments than this, the largest are handed out.
    """
    rows = _largest(folder, table, most)
    label = rows.get("label", np.zeros(0, np.int64))
    found = [_number("area", "pixels", rows["area"], "uint32")] if "area" in rows else []
    if "perimeter" in rows:
        ratio = compactness(rows["area"], rows["perimeter"])
        found.append(_number("compactness", "4 pi A / P^2", ratio, "float32"))
    for kind, says in (("mean", "mean"), ("std", "standard deviation")):
        for name, values in _channels(rows, f"intensity_{kind}-", rgb):
            found.append(_number(f"{kind}_{name}", f"{says}, {name}", values, "float32"))
    if rgb and "intensity_mean-2" in rows:
        found.append({"id": "label", "type": "label", "values": _colours(rows)})
    if "class" in rows:
        found.append(_classes(rows["class"]))
    info = {
        "@type": "neuroglancer_segment_properties",
        "inline": {"ids": [str(n) for n in label.tolist()], "properties": found},
    }
    return json.dumps(info, allow_nan=False).encode()


def _largest(folder: Folder, table: str, most: int) -> dict[str, np.ndarray]:
    """Return the rows of the largest segments, by label; no more than twice `most` in memory."""
    names = [n for n in column_names(folder, table) if n.startswith(COLUMNS)]
    kept: dict[str, np.ndarray] = {}
    for rows in batches(folder, table, names, max(1, min(most, 1 << 18))):
        kept = {n: np.concatenate([kept[n], rows[n]]) for n in names} if kept else rows
        if len(kept["label"]) > most:
            order = np.sort(np.argsort(-kept["area"].astype(np.int64), kind="stable")[:most])
            kept = {n: column[order] for n, column in kept.items()}
    return kept


def _number(name: str, says: str, values: np.ndarray, kind: str) -> dict[str, Any]:
    """Return a numerical property; the client knows 32 bits, and no NaN."""
    if kind == "uint32":
        listed = np.minimum(values, 0xFFFFFFFF).astype(np.uint32).tolist()
    else:
        listed = [float(f"{v:.6g}") for v in np.nan_to_num(values).tolist()]
    return {
        "id": name, "type": "number", "description": says, "data_type": kind, "values": listed
    }  # fmt: skip


def _channels(
    rows: Mapping[str, np.ndarray], prefix: str, rgb: bool
) -> list[tuple[str, np.ndarray]]:
    names = sorted((n for n in rows if n.startswith(prefix)), key=lambda n: int(n[len(prefix) :]))
    colours = dict(enumerate(("red", "green", "blue"))) if rgb else {}
    return [(colours.get(i, str(i)), rows[name]) for i, name in enumerate(names)]


def _colours(rows: Mapping[str, np.ndarray]) -> list[str]:
    """Mean colours as people write them."""
    planes = (np.clip(np.rint(rows[f"intensity_mean-{i}"]), 0, 255) for i in range(3))
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in zip(*planes, strict=True)]


def _classes(values: np.ndarray) -> dict[str, Any]:
    """Return classes as tags."""
    present, number = np.unique(values, return_inverse=True)
    return {
        "id": "class",
        "type": "tags",
        "tags": [f"class-{value}" for value in present.tolist()],
        "values": [[i] for i in number.tolist()],
    }
