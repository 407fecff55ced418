"""Exact SLIC: superpixels by local k-means, the same for every tiling.

After Achanta, Shaji, Smith, Lucchi, Fua, Suesstrunk, "SLIC superpixels compared to
state-of-the-art superpixel methods", IEEE TPAMI 34(11), 2012, 10.1109/TPAMI.2012.120. What the
original leaves to the order of work is replaced by rules, written out in `slic_window`; every
quantity is an integer.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.methods.kinds import check_kinds
from segpipe.methods.ranges import is_rgb, ranges_of, ranges_passes
from segpipe.methods.slic_window import reach, slic_regions
from segpipe.methods.whole import as_arrays
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.regions import leftovers
from segpipe.regions.finish import label_pass, relabel
from segpipe.tiles import Grid

TILE = 2048
IN_ONE_PIECE = 1 << 27
"""Images of more pixels are segmented tile by tile, so that little more than the image and its
labels is in memory."""


@dataclass(frozen=True)
class Slic:
    """Superpixels by local k-means (SLIC), connected and numbered, the same for any tiling."""

    step: int = 16
    """Spacing of the seeds in pixels, 4 to 256; a superpixel has about step * step pixels."""
    compactness: float = 10.0
    """Weight of place against colour, 0.125 to 200: Lab units that one step is worth."""
    iterations: int = 10
    """Rounds of assignment and update, 0 to 50; each adds one step to the halo."""
    refine: int = 0
    """Sweeps of border refinement, 0 to 20; each adds 4 pixels to the halo. 0: off."""
    min_size: int | None = None
    """Pixels below which a connected piece joins a neighbour, 1 to step * step; null: a sixth of
    step * step. No smaller segment is left, refined or not, except one that has no neighbour
    (masked all round)."""

    name: ClassVar[str] = "slic"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    derived: ClassVar[dict[str, str]] = {"min_size": "smallest"}
    """Parameters that follow from others where they are not set, and what tells their values."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for field, low, high, advice in (
            ("step", 4, 256, "16 to 32 are common"),
            ("compactness", 0.125, 200.0, "colours span 100 units; 5 to 40 are common"),
            ("iterations", 0, 50, "10 are enough on photographs"),
            ("refine", 0, 20, "2 to 8 sweeps converge"),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"{field} must be {low} to {high}, got {value}; {advice}")
        if self.min_size is not None and not 1 <= self.min_size <= self.step**2:
            raise ValueError(
                f"min_size must be 1 to step * step = {self.step**2}, got {self.min_size};"
                " leave it out for a sixth of a superpixel"
            )

    def expected(self, image: ImageInfo) -> int:
        """Return about how many superpixels an image gets, if nothing is masked."""
        return round(image.shape[0] / self.step) * round(image.shape[1] / self.step)

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        return f"lower step (now {self.step})"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: ranges if the image is not RGB, regions, canonical labels."""
        if self.step > max(image.shape):
            raise ValueError(
                f"step {self.step} is larger than the image of {image.shape[0]} x"
                f" {image.shape[1]} pixels; choose a smaller step"
            )
        arrays = ("image", "mask") if image.masked else ("image",)
        cut = Pass(
            name="regions",
            map=partial(_cut, self),
            reads=arrays,
            writes={"regions": "uint32"},
            halo=reach(self),
            solve=partial(leftovers.solve, self.smallest),
            bytes_per_pixel=20 + 4 * image.channels,
            cost_ns=20.0,
        )
        if is_rgb(image):
            return cut, label_pass(image)
        return *ranges_passes(image), cut, label_pass(image)

    @property
    def smallest(self) -> int:
        """Pixels from which on a connected piece is a superpixel."""
        return self.step**2 // 6 if self.min_size is None else self.min_size


def slic(
    image: np.ndarray,
    *,
    step: int = 16,
    compactness: float = 10.0,
    iterations: int = 10,
    refine: int = 0,
    min_size: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Segment an image into superpixels.

    Parameters
    ----------
    image
        (H, W) or (H, W, C). Three channels of uint8 are sRGB and compared in CIELAB; any other
        image (uint8, uint16, int16, float) is compared as it is, each channel scaled from its
        0.5 % to its 99.5 % quantile. Pixels with NaN or infinity count as masked.
    step, compactness, iterations, refine, min_size
        See `Slic`.
    mask
        (H, W) bool, True where there are pixels to segment; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 0 where masked, else 1..N in raster order of each superpixel's first pixel.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    No segment of fewer than `min_size` pixels has a neighbour, after refinement too.
    *Tiling*: identical for every tiling, see `slic_window`.
    Cost: the time per pixel is printed by ``tests/bench/bench_slic.py``. White noise, where nearly
    all pieces are small, takes many times the time and memory of a photograph.

    Examples
    --------
    >>> image = np.zeros((8, 8, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> np.unique(slic(image, step=4)).tolist()
    [1, 2, 3, 4]
    """
    parameters = Slic(step, compactness, iterations, refine, min_size)
    arrays = as_arrays(colour.as_channels(image), mask)
    image = arrays["image"]
    h, w = image.shape[:2]
    valid = colour.known(image, arrays.get("mask"))
    scale = None
    if not colour.is_rgb(image):
        scale = ranges_of(image, valid)
    if h * w > IN_ONE_PIECE:
        return _by_tiles(image, valid, parameters, scale)
    core = (slice(0, h), slice(0, w))
    return slic_regions(image, valid, (0, 0), (h, w), core, parameters, scale).regions


def _by_tiles(
    image: np.ndarray, valid: np.ndarray | None, parameters: Slic, scale: colour.Scaling | None
) -> np.ndarray:
    """Segment a large image tile by tile: the same labels, from less memory."""
    shape = (image.shape[0], image.shape[1])
    grid = Grid(shape, (TILE, TILE))
    labels, records = np.empty(shape, np.uint32), []
    for tile in grid.tiles(reach(parameters)):
        part = tile.window.slices
        known_here = None if valid is None else valid[part]
        found = slic_regions(
            image[part], known_here, tile.window.start, shape, tile.inner, parameters, scale
        )
        labels[tile.core.slices] = found.regions
        records.append(found.record(tile, shape))
    ranks = leftovers.solve(parameters.smallest, records, grid)
    for tile, record in zip(grid.tiles(), records, strict=True):
        table = ranks.table(tile, record).astype(np.uint32)
        labels[tile.core.slices] = relabel(labels[tile.core.slices], table)
    return labels


def _cut(parameters: Slic, window: Window, scale: colour.Scaling | None) -> Output:
    """Segment a tile."""
    image, mask = window.arrays["image"], window.arrays.get("mask")
    shape, origin = window.grid.shape, window.tile.window.start
    valid = colour.known(image, mask)
    found = slic_regions(image, valid, origin, shape, window.tile.inner, parameters, scale)
    return Output({"regions": found.regions}, found.record(window.tile, shape))
