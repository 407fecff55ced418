"""The table of segments: parts written by tiles, one Parquet file in the end, sorted by label."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from segpipe.store.folder import Folder


def write_part(folder: Folder, name: str, columns: Mapping[str, np.ndarray]) -> str:
    """Write rows as one Parquet object; return its checksum."""
    buffer = io.BytesIO()
    # parts live for minutes: no compression, no dictionaries
    pq.write_table(pa.table(dict(columns)), buffer, compression="none", use_dictionary=False)
    folder.put(name, buffer.getvalue())
    return xxhash.xxh3_64_hexdigest(buffer.getbuffer())


def read_part(folder: Folder, name: str) -> dict[str, np.ndarray]:
    """Return the columns of a Parquet object as arrays."""
    data = folder.get(name)
    if data is None:
        raise FileNotFoundError(f"{folder}/{name}")
    table = pq.read_table(io.BytesIO(data))
    return {column: table[column].to_numpy() for column in table.column_names}


def assemble(
    folder: Folder,
    target: str,
    bands: Sequence[Sequence[str]],
    across_seams: Mapping[str, np.ndarray],
    band_rows: int,
) -> str:
    """Write one table sorted by label, a row group per band of tiles, from the tiles' parts.

    Labels are ranked by first pixel, and a segment's first pixel lies in the top row of its box; so
    the bands' labels are disjoint and rising, and no more than a band is ever in memory.
    """
    home = folder.local
    with tempfile.TemporaryDirectory(dir=home, prefix=".table-") as scratch:
        path = Path(scratch) / "table.parquet"
        band_of = across_seams["bbox-0"] // band_rows
        writer = None
        for number, names in enumerate(bands):
            parts = [read_part(folder, name) for name in names]
            parts.append({name: c[band_of == number] for name, c in across_seams.items()})
            whole = {name: np.concatenate([p[name] for p in parts]) for name in across_seams}
            order = np.argsort(whole["label"])
            table = pa.table({name: column[order] for name, column in whole.items()})
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()
        if home is not None:
            os.replace(path, home / target)
        else:
            folder.put(target, path.read_bytes())
    return folder.checksum(target) or ""
