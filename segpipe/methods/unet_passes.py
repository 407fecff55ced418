"""The passes of networks: statistics of the image, windows of the network, parts of classes.

What is computed together is a window of a fixed shape on a grid that the image alone decides
(`segpipe.nets.windows`); a solution sees that all tiles were computed alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.colour import known
from segpipe.errors import RunError
from segpipe.methods.whole import gray
from segpipe.nets import backends, inference, statistics
from segpipe.nets.files import ModelFile
from segpipe.nets.inference import Seen
from segpipe.nets.normalise import Levels
from segpipe.nets.windows import Layout
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import groups, join
from segpipe.regions.finish import relabel
from segpipe.regions.label import label_codes
from segpipe.tiles import Grid, Tile

if TYPE_CHECKING:
    from segpipe.methods.unet import UNet

RATES = {"fp32": 90.0, "bf16": 180.0}
"""Operations per nanosecond of one core."""
LIBRARY_BYTES = 200 << 20
BYTES = {"fp32": 4, "bf16": 2}
"""Of a value of the network's layers; inputs and outputs are of full precision."""


def statistics_pass(parameters: UNet, file: ModelFile, image: ImageInfo) -> Pass:
    """Return the pass that counts values, for a model that is normalised by the image."""
    return Pass(
        "statistics",
        partial(_count, parameters, file),
        reads=_reads(image),
        merge=statistics.added,
        solve=statistics.solve(file, _seen_dtype(image.dtype)),
        cost_ns=4.0 * len(file.channels),
    )


def network_pass(
    parameters: UNet,
    file: ModelFile,
    layout: Layout,
    levels: Levels | None,
    image: ImageInfo,
) -> Pass:
    """Return the pass that computes the network, ``fields`` and ``classes`` (0 = background)."""
    asked = parameters.backend, parameters.precision, parameters.device
    choice = backends.choose(file, *asked, layout.window, parameters.batch)
    writes = {"fields": "uint8", "classes": "uint8"}
    number = len(file.outputs)
    planes = {"fields": number}
    kept = {"uint8": ("fields",), "float16": ("probabilities",), "none": ()}
    if parameters.probabilities == "float16":
        writes["probabilities"], planes["probabilities"] = "float16", number
    size = np.dtype(image.dtype).itemsize * image.channels
    one = layout.window[0] * layout.window[1]
    held = one * (file.values * BYTES[choice.precision] + 8 * number)
    return Pass(
        "network",
        partial(_infer, parameters, file, layout, levels),
        reads=_reads(image),
        writes=writes,
        planes=planes,
        keeps=("classes", *kept[parameters.probabilities]),
        halo=layout.reach + (max(layout.stride) if layout.blend != (0, 0) else 0),
        align=layout.stride,
        solve=_same,
        files=((file.name, file.identity),),
        bytes_per_pixel=4 * size + 8 * number + (20 * number if layout.blend[0] else 0),
        fixed_bytes=LIBRARY_BYTES + int(held * choice.batch),
        cost_ns=layout.work * file.flops / RATES[choice.precision] + 20 * number,
    )


def _reads(image: ImageInfo) -> tuple[str, ...]:
    return ("image", "mask") if image.masked else ("image",)


def sees_luminance(parameters: UNet, file: ModelFile, image: ImageInfo) -> bool:
    """Whether a model of one channel looks at an RGB image."""
    return len(file.channels) == 1 and image.rgb and parameters.channels is None


def _seen_dtype(dtype: str) -> str:
    """Type of what the network sees: float64 is taken as float32."""
    return "float32" if dtype == "float64" else dtype


