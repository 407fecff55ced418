"""An object of a run folder as a file that is read piece by piece, local or not."""

from __future__ import annotations

import io
from typing import Any

import obstore

from segpipe.store.folder import Folder


def open_object(folder: Folder, name: str) -> io.BufferedIOBase | ObjectFile:
    """Open object `name` for reading; FileNotFoundError when there is none."""
    if folder.local is not None:
        return (folder.local / name).open("rb")
    return ObjectFile(obstore.open_reader(folder.objects(), name))


class ObjectFile(io.RawIOBase):
    """An object of a store as the kind of file that Arrow reads: seekable, a range at a time."""

    def __init__(self, file: obstore.ReadableFile) -> None:
        self._file = file

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; return the number of bytes."""
        data = memoryview(self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)
