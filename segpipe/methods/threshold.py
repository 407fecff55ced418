"""Threshold classes as connected segments: Otsu, local mean, fixed levels; the same for any tiling.

Every pixel gets a class from its grey value; segments are the connected parts of equal class. What
is global, the range and the histogram behind Otsu's levels, comes from a pass over the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe.colour import known
from segpipe.methods import extremes
from segpipe.methods.extremes import Range
from segpipe.methods.kinds import check_kinds, check_read
from segpipe.methods.threshold_kernels import by_levels, by_local_mean, otsu_bins
from segpipe.methods.whole import as_arrays, check_channel, gray, image_info, segment
from segpipe.passes import ImageInfo, Output, Pass, Record, Window, run_in_memory
from segpipe.regions import join
from segpipe.regions.finish import label_pass
from segpipe.regions.label import label_codes
from segpipe.tiles import Grid

READ_BY = {"classes": ("otsu",), "radius": ("local",), "offset": ("local",)}
"""Parameters that not every rule reads."""
BINS = 65536
LOCAL_STEPS = (1 << 24) - 1
"""Steps into which the range of floating images is divided for local means: as fine as float32."""


@dataclass(frozen=True)
class Threshold:
    """Classes by grey value (Otsu, local mean, fixed levels), as connected segments."""

    rule: Literal["otsu", "local", "fixed"] = "otsu"
    """otsu: levels of least variance inside the classes, from the histogram of the whole image;
    local: above or below the mean of the square round each pixel; fixed: `levels`."""
    classes: int = 2
    """otsu: number of classes, 2 to 16 (fewer if the image has fewer values)."""
    levels: tuple[float, ...] = ()
    """fixed: ascending; a pixel's class is the number of levels below its value."""
    radius: int = 25
    """local: the square has 2 * radius + 1 pixels a side (cut at the image's border), 1 to 1024;
    also the halo."""
    offset: float = 0.0
    """local: a pixel is above if it is greater than the mean minus this, in grey values."""
    channel: int | None = None
    """Channel to look at, counted from 0; null: luminance of RGB, else the mean of all channels."""
    connectivity: int = 1
    """Segments are connected by sides (1) or by sides and corners (2)."""
    background: int | None = None
    """Class that gets label 0 (0 = darkest); null: all classes are labelled."""

    name: ClassVar[str] = "threshold"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    tells: ClassVar[tuple[str, ...]] = ("levels",)
    """What of the notes of its passes a run prints."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for field, low, high, advice in (
            ("classes", 2, 16, "2 parts foreground from background"),
            ("radius", 1, 1024, "take about the size of the objects"),
            ("connectivity", 1, 2, "1: sides, 2: sides and corners"),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"{field} must be {low} to {high}, got {value}; {advice}")
        if not np.isfinite(self.offset):
            raise ValueError(f"offset must be a number, got {self.offset}")
        self._check_levels()
        check_read(self, "rule", READ_BY)
        if self.background is not None and not 0 <= self.background < self.count:
            raise ValueError(
                f"background must be a class, 0 to {self.count - 1}, got {self.background};"
                " leave it out to label all classes"
            )

    def _check_levels(self) -> None:
        levels = np.asarray(self.levels, np.float64)
        if self.rule == "fixed" and not (1 <= levels.size <= 254 and np.isfinite(levels).all()):
            raise ValueError(
                f"rule: fixed needs 1 to 254 levels, numbers in ascending order, got"
                f" {list(self.levels)}; [128] makes two classes of 8 bits"
            )
        if self.rule != "fixed" and levels.size:
            raise ValueError(
                f"levels belong to rule: fixed, got {list(self.levels)} with rule: {self.rule};"
                " leave them out, or take rule: fixed"
            )
        if (np.diff(levels) <= 0).any():
            raise ValueError(f"levels must ascend, got {list(self.levels)}; give them sorted")

    def _check_reach(self, dtype: np.dtype) -> None:
        """Refuse levels that no value of an image of integers can be on both sides of."""
        if not self.levels or dtype.kind not in "ui":
            return
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        beyond = [level for level in self.levels if not low <= level < high]
        if beyond:
            raise ValueError(
                f"levels must be {low} to {high - 1} for an image of {dtype}, got {beyond}: a class"
                " beyond them has no values"
            )

    @property
    def count(self) -> int:
        """Number of classes."""
        return {"otsu": self.classes, "local": 2, "fixed": len(self.levels) + 1}[self.rule]

    @property
    def partial(self) -> bool:
        """Whether pixels stay unlabelled."""
        return self.background is not None

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: range (floats), histogram (Otsu), regions, canonical labels."""
        check_channel(self.channel, image)
        self._check_reach(np.dtype(image.dtype))
        sweep = partial(_sweep, image)
        steps: list[Pass] = []
        if np.dtype(image.dtype).kind == "f" and self.rule != "fixed":
            steps.append(
                sweep("range", partial(_range, self), merge=extremes.wider, solve=extremes.keep)
            )
        if self.rule == "otsu":
            count = sweep("histogram", partial(_count, self), merge=_add)
            steps.append(replace(count, solve=partial(_choose, self, image)))
        cut = sweep("regions", partial(_cut, self), bytes_per_pixel=30)
        return (
            *steps,
            replace(
                cut,
                writes={"regions": "uint32", "classes": "uint8"},
                halo=self.radius if self.rule == "local" else 0,
                solve=partial(join.solve, same=join.equal, connectivity=self.connectivity),
                cost_ns=12.0,
            ),
            label_pass(image, classes="class"),
        )


