"""A table that grows by single rows, such as that of the images of a collection."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.store.folder import Folder

PENDING = 1024
"""Rows kept as such; more become columns, which take a fifth of the memory."""
TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


@dataclass
class Rows:
    """Rows of known columns, in any order; what a row does not have is missing in the table."""

    columns: Mapping[str, type]
    """Name -> str, int or float."""
    _parts: list[pa.Table] = field(default_factory=list)
    _pending: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._pending.append(row)
        if len(self._pending) >= PENDING:
            self._pack()

    def write(self, folder: Folder, name: str, by: str) -> None:
        """Write all rows, sorted by a column, as a Parquet file."""
        self._pack()
        buffer = io.BytesIO()
        pq.write_table(pa.concat_tables(self._parts).sort_by(by), buffer, compression="zstd")
        folder.put(name, buffer.getvalue())

    def _pack(self) -> None:
        schema = pa.schema([(name, TYPES[kind]) for name, kind in self.columns.items()])
        self._parts.append(pa.Table.from_pylist(list(self._pending), schema=schema))
        self._pending.clear()
