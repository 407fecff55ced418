"""Watershed by flooding from minima, a grid or given points, the same for every tiling.

A watershed is a minimum spanning forest rooted in its markers (Cousty, Bertrand, Najman, Couprie,
"Watershed cuts: minimum spanning forests and the drop of water principle", IEEE TPAMI 31(8), 2009,
10.1109/TPAMI.2008.173). With a strict order of edges there is just one; the order and what of the
forest travels are written out in `watershed_kernels`. Minima are kept or flooded by their dynamics
(Grimaud, "A new measure of contrast: the dynamics", SPIE 1769, 1992, 10.1117/12.60650).
Regions of markers with labels, and the compact variant, are in `watershed_marked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.colour import as_channels, known
from segpipe.methods import points, whole
from segpipe.methods import watershed_altitude as land
from segpipe.methods import watershed_marked as marked
from segpipe.methods.kinds import check_kinds
from segpipe.methods.points import Point
from segpipe.methods.ranges import is_rgb, ranges_passes
from segpipe.methods.watershed_kernels import NONE, decide, flood
from segpipe.passes import ImageInfo, Output, Pass, Record, Window, run_in_memory
from segpipe.regions import groups, owners
from segpipe.regions.finish import label_pass
from segpipe.tiles import Grid, Tile


@dataclass(frozen=True)
class Watershed:
    """Watershed of the gradient or the image, from minima, a grid or points."""

    altitude: Literal["gradient", "image"] = "gradient"
    """What is flooded: `gradient`, or the `image` itself (one channel, or the lightness of RGB)."""
    sigma: float = 1.0
    """Standard deviation in pixels of the Gaussian that smooths the image first, 0 to 16."""
    markers: Literal["minima", "grid", "segments"] | tuple[Point, ...] = "minima"
    """Where regions begin: `minima` of dynamics `h`; a `grid` (the lowest pixel of every cell of
    `step` x `step`); points, [[row, column], …] or [[row, column, label], …], or a file of them
    (CSV, GeoJSON); or `segments`: of the stage, or file of labels, that this one reads. What no
    point or segment reaches stays 0. Points without a label get numbers that no label has. Flat
    ground farther than 255 pixels from all points is shared out in raster order: `compactness`
    shares it out by way."""
    h: float = 2.0
    """Minima less deep than this are flooded. Of the gradient: Lab units per pixel, of images that
    are not RGB percent of their range of values; of `image`: its values, Lab units if RGB. 0: all
    minima stay."""
    step: int = 32
    """Cells of the `grid` in pixels, 2 to 256."""
    compactness: float = 0.0
    """Not with minima: what one pixel of way, by rows and columns, costs besides its altitude, in
    the unit of `h`; the larger, the rounder. 0: regions follow the altitude alone."""

    name: ClassVar[str] = "watershed"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    points: ClassVar[str] = "markers"
    """The parameter that may name a file of points."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for field, low, high, advice in (
            ("sigma", 0.0, 16.0, "1 to 2 suit photographs"),
            ("step", 2, 256, "16 to 64 are common"),
        ):
            if not low <= getattr(self, field) <= high:
                raise ValueError(
                    f"{field} must be {low} to {high}, got {getattr(self, field)}; {advice}"
                )
        if not 0 <= self.h < np.inf:
            raise ValueError(f"h must be 0 or more, got {self.h}; 0 keeps all minima")
        if isinstance(self.markers, str) and self.markers not in ("minima", "grid", "segments"):
            raise ValueError(
                f"markers must be minima, grid, segments or points, got {self.markers!r}"
            )
        if not isinstance(self.markers, str):
            object.__setattr__(self, "markers", points.as_points(self.markers, "markers"))
            if not self.markers:
                raise ValueError(
                    "markers must be at least one point [row, column], got none; leave them out to"
                    " begin at the minima"
                )
        if not 0 <= self.compactness < np.inf:
            raise ValueError(
                f"compactness must be 0 or more, got {self.compactness}; 0 lets regions follow the"
                " altitude alone"
            )
        if self.compactness and self.markers == "minima":
            raise ValueError(
                f"compactness needs markers that are known before, grid, points or segments, got"
                f" {self.compactness} with minima; leave it out, or choose such markers"
            )

    @property
    def partial(self) -> bool:
        """Whether pixels that no marker reaches stay 0."""
        return self.compactness > 0 or self.markers not in ("minima", "grid")

    @property
    def finer(self) -> str:
        """What gives a finer result, or lets all of given markers have their share."""
        numbers = {"minima": f"lower h (now {self.h:g})", "grid": f"lower step (now {self.step})"}
        if isinstance(self.markers, str) and self.markers in numbers:
            return numbers[self.markers]
        return "move markers off the edges of what they mark, or raise compactness (0.5, say)"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: ranges if needed, basins of the tiles, regions, canonical labels."""
        self._check(image)
        gradient = self.altitude == "gradient"
        ranged = (gradient and not is_rgb(image)) or (not gradient and image.dtype[0] == "f")
        first = ranges_passes(image) if ranged else ()
        if self.compactness:
            last = (owners.settle_pass(), label_pass(image, classes="marker"))
            return (*first, marked.fronts_pass(self, image), *last)
        masks = ("mask",) if image.masked else ()
        marks = ("segments",) if self.markers == "segments" else ()
        flooding = Pass(
            name="basins",
            map=partial(_flood, self),
            reads=("image", *masks, *marks),
            writes={"parts": "uint32"},
            halo=land.reach(self),
            solve=partial(_solve, self, (np.dtype(image.dtype), image.channels)),
            bytes_per_pixel=36 + 4 * max(3, image.channels),
            cost_ns=120.0,
        )
        if self.partial:
            last = (marked.regions_pass(self), label_pass(image, classes="marker"))
        else:
            last = (groups.regions_pass(), label_pass(image))
        return (*first, flooding, *last)

    def _check(self, image: ImageInfo) -> None:
        if self.altitude == "image" and image.channels > 1 and not is_rgb(image):
            raise ValueError(
                f"altitude image needs one channel or RGB, got {image.channels} channels of"
                f" {image.dtype}; choose altitude gradient"
            )
        if not isinstance(self.markers, str):
            points.check_inside(self.markers, image, "marker")


def watershed(
    image: np.ndarray,
    *,
    altitude: Literal["gradient", "image"] = "gradient",
    sigma: float = 1.0,
    markers: Literal["minima", "grid"] | np.ndarray | Sequence[Sequence[int]] = "minima",
    h: float = 2.0,
    step: int = 32,
    compactness: float = 0.0,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Segment an image by flooding.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, uint16, int16 or float. For the gradient, three channels of
        uint8 are sRGB and compared in CIELAB; of others each channel is scaled from its 0.5 % to
        its 99.5 % quantile to 100 units. Pixels with NaN or infinity count as masked.
    altitude, sigma, h, step, compactness
        See `Watershed`.
    markers
        See `Watershed`; or an array (H, W) of integers, 0 = no marker, as scikit-image has it (in a
        run: ``segments``, whose table says the ``marker`` of each segment).
    mask
        (H, W) bool, True where there are pixels to segment; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 1..N in raster order of each region's first pixel; 0 where masked and where
        no marker reaches. With an array of markers: its numbers, in its type.

    Raises
    ------
    ValueError
        If a parameter, the image, the markers or the mask are out of their range.

    Notes
    -----
    *Tiling*: identical for every tiling: tiles do what is certain and send a forest of at most as
    many edges as they have pixels at seams, see `watershed_kernels`. The one place that joins the
    tiles holds all of these at once: its memory grows with the length of the seams.
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    Examples
    --------
    >>> valleys = np.array([[1, 0, 5, 0, 1, 2, 1]], np.uint8)
    >>> watershed(valleys, altitude="image", sigma=0, h=1).tolist()
    [[1, 1, 2, 2, 2, 2, 3]]
    >>> watershed(valleys, altitude="image", sigma=0).tolist()
    [[1, 1, 2, 2, 2, 2, 2]]
    >>> watershed(valleys, altitude="image", sigma=0, markers=[(0, 6)]).tolist()
    [[1, 1, 1, 1, 1, 1, 1]]
    """
    image = as_channels(image)
    if isinstance(markers, np.ndarray):
        return _from_array(
            image, markers, Watershed(altitude, sigma, "segments", h, step, compactness), mask
        )
    if isinstance(markers, str) and str(markers) == "segments":
        raise ValueError(
            "markers: segments are those of another stage of a run; here, give their array (H, W)"
            " itself as markers"
        )
    parameters = Watershed(altitude, sigma, markers, h, step, compactness)  # type: ignore[arg-type]
    return whole.segment(parameters.passes, image, mask)