def _sweep(image: ImageInfo, name: str, do: Any, **more: Any) -> Pass:
    """Return a pass that reads the image and what says which pixels count."""
    reads = ("image", "mask") if image.masked else ("image",)
    size = image.channels * np.dtype(image.dtype).itemsize
    memory = more.pop("bytes_per_pixel", 20) + 2 * size
    return Pass(name, do, reads, bytes_per_pixel=memory, cost_ns=5.0, **more)


def threshold(
    image: np.ndarray,
    rule: Literal["otsu", "local", "fixed"] = "otsu",
    *,
    classes: int = 2,
    levels: Sequence[float] = (),
    radius: int = 25,
    offset: float = 0.0,
    channel: int | None = None,
    connectivity: int = 1,
    background: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Segment an image into connected parts of equal threshold class.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): bool, integers of up to 16 bits, or floats (taken as float32). Pixels
        with NaN or infinity count as masked.
    rule, classes, levels, radius, offset, channel, connectivity, background
        See `Threshold`.
    mask
        (H, W) bool, True where there are pixels to segment; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 0 for masked pixels and the background class, else 1..N in raster order of
        each segment's first pixel.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: identical for every tiling. Histograms are sums of integers over the whole image, one
    bin per grey value (floats: 65536 bins between its least and greatest value); local means are
    sums of integers inside a halo of `radius`; segments join by their rims, see
    `segpipe.regions.join`. A run's table says each segment's ``class``.
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    References
    ----------
    N. Otsu, A threshold selection method from gray-level histograms, IEEE TSMC 9(1), 1979,
    10.1109/TSMC.1979.4310076. P.-S. Liao, T.-S. Chen, P.-C. Chung, A fast algorithm for multilevel
    thresholding, JISE 17(5), 2001, 10.6688/JISE.2001.17.5.1.

    Examples
    --------
    >>> image = np.array([[10, 12, 200], [11, 190, 13]], np.uint8)
    >>> threshold(image).tolist()
    [[1, 1, 2], [1, 3, 4]]
    >>> threshold(image, "fixed", levels=[100], background=0, connectivity=2).tolist()
    [[0, 0, 1], [0, 1, 0]]
    """
    parameters = Threshold(
        rule, classes, tuple(levels), radius, offset, channel, connectivity, background
    )
    return segment(parameters.passes, _as_known(image), mask)


def otsu_levels(
    image: np.ndarray,
    classes: int = 2,
    *,
    channel: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the levels of the rule ``otsu``, float64[classes - 1]: a class lies above its level.

    ``np.digitize(image, levels, right=True)`` is the map of classes. Parameters as in `threshold`;
    fewer levels if the image has fewer values than classes.

    >>> otsu_levels(np.array([[10, 12, 200], [11, 190, 13]], np.uint8)).tolist()
    [13.0]
    """
    parameters = Threshold("otsu", classes, channel=channel)
    arrays = as_arrays(_as_known(image), mask)
    steps = parameters.passes(image_info(arrays))[:-2]
    solved: list[_Choice] = []

    def listen(former: Any, records: Sequence[Record], grid: Grid, before: Any) -> Any:
        solved.append(former(records, grid, before))
        return solved[-1]

    heard = [replace(step, solve=partial(listen, step.solve)) for step in steps]
    run_in_memory(heard, arrays)
    return np.asarray(solved[-1].levels, np.float64)


