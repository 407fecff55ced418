"""The first step of mean shift: 16 windows that lie side by side, one in each lane.

All pixels take it from where they are, so it needs no sums across lanes.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from segpipe.methods.mean_shift_plain import GROUP, LANES, PLACE, state_size
from segpipe.methods.mean_shift_vector import (
    I16,
    I32,
    I64,
    KEY,
    REALS,
    VALUES,
    ZERO,
    Balls,
    add,
    call,
    constant,
    data_of,
    pointers_of,
    splat,
    within,
)

ROW_BITS = 6
"""Of the number of pixels in a column of at most 40; the sum of their rows has the 10 above."""


@njit(nogil=True, cache=True, forceinline=True)
def vector_neighbours(planes, window, place, rule, colours, out, at):
    """Do what `plain_neighbours` does."""
    _neighbours(planes, window, place, rule, colours, out, at)  # type: ignore[call-arg]


@intrinsic
def _neighbours(typing, planes, window, place, rule, colours, out, at):
    """Build `plain_neighbours` from vectors."""
    index, wide = types.intp, not planes.dtype.dtype.signed

    def build(context, builder, signature, arguments):
        kind = signature.args
        pointers = pointers_of(context, builder, kind[0], arguments[0])
        window, place, rule = (cgutils.unpack_tuple(builder, arguments[k]) for k in (1, 2, 3))
        own = builder.bitcast(data_of(context, builder, kind[4], arguments[4]), VALUES.as_pointer())
        states = [builder.load(builder.gep(own, [I64(c)]), align=2) for c in range(len(pointers))]
        balls = Balls(builder, pointers, states, wide)
        sums = _columns(builder, balls, window, rule)
        means = _means(builder, sums, states, window[4:], place, rule[0])
        target = builder.gep(data_of(context, builder, kind[5], arguments[5]), [arguments[6]])
        _scatter(builder, means, target, rule[0])
        return context.get_dummy_value()

    six, two, three = (types.UniTuple(index, n) for n in (6, 2, 3))
    return types.void(planes, six, two, three, colours, out, index), build


def _columns(builder, balls, window, rule):
    """Return count, sums of rows, of columns, of colour - pixel, lane by lane."""
    offset, stride, rows, columns, _top, left = window
    _bits, limit, there = rule
    tally, mark, count, down, late = (balls.sum() for _ in range(5))
    low = splat(builder, I16((1 << ROW_BITS) - 1))
    length = builder.mul(rows, stride)
    with cgutils.for_range(builder, columns) as column:
        begin = builder.add(offset, column.index)
        outside = builder.sub(I64(0), builder.add(left, column.index))
        radius = within(builder, limit, outside, builder.add(outside, there))
        builder.store(ZERO, tally)
        builder.store(splat(builder, I16(1)), mark)
        end = builder.add(begin, length)
        with cgutils.for_range_slice(builder, begin, end, stride, I64) as (place, _):
            # number and sum of rows at once
            balls.add(place, radius, tally, builder.load(mark))
            add(builder, mark, splat(builder, I16(1 << ROW_BITS)))
        both = builder.load(tally)
        add(builder, count, builder.and_(both, low))
        add(builder, down, builder.lshr(both, splat(builder, I16(ROW_BITS))))
        add(builder, late, builder.load(count))
    found = builder.load(count)
    # a pixel in column i was counted columns - i times
    across = builder.sub(builder.mul(found, splat(builder, columns)), builder.load(late))
    return [found, builder.load(down), across, *balls.differences()]


def _means(builder, sums, states, corner, place, bits):
    """Turn sums into places and mean colours, lane by lane; what sees nothing stays.

    Quotients of 32-bit floats are exact enough: a / n + 1/2 is a multiple of 1 / 2n; 1 / 4n more
    is that far from all integers, and further than the float can be wrong: it is below 2^9, of 24
    bits, and n at most 40^2.
    """
    found, *rest = sums
    short = builder.trunc(bits, I16)
    step = builder.shl(constant(VALUES, range(LANES)), splat(builder, short))
    some = builder.icmp_unsigned("!=", found, ZERO)
    one = splat(builder, I16(1))
    n = builder.uitofp(builder.select(some, found, one), REALS)
    share = builder.fdiv(constant(REALS, [1] * LANES), n)
    above = builder.fadd(
        builder.fmul(share, constant(REALS, [0.25] * LANES)), constant(REALS, [0.5] * LANES)
    )
    whole = builder.uitofp(builder.shl(I32(1), builder.trunc(bits, I32)), REALS.element)
    whole = builder.fmul(share, splat(builder, whole, REALS))
    means = []
    for k, total in enumerate(rest):
        real = (builder.uitofp if k < 2 else builder.sitofp)(total, REALS)
        mean = builder.fadd(builder.fmul(real, whole if k < 2 else share), above)
        mean = builder.fptosi(call(builder, "floor", mean), ir.VectorType(I32, LANES))
        means.append(builder.trunc(mean, VALUES))
    for k in range(2):
        first = builder.shl(builder.trunc(corner[k], I16), short)
        moved = builder.add(means[k], splat(builder, first))
        means[k] = builder.select(some, moved, splat(builder, place[k]))
    means[1] = builder.add(means[1], step)
    means[2:] = [builder.add(*pair) for pair in zip(states, means[2:], strict=True)]
    return means


def _scatter(builder, means, target, bits):
    """Store vectors of places and colours as states, 2^bits states apart."""
    size = state_size.py_func(len(means) - 2)
    values = [ZERO] * PLACE + means
    values += [ZERO] * (size - len(values))
    for first in range(0, size, GROUP):
        parts = values[first : first + GROUP]
        half = GROUP // 2
        for _ in range(3):  # each puts one bit of a value's number behind those of its lane
            parts = [
                mixed
                for pair in zip(parts[:half], parts[half:], strict=True)
                for mixed in _interleaved(builder, *pair)
            ]
        for lane in range(LANES):
            begin = lane // GROUP * GROUP
            mask = constant(ir.VectorType(I32, GROUP), range(begin, begin + GROUP))
            part = parts[lane % GROUP]
            state = builder.shuffle_vector(part, part, mask)
            at = builder.mul(builder.shl(I64(lane), bits), I64(size))
            at = builder.gep(target, [builder.add(at, I64(first))])
            builder.store(state, builder.bitcast(at, KEY.as_pointer()), align=2)


def _interleaved(builder, a, b):
    """Lay the lower halves of each 128 bits of two vectors side by side, and the upper ones."""
    out = []
    for half in (0, GROUP // 2):
        places = [g + half + k for g in range(0, LANES, GROUP) for k in range(GROUP // 2)]
        mask = [i for place in places for i in (place, place + LANES)]
        out.append(builder.shuffle_vector(a, b, constant(ir.VectorType(I32, LANES), mask)))
    return out
