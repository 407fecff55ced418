"""Exact SLIC of a window: the rules, the proof of the halo, and the steps in order.

Rules (S = step, c = S // 2; blocks and cells lie on the GLOBAL lattice; all are integers)
  colour    int16 planes in 1/u Lab units (`colour`), u = 8, or less for a large compactness
  place     one step counts T = round(u * compactness) units; pixel y of a cell (0..S-1) lies at
            floor((2 y + 1) T / 2S); so D = |colour|^2 + |place|^2 needs no weights
  seeds     one for each S x S block that has a valid pixel: its pixel (c, c) or, where that is
            masked, the block's valid pixel nearest to it (ties: raster order). What is left at the
            image's end behind the last lattice point, pixel (c, c) of a block, joins the block
            before; an image too small for a lattice point has one, moved into the image
  cells     rows [(i-1) S + c, i S + c) of the lattice, columns alike; the pixels of a cell choose
            among the four seeds of the blocks round it; ties go to the first seed in raster order
  update    a seed moves to the mean, rounded half up, of its pixels in the sampled rows of its
            cells: rows q//2, q//2 + q, .. with q = S//4, at least 1 and at most 4
  result    assignment of all pixels, 4-connected components, small ones absorbed (`absorb`),
            borders refined (`refine`) with the seeds' last centres as frozen statistics; what is
            smaller than min_size then, and has a neighbour, is merged (`leftovers`, by the rules
            of `merge_rounds`; a segment's values are the last colour of its seed, at every pixel)
  no pixel  what lies beyond the image's border is treated as masked: it takes no part in anything

The original looks in a 2S x 2S window round each moving seed, about four candidates for a pixel;
the cells give each pixel exactly four, fixed ones, and so bound what a pixel depends on.

Reach, in pixels round the core
  4 r                  r sweeps of refinement (`refine`)
  2S (ROUNDS + 1)      owners: a component lies in the 2S x 2S box of the four cells round its seed,
                       so they follow from the codes less than ROUNDS + 1 boxes away (`absorb`),
                       and those of the pixels next to the core from the codes so far away
  S (iterations + 2)   codes: a pixel depends on its cell's four seeds, a seed's mean on its four
                       cells, so on the eight seeds round it, once per iteration; a first colour
                       is looked up inside the block: with the rest of the blocks that the cell
                       cuts, iterations + 2 blocks at most
What is merged at last has no reach: a tile leaves what its core and the pixels next to it do not
tell, and it is decided for the whole image (`leftovers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from segpipe import colour
from segpipe.methods.slic_clusters import Clusters, Source, clip, cluster, places
from segpipe.methods.slic_code_kernels import seeds_of_roots
from segpipe.regions import paint
from segpipe.regions.absorb import ROUNDS, absorb
from segpipe.regions.components import components, runs_of
from segpipe.regions.leftovers import Known, Numbered, Segments, nothing, settle
from segpipe.regions.refine import REACH_PER_SWEEP, refine
from segpipe.tiles import Box

if TYPE_CHECKING:
    from segpipe.methods.slic import Slic

NEAR = 3  # blocks round the core that suffice on nearly all images; certified tile by tile
FAR = 2 * (ROUNDS + 1)  # blocks that always suffice
REFINE_PRICE = 3  # Lab units (squared in the energy) that a neighbour of another region costs
REFINE_COLOUR = 4  # the refinement weighs colour this many times more, against place, than SLIC


def reach(parameters: Slic) -> int:
    """Return the halo in pixels that proves a tile's core equal to the whole image (see above)."""
    blocks = FAR + parameters.iterations + 2
    return REACH_PER_SWEEP * parameters.refine + blocks * parameters.step


def slic_regions(
    image: np.ndarray,
    valid: np.ndarray | None,
    origin: tuple[int, ...],
    shape: tuple[int, ...],
    core: tuple[slice, ...],
    parameters: Slic,
    scale: colour.Scaling | None = None,
) -> Numbered:
    """Segment the core of a window.

    Parameters
    ----------
    image
        (h, w, C) window with at least `reach` pixels round the core, fewer only at the border.
    valid
        (h, w) bool, or None if every pixel counts. NaN pixels must be False.
    origin, shape
        Global (y, x) of the window's first pixel; (height, width) of the whole image.
    core
        Rows and columns of the core inside the window.
    parameters
        See `segpipe.methods.slic.Slic`.
    scale
        Value ranges of the whole image (`colour.scaling`); None for RGB.

    Returns
    -------
    Numbered
        The regions; ids are root pixels (y * width + x). If the core is the whole image, no region
        of fewer than min_size pixels has a neighbour; else `leftovers.solve` gives what is missing.

    Raises
    ------
    ValueError
        If the window does not prove its core.

    Notes
    -----
    *Tiling*: exact. The core is first computed from the codes `NEAR` blocks round it, with a
    certificate; if some pixel is not certified, from the `FAR` blocks that always suffice.
    """
    window = Box(origin, (origin[0] + image.shape[0], origin[1] + image.shape[1]))
    inner = Box(
        (origin[0] + core[0].start, origin[1] + core[1].start),
        (origin[0] + core[0].stop, origin[1] + core[1].stop),
    )
    _check_halo(window, inner, shape, parameters)
    if valid is not None and not valid[core].any():
        return nothing(inner.shape)
    source = Source(image, valid, window, shape, scale)
    margin = REACH_PER_SWEEP * parameters.refine
    needed = inner.grown(margin + 1, shape)
    for blocks in (NEAR, FAR):
        zone = clip(inner.grown(margin + blocks * parameters.step, shape), window)
        clusters = cluster(source, zone, parameters)
        owners = _own(clusters, zone, shape, parameters)
        if owners.prove(needed.within(zone)):
            break
    return _number(clusters, owners, source, zone, inner, parameters)


