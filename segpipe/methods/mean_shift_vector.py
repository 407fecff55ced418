"""Sums over the pixels of a window that lie in a ball of colours: 16 pixels a step.

`ball_sums` is written twice: `plain`, which says what it means, and `vector`, the same in LLVM's
portable vector instructions (they become AVX2, AVX-512, NEON or plain code), because Numba does
not keep vectors in registers across the rows of a window: `plain` takes about eight times as long.
A test holds them equal; everything else in mean shift is ordinary Numba.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Pixels of a row that are treated together; planes need as many values behind the last pixel."""
GROUP = 8
"""Sums that are added up together across the lanes."""
COUNT, ROWS, COLUMNS, COLOURS = range(4)
"""Places in `out`; the channels follow from `COLOURS` on."""


@njit(nogil=True, cache=True)
def sums_size(channels):
    """Return the length of `out` for a number of channels: a multiple of `GROUP`."""
    return -(-(COLOURS + channels) // GROUP) * GROUP


@njit(nogil=True, cache=True)
def plain(planes, offset, stride, rows, columns, usual, state, limit, out):
    """Sum up the pixels of a window whose squared distance from a colour is at most a limit.

    planes   tuple of C flat arrays, all uint8 or all uint16
    offset, stride   the window's first pixel and the distance of two rows in a plane
    rows, columns    size of the window; 1 <= columns <= LANES, 0 <= rows <= usual + 1
    usual    most windows have this many rows or one more: `vector` then takes no wrong branches
    state    int32[C], the colour
    limit    0 .. 254^2; per channel, distances beyond 255 count as 255
    out      int32: number of pixels, sums of row and column numbers (from 0), of pixel - state
    """
    out[:] = 0
    for row in range(rows):
        for column in range(columns):
            distance = 0
            for c in range(len(planes)):
                d = np.int32(planes[c][offset + row * stride + column]) - state[c]
                distance += min(abs(d), 255) ** 2
            if distance <= limit:
                out[COUNT] += 1
                out[ROWS] += row
                out[COLUMNS] += column
                for c in range(len(planes)):
                    d = np.int32(planes[c][offset + row * stride + column]) - state[c]
                    out[COLOURS + c] += d


@intrinsic
def _vector(typing, planes, offset, stride, rows, columns, usual, state, limit, out):
    """Build `plain` from vectors of LANES values of 16 bits."""
    index = types.intp
    signature = types.void(planes, index, index, index, index, index, state, index, out)
    names = ("planes", "offset", "stride", "rows", "columns", "usual", "state", "limit", "out")

    def build(context, builder, signature, arguments):
        values = dict(zip(names, arguments, strict=True))
        data = lambda kind, array: context.make_array(kind)(context, builder, array).data  # noqa: E731
        pointers = [
            data(planes.dtype, builder.extract_value(values["planes"], c))
            for c in range(len(planes))
        ]
        colour, target = data(state, values["state"]), data(out, values["out"])
        sums = _window(builder, pointers, colour, values, wide=planes.dtype.dtype.bitwidth == 16)
        for group in range(0, len(sums), GROUP):
            total = _across_lanes(builder, sums[group : group + GROUP])
            place = builder.gep(target, [ir.Constant(ir.IntType(64), group)])
            stored = builder.store(total, builder.bitcast(place, total.type.as_pointer()))
            stored.align = 4
        return context.get_dummy_value()

    return signature, build


@njit(nogil=True, cache=True, forceinline=True)
def vector(planes, offset, stride, rows, columns, usual, state, limit, out):
    """Do what `plain` does; rows < 128, and one row behind the window must be there to read."""
    _vector(planes, offset, stride, rows, columns, usual, state, limit, out)  # type: ignore[call-arg]


_I16, _I32 = ir.IntType(16), ir.IntType(32)
_LANES = ir.VectorType(_I16, LANES)


def _constant(kind, numbers):
    return ir.Constant(kind, [ir.Constant(kind.element, int(n)) for n in numbers])


def _splat(builder, value):
    """Return the vector that holds a number in all lanes."""
    one = builder.insert_element(
        ir.Constant(_LANES, ir.Undefined), builder.trunc(value, _I16), ir.Constant(_I32, 0)
    )
    zeros = _constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, zeros)


