"""The pieces of given labels: segments for methods that group them, whoever made the labels.

What a stage leaves is connected, and 0 where no pixel counts. Labels of a file or of an array may
be neither. Each of their connected pieces, pixels that do not count left out, is a segment of its
own: only so can tiles decide on what lies inside them.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from segpipe.colour import known
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.regions import join, rank
from segpipe.regions.finish import relabel
from segpipe.regions.label import label_codes

GIVEN = "given"
"""Array of the labels as they are given."""
CONNECTIVITY = 2
"""Pixels that meet at a corner are in one piece: segments of some methods meet so."""


def pieces_passes(image: ImageInfo) -> tuple[Pass, Pass]:
    """Return the passes that make ``segments``, numbered 1..N by first pixel, of ``given``."""
    # whole numbers need no look at the image: all of them count
    pixels = ("image",) if np.dtype(image.dtype).kind == "f" else ()
    cut = Pass(
        name="pieces",
        map=_cut,
        reads=(GIVEN, *pixels, *(("mask",) if image.masked else ())),
        writes={"pieces": "uint32"},
        solve=partial(join.solve, same=join.equal, connectivity=CONNECTIVITY),
        bytes_per_pixel=30,
        cost_ns=8.0,
    )
    number = Pass(
        name="segments",
        map=_number,
        reads=("pieces",),
        writes={"segments": rank.label_type(image.shape)},
        bytes_per_pixel=16,
        cost_ns=2.0,
    )
    return cut, number


def counted(labels: np.ndarray, image: np.ndarray | None, mask: np.ndarray | None) -> np.ndarray:
    """Return labels, 0 where a pixel of an (h, w, C) image is masked, NaN or infinite."""
    valid = mask if image is None else known(image, mask)
    return labels if valid is None else np.where(valid, labels, labels.dtype.type(0))


def _cut(window: Window, _part: None) -> Output:
    """Label the pieces of a tile."""
    labels = window.core(GIVEN)
    image, mask = (window.core(n) if n in window.arrays else None for n in ("image", "mask"))
    labels = counted(labels, image, mask)
    regions, n = label_codes(labels, CONNECTIVITY, 0)
    return Output(
        {"pieces": regions}, join.summary(regions, n, window.tile, window.grid.shape, labels)
    )


def _number(window: Window, numbering: rank.Numbering) -> Output:
    """Write the numbers that all tiles agree on."""
    table = numbering.table.astype(rank.label_type(window.grid.shape))
    return Output({"segments": relabel(window.core("pieces"), table)})
