"""The table of segments as CSV, row group by row group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyarrow import csv

from segpipe.export.features import ROWS, plain
from segpipe.export.layer import Layer


def write_csv(layer: Layer, path: Path, say: Callable[[int], None]) -> None:
    """Write all columns of the table, sorted by label; numbers as exact as they are."""
    import pyarrow as pa

    with layer.open_table() as table:
        empty = plain(table.schema_arrow.remove_metadata().empty_table())
        with csv.CSVWriter(path, empty.schema) as writer:
            done = 0
            for batch in table.iter_batches(ROWS):
                writer.write_table(plain(pa.Table.from_batches([batch])).cast(empty.schema))
                done += len(batch)
                say(done)
