"""Graph-based segmentation after Felzenszwalb and Huttenlocher, the same for every tiling.

Felzenszwalb, Huttenlocher, "Efficient graph-based image segmentation", IJCV 59(2), 2004,
10.1023/B:VISI.0000022288.19776.77. The original sorts edges by a floating weight and leaves ties to
the sort; here weights are integers and the order is strict.

On the graph of pixels, what of a tile's work is certain, and what all tiles decide together, is
written out in `felzenszwalb_kernels`. On the graph of the segments of another stage (superpixels)
tiles only gather it: it has some hundredth of the vertices, and one place decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.colour import as_channels, known
from segpipe.methods import felzenszwalb_edges as pixel_edges
from segpipe.methods import felzenszwalb_kernels as kernels
from segpipe.methods import whole
from segpipe.methods.kinds import check_kinds
from segpipe.methods.ranges import is_rgb, ranges_passes
from segpipe.methods.smooth_kernels import radius, smooth
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import groups
from segpipe.regions.finish import label_pass
from segpipe.regions.region_graph import FINE, RegionGraph, graph_pass, regroup_pass
from segpipe.tiles import Grid

UNIT = 64
"""Steps of smoothed values per value of an 8-bit image."""
SCALE = {"pixels": 400.0, "segments": 10_000.0}
"""Of `Felzenszwalb.scale`: segments of some 100 pixels each would grant each other little by that
of pixels; chosen on BSDS500's training images (``tests/bench/bench_methods_quality.py``)."""
SCALED_UNIT = 163
"""Of other images: 100 units of their range then have as many steps as 255 values."""