def _as_known(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype.kind in "ui" and image.dtype not in (np.uint8, np.uint16, np.int8, np.int16):
        raise ValueError(
            f"image must be bool, integers of up to 16 bits or floats, got {image.dtype};"
            " convert it first"
        )
    return image.astype(np.float32) if image.dtype.kind == "f" else image


@dataclass(frozen=True)
class _Choice(Range):
    """What all tiles share: the range of values and the levels."""

    levels: tuple[float, ...] = ()

    @property
    def notes(self) -> dict[str, list[float]]:
        """What ``run.json`` says of it."""
        return {"levels": list(self.levels)}


def _range(parameters: Threshold, window: Window, _part: None) -> Output:
    """Find the least and the greatest value of a tile."""
    values, valid = _gray(parameters, window, core=True)
    return Output(record=extremes.ends(values[valid]))


def _count(parameters: Threshold, window: Window, part: Range | None) -> Output:
    """Count the grey values of a tile."""
    values, valid = _gray(parameters, window, core=True)
    bins = (part or Range()).integers(values[valid], BINS - 1)
    return Output(record={"histogram": np.bincount(bins, minlength=BINS)})


def _add(records: Sequence[Record]) -> Record:
    return {"histogram": np.sum([record["histogram"] for record in records], axis=0)}


def _choose(
    parameters: Threshold, image: ImageInfo, records: Sequence[Record], _grid: Grid, former: Any
) -> _Choice:
    """Return the levels: the greatest grey value of each class but the highest."""
    last = otsu_bins(records[0]["histogram"], parameters.classes)
    if np.dtype(image.dtype).kind != "f":
        return _Choice(levels=tuple((last + np.iinfo(image.dtype).min).tolist()))
    width = (former.high - former.low) / (BINS - 1)
    return _Choice(former.low, former.high, tuple((former.low + (last + 0.5) * width).tolist()))


def _cut(parameters: Threshold, window: Window, part: Range | None) -> Output:
    """Classify a tile and label its connected parts."""
    choice = part or Range()
    values, valid = _gray(parameters, window, core=parameters.rule != "local")
    codes = np.empty(window.tile.core.shape, np.uint8)
    if parameters.rule == "local":
        whole = choice.integers(values, LOCAL_STEPS)
        unit = choice.gain(values.dtype, LOCAL_STEPS)
        rows, columns = window.tile.inner
        inner = (rows.start, rows.stop, columns.start, columns.stop)
        by_local_mean(whole, valid, parameters.radius, parameters.offset * unit, inner, codes)
    else:
        levels = choice.levels if isinstance(choice, _Choice) else parameters.levels
        by_levels(values, valid, np.asarray(levels, np.float64), codes)
    if parameters.background is not None:
        codes[codes == parameters.background + 1] = 0
    regions, n = label_codes(codes, parameters.connectivity, 0)
    record = join.summary(regions, n, window.tile, window.grid.shape, codes)
    return Output({"regions": regions, "classes": codes}, record)


def _gray(parameters: Threshold, window: Window, *, core: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the grey values (h, w) of the image's type, and where they count."""
    part = window.core if core else window.arrays.__getitem__
    image = part("image")
    if parameters.channel is not None:
        image = image[:, :, parameters.channel : parameters.channel + 1]
    valid = known(image, part("mask") if "mask" in window.arrays else None)
    return gray(image, None), np.ones(image.shape[:2], bool) if valid is None else valid
