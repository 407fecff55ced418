"""Polygons and attributes of all segments, a batch at a time, each segment as soon as it has ended.

The label image is read from top to bottom. A segment ends with the last row of its box, which the
table tells; it is given out then, whole, and forgotten. So memory holds a band of labels, and the
borders and rows of the segments that cross its lower edge; and the order (last row, then label) and
every byte of a polygon are the same for any height of the bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segpipe.errors import RunError
from segpipe.export.layer import Layer
from segpipe.export.rings import PIXELS, Shapes, Transform, shapes
from segpipe.export.trace import Tracer

ROWS = 1 << 16
"""Rows of the table read at a time."""
BATCH_BYTES = 1 << 26
"""Bytes of polygons in a batch; a single larger one is a batch of its own."""
LARGEST = (1 << 31) - 1
"""Bytes of a polygon that Arrow, Parquet and GDAL take."""


@dataclass(frozen=True)
class Features:
    """Some segments."""

    rows: pa.Table
    """Their rows of the table."""
    wkb: pa.Array
    """Their MultiPolygons in well-known binary."""
    bounds: np.ndarray
    """float64 (n, 4): smallest x and y, largest x and y."""

    def __len__(self) -> int:
        return len(self.rows)


def features(layer: Layer) -> Iterator[Features]:
    """Yield all segments of a run with polygons and attributes.

    Raises
    ------
    RunError
        Labels and table do not belong together.
    """
    with layer.open_table() as table:
        bands = layer.bands()
        yield from joined(bands, table, layer.shape, layer.transform)


def joined(
    bands: Iterable[np.ndarray],
    table: pq.ParquetFile,
    shape: tuple[int, int],
    transform: Transform = PIXELS,
) -> Iterator[Features]:
    """Yield the segments of a label image that comes in bands of rows, from top to bottom.

    Parameters
    ----------
    bands
        Consecutive rows of labels, (rows, width), of any heights.
    table
        Columns ``label`` (rising), ``bbox-0`` (rising), ``bbox-2``, ``area`` and any others.
    shape
        (height, width) of the label image.
    transform
        From corners (column, row) to coordinates.
    """
    tracer, waiting = None, Waiting(table)
    for band in bands:
        tracer = tracer or Tracer(shape[1], band.dtype)
        fresh = waiting.read(tracer.row + len(band))
        tracer.add(band)
        last = tracer.row == shape[0]
        if last:
            tracer.end()
        # the corners below the last row of a segment are seen with the row that follows
        yield from _ended(tracer, waiting, fresh, transform)
    if waiting.labels.size:
        raise _mismatch(waiting.labels[0])


class Waiting:
    """Rows of the table for segments that have begun and not ended."""

    def __init__(self, table: pq.ParquetFile) -> None:
        self._batches = table.iter_batches(ROWS)
        self._rows = table.schema_arrow.empty_table()
        self._next: pa.Table | None = None
        self.labels = np.zeros(0, np.int64)
        self.stops = np.zeros(0, np.int64)

    def read(self, row: int) -> int:
        """Read on until all segments that begin above `row` are here; return how many were."""
        before, found = len(self._rows), [self._rows]
        while (part := self._next or self._read()) is not None:
            begun = int(np.searchsorted(part["bbox-0"].to_numpy(), row))
            found.append(part.slice(0, begun))
            self._next = part.slice(begun) if begun < len(part) else None
            if self._next is not None:
                break
        self._hold(pa.concat_tables(found))
        return before

    def take(self, places: np.ndarray) -> pa.Table:
        """Take rows out."""
        taken = self._rows.take(pa.array(places))
        keep = np.ones(len(self._rows), bool)
        keep[places] = False
        # a copy: slices would hold on to everything that was ever read
        self._hold(self._rows.filter(pa.array(keep)).combine_chunks())
        return taken

    def _read(self) -> pa.Table | None:
        batch = next(self._batches, None)
        return None if batch is None else pa.Table.from_batches([batch])

    def _hold(self, rows: pa.Table) -> None:
        self._rows = rows
        self.labels = rows["label"].to_numpy()
        self.stops = rows["bbox-2"].to_numpy()


def _ended(
    tracer: Tracer, waiting: Waiting, fresh: int, transform: Transform
) -> Iterator[Features]:
    """Yield the segments whose last corners have been seen."""
    labels, stops = waiting.labels, waiting.stops
    places = np.flatnonzero(stops < tracer.row)
    places = places[np.lexsort((labels[places], stops[places]))]
    ranks = np.full(len(labels), -1, np.int32)
    ranks[places] = np.arange(len(places), dtype=np.int32)
    try:
        vertices = tracer.take(labels.astype(tracer.dtype), fresh, ranks)
        found = shapes(vertices, transform)
    except ValueError as error:
        raise RunError(f"{error}; `segpipe verify` says what is damaged") from error
    rows = waiting.take(places)
    wrong = np.flatnonzero(found.areas != rows["area"].to_numpy())
    if wrong.size:
        raise _mismatch(rows["label"][wrong[0]])
    yield from _batches(rows, found)


def _mismatch(label: object) -> RunError:
    return RunError(
        f"segment {label} does not look as the table says: labels and table do not belong "
        f"together; `segpipe verify` says what is damaged"
    )


def _batches(rows: pa.Table, found: Shapes) -> Iterator[Features]:
    """Yield batches of bounded bytes."""
    begin, count = 0, len(rows)
    while begin < count:
        limit = found.offsets[begin] + BATCH_BYTES
        end = max(begin + 1, int(np.searchsorted(found.offsets, limit, "right")) - 1)
        first, last = found.offsets[begin], found.offsets[end]
        if last - first > LARGEST:
            raise RunError(
                f"the border of segment {rows['label'][begin]} has {(last - first) >> 4:,} points: "
                f"no file of polygons can hold that; export a .tif"
            )
        offsets = (found.offsets[begin : end + 1] - first).astype(np.int32)
        # a copy, or each batch would keep all of them in memory
        data = pa.py_buffer(found.wkb[first:last].copy())
        wkb = pa.Array.from_buffers(
            pa.binary(), end - begin, [None, pa.py_buffer(offsets), data], null_count=0
        )
        yield Features(rows.slice(begin, end - begin), wkb, found.bounds[begin:end])
        begin = end


def plain(rows: pa.Table) -> pa.Table:
    """Return rows with lists and structs as JSON text, for files that hold plain values only."""
    import json

    for i, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            texts = [None if v is None else json.dumps(v) for v in rows[field.name].to_pylist()]
            rows = rows.set_column(i, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_unsigned_integer(field.type) or pa.types.is_float16(field.type):
            wider = pa.int64() if pa.types.is_integer(field.type) else pa.float32()
            rows = rows.set_column(i, field.name, pc.cast(rows[field.name], wider))
    return rows