def _from_array(
    image: np.ndarray, markers: np.ndarray, parameters: Watershed, mask: np.ndarray | None
) -> np.ndarray:
    """Flood from the non-zero pixels of an array; every pixel gets the number of its marker."""
    if markers.shape != image.shape[:2] or markers.dtype.kind not in "iub":
        raise ValueError(
            f"markers must be an array of integers of the shape {image.shape[:2]} of the image,"
            f" got {markers.dtype} {markers.shape}; points are a list [[y, x], …]"
        )
    arrays = whole.as_arrays(image, mask)
    passes = parameters.passes(whole.image_info(arrays))[:-1]
    names = np.unique(markers[markers != 0])
    numbers = np.where(markers != 0, np.searchsorted(names, markers) + 1, 0)
    owner = run_in_memory(passes, arrays | {"segments": numbers.astype(np.uint32)})[0]["classes"]
    table = np.concatenate([np.zeros(1, markers.dtype), names])
    return table[np.maximum(owner.astype(np.int64) - 1, 0)]


def _flood(parameters: Watershed, window: Window, scale: colour.Scaling | None) -> Output:
    """Flood a tile as far as it is certain; tell the parts that are open what others may join."""
    image, tile, shape = window.arrays["image"], window.tile, window.grid.shape
    valid = known(image, window.arrays.get("mask"))
    altitude, kind = land.landscape(window, valid, parameters, scale)
    depth_wanted = land.threshold(parameters, image.dtype, image.shape[2], scale)
    parts, depth, _is_open, edges = flood(altitude, kind, depth_wanted)
    record = travelling(parts, depth, edges, altitude, tile, shape)
    if parameters.partial:
        record["code"] = marked.part_codes(parameters, window, parts)[record["part"]]
    return Output({"parts": parts}, record)


