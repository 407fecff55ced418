"""The one contract between methods and the engine: a method is a sequence of passes, as data.

A pass looks at every tile once: ``map`` is a pure function of the tile's window. What has to cross
tiles travels as a small *record*; the records of all tiles are *solved* once, in one place, and
each tile of the next pass gets its part of the *solution*. The whole-image result is by definition
the same passes on a grid of one tile, so "tiled equals whole" is one generic test.

Rules that make it exact and safe: a pass reads what former passes wrote and writes something else
(every task may run twice, in any order, anywhere); sums are integers; orders are total; anything
global comes from a pass, never from a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np

from segpipe.tiles import Grid, Tile

Record = dict[str, np.ndarray]
"""A tile's small contribution to what crosses tiles: named arrays, borders rather than areas."""

Columns = Mapping[str, np.ndarray]
"""Part of a table: arrays of equal length by name, ``label`` among them."""

Exactness = Literal["exact", "certified", "measured"]

Group = Literal["area", "shape", "colour", "percentiles", "neighbours"]
"""What is measured together of the segments; ``area`` always is."""
GROUPS: tuple[Group, ...] = get_args(Group)
STANDARD: tuple[Group, ...] = ("area", "shape", "colour")
"""All but what costs most: neighbours, a second table of six times the rows, and percentiles."""


@dataclass(frozen=True)
class ImageInfo:
    """What a method may know of the image before any pixel is read."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    channels: int
    dtype: str
    """NumPy name of the pixel type, for example ``uint8``."""
    rgb: bool = False
    """The three channels are sRGB red, green, blue."""
    masked: bool = False
    """Some pixels do not count (nodata, alpha, mask); ``mask`` (uint8, 1 = counts) says which."""
    measure: frozenset[str] | None = None
    """Groups of measurements that are wanted of the segments; None: the standard ones."""
    transform: tuple[float, float, float, float, float, float] | None = None
    """From pixels to world coordinates, for the measurements."""
    pixel_size: tuple[float, float] | None = None
    """Height and width of a pixel, as far as the image says …"""
    pixel_unit: str | None = None
    """… and in what."""


@dataclass(frozen=True)
class Window:
    """What ``map`` sees of a tile."""

    tile: Tile
    grid: Grid
    arrays: Mapping[str, np.ndarray]
    """Each of the pass's ``reads`` over ``tile.window``; ``image`` is (rows, columns, channels)."""

    def core(self, name: str) -> np.ndarray:
        """Return the part of array `name` that lies in the tile's core."""
        return self.arrays[name][self.tile.inner]


@dataclass(frozen=True)
class Rows:
    """What one tile can say of a table."""

    done: Columns
    """Rows of segments that end inside the tile."""
    open: Mapping[str, Columns]
    """Partial sums of the others, for `Table.merge`."""


@dataclass(frozen=True)
class Table:
    """How the rows of segments that lie across seams come about."""

    pieces: tuple[str, ...]
    """Names of the partial sums in `Rows.open`."""
    merge: Callable[[Mapping[str, Columns]], Mapping[str, Columns]]
    """Add up what was concatenated; associative, sorted by label."""
    close: Callable[[Mapping[str, Columns]], Columns]
    """Turn complete sums into rows."""


@dataclass(frozen=True)
class Output:
    """What ``map`` returns: `arrays` over the tile's core, a `record`, rows for tables."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    record: Record = field(default_factory=dict)
    tables: Mapping[str, Rows] = field(default_factory=dict)


class Solution(Protocol):
    """Result of ``solve``: knows the part that one tile of the next pass needs."""

    def for_tile(self, tile: Tile, record: Record) -> Any:
        """Return the part for `tile`, given the record this tile sent."""


Solve = Callable[[Sequence[Record], Grid, Any], Solution]
"""(records in tile order or the one merged record, grid, former solution) -> solution."""


@dataclass(frozen=True)
class Pass:
    """One sweep over the tiles."""

    name: str
    map: Callable[[Window, Any], Output]
    """Pure function of the window and the tile's part of the former pass's solution."""
    reads: tuple[str, ...] = ("image",)
    """Arrays read through the window: ``image``, ``mask``, what a former pass wrote, or
    ``segments``: the labels of the stage before, for a method that groups them."""
    writes: Mapping[str, str] = field(default_factory=dict)
    """Array name -> dtype; only the core is written, once."""
    planes: Mapping[str, int] = field(default_factory=dict)
    """Arrays written that have several values per pixel -> how many: (rows, columns, planes)."""
    keeps: tuple[str, ...] = ()
    """Arrays written that belong to the result besides ``labels``: those with planes are published
    as an image (``probability/STAGE``, ``filtered/STAGE``), others as a label image
    (``labels/STAGE-NAME``). A later stage may read what is called ``filtered`` as its image."""
    halo: int = 0
    """Pixels of context round the core, derived from the parameters."""
    align: tuple[int, int] | None = None
    """Windows begin and end at multiples of this, before the halo is added: for work in units that
    no tile may cut. Tiles of such multiples waste nothing."""
    merge: Callable[[Sequence[Record]], Record] | None = None
    """Associative, commutative sum of records (run as a tree); None: ``solve`` sees them all."""
    solve: Solve | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    """The tables that the ``Output.tables`` of this pass belong to, by name."""
    files: tuple[tuple[str, str], ...] = ()
    """Name and digest of files besides the image that decide the result (weights, say)."""
    bytes_per_pixel: int = 16
    """Working memory of ``map`` per pixel of the window, the arrays read and written included."""
    fixed_bytes: int = 0
    """Working memory of ``map`` that does not grow with the window."""
    cost_ns: float = 10.0
    """Rough time of ``map`` per pixel of the window on one core, for plan and tile size; with
    `align`, per pixel of the window without its halo: units are computed whole."""

    def work_pixels(self, grid: Grid) -> int:
        """Pixels that ``map`` is done for, all tiles together."""
        return grid.window_pixels(0 if self.align else self.halo, self.align)


def filtered_image(passes: Sequence[Pass], image: ImageInfo) -> ImageInfo | None:
    """Describe what passes write as ``filtered``, for a stage that reads it as its image."""
    for step in passes:
        if "filtered" in step.writes:
            dtype, channels = step.writes["filtered"], step.planes["filtered"]
            rgb = image.rgb and (dtype, channels) == (image.dtype, image.channels)
            return replace(image, dtype=dtype, channels=channels, rgb=rgb)
    return None


class Method(Protocol):
    """A frozen dataclass of parameters; its fields are the keys of the YAML."""

    name: ClassVar[str]
    exactness: ClassVar[Exactness]

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do, as data."""