@dataclass(frozen=True)
class Felzenszwalb:
    """Graph-based merging by contrast against inner variation (Felzenszwalb-Huttenlocher)."""

    scale: float | None = None
    """Preference for larger regions: contrast, in values of an 8-bit image (segments: Lab units),
    that a region of n pixels is granted, times n. 0: only equal values merge; null: 400 for pixels,
    10000 for segments."""
    sigma: float = 0.8
    """Standard deviation in pixels of the Gaussian that smooths the image first, 0 to 16 (on
    segments: nothing is smoothed)."""
    min_size: int = 20
    """Pixels below which a region joins a neighbour, the one it differs least from at the border.
    0 or 1: none does."""
    vertices: Literal["pixels", "segments"] = "pixels"
    """What is merged: pixels, or the segments of another stage (`reads`), by the difference of
    their mean colours in Lab units (images that are not RGB: percent of their range)."""

    name: ClassVar[str] = "felzenszwalb"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    groups: ClassVar[bool] = True
    """`segments` are what is grouped: a file's are cut into their pieces first."""

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.scale is not None and not 0 <= self.scale <= 1e9:
            raise ValueError(
                f"scale must be 0 to 1e9, got {self.scale:g}; for photographs, 50 to 1000 suit"
                " pixels, 4000 to 16000 segments"
            )
        if not 0 <= self.sigma <= 16:
            raise ValueError(f"sigma must be 0 to 16, got {self.sigma}; 0.5 to 1 are common")
        if not 0 <= self.min_size <= 1 << 20:
            raise ValueError(
                f"min_size must be 0 to {1 << 20}, got {self.min_size}; 20 to 200 are common"
            )

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        return f"lower scale (now {self._scale:g})"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: ranges if needed, merging, regions, canonical labels."""
        if self.vertices == "segments":
            before = () if is_rgb(image) else ranges_passes(image, "segments")
            gather = graph_pass("merging", image, self._on_graph)
            return *before, gather, regroup_pass(), label_pass(image)
        merging = Pass(
            name="merging",
            map=partial(_merge, self),
            reads=("image", "mask") if image.masked else ("image",),
            writes={"parts": "uint32"},
            halo=radius(self.sigma) + 1,
            solve=partial(_solve, self),
            bytes_per_pixel=74 + (np.dtype(image.dtype).itemsize + 6) * max(3, image.channels),
            cost_ns=250.0,
        )
        first = () if image.dtype == "uint8" else ranges_passes(image)
        return (*first, merging, groups.regions_pass(), label_pass(image))

    @property
    def threshold(self) -> int:
        """``scale`` in steps of the weights."""
        return int(
            self._scale * (UNIT * pixel_edges.FRACTION if self.vertices == "pixels" else FINE)
        )

    @property
    def _scale(self) -> float:
        return SCALE[self.vertices] if self.scale is None else self.scale

    def _on_graph(self, graph: RegionGraph) -> np.ndarray:
        """Do both sweeps; of equal differences, the edge of smaller labels goes first."""
        weights = graph.differences
        order = np.argsort(weights, kind="stable")
        edges, size = graph.edges.ends[order], graph.area.copy()
        parent, inner = np.arange(len(size)), np.zeros(len(size), np.int64)
        kernels.sweep_graph(parent, size, inner, edges, weights[order], self.threshold)
        return kernels.sweep_small(parent, size, edges, self.min_size)


def felzenszwalb(
    image: np.ndarray,
    segments: np.ndarray | None = None,
    *,
    scale: float | None = None,
    sigma: float = 0.8,
    min_size: int = 20,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Segment an image by merging along the edges of a graph in the order of their contrast.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, compared as it is; or uint16, int16, float: each channel scaled
        from its 0.5 % to its 99.5 % quantile to 255 values. Pixels with NaN or infinity count as
        masked. With `segments`, three channels of uint8 are sRGB and compared in CIELAB.
    segments
        (H, W) integers, 0 = no segment, what `slic` returns, for example: the graph is theirs. A
        label in several places is as many segments. None: the graph is that of the pixels.
    scale, sigma, min_size
        See `Felzenszwalb`; without `segments` as in scikit-image for 8-bit images.
    mask
        (H, W) bool, True where there are pixels to segment; None: everywhere. Not with `segments`,
        which are 0 where there is nothing.

    Returns
    -------
    labels
        (H, W) uint32: 0 where masked or no segment, else 1..N in raster order of each region's
        first pixel. Regions of pixels are 8-connected, those of segments meet along pixel sides.

    Raises
    ------
    ValueError
        If a parameter, the image, the segments or the mask are out of their range.

    Notes
    -----
    *Tiling*: identical for every tiling. Pixels: what may depend on other tiles is deferred. The
    one place that joins the tiles holds all of it at once; flat ground that many tiles share stays
    undecided, so this depends on the image and grows with its area at worst
    (``bench_felzenszwalb.py`` prints what a tile sends). Segments: that place holds their graph,
    integers, some 300 bytes for each.
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    Examples
    --------
    >>> image = np.zeros((4, 6), np.uint8)
    >>> image[:, 3:] = 90
    >>> felzenszwalb(image, sigma=0, min_size=0)[0].tolist()
    [1, 1, 1, 2, 2, 2]
    >>> segments = np.array([[1, 1, 2, 3, 3, 3]] * 4)
    >>> felzenszwalb(image, segments, scale=200, min_size=0)[0].tolist()
    [1, 1, 1, 2, 2, 2]
    """
    parameters = Felzenszwalb(
        scale, sigma, min_size, vertices="pixels" if segments is None else "segments"
    )
    if segments is None:
        return whole.segment(parameters.passes, as_channels(image), mask)
    if mask is not None:
        raise ValueError("give segments or a mask, not both: segments are 0 where nothing counts")
    return whole.group(parameters.passes, image, segments)


def _merge(parameters: Felzenszwalb, window: Window, scale: colour.Scaling | None) -> Output:
    """Merge in a tile what is certain there; tell what is open and what it may join."""
    image, tile, shape = window.arrays["image"], window.tile, window.grid.shape
    valid = known(image, window.arrays.get("mask"))
    planes, kind = _framed(_values(image, valid, parameters, scale), valid, window)
    parts, rim_open, states, edges = kernels.merge(
        planes, kind, parameters.threshold, parameters.min_size
    )
    rim_at, rim_part = groups.rim(parts, tile, shape)
    record: Record = {"rim_at": rim_at, "rim_part": rim_part}
    record["rim_open"] = rim_open.reshape(-1)[_in_core(rim_at, window)]
    ends = [e[:, :2].ravel() for e in edges[:2]]
    record["part"] = np.unique(np.concatenate([rim_part, *ends])).astype(np.int32)
    record |= {name: values[record["part"]] for name, values in states.items()}
    for name, found in zip(("first", "second", "cross"), edges, strict=True):
        pixel, direction = np.divmod(found[:, 3], pixel_edges.DIRECTIONS)
        at = _whole(pixel, kind.shape[1], window)
        record[f"{name}_order"] = np.stack(
            [found[:, 2], pixel_edges.DIRECTIONS * at + direction], axis=1
        )
    record["first_part"] = edges[0][:, :2].astype(np.int32)
    record["second_part"] = edges[1][:, :2].astype(np.int32)
    record["cross_part"] = edges[2][:, 0].astype(np.int32)
    record["cross_at"] = _whole(edges[2][:, 1], kind.shape[1], window)
    here = record["cross_order"][:, 1] // pixel_edges.DIRECTIONS
    record["cross_open"] = rim_open.reshape(-1)[_in_core(here, window)]
    return Output({"parts": parts}, record)


