"""Exact arithmetic for sums of any size and range: numbers as digits of 2^32 in int64.

A number is sum(digits[k] * 2^(32 k)). Digits may be negative or too large for a while: sums are
added up digit by digit, at most 2^31 of them, and `carry` puts them in order. So the order of
additions cannot matter and nothing overflows. A floating-point number is an integer in units of
the smallest number of its type, so sums of these are exact as well.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

BITS = 32
MASK = (1 << BITS) - 1
u64 = np.uint64


@njit(nogil=True, cache=True, inline="always")
def add(digits, value, shift, sign):
    """Add ``sign * value * 2^shift``, where 0 <= value < 2^55 (uint64)."""
    k, r = shift >> 5, u64(shift & 31)
    above = value >> (u64(32) - r)
    digits[k] += sign * np.int64((value << r) & u64(MASK))
    digits[k + 1] += sign * np.int64(above & u64(MASK))
    digits[k + 2] += sign * np.int64(above >> u64(32))


@njit(nogil=True, cache=True)
def carry(digits):
    """Bring all digits but the last, which keeps the sign, into 0 … 2^32 - 1."""
    over = np.int64(0)
    for k in range(digits.shape[0] - 1):
        value = digits[k] + over
        over = value >> BITS
        digits[k] = value & MASK
    digits[-1] += over


@njit(nogil=True, cache=True)
def absolute(digits):
    """Make a number positive; return its sign. The digits are in order afterwards."""
    carry(digits)
    if digits[-1] >= 0:
        return 1
    for k in range(digits.shape[0]):
        digits[k] = -digits[k]
    carry(digits)
    return -1


@njit(nogil=True, cache=True)
def to_float(digits):
    """Return (f, e): the number is about f * 2^e, to 2^-52. The digits are put in order."""
    sign = absolute(digits)
    top = digits.shape[0] - 1
    while top > 2 and digits[top] == 0:
        top -= 1
    f = 0.0
    for k in range(top, max(top - 3, -1), -1):
        f = f * 4294967296.0 + np.float64(digits[k])
    return sign * f, BITS * max(top - 2, 0)


@njit(nogil=True, cache=True)
def spread(n, squares, a, b):
    """Return (f, e) with f * 2^e = n * squares - a * b, computed exactly and then rounded.

    `squares`, `a` and `b` are digits in order; a * b must not be negative. With a sum of squares
    and sums a = b this is n^2 times the variance.
    """
    size = max(squares.shape[0] + 2, a.shape[0] + b.shape[0]) + 1
    total = np.zeros(size, np.int64)
    for part in range(2):
        factor = u64((n >> (BITS * part)) & MASK)
        _multiply(total, squares, factor, part, 1)
    a, b = a.copy(), b.copy()
    absolute(a)
    absolute(b)
    for k in range(a.shape[0]):
        if a[k]:
            _multiply(total, b, u64(a[k]), k, -1)
    return to_float(total)


@njit(nogil=True, cache=True, inline="always")
def _multiply(total, digits, factor, place, sign):
    """Add ``sign * digits * factor * 2^(32 place)``; the digits are in order and positive."""
    for k in range(digits.shape[0]):
        if digits[k]:
            product = u64(digits[k]) * factor
            total[place + k] += sign * np.int64(product & u64(MASK))
            total[place + k + 1] += sign * np.int64(product >> u64(BITS))
