"""From raw outputs of a network to probabilities, bytes and classes, in one sweep over the pixels.

A sweep instead of one array operation after the other: what lies between them would be large, and
fresh memory costs as much as the arithmetic. The exponential is a polynomial of single precision,
so that the result depends neither on a library nor on how the compiler groups the pixels.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from segpipe.nets.files import ModelFile

SOFTMAX, SIGMOID, NONE = 0, 1, 2
KINDS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "none": NONE}
f32 = np.float32
LOG2E, LN2_HIGH, LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)
FIVE, FOUR, THREE = f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3)
TWO, ONE, HALF = f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1)
"""Coefficients of exp between -ln 2 / 2 and ln 2 / 2 (Moshier, Cephes: 1e-7 of the value)."""
LARGEST = f32(87.0)
"""Exponents are kept within; beyond, a share is 0 or 1 in single precision."""
UNIT, SCALE = f32(1), f32(255)


@dataclass(frozen=True)
class Outputs:
    """What a network says of the pixels of a box, planes first."""

    fields: np.ndarray
    """uint8 (K, h, w): probabilities in 255ths; 0 where no pixel counts in a whole cell."""
    classes: np.ndarray
    """uint8 (h, w): the class of the largest probability; ties: the first."""
    shares: np.ndarray
    """float32 (K, h, w): probabilities; (K, 0, 0) if nobody wants them."""

    @classmethod
    def nothing(cls, number: int, shape: tuple[int, ...], shares: bool) -> Outputs:
        """Return zeros."""
        wanted = shape if shares else (0, 0)
        return cls(
            np.zeros((number, *shape), np.uint8),
            np.zeros(shape, np.uint8),
            np.zeros((number, *wanted), np.float32),
        )

    def part(self, place: tuple[slice, ...]) -> Outputs:
        """Return a view of some rows and columns."""
        shares = self.shares[:, *place] if self.shares.size else self.shares
        return Outputs(self.fields[:, *place], self.classes[place], shares)


def activate(raw: np.ndarray, file: ModelFile, out: Outputs) -> bool:
    """Turn raw outputs (k, h, w) into what `out` holds; tell whether all of them are finite.

    Examples
    --------
    >>> file = ModelFile("", "onnx", "", "", ("grey",), ("background", "cell"), None)
    >>> out = Outputs.nothing(2, (1, 2), shares=True)
    >>> activate(np.array([[[0, 1]], [[0, 3]]], np.float32), file, out)
    True
    >>> out.fields.tolist(), out.classes.tolist()
    ([[[128, 30]], [[128, 225]]], [[0, 1]])
    """
    kind = KINDS[file.activation]
    # one output may be the foreground's, and background the rest
    implied = int(kind == SIGMOID or (kind == NONE and len(raw) < len(file.outputs)))
    number = len(file.classes)
    return bool(_activate(raw, kind, implied, number, out.fields, out.classes, out.shares))


def as_bytes(shares: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (K, h, w) in 255ths, and the class of each pixel (ties: the first).

    >>> as_bytes(np.array([[[0.25]], [[0.75]]], np.float32), 2)
    (array([[[ 64]],
    <BLANKLINE>
           [[191]]], dtype=uint8), array([[1]], dtype=uint8))
    """
    fields = np.empty(shares.shape, np.uint8)
    best = np.empty(shares.shape[1:], np.uint8)
    for y in range(shares.shape[1]):
        _quantise(shares[:, y], classes, fields, best, y)
    return fields, best


@njit(nogil=True, cache=True)
def _activate(raw, kind, implied, number, fields, classes, shares):
    height, width = fields.shape[1:]
    row = np.zeros((len(fields), width), np.float32)
    bits = np.empty(width, np.int32)
    finite = True
    for y in range(height):
        for k in range(len(raw)):
            finite &= _taken(raw[k, y], row[k + implied])
        if kind == SOFTMAX:
            _softmax(row[:number], bits)
        for k in range(number if kind == SOFTMAX else implied, len(fields)):
            if kind == NONE and k < number:
                for x in range(width):
                    row[k, x] = min(max(row[k, x], f32(0)), UNIT)
            else:
                _sigmoid(row[k], bits)
        if implied:
            row[0] = 0
            _largest(row[:number], row[0])
            for x in range(width):
                row[0, x] = UNIT - row[0, x]
        _quantise(row, number, fields, classes, y)
        if shares.size:
            shares[:, y] = row
    return finite


@njit(nogil=True, cache=True)
def _taken(given, values):
    """Take a row of values, 0 for those that are not finite; tell whether all are."""
    wrong = 0
    for x in range(len(given)):
        nothing = given[x] - given[x] != 0
        values[x] = f32(0) if nothing else given[x]
        wrong += nothing
    return wrong == 0


@njit(nogil=True, cache=True)
def _largest(row, most):
    for k in range(len(row)):
        for x in range(row.shape[1]):
            most[x] = max(most[x], row[k, x])


@njit(nogil=True, cache=True, error_model="numpy")  # a check for 0 keeps divisions single
def _softmax(row, bits):
    most, total = row[0].copy(), np.zeros(row.shape[1], np.float32)
    _largest(row, most)
    for k in range(len(row)):
        for x in range(row.shape[1]):
            row[k, x] -= most[x]
        _exp(row[k], bits)
        for x in range(row.shape[1]):
            total[x] += row[k, x]
    for k in range(len(row)):
        for x in range(row.shape[1]):
            row[k, x] /= total[x]


@njit(nogil=True, cache=True, error_model="numpy")  # a check for 0 keeps divisions single
def _sigmoid(values, bits):
    for x in range(len(values)):
        values[x] = -values[x]
    _exp(values, bits)
    for x in range(len(values)):
        values[x] = UNIT / (UNIT + values[x])


@njit(nogil=True, cache=True)
def _exp(values, bits):
    """Put exp in the place of each value; `bits` is memory for as many."""
    powers = bits.view(np.float32)
    for x in range(len(values)):
        value = min(max(values[x], -LARGEST), LARGEST)
        power = np.floor(value * LOG2E + f32(0.5))
        r = value - power * LN2_HIGH - power * LN2_LOW
        found = ((((FIVE * r + FOUR) * r + THREE) * r + TWO) * r + ONE) * r + HALF
        values[x] = found * r * r + r + UNIT
        bits[x] = (np.int32(power) + 127) << 23
    for x in range(len(values)):
        values[x] *= powers[x]


@njit(nogil=True, cache=True)
def _quantise(row, number, fields, classes, y):
    for k in range(len(row)):
        for x in range(row.shape[1]):
            fields[k, y, x] = np.uint8(row[k, x] * SCALE + f32(0.5))
    best = classes[y]
    best[:] = 0
    most = row[0].copy()
    for k in range(1, number):
        for x in range(row.shape[1]):
            if row[k, x] > most[x]:
                most[x], best[x] = row[k, x], k
