"""Region merging: group the segments of another stage by how sharp the borders between them are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.colour import as_channels
from segpipe.methods.ranges import is_rgb, ranges_pass
from segpipe.passes import ImageInfo, Output, Pass, Record, Window, run_in_memory
from segpipe.regions import rank
from segpipe.regions.agglomerate import STEPS, agglomerate, summed
from segpipe.regions.finish import label_pass, relabel
from segpipe.regions.graph import Interfaces, interfaces, number
from segpipe.tiles import Grid, Tile

UNIT = 8  # steps per Lab unit


@dataclass(frozen=True)
class RegionMerging:
    """Segments grouped where the border between them is weak (mean boundary contrast).

    Works on the segments of another stage (superpixels, say): the two neighbours whose common
    border shows the least mean colour difference become one, until every border shows more than
    `threshold`.
    """

    threshold: float = 6.0
    """Mean colour difference across a border, in Lab units (images that are not RGB: percent of
    their range of values), from which on two segments stay apart; 0 to 200."""

    name: ClassVar[str] = "region-merging"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 200:
            raise ValueError(
                f"threshold must be 0 to 200, got {self.threshold}; 3 to 15 are common"
            )

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: ranges if the image is not RGB, merging, numbering, labels."""
        labels = "uint32" if image.shape[0] * image.shape[1] < 1 << 32 else "uint64"
        merge = Pass(
            name="merge",
            map=partial(_merge, self),
            reads=("image", "segments"),
            writes={"merged": labels},
            halo=1,
            solve=partial(_solve, self),
            bytes_per_pixel=24 + 3 * image.channels,
            cost_ns=50.0,
        )
        renumber = Pass(
            name="regions",
            map=_number,
            reads=("merged",),
            writes={"regions": "uint32"},
            solve=rank.solve,
            bytes_per_pixel=16,
            cost_ns=4.0,
        )
        before = () if is_rgb(image) else (ranges_pass(image),)
        return *before, merge, renumber, label_pass(image)


def region_merging(
    image: np.ndarray, segments: np.ndarray, *, threshold: float = 6.0
) -> np.ndarray:
    """Group the segments of an image where the border between them is weak.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, uint16, int16 or float; three channels of uint8 are sRGB.
    segments
        (H, W) unsigned integers: 0 = no segment. Segments are what `slic` returns, for example.
        A tiled run relies on their being connected (at least by corners), as all methods' are.
    threshold
        See `RegionMerging`.

    Returns
    -------
    labels
        (H, W) uint32: 0 where `segments` is 0, else 1..N in raster order of first pixels.

    Raises
    ------
    ValueError
        If the threshold, the image or the segments are out of their range.

    Notes
    -----
    *Tiling*: identical for every tiling, see `segpipe.regions.agglomerate`. A tile settles what
    lies inside it; what could depend on a seam is settled in one place, whose memory grows with the
    length of the seams (about 100 bytes for each segment at a seam or waiting for one).
    Cost: ``tests/bench/bench_region_merging.py``.

    Examples
    --------
    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> segments = np.repeat([[1, 2, 3]], 4, axis=0).repeat(2, axis=1)
    >>> region_merging(image, segments)[0].tolist()
    [1, 1, 1, 1, 2, 2]
    """
    image = as_channels(image)
    segments = np.asarray(segments)
    if segments.shape != image.shape[:2] or segments.dtype.kind not in "ui":
        raise ValueError(
            f"segments must be integers of the shape {image.shape[:2]} of the image, got"
            f" {segments.dtype} of {segments.shape}"
        )
    if segments.size and segments.min() < 0:
        raise ValueError(f"segments must be 0 or more, got {segments.min()}")
    rgb = colour.is_rgb(image)
    info = ImageInfo(segments.shape, image.shape[2], str(image.dtype), rgb=rgb)
    # on one tile the regions, numbered by first pixel, are the labels
    passes = RegionMerging(threshold).passes(info)[:-1]
    return run_in_memory(passes, {"image": image, "segments": segments})[0]["regions"]


def _merge(parameters: RegionMerging, window: Window, scale: colour.Scaling | None) -> Output:
    """Merge what lies inside the tile; send what could depend on others."""
    numbers, labels = number(window.arrays["segments"])
    planes = colour.planes(window.arrays["image"], UNIT, scale)
    found = interfaces(numbers, planes, window.tile, window.grid.shape[1])
    found = found._replace(ends=found.ends - 1)
    waits = np.zeros(len(labels) + 1, bool)
    waits[_open(numbers, window.tile, window.grid)] = True
    limit = _limit(parameters)
    root, undecided, left = agglomerate(len(labels), found, limit, waits[1:])
    table = np.concatenate([[0], labels[root]]).astype(_type(window.grid))
    record = {
        "nodes": labels[undecided],
        "ends": labels[left.ends],
        "contrast": left.contrast,
        "length": left.length,
        "last": left.last,
    }
    return Output({"merged": relabel(numbers[window.tile.inner], table)}, record)


def _open(numbers: np.ndarray, tile: Tile, grid: Grid) -> np.ndarray:
    """Return the segments some of whose pixels or interfaces belong to other tiles."""
    rows, columns = tile.inner
    height, width = numbers.shape
    # an interface belongs to its left or upper pixel: first rows and columns of the core miss some
    top = rows.start + (tile.core.start[0] > 0)
    left = columns.start + (tile.core.start[1] > 0)
    rim = [numbers[:top], numbers[rows.stop : height]]
    rim += [numbers[:, :left], numbers[:, columns.stop : width]]
    return np.unique(np.concatenate([part.ravel() for part in rim]))


def _limit(parameters: RegionMerging) -> int:
    return int(parameters.threshold * UNIT * (1 << STEPS))


def _type(grid: Grid) -> str:
    return "uint32" if grid.shape[0] * grid.shape[1] < 1 << 32 else "uint64"


@dataclass(frozen=True)
class _Merged:
    """Solution: for every segment that waited, the segment it has become part of."""

    nodes: np.ndarray
    roots: np.ndarray

    def for_tile(self, _tile: Tile, record: Record) -> tuple[np.ndarray, np.ndarray]:
        mine = np.unique(record["nodes"])
        return mine, self.roots[np.searchsorted(self.nodes, mine)]


def _solve(
    parameters: RegionMerging, records: Sequence[Record], _grid: Grid, _former: Any
) -> _Merged:
    """Go on merging with everything known."""
    columns = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
    nodes = np.unique(np.concatenate([columns["nodes"], columns["ends"].ravel()]))
    ends = np.searchsorted(nodes, columns["ends"])
    edges = Interfaces(ends, columns["contrast"], columns["length"], columns["last"])
    edges = summed(edges, len(nodes))
    limit = _limit(parameters)
    root, _, _ = agglomerate(len(nodes), edges, limit, np.zeros(len(nodes), bool))
    return _Merged(nodes, nodes[root])


def _number(window: Window, part: tuple[np.ndarray, np.ndarray]) -> Output:
    """Give the merged segments of a tile numbers of their own."""
    nodes, roots = part
    numbers, found = number(window.core("merged"))
    known = np.flatnonzero(np.isin(found, nodes))
    found[known] = roots[np.searchsorted(nodes, found[known])]
    ids, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(ids), np.uint32)
    place[order] = np.arange(1, len(ids) + 1)
    regions = relabel(numbers, np.concatenate([np.zeros(1, np.uint32), place[inverse]]))
    return Output(
        {"regions": regions}, rank.summary(regions, ids[order], window.tile, window.grid.shape)
    )