def travelling(
    parts: np.ndarray,
    depth: np.ndarray,
    edges: np.ndarray,
    altitude: np.ndarray,
    tile: Tile,
    shape: Sequence[int],
) -> Record:
    """Return what others have to know of a tile that `flood` has flooded, for `decided`."""
    rim_at, rim_part = groups.rim(parts, tile, shape)
    record = {"rim_at": rim_at, "rim_part": rim_part}
    record |= _crossing(parts, altitude, tile, shape)
    record["part"] = np.unique(np.concatenate([rim_part, edges[:, :2].ravel()])).astype(np.int32)
    record["depth"] = depth[record["part"]]
    record["edge"] = edges[:, :2].astype(np.int32)
    pixels = edges[:, 2:]
    record["edge_altitude"] = altitude.reshape(-1)[pixels]
    y, x = np.divmod(pixels, altitude.shape[1])
    record["edge_at"] = (y + tile.core.start[0] - 1) * shape[1] + x + tile.core.start[1] - 1
    return record


def _crossing(parts: np.ndarray, altitude: np.ndarray, tile: Tile, shape: Sequence[int]) -> Record:
    """Return the edges to the tiles below and to the right, with both altitudes."""
    (top, left), (height, width) = tile.core.start, parts.shape
    y, x = np.arange(height), np.arange(width)
    sides = [
        (height - 1 + 0 * x, x, altitude[-2, 1:-1], altitude[-1, 1:-1], shape[1]),
        (y, width - 1 + 0 * y, altitude[1:-1, -2], altitude[1:-1, -1], 1),
    ]
    found = []
    for rows, columns, here, there, onward in sides:
        both = (here != NONE) & (there != NONE)
        at = (rows + top) * shape[1] + columns + left
        altitudes = np.stack([here, there], axis=1)
        found.append((parts[rows, columns][both], at[both], at[both] + onward, altitudes[both]))
    part, here_at, at, altitudes = (np.concatenate(c) for c in zip(*found, strict=True))
    return {
        "cross_part": part.astype(np.int32),
        "cross_from": here_at,
        "cross_at": at,
        "cross_altitude": altitudes,
    }


def _solve(
    parameters: Watershed,
    kind: tuple[np.dtype, int],
    records: Sequence[Record],
    _grid: Grid,
    former: Any,
) -> groups.Groups:
    """Decide all edges that travelled; name the groups of parts."""
    vertices = groups.Vertices.gather(records)
    h = land.threshold(parameters, *kind, former.scale if former else None)
    group, _depth = decided(vertices, h)
    if not parameters.partial:
        return vertices.solved(group)
    code = np.zeros(len(group), np.uint32)  # of a group, one vertex at most has one
    np.maximum.at(code, group, vertices.values("code"))
    return vertices.solved(code[group])


def decided(vertices: groups.Vertices, h: int) -> tuple[np.ndarray, np.ndarray]:
    """Decide all edges that travelled: the group of each part, and the depth of each group."""
    here, there, chosen, _ = vertices.across()
    pairs = np.concatenate([vertices.of("edge"), np.stack([here, there], axis=1)])
    ends = np.stack([vertices.values("cross_from"), vertices.values("cross_at")], axis=1)
    at = np.concatenate([vertices.values("edge_at"), ends[chosen]])
    altitude = np.concatenate(
        [vertices.values("edge_altitude"), vertices.values("cross_altitude")[chosen]]
    )
    order = edge_order(altitude, at)
    leading = (altitude.max(axis=1, initial=0) >> np.uint32(16)).astype(np.int64)
    depth = vertices.values("depth").astype(np.int64)
    return decide(depth, pairs[order], leading[order], h or 1), depth


def edge_order(altitude: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the ascending order of edges, given the (altitude, index) of their two pixels."""
    first_is_high = (altitude[:, 0] > altitude[:, 1]) | (
        (altitude[:, 0] == altitude[:, 1]) & (at[:, 0] > at[:, 1])
    )
    high = np.where(first_is_high, 0, 1)
    row = np.arange(len(at))
    low = 1 - high
    return np.lexsort((at[row, low], altitude[row, low], at[row, high], altitude[row, high]))
