"""The successor of a state of mean shift: means over one window, 16 columns of a row at a time."""

# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from segpipe.methods.mean_shift_plain import COLOUR, GROUP, LANES, LIFT, PLACE, state_size
from segpipe.methods.mean_shift_vector import (
    FLOATS,
    I16,
    I32,
    I64,
    KEY,
    SUMS,
    VALUES,
    ZERO,
    Balls,
    add,
    constant,
    data_of,
    least,
    pointers_of,
    splat,
    within,
)

BAND = 32
"""Rows whose sums over 4 lanes fit 16 bits: BAND * 4 * 254 < 2^15."""


@njit(nogil=True, cache=True, forceinline=True)
def vector_successor(planes, window, rule, states, at, out, to):
    """Do what `plain_successor` does without weights; a row behind the window must be readable."""
    _successor(planes, window, rule, states, at, out, to)  # type: ignore[call-arg]


@intrinsic
def _successor(typing, planes, window, rule, states, at, out, to):
    """Build `plain_successor` from vectors."""
    index, wide = types.intp, not planes.dtype.dtype.signed
    six, three = types.UniTuple(index, 6), types.UniTuple(index, 3)

    def build(context, builder, signature, arguments):
        kind = signature.args
        pointers = pointers_of(context, builder, kind[0], arguments[0])
        window, rule = (cgutils.unpack_tuple(builder, arguments[k]) for k in (1, 2))
        key = builder.gep(data_of(context, builder, kind[3], arguments[3]), [arguments[4]])
        target = builder.gep(data_of(context, builder, kind[5], arguments[5]), [arguments[6]])
        balls = Balls(builder, pointers, colours_of(builder, key, len(pointers)), wide)
        totals = _window(builder, balls, window, rule)
        store_means(builder, totals, window[4:], rule[1], (key, target))
        return context.get_dummy_value()

    return types.void(planes, six, three, states, index, out, index), build


def colours_of(builder, key, count):
    """Return a vector of each of a state's colours."""
    return [splat(builder, builder.load(builder.gep(key, [I64(COLOUR + c)]))) for c in range(count)]


