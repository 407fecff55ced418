"""Columns of a Parquet table, a few rows at a time, from a disk or an object store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
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
                yield {n: batch[n].to_numpy(zero_copy_only=False) for n in present}
