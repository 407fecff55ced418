"""Columns as arrays: of Arrow, and of a Parquet table, a few rows at a time, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.store.folder import Folder
from segpipe.store.objects import open_object

BATCH = 1 << 18
"""Rows read at a time."""


def column_names(folder: Folder, table: str) -> list[str]:
    """Return the names of a table's columns; none where there is no table."""
    try:
        with pq.ParquetFile(open_object(folder, table)) as file:
            return list(file.schema_arrow.names)
    except FileNotFoundError:
        return []


def batches(
    folder: Folder, table: str, columns: Sequence[str], rows: int = BATCH
) -> Iterator[dict[str, np.ndarray]]:
    """Yield those of some columns that a table has, `rows` rows at a time."""
    present = [name for name in column_names(folder, table) if name in columns]
    if not present:
        return
    with pq.ParquetFile(open_object(folder, table)) as file:
        for batch in file.iter_batches(rows, columns=present):
            if len(batch):
                yield {n: from_arrow(batch[n]) for n in present}


def to_arrow(column: np.ndarray) -> pa.Array:
    """Return a column as Arrow's.

    Numbers and truths by way of their bytes: `pa.array` would import pandas first, which takes
    every worker of a run as long as many a tile.
    """
    if column.ndim > 1:
        size = int(np.prod(column.shape[1:]))
        return pa.FixedSizeListArray.from_arrays(to_arrow(column.ravel()), size)
    if column.dtype.kind not in "biuf":
        return pa.array(column)
    values = np.packbits(column, bitorder="little") if column.dtype == bool else column
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), buffers)


def from_arrow(column: pa.Array) -> np.ndarray:
    """Return what `to_arrow` was given; without pandas, too, for numbers and truths."""
    if pa.types.is_fixed_size_list(column.type):
        return from_arrow(column.flatten()).reshape(len(column), column.type.list_size)
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if column.null_count or not (number or pa.types.is_boolean(column.type)):
        return column.to_numpy(zero_copy_only=False)
    if number:
        return np.from_dlpack(column)
    bits = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    stop = column.offset + len(column)
    return np.unpackbits(bits, count=stop, bitorder="little")[column.offset :].view(bool)
