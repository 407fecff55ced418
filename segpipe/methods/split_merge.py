"""Split and merge: a quadtree of even blocks, merged by the contrast of their interfaces.

Split: blocks of the quadtree anchored at the image's first pixel are split while they are uneven.
Merge: the leaves merge in ascending order of the mean contrast along their interface, up to a
limit (`segpipe.regions.agglomerate`). A tile decides all that its own interfaces prove; what hangs
together with leaves at its seams it sends on, and `_merge` decides it for the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe.colour import known
from segpipe.methods import extremes
from segpipe.methods.extremes import Range
from segpipe.methods.kinds import check_kinds
from segpipe.methods.split_merge_borders import contrasts, interfaces_of
from segpipe.methods.split_merge_kernels import MEAN_UNIT, Leaves, leaves, parts_of
from segpipe.methods.whole import check_channel, segment
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import join, rank
from segpipe.regions.agglomerate import STEPS, agglomerate, summed
from segpipe.regions.finish import label_pass, relabel
from segpipe.regions.graph import Interfaces
from segpipe.regions.label import label_codes
from segpipe.tiles import Grid, Tile

LEVELS = 65535
"""Steps into which the range of floating images is divided."""


@dataclass(frozen=True)
class SplitMerge:
    """Even blocks of a quadtree, merged while their interfaces show little contrast."""

    deviation: float = 12.0
    """A block whose standard deviation is greater, in any channel, is split; grey values, 0 or
    more."""
    contrast: float = 20.0
    """Regions merge up to this mean difference of leaves along their interface (mean over
    channels); grey values, 0 or more. 0: only equal ones merge."""
    block: int = 64
    """Side of the largest blocks: 2, 4, 8, 16, 32, 64 or 128 pixels; also the halo."""
    channel: int | None = None
    """Look at this channel alone, counted from 0; null: at all of them."""

    name: ClassVar[str] = "split-merge"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"

    def __post_init__(self) -> None:
        check_kinds(self)
        for field in ("deviation", "contrast"):
            value = getattr(self, field)
            if not 0 <= value < np.inf:
                raise ValueError(
                    f"{field} must be 0 or more grey values, got {value}; 4 to 20 are common for"
                    " 8 bits"
                )
        if self.block not in (2, 4, 8, 16, 32, 64, 128):
            raise ValueError(f"block must be a power of two from 2 to 128, got {self.block}")

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        return f"lower contrast (now {self.contrast:g})"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: range (floats), split and merge, regions, canonical labels."""
        check_channel(self.channel, image)
        if np.dtype(image.dtype).kind in "ui" and np.dtype(image.dtype).itemsize > 2:
            raise ValueError(f"pixels must have up to 16 bits or be floats, got {image.dtype}")
        reads = ("image", "mask") if image.masked else ("image",)
        floating = np.dtype(image.dtype).kind == "f"
        width = partial(Pass, "range", partial(_range, self), reads, cost_ns=4.0)
        split = Pass(
            name="split",
            map=partial(_split, self),
            reads=reads,
            writes={"parts": "uint32"},
            halo=self.block,
            solve=partial(_merge, self, image),
            bytes_per_pixel=120 + 12 * image.channels,
            cost_ns=250.0,
        )
        regions = Pass(
            name="regions",
            map=_cut,
            reads=("parts",),
            writes={"regions": "uint32"},
            solve=partial(join.solve, same=join.equal),
            bytes_per_pixel=32,
            cost_ns=8.0,
        )
        first = (width(merge=extremes.wider, solve=extremes.keep),) if floating else ()
        return (*first, split, regions, label_pass(image))


