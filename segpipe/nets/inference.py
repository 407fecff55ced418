"""From a window of an image to probabilities of its core, window by window of the network."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from segpipe.errors import RunError
from segpipe.nets.activation import Outputs, activate, as_bytes
from segpipe.nets.backends import Choice, Fetch, Start, choose, loaded
from segpipe.nets.card import Normalisation
from segpipe.nets.files import ModelFile
from segpipe.nets.normalise import Levels
from segpipe.nets.windows import Layout, cells_of
from segpipe.tiles import Box

STEPS = 65535
"""Probabilities are blended as whole parts of one: so the order of windows cannot matter."""
AHEAD = 2
"""Batches in flight: while a GPU computes one, the next is made and the last is fetched."""
REMEMBERED = 12
"""Windows whose outputs are kept where tiles cut cells: more than a row of small tiles needs."""
Cell = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """What a tile sees of an image."""

    image: np.ndarray
    """(rows, columns, C) over `box`."""
    valid: np.ndarray | None
    """bool, where pixels count; None: everywhere."""
    box: Box
    shape: tuple[int, int]
    """Of the whole image."""


def outputs(
    seen: Seen, core: Box, file: ModelFile, layout: Layout, levels: Levels, choice: Choice, *,
    shares: bool = False, threads: int = 1,
) -> Outputs:  # fmt: skip
    """Compute the probabilities of a core.

    Parameters
    ----------
    seen
        The image around the core, as far as the windows of its cells look.
    core
        What is wanted, in global pixels.
    file, layout, levels, choice
        The model, its windows on this image, what becomes 0 and 1, and how it is computed.
    shares
        Whether probabilities are wanted in full, besides bytes.
    threads
        Of the library; they decide the last bits.

    Returns
    -------
    Outputs
        0 where no pixel counts in a whole cell, which is not computed.

    Raises
    ------
    RunError
        The network gave a number that is none.
    """
    start: Start = loaded(file, choice, layout.window, threads)
    places = {
        cell: (inside, part)
        for cell, inside, part in cells_of(layout, core, seen.shape)
        if _counts(seen, layout, cell)
    }
    batches = (
        (cells, np.stack([_window(seen, file, layout, levels, cell) for cell in cells]))
        for cells in _chunks(tuple(places), choice.batch)
    )
    if choice.batch == 1 and not _aligned(core, layout, seen.shape):
        start = _remembered(start)
    computed = (
        (*places[cell], cell, layout.given(raw)[:, *places[cell][1]])
        for cell, raw in _computed(start, batches, choice.batch)
    )
    if layout.blend != (0, 0):
        return _blended(computed, core, file, layout)
    found = Outputs.nothing(len(file.outputs), core.shape, shares)
    for inside, _part, cell, raw in computed:
        _put(raw, file, found.part(inside), layout, cell)
    return found


Computed = Iterable[tuple[tuple[slice, ...], tuple[slice, ...], Cell, np.ndarray]]
"""Where raw outputs lie in the core and in the cell's, the cell, and these outputs."""


def _blended(computed: Computed, core: Box, file: ModelFile, layout: Layout) -> Outputs:
    """Return the outputs of a core whose windows overlap."""
    sums = np.zeros((len(file.outputs), *core.shape), np.int64)
    weight = np.zeros(core.shape, np.int64)
    weights = layout.weights()
    for inside, part, cell, raw in computed:
        found = Outputs.nothing(len(sums), raw.shape[1:], shares=True)
        _put(raw, file, found, layout, cell)
        sums[:, *inside] += np.rint(found.shares * STEPS).astype(np.int64) * weights[part]
        weight[inside] += weights[part]
    shares = (sums / (np.maximum(weight, 1) * float(STEPS))).astype(np.float32)
    return Outputs(*as_bytes(shares, len(file.classes)), shares)


def _put(raw: np.ndarray, file: ModelFile, out: Outputs, layout: Layout, cell: Cell) -> None:
    """Turn raw outputs into what `out` holds; refuse those that are no numbers."""
    if not activate(raw, file, out):
        raise RunError(
            f"the network {file.name} gave numbers that are not finite at rows and columns"
            f" from {[c * s for c, s in zip(cell, layout.stride, strict=True)]};"
            " try precision: fp32, and check the model"
        )


