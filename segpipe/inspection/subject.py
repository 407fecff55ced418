"""What is inspected, and what its table says of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.jobs import ArrayInput, LabelsInput
from segpipe.passes import ImageInfo, Method
from segpipe.quality import conditions
from segpipe.store.arrays import Region, as_pixels
from segpipe.store.columns import batches, column_names
from segpipe.store.folder import Folder
from segpipe.tiles import Box, Grid

SEED = 20120711
"""Of everything that is drawn at random."""
DRAWN = 64
"""Segments drawn; the pixels round them are the sample of image and labels."""
EDGE = 512
"""Edge of the cells of the sample (px): a chunk, as most tiles are stored."""
WORST = 16
"""Segments that vary most inside, kept for the report."""
MEASURES = ("label", "area", "perimeter", "centroid-", "intensity_mean-", "intensity_std-")
"""Beginnings of the names of columns that are scored."""


@dataclass(frozen=True)
class Subject:
    """The labels of one stage, and what belongs to them."""

    stage: str
    folder: Folder
    """The run folder."""
    image: Folder
    """Where the OME-Zarr image lies."""
    table: str
    segments: int
    grid: Grid
    key: str
    """Digest of all that decides the labels."""
    method: Method | None = None
    """None: nothing is segmented again."""
    info: ImageInfo | None = None
    inputs: tuple[ArrayInput | LabelsInput, ...] = ()
    """What the method reads: the image, and its mask if it has one."""
    partial: bool = False
    """Pixels in no segment are background, those that do not count excepted."""
    seconds: float = math.inf
    """What the run takes, roughly."""

    def labels(self, box: Box) -> np.ndarray:
        """Return the labels in a box."""
        return Region(self.image, f"labels/{self.stage}/0", box).read()

    def pixels(self, box: Box) -> np.ndarray:
        """Return the image in a box."""
        return as_pixels(Region(self.image, "0", box).read())

    def background(self, box: Box) -> np.ndarray | None:
        """Return where pixels in no segment are background; None if nowhere."""
        if not self.partial:
            return None
        mask = self.mask(box)
        return np.ones(box.shape, bool) if mask is None else mask > 0

    def mask(self, box: Box) -> np.ndarray | None:
        """Return which pixels of a box count; None if all do."""
        for item in self.inputs:
            if item.name == "mask":
                return item.read(box)["mask"][0]
        return None


def table_scores(folder: Folder, table: str, shape: Sequence[int], segments: int) -> dict[str, Any]:
    """Score a table of segments, and name some of them: drawn at random, and the least uniform.

    Returns
    -------
    dict
        `conditions.scores`, and ``drawn`` and ``worst``: lists of ``label``, ``area``, ``at`` (y, x
        of the centroid) and ``sd``.
    """
    rng = np.random.default_rng(SEED)
    wanted = np.unique(rng.integers(1, max(segments, 1) + 1, DRAWN))
    sums, drawn, worst = None, [], []
    columns = [n for n in column_names(folder, table) if n.startswith(MEASURES)]
    for rows in batches(folder, table, columns):
        part = conditions.Sums.of(rows, pair(shape))
        sums = part if sums is None else sums + part
        if not {"label", "centroid-0", "centroid-1"} <= set(rows):
            continue
        drawn += _named(rows, np.flatnonzero(np.isin(rows["label"], wanted)))
        within = rows["area"] * sum(rows[n] ** 2 for n in rows if n.startswith("intensity_std-"))
        if within.any():
            # of equals the first: labels rise
            worst += _named(rows, np.argsort(-within, kind="stable")[:WORST])
            worst = sorted(worst, key=lambda s: (-s["area"] * s["sd"] ** 2, s["label"]))[:WORST]
    found: dict[str, Any] = dict.fromkeys(conditions.NAMES)
    if sums is not None:
        found |= conditions.scores(sums)
    # in the order of the draw the first few are a fair sample too, sorted they are not
    drawn = [drawn[i] for i in np.random.default_rng(SEED).permutation(len(drawn))]
    return found | {"drawn": drawn, "worst": worst}


def sample(drawn: Iterable[Mapping[str, Any]], shape: Sequence[int]) -> list[Box]:
    """Return the cells of a lattice of `EDGE` pixels that hold the drawn segments; all, if few."""
    cells = Grid(pair(shape), (EDGE, EDGE))
    if len(cells) <= DRAWN:
        return [cells.core(i) for i in range(len(cells))]
    across = cells.counts[1]
    numbers = {int(y) // EDGE * across + int(x) // EDGE for y, x in (d["at"] for d in drawn)}
    return [cells.core(i) for i in sorted(numbers)]


def _named(rows: Mapping[str, np.ndarray], places: np.ndarray) -> list[dict[str, Any]]:
    deviations = [rows[n][places] for n in rows if n.startswith("intensity_std-")]
    sd = np.sqrt(sum((d**2 for d in deviations), np.zeros(len(places))))
    columns = (rows[n][places].tolist() for n in ("label", "area", "centroid-0", "centroid-1"))
    return [
        {"label": label, "area": area, "at": [y, x], "sd": s}
        for label, area, y, x, s in zip(*columns, sd.tolist(), strict=True)
    ]


def pair(numbers: Sequence[int]) -> tuple[int, int]:
    """Return two numbers as such."""
    rows, columns = numbers
    return rows, columns
