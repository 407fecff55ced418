"""Columns of a Parquet table, a few rows at a time, from a disk or an object store."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import obstore
import pyarrow.parquet as pq

from segpipe.store.folder import Folder

BATCH = 1 << 18
"""Rows read at a time."""


def column_names(folder: Folder, table: str) -> list[str]:
    """Return the names of a table's columns; none where there is no table."""
    try:
        with pq.ParquetFile(_open(folder, table)) as file:
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
    with pq.ParquetFile(_open(folder, table)) as file:
        for batch in file.iter_batches(rows, columns=present):
            if len(batch):
                yield {n: batch[n].to_numpy(zero_copy_only=False) for n in present}


def _open(folder: Folder, table: str) -> _Object:
    return _Object(obstore.open_reader(folder.objects(), table))


class _Object(io.RawIOBase):
    """An object of a store as the kind of file that Arrow reads piece by piece."""

    def __init__(self, file: obstore.ReadableFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        data = memoryview(self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)
