"""Means over the pixels of a window that lie in a ball of colours: 16 pixels at a time.

Two kernels. `mean_shift_plain` says in plain words what they mean; here they are in LLVM's portable
vector instructions (which become AVX2, AVX-512, NEON or plain code), because Numba keeps vectors in
registers neither across the rows of a window nor across its columns: that takes about eight times
as long. A test holds the two equal; all else in mean shift is ordinary Numba.

`successor` treats one window, 16 columns of a row at a time. `neighbours` treats 16 windows that
lie side by side, one in each lane, for the first step, which all pixels take from where they are:
it needs no sums across lanes.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from segpipe.methods.mean_shift_plain import COLOUR, GROUP, LANES, LIFT, PLACE, state_size

BAND = 32
"""Rows whose sums over 4 lanes fit 16 bits: BAND * 4 * 254 < 2^15."""


@njit(nogil=True, cache=True, forceinline=True)
def vector_successor(planes, window, rule, states, at, out, to):
    """Do what `plain_successor` does without weights; a row behind the window must be readable."""
    _successor(planes, window, rule, states, at, out, to)  # type: ignore[call-arg]


@njit(nogil=True, cache=True, forceinline=True)
def vector_neighbours(planes, window, rule, colours, sums):
    """Do what `plain_neighbours` does."""
    _neighbours(planes, window, rule, colours, sums)  # type: ignore[call-arg]


_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_I16, LANES)
_KEY, _SUMS = ir.VectorType(_I16, GROUP), ir.VectorType(_I32, GROUP)
_FLOATS = ir.VectorType(ir.FloatType(), GROUP)


@intrinsic
def _successor(typing, planes, window, rule, states, at, out, to):
    """Build `plain_successor` from vectors."""
    index, wide = types.intp, not planes.dtype.dtype.signed
    six, three = types.UniTuple(index, 6), types.UniTuple(index, 3)

    def build(context, builder, signature, arguments):
        kind = signature.args
        pointers = _pointers(context, builder, kind[0], arguments[0])
        window, rule = (cgutils.unpack_tuple(builder, arguments[k]) for k in (1, 2))
        key = builder.gep(_data(context, builder, kind[3], arguments[3]), [arguments[4]])
        target = builder.gep(_data(context, builder, kind[5], arguments[5]), [arguments[6]])
        colours = [
            _splat(builder, builder.load(builder.gep(key, [_I64(COLOUR + c)])))
            for c in range(len(pointers))
        ]
        balls = _Balls(builder, pointers, colours, wide)
        totals = _window(builder, balls, window, rule)
        for group, total in enumerate(totals):
            _round(builder, group, total, totals[0], window[4:], rule[1], (key, target))
        return context.get_dummy_value()

    return types.void(planes, six, three, states, index, out, index), build


@intrinsic
def _neighbours(typing, planes, window, rule, colours, sums):
    """Build `plain_neighbours` from vectors."""
    index, wide = types.intp, not planes.dtype.dtype.signed

    def build(context, builder, signature, arguments):
        kind = signature.args
        pointers = _pointers(context, builder, kind[0], arguments[0])
        offset, stride, rows, columns, left = cgutils.unpack_tuple(builder, arguments[1])
        limit, there = cgutils.unpack_tuple(builder, arguments[2])
        own, target = (
            builder.bitcast(_data(context, builder, kind[k], arguments[k]), _LANES.as_pointer())
            for k in (3, 4)
        )
        states = [builder.load(builder.gep(own, [_I64(c)]), align=2) for c in range(len(pointers))]
        balls = _Balls(builder, pointers, states, wide)
        late, down = balls.sum(), balls.sum()
        with cgutils.for_range(builder, columns) as column:
            begin = builder.add(offset, column.index)
            outside = builder.sub(_I64(0), builder.add(left, column.index))
            end = builder.add(outside, there)
            radius = _within(builder, limit, outside, end)
            with cgutils.for_range(builder, rows) as row:
                place = builder.add(begin, builder.mul(row.index, stride))
                near = balls.add(place, radius)
                _add(builder, down, builder.select(near, _splat(builder, row.index), _ZERO))
            _add(builder, late, builder.load(balls.count))
        found = builder.load(balls.count)
        # a pixel in column i was counted columns - i times
        across = builder.sub(builder.mul(found, _splat(builder, columns)), builder.load(late))
        totals = [found, builder.load(down), across, *balls.differences()]
        for k, total in enumerate(totals):
            builder.store(total, builder.gep(target, [_I64(k)]), align=2)
        return context.get_dummy_value()

    five, two = types.UniTuple(index, 5), types.UniTuple(index, 2)
    return types.void(planes, five, two, colours, sums), build


def _data(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


def _pointers(context, builder, kind, planes):
    return [
        _data(context, builder, kind.dtype, builder.extract_value(planes, c))
        for c in range(len(kind))
    ]


def _constant(kind, numbers):
    return ir.Constant(kind, [kind.element(int(n)) for n in numbers])


_ZERO = ir.Constant(_LANES, None)


def _splat(builder, value, kind=_LANES):
    """Return the vector that holds a number in all lanes."""
    if isinstance(value.type, ir.IntType) and value.type.width > kind.element.width:
        value = builder.trunc(value, kind.element)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    zeros = _constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, one, zeros)


class _Balls:
    """Counts and sums, lane by lane, of the pixels that lie near the lanes' colours."""

    def __init__(self, builder, pointers, states, wide):
        self.builder, self.pointers, self.states = builder, pointers, states
        # values of 16 bits are brought this close: no square overflows, and no ball reaches further
        self.ends = [_ends(builder, state) for state in states] if wide else []
        self.count = self.sum()
        self.colours = [self.sum() for _ in pointers]

    def sum(self):
        """Return a variable of zeros, which LLVM keeps in a register."""
        return cgutils.alloca_once_value(self.builder, _ZERO)

    def clear(self):
        for total in (self.count, *self.colours):
            self.builder.store(_ZERO, total)

    def differences(self):
        """Return the sums of pixel - colour."""
        return [self.builder.load(total) for total in self.colours]

    def add(self, place, radius):
        """Add LANES pixels whose squared distances are below `radius`; return which."""
        builder = self.builder
        distance, differences = None, []
        for c, (pointer, state) in enumerate(zip(self.pointers, self.states, strict=True)):
            at = builder.bitcast(builder.gep(pointer, [place]), _LANES.as_pointer())
            pixels = builder.load(at, align=2)
            if self.ends:
                least, most = self.ends[c]
                pixels = _call(builder, "umin", _call(builder, "umax", pixels, least), most)
            differences.append(builder.sub(state, pixels))  # this way round it can load, too
            square = builder.mul(differences[-1], differences[-1])
            distance = _call(builder, "uadd.sat", distance, square) if distance else square
        near = builder.icmp_unsigned("<", distance, radius)
        _add(builder, self.count, builder.zext(near, _LANES))
        for total, difference in zip(self.colours, differences, strict=True):
            nearby = builder.select(near, difference, _ZERO)
            builder.store(builder.sub(builder.load(total), nearby), total)
        return near


