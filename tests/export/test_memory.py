"""An image of any height is exported in the memory of a band and of what crosses its edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.export.features import joined
from tests.export.runs import blobs, canonical

BLOCK = blobs((256, 1024))
HEIGHT = len(BLOCK)
COUNT = int(BLOCK.max())


def tall(blocks: int, rows: int) -> Iterator[np.ndarray]:
    """The block again and again with other labels, cut elsewhere; label 1 is all of the left edge."""
    rest = np.zeros((0, BLOCK.shape[1]), np.uint32)
    for number in range(blocks):
        block = np.where(BLOCK, BLOCK + np.uint32(1 + number * COUNT), 0).astype(np.uint32)
        block[:, 0] = 1
        rest = np.concatenate([rest, block])
        while len(rest) >= rows:
            yield rest[:rows].copy()
            rest = rest[rows:]
    if len(rest):
        yield rest


def write_table(path: Path, blocks: int) -> None:
    inner = BLOCK.copy()
    inner[:, 0] = 0
    assert canonical(inner).max() == COUNT, "every label is left of something"
    area = np.bincount(inner.ravel())[1:]
    tops = np.array(
        [np.flatnonzero((inner == n).any(axis=1))[[0, -1]] for n in range(1, COUNT + 1)]
    )
    schema = pa.schema([(name, pa.int64()) for name in ("label", "area", "bbox-0", "bbox-2")])
    with pq.ParquetWriter(path, schema) as writer:
        first = [[1], [HEIGHT * blocks], [0], [HEIGHT * blocks]]
        writer.write_table(pa.table([pa.array(c) for c in first], schema=schema))
        for number in range(blocks):
            shift = number * HEIGHT
            labels = np.arange(2, COUNT + 2) + number * COUNT
            columns = [labels, area, tops[:, 0] + shift, tops[:, 1] + 1 + shift]
            writer.write_table(pa.table([pa.array(c) for c in columns], schema=schema))


def test_memory__does_not_grow_with_the_image(tmp_path: Path) -> None:
    blocks, process, grown, count, size = 200, psutil.Process(), [], 0, 0
    write_table(tmp_path / "table.parquet", blocks)
    shape = (HEIGHT * blocks, BLOCK.shape[1])
    with pq.ParquetFile(tmp_path / "table.parquet") as table:
        before = 0
        for found in joined(tall(blocks, 700), table, shape):
            before = before or process.memory_info().rss
            grown.append(process.memory_info().rss - before)
            count, size = count + len(found), size + found.wkb.nbytes
            last = found
    assert count == 1 + blocks * COUNT
    assert last.rows["label"].to_pylist()[-1] != 1, "sorted by last row, then label"
    assert 1 in last.rows["label"].to_pylist()
    assert shape[0] * shape[1] * 4 > 2e8, "the labels"
    assert size > 2e8, "the polygons"
    assert max(grown) < 6e7
