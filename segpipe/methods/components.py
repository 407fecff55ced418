"""Connected components of equal values, of near values, or of a mask; the same for any tiling."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from segpipe.colour import known
from segpipe.methods.kinds import check_kinds
from segpipe.methods.whole import check_channel, segment
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.regions import join
from segpipe.regions.finish import label_pass
from segpipe.regions.label import label_codes, label_zones
from segpipe.regions.zones import near


@dataclass(frozen=True)
class Components:
    """Connected components of equal or near values, or of a mask (foreground)."""

    connectivity: int = 1
    """1: neighbours share a side (4 neighbours); 2: a side or a corner (8 neighbours)."""
    background: float | None = 0.0
    """Value of pixels that get label 0 (in all channels); null: every pixel is labelled."""
    foreground: bool = False
    """true: touching pixels are one component whatever their values, background apart, as in
    scipy.ndimage.label; false: only where their values are equal, as in skimage.measure.label."""
    tolerance: float = 0.0
    """Neighbours belong together if no channel differs by more than this, 0 or more; values may
    drift along a chain of neighbours (quasi-flat zones)."""
    channel: int | None = None
    """Look at this channel alone, counted from 0; null: at all of them."""

    name: ClassVar[str] = "components"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.connectivity not in (1, 2):
            raise ValueError(
                f"connectivity must be 1 (sides) or 2 (sides and corners), got {self.connectivity}"
            )
        if not 0 <= self.tolerance < np.inf:
            raise ValueError(
                f"tolerance must be 0 or more, got {self.tolerance}; 0 joins equal values only"
            )
        if self.background is not None and not np.isfinite(self.background):
            raise ValueError(
                f"background must be a number, got {self.background}; pixels with NaN or infinity"
                " get label 0 anyway"
            )
        if self.foreground and self.background is None:
            raise ValueError(
                "foreground: true needs a background, got null; give the value that is not"
                " foreground, for example 0"
            )
        if self.foreground and self.tolerance:
            raise ValueError(
                f"foreground: true looks at no values, so tolerance must be 0, got {self.tolerance}"
            )

    @property
    def partial(self) -> bool:
        """Whether pixels stay unlabelled."""
        return self.background is not None

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        if self.foreground:
            return (
                f"take threshold with a background: here all that is not {self.background:g} is"
                " foreground"
            )
        return f"lower tolerance (now {self.tolerance:g})" if self.tolerance else ""

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: label the cores, join them across seams."""
        # where runs of codes are all there is to find, that takes less than storing the regions
        quick = self.foreground or self._has_codes(image.channels, np.dtype(image.dtype))
        return self._steps(image, keep=not quick)

    def _steps(self, image: ImageInfo, *, keep: bool) -> tuple[Pass, ...]:
        """Return the passes, which keep the regions or find them twice."""
        check_channel(self.channel, image)
        self._check_background(np.dtype(image.dtype))
        same = None if self.foreground else partial(near, self.tolerance)
        return (
            Pass(
                name="regions",
                map=partial(_cut, self, keep=keep),
                reads=("image", "mask") if image.masked else ("image",),
                writes={"regions": "uint32"} if keep else {},
                solve=partial(join.solve, same=same, connectivity=self.connectivity),
                bytes_per_pixel=24 + 2 * np.dtype(image.dtype).itemsize * image.channels,
                cost_ns=6.0,
            ),
            label_pass(image, cut=None if keep else partial(_regions, self)),
        )

    def _check_background(self, dtype: np.dtype) -> None:
        """Refuse a background that no pixel of an image of integers can have."""
        if self.background is None or dtype.kind not in "ui":
            return
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if not (low <= self.background <= high and float(self.background).is_integer()):
            raise ValueError(
                f"background must be a whole number from {low} to {high} for an image of {dtype},"
                f" got {self.background}; null labels every pixel"
            )

    def _has_codes(self, channels: int, dtype: np.dtype) -> bool:
        """Whether the pixels of such an image are codes of their components."""
        return channels == 1 and dtype.kind in "ui" and not self.tolerance


def components(
    image: np.ndarray,
    connectivity: int = 1,
    *,
    background: float | None = 0.0,
    foreground: bool = False,
    tolerance: float = 0.0,
    channel: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Label the connected components of an image.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): bool, integers of up to 32 bits, or floats. Pixels with NaN or infinity
        count as masked.
    connectivity, background, foreground, tolerance, channel
        See `Components`.
    mask
        (H, W) bool, True where there are pixels to label; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 0 for background and masked pixels, else 1..N in raster order of each
        component's first pixel.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: identical for every tiling: neighbours are linked by their two values alone, and
    `segpipe.regions.join` unites what meets at a seam. No halo; records of O(perimeter).
    Cost: 2 to 8 ns and 10 to 14 bytes per pixel on one core for one channel without tolerance, 6 to
    30 ns otherwise, by the number of runs; see ``tests/bench/bench_components.py``.

    References
    ----------
    L. He, Y. Chao, K. Suzuki, A run-based two-scan labeling algorithm, IEEE TIP 17(5), 2008,
    10.1109/TIP.2008.919369.

    Examples
    --------
    >>> components(np.array([[1, 0, 2], [1, 2, 0]], np.uint8)).tolist()
    [[1, 0, 2], [1, 3, 0]]
    >>> components(np.array([[1, 0, 2], [1, 2, 0]], np.uint8), 2, foreground=True).tolist()
    [[1, 0, 1], [1, 1, 0]]
    """
    parameters = Components(connectivity, background, foreground, tolerance, channel)
    return segment(partial(parameters._steps, keep=True), image, mask)


def _cut(parameters: Components, window: Window, _part: None, *, keep: bool) -> Output:
    """Label the core of a tile."""
    regions, n = _label(parameters, window)
    values = None if parameters.foreground else _seen(parameters, window)
    record = join.summary(regions, n, window.tile, window.grid.shape, values)
    return Output({"regions": regions} if keep else {}, record)


def _regions(parameters: Components, window: Window) -> np.ndarray:
    return _label(parameters, window)[0]


def _seen(parameters: Components, window: Window) -> np.ndarray:
    """Return the channels of the core that are looked at."""
    image, channel = window.core("image"), parameters.channel
    return image if channel is None else image[:, :, channel : channel + 1]


def _label(parameters: Components, window: Window) -> tuple[np.ndarray, int]:
    """Return the regions of a tile's core, uint32 0..n by first pixel, and n."""
    image = _seen(parameters, window)
    valid = known(image, window.core("mask") if "mask" in window.arrays else None)
    given = parameters.background
    none = None if given is None else image.dtype.type(given).item()
    codes = image[:, :, 0]
    plain = parameters._has_codes(image.shape[2], image.dtype)
    if plain and not parameters.foreground and (valid is None or none is not None):
        if valid is not None and none is not None:
            codes = np.where(valid, codes, image.dtype.type(none))
        return label_codes(codes, parameters.connectivity, none)
    if none is not None:
        lit = image != image.dtype.type(none)
        lit = lit[:, :, 0] if image.shape[2] == 1 else lit.any(axis=2)
        valid = lit if valid is None else lit & valid
    if parameters.foreground:
        codes = np.ones(image.shape[:2], np.uint8) if valid is None else valid.view(np.uint8)
        return label_codes(codes, parameters.connectivity, 0)
    return label_zones(image, valid, parameters.tolerance, parameters.connectivity)
