"""From owners to regions: every pixel knows which marker it belongs to, as 1 + the marker's label.

A pass writes ``owner`` (uint32, 0 = none) and solves to `Owners`: whose the pixels are that a tile
could not settle. `settle_pass` puts these in and labels what is connected; the table's column of
`finish.label_pass(image, classes=…)` says which marker a segment belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from segpipe.passes import Output, Pass, Record, Window
from segpipe.regions import join
from segpipe.regions.label import label_codes
from segpipe.tiles import Tile


@dataclass(frozen=True)
class Owners:
    """Solution: per tile uint32, the owner of each pixel of its record's ``at``."""

    found: list[np.ndarray]

    def for_tile(self, tile: Tile, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Return the tile's pixels that travelled (y * width + x) and their owners."""
        return record["at"], self.found[tile.number]


def settle_pass() -> Pass:
    """Return the pass that turns ``owner`` into ``regions`` and ``classes``."""
    return Pass(
        "regions",
        _settle,
        ("owner",),
        {"regions": "uint32", "classes": "uint32"},
        solve=partial(join.solve, same=join.equal),
        bytes_per_pixel=24,
        cost_ns=8.0,
    )


def _settle(window: Window, part: tuple[np.ndarray, np.ndarray]) -> Output:
    """Put in what was settled elsewhere; label the connected parts of equal owners."""
    (at, found), shape = part, window.grid.shape
    owner = np.array(window.core("owner"))
    y, x = np.divmod(at, shape[1])
    owner[y - window.tile.core.start[0], x - window.tile.core.start[1]] = found
    regions, n = label_codes(owner, 1, 0)
    record = join.summary(regions, n, window.tile, shape, owner)
    return Output({"regions": regions, "classes": owner}, record)