def _call(builder, name, a, b):
    """Call an LLVM intrinsic of two vectors."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_LANES, [_LANES, _LANES]), f"llvm.{name}.v{LANES}i16"
    )
    return builder.call(function, [a, b])


def _window(builder, pointers, colour, values, wide):
    """Return the vectors (count, rows, columns, colours …), a multiple of GROUP, over all rows."""
    zero = ir.Constant(_LANES, None)
    lanes = _constant(_LANES, range(LANES))
    inside = builder.icmp_unsigned("<", lanes, _splat(builder, values["columns"]))
    far = builder.select(inside, zero, _constant(_LANES, [65535] * LANES))
    limit = _splat(builder, values["limit"])
    states = []
    for c in range(len(pointers)):
        at = builder.gep(colour, [ir.Constant(ir.IntType(64), c)])
        states.append(_splat(builder, builder.load(at)))
    sums = [cgutils.alloca_once_value(builder, zero) for _ in range(2 + len(pointers))]
    count, late = sums[:2]

    def add_row(row, far):
        place = builder.add(values["offset"], builder.mul(row, values["stride"]))
        distance, differences = far, []
        for pointer, state in zip(pointers, states, strict=True):
            pixels = _load(builder, pointer, place, wide)
            differences.append(builder.sub(pixels, state))
            step = _apart(builder, pixels, state) if wide else differences[-1]
            distance = _call(builder, "uadd.sat", distance, builder.mul(step, step))
        near = builder.icmp_unsigned("<=", distance, limit)
        _add(builder, count, builder.zext(near, _LANES))
        _add(builder, late, builder.load(count))
        for total, difference in zip(sums[2:], differences, strict=True):
            _add(builder, total, builder.select(near, difference, zero))

    rows, usual = values["rows"], values["usual"]
    certain = builder.select(builder.icmp_signed("<", rows, usual), rows, usual)
    with cgutils.for_range(builder, certain) as loop:
        add_row(loop.index, far)
    more = builder.icmp_signed(">", rows, certain)
    add_row(certain, builder.select(more, far, _constant(_LANES, [65535] * LANES)))
    found, behind, *colours = (builder.load(total) for total in sums)
    # a pixel in row i was counted certain + 1 - i times
    seen = builder.add(certain, ir.Constant(certain.type, 1))
    row = builder.sub(builder.mul(found, _splat(builder, seen)), behind)
    vectors = [found, row, builder.mul(found, lanes), *colours]
    return vectors + [zero] * (sums_size(len(pointers)) - len(vectors))


def _load(builder, pointer, place, wide):
    """Load LANES pixels as 16-bit values."""
    kind = _LANES if wide else ir.VectorType(ir.IntType(8), LANES)
    at = builder.bitcast(builder.gep(pointer, [place]), kind.as_pointer())
    loaded = builder.load(at)
    loaded.align = 2 if wide else 1
    return loaded if wide else builder.zext(loaded, _LANES)


def _apart(builder, a, b):
    """Return min(|a - b|, 255) of unsigned values."""
    apart = builder.or_(_call(builder, "usub.sat", a, b), _call(builder, "usub.sat", b, a))
    return _call(builder, "umin", apart, _constant(_LANES, [255] * LANES))


def _add(builder, total, vector):
    builder.store(builder.add(builder.load(total), vector), total)


def _across_lanes(builder, vectors):
    """Return the sums over the lanes of GROUP vectors, as one vector of 32-bit values."""
    half = ir.VectorType(_I32, GROUP)
    sixteen = _constant(half, [16] * GROUP)
    parts = []
    for narrow in vectors:
        pairs = builder.bitcast(narrow, half)
        low = builder.ashr(builder.shl(pairs, sixteen), sixteen)
        parts.append(builder.add(low, builder.ashr(pairs, sixteen)))
    block = GROUP  # lanes that still belong to one sum
    while len(parts) > 1:
        low = [i for i in range(GROUP) if i % block < block // 2]
        halves = [[*at, *(GROUP + i for i in at)] for at in (low, [i + block // 2 for i in low])]
        masks = [_constant(half, at) for at in halves]
        parts = [
            builder.add(*(builder.shuffle_vector(a, b, mask) for mask in masks))
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
        block //= 2
    return parts[0]