def _check_halo(window: Box, inner: Box, shape: tuple[int, ...], parameters: Slic) -> None:
    """Refuse a window that does not prove its core."""
    halo = reach(parameters)
    proof = inner.grown(halo, shape)
    if clip(proof, window) != proof:
        raise ValueError(
            f"core {inner.start} to {inner.stop} needs the window {proof.start} to {proof.stop},"
            f" got {window.start} to {window.stop}; read a halo of {halo} pixels"
        )


@dataclass(frozen=True)
class _Owners:
    """Runs of the zone and the segment (a root run) of each; per root run its seed; small ones."""

    starts: np.ndarray
    rows: np.ndarray
    owner: np.ndarray
    tainted: np.ndarray
    seed: np.ndarray
    small: np.ndarray

    def prove(self, part: tuple[slice, ...]) -> bool:
        """Tell if no run that meets a part of the zone is tainted."""
        return not paint.meets(self.starts, self.rows, self.tainted, _bounds(part))


def _bounds(part: tuple[slice, ...]) -> tuple[int, int, int, int]:
    return part[0].start, part[0].stop, part[1].start, part[1].stop


def _own(clusters: Clusters, zone: Box, shape: tuple[int, ...], parameters: Slic) -> _Owners:
    """Find the components of a zone and who owns each of them."""
    starts, rows, root = components(clusters.codes)
    step, width = parameters.step, clusters.centres.shape[1]
    # the cell of the zone's first pixel, and that pixel's place in it
    shift = step - step // 2
    cell, inside = zip(*(divmod(a + shift, step) for a in zone.start), strict=True)
    seed = seeds_of_roots(
        clusters.codes, starts, rows, root, step, (*cell, *inside, *clusters.first, width)
    )
    channels = clusters.centres.shape[2] - 2
    colours = np.ascontiguousarray(clusters.centres[..., :-2]).reshape(-1, channels)
    sides = (
        zone.start[0] > 0,
        zone.stop[0] < shape[0],
        zone.start[1] > 0,
        zone.stop[1] < shape[1],
    )
    runs, smallest = (starts, rows, root), parameters.smallest
    owner, tainted, small = absorb(clusters.codes, runs, seed, colours, smallest, sides)
    return _Owners(starts, rows, owner, tainted, seed, small)


def _number(
    clusters: Clusters,
    owners: _Owners,
    source: Source,
    zone: Box,
    inner: Box,
    parameters: Slic,
) -> Numbered:
    """Refine borders, merge what is small, and number the regions of the core."""
    shape = source.shape
    pixels, runs, frame = clusters.codes, (owners.starts, owners.rows, owners.owner), zone
    if parameters.refine:
        frame = inner.grown(1, shape)
        refined = _refined(clusters, owners, source, zone, parameters)
        pixels = np.ascontiguousarray(refined[frame.within(zone)])
        starts, rows = runs_of(pixels)
        runs = starts, rows, pixels.reshape(-1)[starts[:-1]]
    core, (above, left), (below, right) = _bounds(inner.within(frame)), inner.start, inner.stop
    seams = (above > 0, below < shape[0], left > 0, right < shape[1])
    count, ids = owners.owner.size, partial(_ids, owners.starts, zone, shape[1])
    small = None if parameters.refine else owners.small
    known = Known(ids, partial(_colours, clusters, owners), small)
    settled = settle(Segments(*runs, count, core, seams), known, parameters.smallest)
    labels, roots = paint.number_runs(*runs, count, core)
    numbers = np.empty(inner.shape, np.uint32)
    paint.paint(pixels, runs[1], labels, core, numbers)
    travel = 1 + np.flatnonzero(np.isin(roots, settled.travel))
    return Numbered(numbers, ids(roots), settled.pixels[roots], travel, settled.left)


def _ids(starts: np.ndarray, zone: Box, width: int, roots: np.ndarray) -> np.ndarray:
    """Return the root pixels of segments, y * width + x of the image."""
    y, x = np.divmod(starts[roots].astype(np.int64), zone.shape[1])
    return (y + zone.start[0]) * width + x + zone.start[1]


def _colours(clusters: Clusters, owners: _Owners, roots: np.ndarray) -> np.ndarray:
    """Return the last colours of the seeds of segments."""
    centres = clusters.centres.reshape(-1, clusters.centres.shape[2])
    return centres[owners.seed[roots], :-2]


def _refined(
    clusters: Clusters, owners: _Owners, source: Source, zone: Box, parameters: Slic
) -> np.ndarray:
    """Return the zone's segments, borders refined; places count from the first lattice point."""
    regions = np.empty(zone.shape, np.int32)
    everywhere = _bounds(zone.within(zone))
    paint.paint(clusters.codes, owners.rows, owners.owner, everywhere, regions)
    step, span = parameters.step, clusters.span
    centres = clusters.centres.copy()
    centres[..., -2] += np.arange(centres.shape[0], dtype=np.int32)[:, None] * span
    centres[..., -1] += np.arange(centres.shape[1], dtype=np.int32) * span
    at = []
    for axis in range(2):
        pixel = np.arange(zone.start[axis], zone.stop[axis]) - step // 2
        lattice = pixel // step - clusters.first[axis]
        at.append((lattice * span + places(step, span)[pixel % step]).astype(np.int32))
    return refine(
        regions,
        source.colours(zone.slices[0], zone.slices[1], clusters.unit),
        (at[0], at[1]),
        owners.seed,
        centres.reshape(-1, centres.shape[2]),
        (REFINE_COLOUR, 1, REFINE_COLOUR * (REFINE_PRICE * clusters.unit) ** 2),
        (zone.start[0] % 2, zone.start[1] % 2),
        parameters.refine,
    )