def _window(builder, balls, window, rule):
    """Return vectors of GROUP numbers: count, rows, columns, pixel - colour …, over a window."""
    _offset, _stride, rows, columns = window[:4]
    late = balls.sum()
    size = state_size.py_func(len(balls.pointers))
    totals = [
        cgutils.alloca_once_value(builder, ir.Constant(SUMS, None)) for _ in range(size // GROUP)
    ]
    few = builder.and_(
        builder.icmp_signed("<=", columns, I64(LANES)), builder.icmp_signed("<=", rows, I64(BAND))
    )
    place = builder, balls, window, rule, totals, late
    with builder.if_else(few) as (one, several):
        with one:  # most windows: without loops, less is kept in registers
            _block(*place, I64(0), I64(0))
        with several:
            strips = cgutils.for_range_slice(builder, I64(0), columns, I64(LANES), I64)
            with strips as (left, _):
                bands = cgutils.for_range_slice(builder, I64(0), rows, I64(BAND), I64)
                with bands as (top, _):
                    balls.clear()
                    builder.store(ZERO, late)
                    _block(*place, top, left)
    return [builder.load(total) for total in totals]


def _block(builder, balls, window, rule, totals, late, top, left):
    """Add at most BAND rows of at most LANES columns of a window to its sums."""
    offset, stride, rows, columns = window[:4]
    usual, _bits, limit = rule
    size = GROUP * len(totals)
    lanes, one = constant(VALUES, range(LANES)), constant(VALUES, [1] * LANES)
    radius = within(builder, limit, I64(0), builder.sub(columns, left))
    here = least(builder, builder.sub(rows, top), I64(BAND))
    # without the last row, which windows have or not, no branch is taken in vain
    certain = least(builder, here, usual)
    begin = builder.add(builder.add(offset, left), builder.mul(top, stride))
    last = builder.add(begin, builder.mul(certain, stride))
    with cgutils.for_range_slice(builder, begin, last, stride, I64) as (place, _):
        balls.add(place, radius, balls.count, one)
        add(builder, late, builder.load(balls.count))
    more = splat(builder, builder.sub(here, certain))  # 1 or 0: a product is no branch
    balls.add(last, builder.mul(radius, more), balls.count, one)
    add(builder, late, builder.load(balls.count))
    found = builder.load(balls.count)
    # a pixel in row i was counted certain + 1 - i times
    seen = splat(builder, builder.add(certain, I64(1)))
    down = builder.sub(builder.mul(found, seen), builder.load(late))
    sums = [found, down, builder.mul(found, lanes), *balls.differences()]
    sums += [ZERO] * (size - len(sums))
    for group, total in enumerate(totals):
        part = across_lanes(builder, sums[group * GROUP : (group + 1) * GROUP])
        if group == 0:
            n = splat(builder, builder.extract_element(part, I32(0)), SUMS)
            corner = ir.Constant(SUMS, None)
            for k, first in ((1, top), (2, left)):
                first = builder.trunc(first, I32)
                corner = builder.insert_element(corner, first, I32(k))
            part = builder.add(part, builder.mul(n, corner))
        add(builder, total, part)


def across_lanes(builder, vectors):
    """Return the sums over the lanes of GROUP vectors, as one vector of 32-bit numbers.

    Halves of pairs of vectors are put side by side and added, so that each step halves the number
    of vectors; the orders are those of instructions that do not cross 128 bits.
    """
    parts = [vectors[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)]
    for width in (8, 4):
        low = [i for i in range(2 * LANES) if i % (2 * width) < width]
        by_block = sorted(low, key=lambda i: (i % LANES // 8, i // LANES, i))  # stay in 128 bits
        low = low if width == 8 else by_block
        parts = _halved(builder, parts, [low, [i + width for i in low]])
    sixteen = constant(SUMS, [16] * GROUP)
    wide = []
    for part in parts:  # pairs of 16 bits become 32 bits
        pairs = builder.bitcast(part, SUMS)
        low = builder.ashr(builder.shl(pairs, sixteen), sixteen)
        wide.append(builder.add(low, builder.ashr(pairs, sixteen)))
    masks = [[0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]]
    return _halved(builder, wide, masks)[0]


def _halved(builder, parts, masks):
    index = ir.VectorType(I32, parts[0].type.count)
    return [
        builder.add(*(builder.shuffle_vector(a, b, constant(index, mask)) for mask in masks))
        for a, b in zip(parts[::2], parts[1::2], strict=True)
    ]


def store_means(builder, totals, corner, bits, pointers):
    """Store the successor of a state, both given by pointers, from the totals of its window."""
    for group, total in enumerate(totals):
        _round(builder, group, total, totals[0], corner, bits, pointers)


def _round(builder, group, total, first, corner, bits, pointers):
    """Turn GROUP sums into the rounded means of a successor and store them.

    Quotients of 32-bit floats are exact enough: (2a + n) / 2n lies at least 1 / 2n below the next
    integer, and 2a + n < 2^24.
    """
    key, target = (
        builder.bitcast(builder.gep(p, [I64(group * GROUP)]), KEY.as_pointer()) for p in pointers
    )
    old = builder.load(key, align=2)
    n = builder.shuffle_vector(first, first, constant(SUMS, [0] * GROUP))
    found = builder.icmp_signed(">", n, ir.Constant(SUMS, None))
    base = builder.sub(old, constant(KEY, [LIFT] * GROUP))
    scale, lift = [2] * GROUP, [1 + 2 * LIFT] * GROUP
    if group == 0:
        scale[0], lift[:COLOUR] = 0, [1] * COLOUR  # the count becomes 0
        base = builder.sub(old, constant(KEY, [0] * COLOUR + [LIFT] * (GROUP - COLOUR)))
    scale, lift = constant(FLOATS, scale), constant(FLOATS, lift)
    if group == 0:
        twice = builder.sitofp(builder.shl(I32(2), builder.trunc(bits, I32)), FLOATS.element)
        for k, at in enumerate(corner):
            base = builder.insert_element(base, builder.trunc(at, I16), I32(PLACE + k))
            scale = builder.insert_element(scale, twice, I32(PLACE + k))
    many = builder.sitofp(n, FLOATS)
    above = builder.fadd(
        builder.fmul(builder.sitofp(total, FLOATS), scale), builder.fmul(many, lift)
    )
    quotient = builder.fdiv(above, builder.fadd(many, many))
    mean = builder.add(base, builder.trunc(builder.fptosi(quotient, SUMS), KEY))
    builder.store(builder.select(found, mean, old), target, align=2)
