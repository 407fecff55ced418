"""Tables of segments: parts written by tiles, one Parquet file in the end, sorted by label.

A tile writes rows of the segments that end inside it (piece ``done``) and partial sums of the
others, piece by piece. Labels are ranked by first pixel, so those that begin in one row of tiles (a
band) follow those of the band above. `assemble` first goes through the partial sums from the last
band to the first: in the band where a segment begins all its sums have been seen, and what has to
be kept of a band are the segments that cross its upper seam. Then it writes band by band. Never
more than a band is in memory.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from segpipe.errors import RunError
from segpipe.store.columns import from_arrow, to_arrow
from segpipe.store.folder import Folder
from segpipe.store.space import write_error

Columns = Mapping[str, np.ndarray]
GROUP = 1 << 19
"""Most rows in a row group."""


@dataclass(frozen=True)
class Recipe:
    """How a table is put together."""

    pieces: tuple[str, ...]
    """Names of the pieces with partial sums."""
    merge: Callable[[Mapping[str, Columns]], Mapping[str, Columns]]
    """Add up what was laid end to end; by label."""
    close: Callable[[Mapping[str, Columns]], Columns]
    """Turn complete sums into rows."""
    starts: Sequence[int]
    """First label that begins in each band."""


def part_name(place: str, piece: str, number: int) -> str:
    """Name of a piece of a tile's part."""
    return f"{place}/{piece}/{number:08d}.arrow"


def write_part(folder: Folder, name: str, columns: Columns) -> str:
    """Write columns, of one or more axes, as one Arrow object; return its checksum."""
    buffer = io.BytesIO()
    batch = pa.record_batch({key: to_arrow(column) for key, column in columns.items()})
    with pa.ipc.new_stream(buffer, batch.schema) as writer:
        writer.write_batch(batch)
    folder.put(name, buffer.getvalue())
    return xxhash.xxh3_64_hexdigest(buffer.getbuffer())


def read_part(folder: Folder, name: str) -> dict[str, np.ndarray]:
    """Return the columns of an Arrow object; those of more axes as (rows, values)."""
    data = folder.get(name)
    if data is None:
        raise RunError(f"{folder}/{name} is missing; `segpipe resume` writes it again")
    batch = pa.ipc.open_stream(data).read_next_batch()
    return {key: from_arrow(batch[key]) for key in batch.schema.names}


def assemble(
    folder: Folder, target: str, place: str, bands: Sequence[Sequence[int]], recipe: Recipe
) -> str:
    """Write one table from the tiles' parts, a row group (or more) per band; return its checksum.

    `place` is where the parts lie, `bands` are the numbers of the tiles of each band.
    """
    home = None if folder.local is None else folder.local / "work"
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".table-") as scratch:
        inner = Folder(scratch)
        _complete(folder, inner, place, bands, recipe)
        path = Path(scratch) / "table.parquet"
        with _writer(path) as write:
            for number, tiles in enumerate(bands):
                parts = [read_part(folder, part_name(place, "done", n)) for n in tiles]
                pieces = {p: read_part(inner, part_name("open", p, number)) for p in recipe.pieces}
                parts.append(dict(recipe.close(pieces)))
                write(_sorted(parts))
        found = str(inner.checksum(path.name))
        try:
            if folder.local is not None:
                os.replace(path, folder.local / target)
            else:
                folder.objects().put(target, path)  # in pieces, whatever its size
        except Exception as error:
            raise write_error(error, f"{folder}/{target}") from error
    return found


def write_table(folder: Folder, target: str, columns: Columns) -> str:
    """Write a small table, whole in memory, as `assemble` does; return its checksum."""
    buffer = io.BytesIO()
    with _writer(buffer) as write:
        write({name: to_arrow(column) for name, column in columns.items()})
    folder.put(target, buffer.getvalue())
    return xxhash.xxh3_64_hexdigest(buffer.getbuffer())


def _complete(
    folder: Folder, inner: Folder, place: str, bands: Sequence[Sequence[int]], recipe: Recipe
) -> None:
    """Add up the partial sums from the last band to the first; store those that begin in each."""
    kept: Mapping[str, Columns] = {}
    for number in reversed(range(len(bands))):
        pieces = {}
        for piece in recipe.pieces:
            parts = [read_part(folder, part_name(place, piece, n)) for n in bands[number]]
            pieces[piece] = _joined([*parts, kept[piece]] if kept else parts)
        kept, start = {}, recipe.starts[number]
        for piece, columns in recipe.merge(pieces).items():
            cut = int(np.searchsorted(columns["label"], start))
            own = {key: column[cut:] for key, column in columns.items()}
            write_part(inner, part_name("open", piece, number), own)
            # a copy: a view would keep the band alive
            kept = {**kept, piece: {key: column[:cut].copy() for key, column in columns.items()}}


def _joined(parts: Sequence[Columns]) -> dict[str, np.ndarray]:
    """Lay columns of the same names end to end."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _sorted(parts: list[dict[str, np.ndarray]]) -> dict[str, pa.Array]:
    """Return the rows of a band by label; the parts are emptied column by column."""
    order = np.argsort(np.concatenate([part["label"] for part in parts]), kind="stable")
    names = list(parts[0])
    return {name: to_arrow(np.concatenate([p.pop(name) for p in parts])[order]) for name in names}


@contextmanager
def _writer(target: Path | io.BytesIO) -> Iterator[Callable[[dict[str, pa.Array]], None]]:
    """Write bands of a table as Parquet."""
    writers: list[pq.ParquetWriter] = []

    def write(columns: dict[str, pa.Array]) -> None:
        table = pa.table(columns)
        if not writers:
            # dictionaries of numbers that hardly repeat are time and memory for nothing
            fractions = [f.name for f in table.schema if pa.types.is_floating(f.type)]
            writer = pq.ParquetWriter(
                target,
                table.schema,
                compression="zstd",
                use_dictionary=False,
                use_byte_stream_split=fractions,
            )
            writers.append(writer)
        if len(table) or len(writers) == 1:
            writers[0].write_table(table, row_group_size=GROUP)
        pa.default_memory_pool().release_unused()

    yield write
    for writer in writers:
        writer.close()