def _pixels(
    parameters: UNet, file: ModelFile, image: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what the model sees of an image, (h, w, C), and where it counts."""
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    if parameters.channels is not None:
        image = image[:, :, list(parameters.channels)]
    elif len(file.channels) == 1 and image.shape[2] == 3:
        image = gray(image, None)[:, :, None]
    return image, known(image, mask)


def _count(parameters: UNet, file: ModelFile, window: Window, _part: Any) -> Output:
    """Count the values of a tile."""
    mask = window.core("mask") if "mask" in window.arrays else None
    seen = _pixels(parameters, file, window.core("image"), mask)
    return Output(record=statistics.counted(file, *seen))


def _infer(
    parameters: UNet,
    file: ModelFile,
    layout: Layout,
    levels: Levels | None,
    window: Window,
    part: Any,
) -> Output:
    """Compute the network for the core of a tile."""
    tile, shape = window.tile, window.grid.shape
    asked = parameters.backend, parameters.precision, parameters.device
    choice = backends.choose(file, *asked, layout.window, parameters.batch)
    pixels, valid = _pixels(parameters, file, window.arrays["image"], window.arrays.get("mask"))
    seen = Seen(pixels, valid, tile.window, (shape[0], shape[1]))
    wide = parameters.probabilities == "float16"
    core, given = tile.core, levels or part
    found = inference.outputs(seen, core, file, layout, given, choice, shares=wide)
    if valid is not None:
        nothing = ~valid[tile.inner]
        found.fields[:, nothing], found.classes[nothing] = 0, 0
    arrays = {"fields": np.moveaxis(found.fields, 0, -1), "classes": found.classes}
    if wide:
        shares = found.shares.astype(np.float16)
        if valid is not None:
            shares[:, nothing] = 0
        arrays["probabilities"] = np.moveaxis(shares, 0, -1)
    how = backends.computed(file, choice, layout.window, 1)
    said = json.dumps(how, sort_keys=True).encode()
    return Output(arrays, {"computed": np.frombuffer(said, np.uint8)})


@dataclass(frozen=True)
class Computed:
    """Solution: how the network was computed, on all tiles alike."""

    notes: dict[str, Any]

    def for_tile(self, _tile: Tile, _record: Record) -> None:
        """Nothing travels back to the tiles."""


def _same(records: Sequence[Record], _grid: Grid, _former: Any) -> Computed:
    """Refuse to mix what different libraries, precisions or processors have computed."""
    kinds = sorted({record["computed"].tobytes() for record in records})
    if len(kinds) > 1:
        several = "; ".join(kind.decode() for kind in kinds[:3])
        raise RunError(
            f"workers computed the network in different ways, so tiles could show: {several}; name"
            " backend, precision and device, or use equal machines, and start a new run"
        )
    return Computed(json.loads(kinds[0]))


def class_passes(min_size: int) -> tuple[Pass, ...]:
    """Return the passes from ``classes`` to their connected parts of some size, ``regions``."""
    find = Pass(
        "regions",
        _cut,
        reads=("classes",),
        writes={"regions": "uint32"},
        solve=partial(join.solve, same=join.equal),
        bytes_per_pixel=16,
        cost_ns=6.0,
    )
    if min_size <= 1:
        return (find,)
    sift = partial(_sift, min_size)
    solve = partial(_leave_out, min_size)
    return (
        replace(find, name="parts", map=sift, writes={"parts": "uint32"}, solve=solve),
        groups.regions_pass(),
    )


def _cut(window: Window, _part: Any) -> Output:
    """Label the connected parts of the classes of a tile."""
    classes = window.core("classes")
    regions, n = label_codes(classes, 1, 0)
    record = join.summary(regions, n, window.tile, window.grid.shape, classes)
    return Output({"regions": regions}, record)


def _sift(min_size: int, window: Window, _part: Any) -> Output:
    """Do the same, and leave out what is small and ends in the tile."""
    found = _cut(window, None)
    parts, border = found.arrays["regions"], found.record["border"]
    area = np.bincount(parts.ravel())
    stays = area >= min_size
    stays[border] = True
    if not stays[1:].all():
        parts = relabel(parts, np.where(stays, np.arange(len(area)), 0).astype(np.uint32))
    return Output({"parts": parts}, found.record | {"part": border, "area": area[border]})


def _leave_out(min_size: int, records: Sequence[Record], grid: Grid, _former: Any) -> groups.Groups:
    """Join what meets at seams; leave out what is small there, too."""
    facing = join.facing(records, grid)
    facing = facing.where(join.equal(facing.here.value, facing.across.value))
    ids = join.unite(records, facing.here.entry, facing.across.entry)
    _, group = np.unique(ids, return_inverse=True)
    vertices, area = groups.Vertices.gather(records), np.zeros(len(ids), np.int64)
    np.add.at(area, group, vertices.values("area"))
    return vertices.solved(np.where(area[group] < min_size, groups.GONE, ids))