def _whole(pixel: np.ndarray, width: int, window: Window) -> np.ndarray:
    """Return y * width + x in the image of pixels of a frame."""
    y, x = np.divmod(pixel, width)
    top, left = window.tile.core.start
    return (y + top - 1) * window.grid.shape[1] + x + left - 1


def _in_core(at: np.ndarray, window: Window) -> np.ndarray:
    """Return the places in the core of pixels y * width + x of the image."""
    y, x = np.divmod(at, window.grid.shape[1])
    core = window.tile.core
    return (y - core.start[0]) * core.shape[1] + x - core.start[1]


def _values(
    image: np.ndarray,
    valid: np.ndarray | None,
    parameters: Felzenszwalb,
    scale: colour.Scaling | None,
) -> np.ndarray:
    """Return the smoothed values (C, h, w) int16 whose distances are the weights."""
    if image.dtype == np.uint8:
        planes = np.moveaxis(image, 2, 0).astype(np.int16) * np.int16(UNIT)
    else:
        planes = colour.planes(image, SCALED_UNIT, scale)[: image.shape[2]]
    return smooth(planes, valid, parameters.sigma)


def _framed(
    values: np.ndarray, valid: np.ndarray | None, window: Window
) -> tuple[np.ndarray, np.ndarray]:
    """Put values and kinds of the core, and of what exists round it, in a frame of one pixel."""
    core = window.tile.core
    ring = core.grown(1, window.grid.shape)
    inside = ring.within(window.tile.window)
    place = tuple(
        slice(r - c + 1, r - c + 1 + n)
        for r, c, n in zip(ring.start, core.start, ring.shape, strict=True)
    )
    planes = np.zeros((len(values), *(n + 2 for n in core.shape)), np.int16)
    planes[(slice(None), *place)] = values[(slice(None), *inside)]
    kind = np.full(planes.shape[1:], pixel_edges.NOTHING, np.uint8)
    kind[place] = pixel_edges.BEYOND
    kind[1:-1, 1:-1] = pixel_edges.CORE
    if valid is not None:
        kind[place][~valid[inside]] = pixel_edges.NOTHING
    return planes, kind


def _solve(
    parameters: Felzenszwalb, records: Sequence[Record], _grid: Grid, _former: Any
) -> groups.Groups:
    """Go on with both sweeps on what was deferred."""
    vertices = groups.Vertices.gather(records)
    across = vertices.across()
    cross = np.stack([across.here, across.there], axis=1)
    cross_order = vertices.values("cross_order")[across.edge]
    size, inner = vertices.values("size"), vertices.values("inner")
    parent = np.arange(len(size))
    both = vertices.values("cross_open")[across.edge] & vertices.values("rim_open")[across.pixel]
    edges, weights = _ascending(
        [vertices.of("first_part"), cross[both]],
        [vertices.values("first_order"), cross_order[both]],
    )
    kernels.sweep_graph(parent, size, inner, edges, weights, parameters.threshold)
    edges, _ = _ascending(
        [vertices.of("second_part"), cross], [vertices.values("second_order"), cross_order]
    )
    return vertices.solved(kernels.sweep_small(parent, size, edges, parameters.min_size))


def _ascending(
    pairs: Sequence[np.ndarray], orders: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return edges and their weights by (weight, number)."""
    edges, order = np.concatenate(pairs), np.concatenate(orders)
    ranks = np.lexsort((order[:, 1], order[:, 0]))
    return edges[ranks], order[ranks, 0]
