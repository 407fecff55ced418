"""Region merging: group the segments of another stage by how sharp the borders between them are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.methods import whole
from segpipe.methods.kinds import check_kinds, check_read
from segpipe.methods.ranges import is_rgb, ranges_passes
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import best_fitting
from segpipe.regions.agglomerate import STEPS, agglomerate, summed
from segpipe.regions.finish import label_pass, relabel
from segpipe.regions.graph import Interfaces, interfaces, number
from segpipe.regions.rank import label_type
from segpipe.regions.region_graph import Merged, RegionGraph, graph_pass, regroup_pass
from segpipe.tiles import Grid, Tile

UNIT = 8  # steps per Lab unit
READ_BY = {
    "threshold": ("contrast",),
    "scale": ("baatz", "ward"),
    "rounds": ("baatz", "ward"),
    "shape": ("baatz",),
    "compactness": ("baatz",),
}
"""Parameters that not every criterion reads."""
SCALE = {"baatz": 300.0, "ward": 1200.0}
"""Of `RegionMerging.scale`; chosen on BSDS500's training images
(``tests/bench/bench_methods_quality.py``)."""


@dataclass(frozen=True)
class RegionMerging:
    """Segments grouped where borders are weak, or where unions stay homogeneous (Baatz, Ward).

    Works on the segments of another stage (superpixels, say). Criterion contrast: the two
    neighbours whose common border shows the least mean colour difference become one, until every
    border shows more than `threshold`. Criteria baatz and ward: in rounds, pairs of neighbours that
    fit each other best become one while their union costs less than `scale` squared.
    """

    criterion: Literal["contrast", "baatz", "ward"] = "contrast"
    """What decides: contrast (mean, along the border), baatz (growth of heterogeneity in colour and
    shape: multiresolution segmentation) or ward (growth of the squared error)."""

    threshold: float = 6.0
    """Mean colour difference across a border, in Lab units (images that are not RGB: percent of
    their range of values), from which on two segments stay apart; 0 to 200."""

    scale: float | None = None
    """baatz, ward: unions cost less than the square of this, 0 to 1e6; regions grow with it. null:
    300 for baatz, 1200 for ward."""
    shape: float = 0.1
    """baatz: weight of shape against colour, 0 to 1."""
    compactness: float = 0.5
    """baatz: weight of compactness against smoothness of the shape, 0 to 1."""
    rounds: int = 0
    """baatz, ward: rounds at most; 0: until no pair is left."""

    name: ClassVar[str] = "region-merging"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    groups: ClassVar[bool] = True
    """`segments` are what is grouped: a file's are cut into their pieces first."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for field, high, advice in (
            ("threshold", 200, "3 to 15 are common"),
            ("scale", 1e6, "100 to 400 suit photographs with baatz, 400 to 2000 with ward"),
            ("shape", 1, "0.1 is common"),
            ("compactness", 1, "0.5 is common"),
            ("rounds", 10_000, "0 goes on until no pair is left"),
        ):
            value = getattr(self, field)
            if value is not None and not 0 <= value <= high:
                raise ValueError(f"{field} must be 0 to {high}, got {value}; {advice}")
        check_read(self, "criterion", READ_BY)

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        if self.criterion == "contrast":
            return f"lower threshold (now {self.threshold:g})"
        return f"lower scale (now {self._scale:g})"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: ranges if the image is not RGB, merging, numbering, labels."""
        before = () if is_rgb(image) else ranges_passes(image, "segments")
        if self.criterion != "contrast":
            merge = graph_pass("merge", image, self._best_fitting)
            return *before, merge, regroup_pass(), label_pass(image)
        merge = Pass(
            name="merge",
            map=partial(_merge, self),
            reads=("image", "segments"),
            writes={"merged": label_type(image.shape)},
            halo=1,
            solve=partial(_solve, self),
            bytes_per_pixel=24 + (np.dtype(image.dtype).itemsize + 2) * image.channels,
            cost_ns=50.0,
        )
        return *before, merge, regroup_pass("merged"), label_pass(image)

    @property
    def _scale(self) -> float:
        return float(SCALE[self.criterion] if self.scale is None else self.scale)

    def _best_fitting(self, graph: RegionGraph) -> np.ndarray:
        rule = best_fitting.BAATZ if self.criterion == "baatz" else best_fitting.WARD
        limit = self._scale**2
        return best_fitting.merge(graph, rule, limit, self.shape, self.compactness, self.rounds)


def region_merging(
    image: np.ndarray,
    segments: np.ndarray,
    *,
    criterion: Literal["contrast", "baatz", "ward"] = "contrast",
    threshold: float = 6.0,
    scale: float | None = None,
    shape: float = 0.1,
    compactness: float = 0.5,
    rounds: int = 0,
) -> np.ndarray:
    """Group the segments of an image where the border between them is weak.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, uint16, int16 or float; three channels of uint8 are sRGB.
    segments
        (H, W) integers: 0 = no segment. Segments are what `slic` returns, for example. A label in
        several places, none of which meets another by sides or corners, is as many segments; pixels
        with NaN or infinity are in none.
    criterion, threshold, scale, shape, compactness, rounds
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
    *Tiling*: identical for every tiling. Contrast: see `segpipe.regions.agglomerate`; tiles settle
    what lies inside them; what could depend on a seam is settled in one place, whose memory grows
    with the length of the seams (about 100 bytes for each segment at a seam or waiting for one).
    Baatz and ward: the graph of the whole image is gathered in one place (integer sums, some 300
    bytes for each segment) and the rounds run there, see `segpipe.regions.best_fitting`.
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    Examples
    --------
    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> segments = np.repeat([[1, 2, 3]], 4, axis=0).repeat(2, axis=1)
    >>> region_merging(image, segments)[0].tolist()
    [1, 1, 1, 1, 2, 2]
    """
    parameters = RegionMerging(criterion, threshold, scale, shape, compactness, rounds)
    return whole.group(parameters.passes, image, segments)


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
    table = np.concatenate([[0], labels[root]]).astype(label_type(window.grid.shape))
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


def _solve(
    parameters: RegionMerging, records: Sequence[Record], _grid: Grid, _former: Any
) -> Merged:
    """Go on merging with everything known."""
    columns = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
    nodes = np.unique(np.concatenate([columns["nodes"], columns["ends"].ravel()]))
    ends = np.searchsorted(nodes, columns["ends"])
    edges = Interfaces(ends, columns["contrast"], columns["length"], columns["last"])
    edges = summed(edges, len(nodes))
    limit = _limit(parameters)
    root, _, _ = agglomerate(len(nodes), edges, limit, np.zeros(len(nodes), bool))
    return Merged(nodes, nodes[root])