def _within(builder, limit, begin, end):
    """Return what squared distances must be below: limit + 1 in the lanes begin .. end, else 0."""
    lanes = _constant(_LANES, range(LANES))
    low, high = (
        _splat(builder, _least(builder, _most(builder, edge, _I64(0)), _I64(LANES)))
        for edge in (begin, end)
    )
    within = builder.and_(
        builder.icmp_unsigned(">=", lanes, low), builder.icmp_unsigned("<", lanes, high)
    )
    return builder.select(within, _splat(builder, builder.add(limit, _I64(1))), _ZERO)


def _call(builder, name, a, b):
    """Call an LLVM intrinsic of two vectors."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_LANES, [_LANES, _LANES]), f"llvm.{name}.v{LANES}i16"
    )
    return builder.call(function, [a, b])


def _ends(builder, values):
    """Return values - 255 and values + 255, as far as there are such unsigned numbers."""
    far = _constant(_LANES, [255] * LANES)
    return _call(builder, "usub.sat", values, far), _call(builder, "uadd.sat", values, far)


def _add(builder, total, vector):
    builder.store(builder.add(builder.load(total), vector), total)


def _least(builder, a, b):
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _most(builder, a, b):
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _window(builder, balls, window, rule):
    """Return vectors of GROUP numbers: count, rows, columns, pixel - colour …, over a window."""
    _offset, _stride, rows, columns = window[:4]
    late = balls.sum()
    size = state_size.py_func(len(balls.pointers))
    totals = [
        cgutils.alloca_once_value(builder, ir.Constant(_SUMS, None)) for _ in range(size // GROUP)
    ]
    few = builder.and_(
        builder.icmp_signed("<=", columns, _I64(LANES)), builder.icmp_signed("<=", rows, _I64(BAND))
    )
    place = builder, balls, window, rule, totals, late
    with builder.if_else(few) as (one, several):
        with one:  # most windows: without loops, less is kept in registers
            _block(*place, _I64(0), _I64(0))
        with several:
            strips = cgutils.for_range_slice(builder, _I64(0), columns, _I64(LANES), _I64)
            with strips as (left, _):
                bands = cgutils.for_range_slice(builder, _I64(0), rows, _I64(BAND), _I64)
                with bands as (top, _):
                    balls.clear()
                    builder.store(_ZERO, late)
                    _block(*place, top, left)
    return [builder.load(total) for total in totals]


def _block(builder, balls, window, rule, totals, late, top, left):
    """Add at most BAND rows of at most LANES columns of a window to its sums."""
    offset, stride, rows, columns = window[:4]
    usual, _bits, limit = rule
    size = GROUP * len(totals)
    lanes = _constant(_LANES, range(LANES))
    radius = _within(builder, limit, _I64(0), builder.sub(columns, left))
    here = _least(builder, builder.sub(rows, top), _I64(BAND))
    # without the last row, which windows have or not, no branch is taken in vain
    certain = _least(builder, here, usual)
    begin = builder.add(builder.add(offset, left), builder.mul(top, stride))
    last = builder.add(begin, builder.mul(certain, stride))
    with cgutils.for_range_slice(builder, begin, last, stride, _I64) as (place, _):
        balls.add(place, radius)
        _add(builder, late, builder.load(balls.count))
    more = _splat(builder, builder.sub(here, certain))  # 1 or 0: a product is no branch
    balls.add(last, builder.mul(radius, more))
    _add(builder, late, builder.load(balls.count))
    found = builder.load(balls.count)
    # a pixel in row i was counted certain + 1 - i times
    seen = _splat(builder, builder.add(certain, _I64(1)))
    down = builder.sub(builder.mul(found, seen), builder.load(late))
    sums = [found, down, builder.mul(found, lanes), *balls.differences()]
    sums += [_ZERO] * (size - len(sums))
    for group, total in enumerate(totals):
        part = _across_lanes(builder, sums[group * GROUP : (group + 1) * GROUP])
        if group == 0:
            n = _splat(builder, builder.extract_element(part, _I32(0)), _SUMS)
            corner = ir.Constant(_SUMS, None)
            for k, first in ((1, top), (2, left)):
                first = builder.trunc(first, _I32)
                corner = builder.insert_element(corner, first, _I32(k))
            part = builder.add(part, builder.mul(n, corner))
        _add(builder, total, part)


def _across_lanes(builder, vectors):
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
    sixteen = _constant(_SUMS, [16] * GROUP)
    wide = []
    for part in parts:  # pairs of 16 bits become 32 bits
        pairs = builder.bitcast(part, _SUMS)
        low = builder.ashr(builder.shl(pairs, sixteen), sixteen)
        wide.append(builder.add(low, builder.ashr(pairs, sixteen)))
    masks = [[0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]]
    return _halved(builder, wide, masks)[0]


def _halved(builder, parts, masks):
    index = ir.VectorType(_I32, parts[0].type.count)
    return [
        builder.add(*(builder.shuffle_vector(a, b, _constant(index, mask)) for mask in masks))
        for a, b in zip(parts[::2], parts[1::2], strict=True)
    ]


def _round(builder, group, total, first, corner, bits, pointers):
    """Turn GROUP sums into the rounded means of a successor and store them.

    Quotients of 32-bit floats are exact enough: (2a + n) / 2n lies at least 1 / 2n below the next
    integer, and 2a + n < 2^24.
    """
    key, target = (
        builder.bitcast(builder.gep(p, [_I64(group * GROUP)]), _KEY.as_pointer()) for p in pointers
    )
    old = builder.load(key, align=2)
    n = builder.shuffle_vector(first, first, _constant(_SUMS, [0] * GROUP))
    found = builder.icmp_signed(">", n, ir.Constant(_SUMS, None))
    base = builder.sub(old, _constant(_KEY, [LIFT] * GROUP))
    scale, lift = [2] * GROUP, [1 + 2 * LIFT] * GROUP
    if group == 0:
        scale[0], lift[:COLOUR] = 0, [1] * COLOUR  # the count becomes 0
        base = builder.sub(old, _constant(_KEY, [0] * COLOUR + [LIFT] * (GROUP - COLOUR)))
    scale, lift = _constant(_FLOATS, scale), _constant(_FLOATS, lift)
    if group == 0:
        twice = builder.sitofp(builder.shl(_I32(2), builder.trunc(bits, _I32)), _FLOATS.element)
        for k, at in enumerate(corner):
            base = builder.insert_element(base, builder.trunc(at, _I16), _I32(PLACE + k))
            scale = builder.insert_element(scale, twice, _I32(PLACE + k))
    many = builder.sitofp(n, _FLOATS)
    above = builder.fadd(
        builder.fmul(builder.sitofp(total, _FLOATS), scale), builder.fmul(many, lift)
    )
    quotient = builder.fdiv(above, builder.fadd(many, many))
    mean = builder.add(base, builder.trunc(builder.fptosi(quotient, _SUMS), _KEY))
    builder.store(builder.select(found, mean, old), target, align=2)
