"""The last pass of methods whose regions have a class (or a seed): labels, and a column of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import rank
from segpipe.regions.finish import label_pass
from segpipe.tiles import Grid


def classed_label_pass(image: ImageInfo, column: str = "class") -> Pass:
    """Return `segpipe.regions.finish.label_pass` with the class of each segment in its table.

    The pass before it must also write ``classes`` (unsigned, 0 = none, else 1 + class), constant in
    every region; what the class is called in the table is `column`.
    """
    plain = label_pass(image)
    return replace(
        plain,
        map=partial(_label, plain, column),
        reads=(*plain.reads, "classes"),
        solve=partial(_solve, plain, column),
        bytes_per_pixel=plain.bytes_per_pixel + 4,
    )


def _label(plain: Pass, column: str, window: Window, table: np.ndarray) -> Output:
    """Add the classes of the regions that end in this tile; send those of the others."""
    output = plain.map(window, table)
    regions = window.core("regions")
    classes = np.zeros(len(table), np.int64)
    classes[regions] = window.core("classes")
    border = rank.seam_regions(regions, window.tile, window.grid.shape)
    sent = np.column_stack([table[border], classes[border]])
    columns = None
    if output.table is not None:
        columns = _with_classes(column, output.table, np.column_stack([table, classes]))
    return Output(output.arrays, {**output.record, "class": sent}, columns)


def _solve(plain: Pass, column: str, records: Sequence[Record], grid: Grid, former: Any) -> Any:
    """Add the classes of the regions that lie across seams."""
    assert plain.solve is not None
    segments: Any = plain.solve(records, grid, former)
    known = np.concatenate([record["class"] for record in records])
    return replace(segments, columns=_with_classes(column, segments.columns, known))


def _with_classes(column: str, columns: Any, known: np.ndarray) -> dict[str, np.ndarray]:
    """Look up each label's class in rows of (label, 1 + class)."""
    order = np.argsort(known[:, 0], kind="stable")
    at = np.searchsorted(known[order, 0], columns["label"])
    return {**columns, column: known[order, 1][at] - 1}