def run_in_memory(
    passes: Sequence[Pass],
    arrays: Mapping[str, np.ndarray],
    size: tuple[int, int] | None = None,
    order: Sequence[int] | None = None,
    notes: dict[str, Any] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Run passes on arrays in memory: the definition of what a sequence of passes means.

    Parameters
    ----------
    passes
        What to do, from ``method.passes(info)``.
    arrays
        ``image`` (H, W, C) and, for a masked image, ``mask`` (H, W) uint8.
    size
        Tile size (rows, columns); one tile when omitted.
    order
        Order in which the tiles are visited; it never changes the result.
    notes
        Gets what solutions have to say for ``run.json``, by pass.

    Returns
    -------
    arrays, tables
        All arrays, those that the passes wrote included, and the tables of the last pass.
    """
    known = dict(arrays)
    shape = known["image"].shape[:2]
    grid = Grid(shape, size or shape)
    solution: Solution | None = None
    before: list[Record] = [{} for _ in range(len(grid))]
    rows: dict[str, list[Rows]] = {}
    for step in passes:
        wanted = {
            name: ((*shape, *_planes(step, name)), dtype) for name, dtype in step.writes.items()
        }
        written = {} if len(grid) == 1 else {name: np.zeros(*kind) for name, kind in wanted.items()}
        records: list[Record] = [{} for _ in range(len(grid))]
        rows = {name: [] for name in step.tables}
        for number in range(len(grid)) if order is None else order:
            tile = grid.tile(number, step.halo, step.align)
            window = Window(tile, grid, {n: known[n][tile.window.slices] for n in step.reads})
            part = solution.for_tile(tile, before[number]) if solution else None
            output = step.map(window, part)
            for name, core in output.arrays.items():
                if len(grid) == 1:
                    written[name] = _own(core, *wanted[name], known)
                else:
                    written[name][tile.core.slices] = core
            records[number] = output.record
            for name in step.tables:
                rows[name].append(output.tables[name])
        left_out = {name: np.zeros(*wanted[name]) for name in wanted.keys() - written.keys()}
        known |= written | left_out
        sent = [step.merge(records)] if step.merge else records
        solution = step.solve(sent, grid, solution) if step.solve else None
        if notes is not None and (found := getattr(solution, "notes", None)):
            notes[step.name] = found
        before = records
    last = passes[-1].tables
    return known, {name: table_of(table, rows[name]) for name, table in last.items()}


def _own(
    core: np.ndarray, shape: tuple[int, ...], dtype: str, known: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return what the only tile wrote as an array of its own: as it is, if it is new and fits."""
    fits = core.shape == shape and core.dtype == dtype and core.flags.c_contiguous
    if fits and not any(np.may_share_memory(core, array) for array in known.values()):
        return core
    out = np.empty(shape, dtype)
    out[:] = core
    return out


def _planes(step: Pass, name: str) -> tuple[int, ...]:
    return (step.planes[name],) if name in step.planes else ()


def table_of(table: Table, rows: Sequence[Rows]) -> dict[str, np.ndarray]:
    """Put a table together from what all tiles say; sorted by label."""
    parts = {k: concatenated([r.open[k] for r in rows]) for k in rows[0].open}
    whole = concatenated([*(r.done for r in rows), table.close(table.merge(parts))])
    order = np.argsort(whole["label"], kind="stable")
    return {name: column[order] for name, column in whole.items()}


def concatenated(parts: Sequence[Columns]) -> dict[str, np.ndarray]:
    """Lay columns of the same names end to end."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
