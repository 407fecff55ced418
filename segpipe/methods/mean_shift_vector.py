"""LLVM's portable vector instructions, as mean shift uses them (AVX2, AVX-512, NEON, plain code).

`mean_shift_successor` and `mean_shift_neighbours` are built from them, because Numba keeps vectors
in registers neither across the rows of a window nor across its columns: that takes about eight
times as long. `mean_shift_plain` says in plain words what the two mean, and a test holds them
equal; all else in mean shift is ordinary Numba.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba.core import cgutils

from segpipe.methods.mean_shift_plain import GROUP, LANES

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
VALUES = ir.VectorType(I16, LANES)
KEY, SUMS = ir.VectorType(I16, GROUP), ir.VectorType(I32, GROUP)
FLOATS, REALS = ir.VectorType(ir.FloatType(), GROUP), ir.VectorType(ir.FloatType(), LANES)
ZERO = ir.Constant(VALUES, None)


class Balls:
    """Counts and sums, lane by lane, of the pixels that lie near the lanes' colours."""

    def __init__(self, builder, pointers, states, wide):
        self.builder, self.pointers, self.states = builder, pointers, states
        # values of 16 bits are brought this close: no square overflows, and no ball reaches further
        self.ends = [_ends(builder, state) for state in states] if wide else []
        self.count = self.sum()
        self.colours = [self.sum() for _ in pointers]

    def sum(self):
        """Return a variable of zeros, which LLVM keeps in a register."""
        return cgutils.alloca_once_value(self.builder, ZERO)

    def clear(self):
        """Begin again."""
        for total in (self.count, *self.colours):
            self.builder.store(ZERO, total)

    def differences(self):
        """Return the sums of pixel - colour."""
        return [self.builder.load(total) for total in self.colours]

    def add(self, place, radius, count, mark):
        """Add LANES pixels whose squared distances are below `radius`: `mark` to `count`."""
        builder = self.builder
        distance, differences = None, []
        for c, (pointer, state) in enumerate(zip(self.pointers, self.states, strict=True)):
            at = builder.bitcast(builder.gep(pointer, [place]), VALUES.as_pointer())
            pixels = builder.load(at, align=2)
            if self.ends:
                low, high = self.ends[c]
                pixels = call(builder, "umin", call(builder, "umax", pixels, low), high)
            differences.append(builder.sub(state, pixels))  # this way round it can load, too
            square = builder.mul(differences[-1], differences[-1])
            distance = call(builder, "uadd.sat", distance, square) if distance else square
        near = builder.icmp_unsigned("<", distance, radius)
        add(builder, count, builder.select(near, mark, ZERO))
        for total, difference in zip(self.colours, differences, strict=True):
            nearby = builder.select(near, difference, ZERO)
            builder.store(builder.sub(builder.load(total), nearby), total)


def within(builder, limit, begin, end):
    """Return what squared distances must be below: limit + 1 in the lanes begin .. end, else 0."""
    lanes = constant(VALUES, range(LANES))
    low, high = (
        splat(builder, least(builder, most(builder, edge, I64(0)), I64(LANES)))
        for edge in (begin, end)
    )
    inside = builder.and_(
        builder.icmp_unsigned(">=", lanes, low), builder.icmp_unsigned("<", lanes, high)
    )
    return builder.select(inside, splat(builder, builder.add(limit, I64(1))), ZERO)


def _ends(builder, values):
    """Return values - 255 and values + 255, as far as there are such unsigned numbers."""
    far = constant(VALUES, [255] * LANES)
    return call(builder, "usub.sat", values, far), call(builder, "uadd.sat", values, far)


def data_of(context, builder, kind, array):
    """Return the pointer to an array's first number."""
    return context.make_array(kind)(context, builder, array).data


def pointers_of(context, builder, kind, planes):
    """Return the pointers to the first numbers of a tuple of arrays."""
    return [
        data_of(context, builder, kind.dtype, builder.extract_value(planes, c))
        for c in range(len(kind))
    ]


def constant(kind, numbers):
    """Return a vector of given numbers."""
    return ir.Constant(kind, [kind.element(n) for n in numbers])


def splat(builder, value, kind=VALUES):
    """Return the vector that holds a number in all lanes."""
    if isinstance(value.type, ir.IntType) and value.type.width > kind.element.width:
        value = builder.trunc(value, kind.element)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    zeros = constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, one, zeros)


def call(builder, name, *vectors):
    """Call an LLVM intrinsic of vectors of LANES numbers."""
    kind = vectors[0].type
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [kind] * len(vectors)),
        f"llvm.{name}.v{LANES}{'i16' if kind == VALUES else 'f32'}",
    )
    return builder.call(function, vectors)


def add(builder, total, vector):
    """Add to a variable."""
    builder.store(builder.add(builder.load(total), vector), total)


def least(builder, a, b):
    """Return the smaller of two signed numbers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def most(builder, a, b):
    """Return the larger of two signed numbers."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)
