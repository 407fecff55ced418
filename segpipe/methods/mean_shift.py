"""Exact mean shift: filtered by integer trajectories, linked, small regions merged in rounds.

After Comaniciu and Meer, "Mean shift: a robust approach toward feature space analysis", IEEE TPAMI
24(5), 2002, 10.1109/34.1000236, and, for tiles, Michel, Youssefi and Grizonnet, "Stable mean-shift
algorithm and its application to the segmentation of arbitrarily large remote sensing images", IEEE
TGRS 53(2), 2015, 10.1109/TGRS.2014.2330857. The rules are in `mean_shift_window` (trajectories,
links) and `segpipe.regions.merge_rounds`; every quantity is an integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from segpipe import colour
from segpipe.colour import known
from segpipe.methods import whole
from segpipe.methods.kinds import check_kinds
from segpipe.methods.mean_shift_features import Feature, Features, chosen_features
from segpipe.methods.mean_shift_links import parts
from segpipe.methods.mean_shift_window import modes
from segpipe.methods.ranges import ranges_passes
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.regions import merge_small
from segpipe.regions.finish import label_pass
from segpipe.regions.modes import Modes
from segpipe.tiles import Box

FARTHEST = 1024
"""Longest reach of a trajectory (px): a halo that a tile can still carry."""


@dataclass(frozen=True)
class MeanShift:
    """Segments of close modes (mean shift), small ones merged, the same for any tiling."""

    spatial_bandwidth: int = 8
    """Pixels in each direction that a mean is taken over, 1 to 63."""
    range_bandwidth: int = 16
    """Radius of the ball of colours (or other features), at least 1: in units of the image (uint8,
    uint16, int16), of CIELAB (lab), or in 1/255 of the range of values (float)."""
    min_size: int = 50
    """Pixels below which a region joins the neighbour of most similar mean; 1: none does."""
    iterations: int = 10
    """Longest trajectory in steps, 1 to 100; each adds spatial_bandwidth pixels to the halo."""
    kernel: Literal["flat", "epanechnikov", "gaussian"] = "flat"
    """Weights of the pixels of a mean. The others are some 20 times slower than flat."""
    features: Feature | tuple[Feature, ...] = "colour"
    """What is compared: `colour` (values as they are), `lab` (CIELAB; RGB images of 8 bits only),
    `gaussian` (values smoothed with `sigma`), `gradient-histogram` (texture: mean gradient per
    pixel in four orientations round each pixel), or a list of them, as one vector."""
    sample: int = 2
    """Means are taken over every 1st, 2nd or 4th row and column of the image."""
    sigma: float = 1.0
    """gaussian: standard deviation of the smoothing, 0.2 to 16 pixels."""
    histogram_radius: int = 4
    """gradient-histogram: gradients are averaged over pixels so many rows and columns away, 1 to
    32."""
    filtered: bool = False
    """Keep the filtered image, every pixel's mode, with a pyramid (`filtered/STAGE`)."""
    modes: bool = False
    """Add the modes to the table of segments: `mode-0`, `mode-1` (mean row and column) and
    `intensity_mode-0` … (mean features of the filtered image)."""

    name: ClassVar[str] = "mean-shift"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"

    def __post_init__(self) -> None:
        check_kinds(self)
        for field, low, high, advice in (
            ("spatial_bandwidth", 1, 63, "5 to 15 are common"),
            ("range_bandwidth", 1, 65535, "8 to 30 are common for 8 bits"),
            ("min_size", 1, 1_000_000_000, "1 keeps every region"),
            ("iterations", 1, 100, "10 are enough on photographs"),
            ("sigma", 0.2, 16, "0.7 to 2 are common"),
            ("histogram_radius", 1, 32, "2 to 8 are common"),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"{field} must be {low} to {high}, got {value}; {advice}")
        if self.sample not in (1, 2, 4):
            raise ValueError(f"sample must be one of (1, 2, 4), got {self.sample!r}")
        names = self.feature_names
        if not names or len(set(names)) < len(names) or not set(names) <= set(get_args(Feature)):
            raise ValueError(
                f"features must be one or several of {get_args(Feature)}, got {self.features!r}"
            )
        self._check_reach()

    def _check_reach(self) -> None:
        """Refuse windows without pixels, and halos that no tile can carry."""
        if self.sample > self.spatial_bandwidth:
            raise ValueError(
                f"sample {self.sample} leaves windows of spatial_bandwidth {self.spatial_bandwidth}"
                " empty; take a smaller sample"
            )
        if self.reach > FARTHEST:
            raise ValueError(
                f"a trajectory may reach {FARTHEST} pixels, got iterations {self.iterations} *"
                f" spatial_bandwidth {self.spatial_bandwidth} = {self.reach}; lower one of them"
            )

    @property
    def feature_names(self) -> tuple[Feature, ...]:
        """The kinds of features, in order."""
        given = self.features
        return tuple(given) if isinstance(given, tuple | list) else (given,)

    @property
    def reach(self) -> int:
        """Pixels that a trajectory can see from its start: the halo."""
        return self.iterations * self.spatial_bandwidth

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        return f"lower range_bandwidth (now {self.range_bandwidth})"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: (ranges of floats,) filter and link, merge, number, label."""
        self._check(image)
        chosen = chosen_features(self, np.dtype(image.dtype), None)
        kept = self._kept(chosen, image.channels)
        modes_of = Modes("filtered", "shift", chosen.out_dtype.name) if self.modes else None
        rest = (
            self._filter_pass(image, chosen, kept),
            *merge_small.passes(image, self.min_size, partial(_values, self)),
            label_pass(image, modes=modes_of),
        )
        if np.dtype(image.dtype).kind != "f":
            return rest
        return *ranges_passes(image), *rest

    def _kept(self, chosen: Features, channels: int) -> dict[str, tuple[str, int]]:
        """Return what is written besides the parts: name -> type and planes."""
        count = chosen.count(channels)
        found = {}
        if self.filtered or self.modes:
            found["filtered"] = chosen.out_dtype.name, count
        if self.modes:
            found["shift"] = "int16", 2
        return found

    def _filter_pass(
        self, image: ImageInfo, chosen: Features, kept: dict[str, tuple[str, int]]
    ) -> Pass:
        count = chosen.count(image.channels)
        extra = sum(np.dtype(dtype).itemsize * planes for dtype, planes in kept.values())
        window = (self.spatial_bandwidth / self.sample + 4) ** 2
        stripes = 10 * count // self.sample**2
        return Pass(
            name="filter",
            map=partial(_filter, self),
            reads=("image", "mask") if image.masked else ("image",),
            writes={"parts": "uint32"} | {name: dtype for name, (dtype, _) in kept.items()},
            planes={name: planes for name, (_, planes) in kept.items()},
            keeps=("filtered",) if self.filtered else (),
            halo=self.reach + chosen.halo,
            solve=partial(
                merge_small.solve_parts,
                same=partial(_close, chosen.limit, self.spatial_bandwidth**2),
            ),
            bytes_per_pixel=24 + 12 * count + stripes + extra + 24 * bool(chosen.halo),
            cost_ns=window * (3.0 if self.kernel == "flat" else 60.0) + 30.0 * bool(chosen.halo),
        )

    def _check(self, image: ImageInfo) -> None:
        """Refuse images that it cannot treat."""
        dtype = np.dtype(image.dtype)
        if dtype.kind != "f" and dtype not in (np.uint8, np.uint16, np.int16):
            raise ValueError(
                f"image must be uint8, uint16, int16 or float, got {dtype}; convert it first"
            )
        if "lab" in self.feature_names and (dtype != np.uint8 or image.channels != 3):
            raise ValueError(
                f"features: lab needs three channels of uint8, got {image.channels} of {dtype};"
                " use features: colour"
            )
        if dtype == np.uint8 and self.range_bandwidth > 254:
            raise ValueError(
                f"range_bandwidth must be 1 to 254 for uint8, got {self.range_bandwidth};"
                " 8 to 30 are common"
            )


def mean_shift(
    image: np.ndarray,
    spatial_bandwidth: int = 8,
    range_bandwidth: int = 16,
    min_size: int = 50,
    iterations: int = 10,
    *,
    features: Feature | tuple[Feature, ...] = "colour",
    mask: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Segment an image by mean shift.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, uint16, int16 or float. Pixels with NaN or infinity count as
        masked. Floats are scaled, channel by channel, from the 0.5 % to the 99.5 % quantile.
    spatial_bandwidth, range_bandwidth, min_size, iterations, features
        See `MeanShift`.
    mask
        (H, W), non-zero where there are pixels to segment; None: everywhere.
    **options
        The other parameters of `MeanShift`: ``kernel``, ``sample``, ``sigma``,
        ``histogram_radius``.

    Returns
    -------
    labels
        (H, W) uint32: 0 where masked, else 1..N in raster order of each region's first pixel.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    See Also
    --------
    segpipe.methods.mean_shift_modes.mean_shift_modes : the filtered image and the modes, too.

    Notes
    -----
    *Tiling*: identical for every tiling; the halo is iterations * spatial_bandwidth pixels, and as
    far as features see: 4 sigma, or histogram_radius + 1.
    Cost: time and memory per pixel are in ``tests/bench/bench_mean_shift.py``.

    Examples
    --------
    >>> image = np.zeros((20, 20, 3), np.uint8)
    >>> image[:, 8:] = 100
    >>> image[3, 3] = 255
    >>> labels = mean_shift(image)
    >>> np.unique(labels, return_counts=True)[1].tolist()
    [160, 240]
    """
    method = MeanShift(
        spatial_bandwidth, range_bandwidth, min_size, iterations, features=features, **options
    )
    return whole.segment(method.passes, image, mask)