def split_merge(
    image: np.ndarray,
    deviation: float = 12.0,
    contrast: float = 20.0,
    *,
    block: int = 64,
    channel: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Segment an image by splitting uneven blocks and merging regions of little contrast.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): bool, integers of up to 16 bits, or floats (compared in 65535 steps
        between the least and the greatest value of all channels looked at). Pixels with NaN or
        infinity count as masked.
    deviation, contrast, block, channel
        See `SplitMerge`.
    mask
        (H, W) bool, True where there are pixels to segment; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 0 where masked, else 1..N in raster order of each region's first pixel.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: identical for every tiling. A block that meets a tile is read whole (halo `block`). In
    a tile, merges that involve a leaf at a seam, or a region that could first merge with one that
    does, are postponed; the rest commutes (`segpipe.regions.agglomerate`). Postponed regions and
    their interfaces are solved in one place: their memory (some 300 bytes each there) grows with
    the length of all seams times how far uncertainty spreads, which is short where contrasts vary
    and may be far where everything merges in the end. Larger tiles send less.
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    References
    ----------
    S. L. Horowitz, T. Pavlidis, Picture segmentation by a tree traversal algorithm, Journal of the
    ACM 23(2), 1976, 10.1145/321941.321956.

    Examples
    --------
    >>> image = np.zeros((8, 8), np.uint8)
    >>> image[2:, 3:] = 100
    >>> np.array_equal(split_merge(image, block=4), 1 + (image > 0))
    True
    """
    return segment(SplitMerge(deviation, contrast, block, channel).passes, image, mask)


def _pixels(parameters: SplitMerge, image: np.ndarray, mask: np.ndarray | None) -> Any:
    """Return the channels looked at, and which pixels count."""
    if parameters.channel is not None:
        image = image[:, :, parameters.channel : parameters.channel + 1]
    valid = known(image, mask)
    return image, np.ones(image.shape[:2], bool) if valid is None else valid


def _range(parameters: SplitMerge, window: Window, _part: None) -> Output:
    """Find the least and the greatest value of a tile."""
    mask = window.core("mask") if "mask" in window.arrays else None
    image, valid = _pixels(parameters, window.core("image"), mask)
    return Output(record=extremes.ends(image[valid]))


def _limit(parameters: SplitMerge, channels: int, gain: float) -> int:
    """Return the greatest contrast that merges: sum over channels, 1/16 of a step, 1 / 2^20."""
    return int(min(parameters.contrast * gain * channels * MEAN_UNIT * (1 << STEPS), 1 << 62))


def _split(parameters: SplitMerge, window: Window, part: Range | None) -> Output:
    """Split a tile into leaves, merge what its interfaces prove, send the rest."""
    image, valid = _pixels(parameters, window.arrays["image"], window.arrays.get("mask"))
    spread, core, shape = part or Range(), window.tile.core, window.grid.shape
    start = [a - a % parameters.block for a in core.start]
    skip = tuple(slice(a - b, None) for a, b in zip(start, window.tile.window.start, strict=True))
    inner = (
        *(core.start[0] - start[0], core.stop[0] - start[0]),
        *(core.start[1] - start[1], core.stop[1] - start[1]),
    )
    gain = spread.gain(image.dtype, LEVELS)
    found = leaves(
        spread.integers(image[skip], LEVELS),
        valid[skip],
        (start[0], start[1], shape[1]),
        inner,
        (parameters.block.bit_length() - 1, parameters.deviation * gain),
    )
    return _reduce(found, window.tile, shape, _limit(parameters, image.shape[2], gain))


def _reduce(found: Leaves, tile: Tile, shape: Sequence[int], limit: int) -> Output:
    """Merge the leaves of a tile as far as they prove it; the record holds the open regions."""
    between = interfaces_of(found.number, found.mean, tile.core.start, shape[1])
    at_seam = found.cut.copy()
    at_seam[rank.seam_regions(found.number, tile, shape) - 1] = True
    root, is_open, rest = agglomerate(len(at_seam), between, limit, at_seam)
    parts, table = parts_of(found.number, root)
    nodes = np.flatnonzero(is_open & (table > 0))  # a leaf may have no valid pixel here
    nodes = nodes[np.argsort(table[nodes])]
    index = np.zeros(len(root), np.int64)
    index[nodes] = np.arange(len(nodes))
    rows = np.column_stack(rest)
    rows[:, :2] = index[rows[:, :2]]
    means = np.concatenate([np.zeros_like(found.mean[:1]), found.mean])[found.number]
    rims = join.summary(parts, int(table.max(initial=0)), tile, shape, means)
    record = {"open": table[nodes], "leaf": found.first[nodes], "edges": rows}
    return Output({"parts": parts}, rims | record)


@dataclass(frozen=True)
class _Merged:
    """Solution: what became of the open regions of each tile."""

    count: int
    """More than any of the numbers in `codes`."""
    codes: list[np.ndarray]
    """Per tile, int64: 1 + the region each open part belongs to."""

    def for_tile(self, tile: Tile, record: Record) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the count, the tile's open parts, their codes."""
        return self.count, record["open"], self.codes[tile.number]


def _merge(
    parameters: SplitMerge,
    image: ImageInfo,
    records: Sequence[Record],
    grid: Grid,
    former: Range | None,
) -> _Merged:
    """Merge the open regions of all tiles; parts of one leaf are one region from the start."""
    before = np.cumsum([0, *(len(record["open"]) for record in records)])
    leaf = np.concatenate([record["leaf"] for record in records])
    known_leaves, region = np.unique(leaf, return_inverse=True)
    inside = [record["edges"][:, :2] + b for record, b in zip(records, before, strict=False)]
    sums = [record["edges"][:, 2:] for record in records]
    places = [
        np.searchsorted(record["open"], record["border"]) + b
        for record, b in zip(records, before, strict=False)
    ]
    node = np.concatenate(places)
    found = join.facing(records, grid)
    contrast = contrasts(found.here.value, found.across.value)
    edge = 2 * found.upper + found.down
    sums.append(np.column_stack([contrast * found.length, found.length, edge]))
    inside.append(np.column_stack([node[found.here.entry], node[found.across.entry]]))
    ends = region[np.concatenate(inside)].reshape(-1, 2)
    n = len(known_leaves)
    channels = 1 if parameters.channel is not None else image.channels
    gain = (former or Range()).gain(np.dtype(image.dtype), LEVELS)
    between = summed(Interfaces(ends, *np.concatenate(sums).T), n)
    limit = _limit(parameters, channels, gain)
    root, _open, _rest = agglomerate(n, between, limit, np.zeros(n, bool))
    return _Merged(n + 1, np.split(1 + root[region], before[1:-1]))


def _cut(window: Window, part: tuple[int, np.ndarray, np.ndarray]) -> Output:
    """Give every part the code of its region, and label the regions of a tile."""
    count, opened, codes = part
    parts = window.core("parts")
    table = np.arange(count, count + int(parts.max()) + 1)  # what is final lies in one tile
    table[0] = 0
    table[opened] = codes
    merged = relabel(parts, table)
    regions, n = label_codes(merged, 1, 0)
    record = join.summary(regions, n, window.tile, window.grid.shape, merged)
    return Output({"regions": regions}, record)