def predict(file: ModelFile, image: np.ndarray, levels: Levels, threads: int) -> np.ndarray:
    """Return the probabilities (H, W, K) of a whole image (H, W, C), in full precision."""
    shape = (image.shape[0], image.shape[1])
    layout = file.frame.layout(shape)
    choice = choose(file, precision="fp32", window=layout.window)
    whole = Box((0, 0), shape)
    seen = Seen(image, None, whole, shape)
    found = outputs(seen, whole, file, layout, levels, choice, shares=True, threads=threads)
    return np.ascontiguousarray(np.moveaxis(found.shares, 0, -1))


def _counts(seen: Seen, layout: Layout, cell: Cell) -> bool:
    """Whether any pixel that a window gives an output for counts."""
    if seen.valid is None:
        return True
    box = layout.output(cell)
    start = tuple(max(0, a) for a in box.start)
    stop = tuple(min(n, b) for n, b in zip(seen.shape, box.stop, strict=True))
    return bool(seen.valid[Box(start, stop).within(seen.box)].any())


def _window(seen: Seen, file: ModelFile, layout: Layout, levels: Levels, cell: Cell) -> np.ndarray:
    """Return the normalised inputs (C, h, w) of a window; 0 where pixels do not count."""
    lines = layout.source(cell, seen.shape)
    rows, columns = (line - start for line, start in zip(lines, seen.box.start, strict=True))
    inside = rows[-1] - rows[0] == len(rows) - 1 and columns[-1] - columns[0] == len(columns) - 1
    place: Any = np.ix_(rows, columns)
    if inside:  # nothing reflected: a view will do
        place = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    pixels = seen.image[place]
    known = None if seen.valid is None else seen.valid[place]
    return inputs(pixels, known, levels, file.normalisation)


def inputs(
    pixels: np.ndarray, known: np.ndarray | None, levels: Levels, rule: Normalisation
) -> np.ndarray:
    """Return float32 (C, h, w) inputs: `segpipe.nets.normalise`, and 0 where nothing is known."""
    low, high = levels
    span = np.where(high > low, high - low, np.inf).astype(np.float32)
    found = np.empty((pixels.shape[2], *pixels.shape[:2]), np.float32)
    for c, plane in enumerate(found):
        np.subtract(pixels[:, :, c], low[c], out=plane, dtype=np.float32, casting="unsafe")
        plane /= span[c]
        if rule.clip is not None:
            np.clip(plane, *rule.clip, out=plane)
        if known is not None:
            plane[~known] = 0.0
    return found


def _computed(
    start: Start, batches: Iterable[tuple[tuple[Cell, ...], np.ndarray]], size: int
) -> Iterator[tuple[Cell, np.ndarray]]:
    """Yield the outputs of all cells; batches are filled up: their shape decides the last bits."""
    flying: deque[tuple[tuple[Cell, ...], Fetch]] = deque()
    for cells, batch in batches:
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        flying.append((cells, start(batch)))
        if len(flying) >= AHEAD:
            yield from _landed(flying.popleft())
    while flying:
        yield from _landed(flying.popleft())


def _chunks(cells: tuple[Cell, ...], size: int) -> Iterator[tuple[Cell, ...]]:
    return (cells[i : i + size] for i in range(0, len(cells), size))


def _aligned(core: Box, layout: Layout, shape: tuple[int, int]) -> bool:
    """Whether a core is whole cells: then no other tile computes their windows."""
    return layout.blend == (0, 0) and core == core.snapped(layout.stride, shape)


@lru_cache(maxsize=2)
def _remembered(start: Start) -> Start:
    """Return `start` with a memory of the last windows.

    Tiles that cut cells compute a window once each; those done by one worker share it. What a
    network gives is a pure function of its input, whose digest is the key.
    """
    known: OrderedDict[bytes, np.ndarray] = OrderedDict()
    lock = Lock()

    def recall(batch: np.ndarray) -> Fetch:
        key = hashlib.blake2b(batch.data, digest_size=16).digest()
        with lock:
            found = known[key] if key in known else start(batch)()
            known[key] = found
            known.move_to_end(key)
            if len(known) > REMEMBERED:
                known.popitem(last=False)
        return lambda: found

    return recall


def _landed(flight: tuple[tuple[Cell, ...], Fetch]) -> Iterator[tuple[Cell, np.ndarray]]:
    cells, fetch = flight
    yield from zip(cells, fetch(), strict=False)