def _filter(method: MeanShift, window: Window, scale: colour.Scaling | None) -> Output:
    """Follow the trajectories of a tile's core and link its pixels."""
    image, tile = window.arrays["image"], window.tile
    valid = known(image, window.arrays.get("mask"))
    chosen = chosen_features(method, image.dtype, scale)
    planes = chosen.planes(image, valid)
    found, shift = modes(
        planes, valid, tile.window, tile.core, window.grid.shape, method, chosen.limit
    )
    core_valid = None if valid is None else np.ascontiguousarray(valid[tile.inner])
    numbers, n = parts(found, shift, core_valid, chosen.limit, method.spatial_bandwidth)
    values = chosen.own_colours(planes[:, *tile.inner], window.core("image"))
    rims = partial(_rim, found, shift, tile.core)
    record = merge_small.summary(numbers, n, values, tile, window.grid.shape, rims)
    arrays = {"parts": numbers}
    if method.filtered or method.modes:
        arrays["filtered"] = filtered_image(chosen, found, core_valid, image.shape[2])
    if method.modes:
        arrays["shift"] = np.moveaxis(shift, 0, 2)
    return Output(arrays, record)


def filtered_image(
    chosen: Features, found: np.ndarray, valid: np.ndarray | None, channels: int
) -> np.ndarray:
    """Return modes (K, h, w) as an image (h, w, K) in units of the features; 0 where masked."""
    values = chosen.restored(found, channels)
    if valid is not None:
        values[~valid] = 0
    return values


def _values(method: MeanShift, window: Window, scale: colour.Scaling | None) -> np.ndarray:
    """Return the colours of a core's pixels, which the regions' means are taken of."""
    image = window.core("image")
    return chosen_features(method, image.dtype, scale).colours(image)


def _rim(found: np.ndarray, shift: np.ndarray, core: Box, along: tuple[Any, ...]) -> np.ndarray:
    """Return (n, C + 2) int32, colour and global place of the modes along a rim."""
    y, x = np.arange(core.shape[0])[along[0]], np.arange(core.shape[1])[along[1]]
    out = np.empty((max(np.size(y), np.size(x)), len(found) + 2), np.int32)
    out[:, :-2] = found[:, *along].T
    out[:, -2] = shift[0, *along] + core.start[0] + y
    out[:, -1] = shift[1, *along] + core.start[1] + x
    return out


def _close(limit: int, radius2: int, here: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Tell whose modes are closer than both bandwidths."""
    squares = (here.astype(np.int64) - across) ** 2
    near: np.ndarray = squares[:, :-2].sum(axis=1) < limit
    return near & (squares[:, -2:].sum(axis=1) < radius2)
