"""Properties of the tile geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.tiles import Box, Grid

grids = st.tuples(
    st.lists(st.integers(1, 40), min_size=1, max_size=3).flatmap(
        lambda shape: st.tuples(
            st.just(tuple(shape)),
            st.tuples(*(st.integers(1, 45) for _ in shape)),
        )
    ),
    st.integers(0, 20),
)


@given(grids)
def test_cores__partition_the_image(case: tuple) -> None:
    (shape, size), _halo = case
    count = np.zeros(shape, int)
    for tile in Grid(shape, size).tiles():
        count[tile.core.slices] += 1
    assert (count == 1).all()


@given(grids)
def test_window__is_core_and_halo_clipped(case: tuple) -> None:
    (shape, size), halo = case
    values = np.arange(np.prod(shape)).reshape(shape)
    grid = Grid(shape, size)
    pixels = 0
    for tile in grid.tiles(halo):
        window = values[tile.window.slices]
        assert (window[tile.inner] == values[tile.core.slices]).all()
        for axis, n in enumerate(shape):
            assert tile.window.start[axis] == max(0, tile.core.start[axis] - halo)
            assert tile.window.stop[axis] == min(n, tile.core.stop[axis] + halo)
        pixels += tile.window.size
    assert pixels == grid.window_pixels(halo)


@given(grids)
def test_position__counts_in_raster_order(case: tuple) -> None:
    (shape, size), _halo = case
    grid = Grid(shape, size)
    assert [grid.position(i) for i in range(len(grid))] == list(np.ndindex(*grid.counts))


@pytest.mark.parametrize(("shape", "size"), [((0, 4), (2, 2)), ((4, 4), (0, 2)), ((4,), (2, 2))])
def test_grid__refuses_what_is_no_grid(shape: tuple, size: tuple) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel"):
        Grid(shape, size)


def test_box__shape_and_size() -> None:
    box = Box((2, 3), (5, 9))
    assert box.shape == (3, 6)
    assert box.size == 18
