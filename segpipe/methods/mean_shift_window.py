"""Mean shift on a window: the modes of a core.

Rules. Colours, or what else is compared, are integers of at most 16 bits (`mean_shift_features`);
the range bandwidth becomes a squared radius `limit` of at most 254^2 in the same units. Of the
pixels, those whose global row and column are multiples of `sample` speak for the image; masked ones
never do. The state of a pixel begins with its place and colour. A step takes the mean place and the
mean colour, rounded half up, of the sampled pixels at most `spatial_bandwidth` rows and columns
away (inside the image) whose colours lie in the ball. A trajectory ends when its place does not
change, when it sees nothing, or after `iterations` steps. So it never leaves the square of
iterations * spatial_bandwidth round its pixel, and nothing beyond that square can matter but what
its pixels' features see: the halo is the reach, exactly, and that of the features.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segpipe.methods import mean_shift_kernels as kernels
from segpipe.methods import mean_shift_narrow as narrow
from segpipe.methods.mean_shift_plain import LANES
from segpipe.tiles import Box

if TYPE_CHECKING:
    from segpipe.methods.mean_shift import MeanShift

WIDEST_WINDOW = 128
"""Pixels that a window is less wide than."""


def modes(
    values: np.ndarray,
    valid: np.ndarray | None,
    window: Box,
    core: Box,
    shape: tuple[int, ...],
    parameters: MeanShift,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the trajectories of a core's pixels.

    Parameters
    ----------
    values
        (C, h, w) of `Features.planes` over the window, which has the halo round the core.
    valid
        (h, w) bool over the window; None: all pixels count.
    window, core, shape
        Global boxes; (height, width) of the image.
    parameters, limit
        See `MeanShift` and `Features`.

    Returns
    -------
    colours, shift
        (C, rows, columns) mean colours and int16 (2, rows, columns) mode minus pixel, in the core;
        0 where masked.
    """
    here = core.within(window)
    inside = np.ascontiguousarray(values[:, *here])
    counted = np.ones(core.shape, bool) if valid is None else np.ascontiguousarray(valid[here])
    planes, lattice = _sampled(values, valid, window, shape, parameters.sample)
    bits = parameters.sample.bit_length() - 1
    rule = (parameters.iterations, parameters.spatial_bandwidth, bits, limit)
    found = np.zeros(inside.shape, values.dtype)
    shift = np.zeros((2, *core.shape), np.int16)
    weighted = weights(parameters.kernel, parameters.spatial_bandwidth)
    if 2 * parameters.spatial_bandwidth >> bits < narrow.WIDEST and not weighted.size:
        pieces = narrow.pieces(planes, WIDEST_WINDOW, lattice, window, rule)
    else:
        pieces = narrow.no_pieces(planes)
    kernels.follow(
        planes,
        lattice,
        pieces,
        inside,
        counted,
        tuple(core.start),
        rule,
        weighted,
        found,
        shift,
    )
    if valid is not None:
        found[:, ~counted] = shift[:, ~counted] = 0
    return found, shift


def _sampled(
    values: np.ndarray,
    valid: np.ndarray | None,
    window: Box,
    shape: tuple[int, ...],
    sample: int,
) -> tuple[tuple[np.ndarray, ...], tuple[int, int, int, int, int]]:
    """Return flat planes of the sampled pixels, and where they lie in the image's lattice.

    Masked pixels differ from all others by 255 in a plane of their own.
    """
    first = [-(-a // sample) for a in window.start]
    index = tuple(
        slice(f * sample - a, None, sample) for f, a in zip(first, window.start, strict=True)
    )
    planes = [plane[index] for plane in values]
    if valid is not None:
        planes.append(~valid[index] * 255)
    height, stride = planes[0].shape
    # windows begin before the first pixel, vectors end behind the last, and so does a spare row
    before, behind = WIDEST_WINDOW, stride + WIDEST_WINDOW + LANES
    kind = np.int16 if values.dtype == np.uint8 else np.uint16
    flat = tuple(np.zeros(before + height * stride + behind, kind) for _ in planes)
    for out, plane in zip(flat, planes, strict=True):
        out[before : before + height * stride].reshape(height, stride)[:] = plane
    rows, columns = (-(-n // sample) for n in shape)
    return flat, (stride, first[0], first[1] - before, rows, columns)


def weights(kernel: str, radius: int) -> np.ndarray:
    """Return integer weights 0..65535 by |dy|, |dx| and 256 * d^2 / (bandwidth^2 + 1); empty: flat.

    Epanechnikov: (1 - s)(1 - r) with s and r the squared distances in place and colour over the
    squared bandwidths; Gaussian: exp(-2 (s + r)), so that a bandwidth is two standard deviations.
    Flat weights climb the density of an Epanechnikov kernel, whose derivative is flat; weights of
    Epanechnikov's shape that of a biweight one; Gaussian weights a Gaussian one (Comaniciu and
    Meer, 2002, call this pair a kernel and its shadow).
    """
    if kernel == "flat":
        return np.zeros((0, 0, 0), np.int64)
    place = np.arange(radius + 1) ** 2 / radius**2
    s = (place[:, None] + place)[:, :, None]
    r = np.arange(256) / 256
    round_one = kernel == "epanechnikov"
    profile = np.maximum(0.0, 1 - s) * (1 - r) if round_one else np.exp(-2 * (s + r))
    return np.floor(profile * 65535 + 0.5).astype(np.int64)
