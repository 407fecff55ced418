"""One SHA-256 for a label image, independent of chunks, shards, dtype and codec."""

from __future__ import annotations

import hashlib

import numpy as np

from segpipe.errors import RunError
from segpipe.store.arrays import open_array, read_rows
from segpipe.store.folder import Folder

ROWS = 64
"""Rows that are widened to 8 bytes at a time."""


def label_digest(folder: Folder, path: str) -> str:
    """SHA-256 over the shape, the word ``uint64`` and the labels as little-endian uint64 rows.

    Equal to hashing ``repr(shape) + "uint64"`` followed by ``labels.astype("<u8").tobytes()``.
    """
    array = open_array(folder, path)
    digest = digest_start(array.shape)
    height, rows = array.shape[0], read_rows(array.shape[1], array.chunks[0])
    for top in range(0, height, rows):
        try:
            band = array[top : min(top + rows, height)]
        except Exception as error:  # every codec has its own word for damage
            raise RunError(f"{folder}/{path} is damaged near row {top}: {error}") from error
        for y in range(0, len(band), ROWS):
            digest.update(np.ascontiguousarray(band[y : y + ROWS], "<u8").data)
    return digest.hexdigest()


def digest_start(shape: tuple[int, ...]) -> hashlib._Hash:
    """Return a SHA-256 that has taken in the shape and the type."""
    return hashlib.sha256(f"{tuple(int(n) for n in shape)}uint64".encode())


def array_digest(labels: np.ndarray) -> str:
    """`label_digest` of labels in memory.

    >>> array_digest(np.ones((2, 2), np.uint8)) == array_digest(np.ones((2, 2), np.int64))
    True
    """
    digest = digest_start(labels.shape)
    digest.update(np.ascontiguousarray(labels, "<u8").data)
    return digest.hexdigest()
