"""A run folder on a local disk or in an object store: small objects by name.

Every ``put`` is atomic: a reader sees the old object or the new one, never a part of it.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from segpipe.errors import InputError, first_line
from segpipe.store.space import is_full, write_error

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PIECE = 8 << 20
"""Bytes of an object that are read at a time."""
PROBE = 4096
"""Bytes written to see whether a folder can be written to: empty files fit on a full disk."""
REFUSALS = ("Permission denied", "Read-only file system", "Operation not permitted")
"""What systems say of folders that take nothing."""


@dataclass(frozen=True)
class Folder:
    """A folder given as a local path or a URL such as ``s3://bucket/run``."""

    where: str

    @property
    def local(self) -> Path | None:
        """The path when the folder lies on a local disk, else None."""
        if "://" not in self.where:
            return Path(self.where).absolute()
        if self.where.startswith("file://"):
            return Path(self.where.removeprefix("file://"))
        return None

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.where.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.where

    @property
    def exists(self) -> bool:
        """Whether there is anything here."""
        return bool(self.names()) if self.local is None else self.local.is_dir()

    def objects(self) -> ObjectStore:
        """Open the folder as an object store (connection settings come from the environment)."""
        from obstore.store import LocalStore, from_url

        if self.local is not None:
            return LocalStore(self.local, mkdir=True)
        return from_url(self.where, **_s3_options(self.where))

    def put(self, name: str, data: bytes) -> None:
        """Write object `name`, whole or not at all."""
        try:
            self.objects().put(name, data)
        except Exception as error:
            raise write_error(error, f"{self.where}/{name}", len(data)) from error

    def create(self, name: str, data: bytes) -> bool:
        """Write object `name` unless there is one already; say whether it was written."""
        from obstore.exceptions import AlreadyExistsError

        try:
            self.objects().put(name, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def get(self, name: str) -> bytes | None:
        """Return object `name`, or None when there is none."""
        if self.local is not None and not self.local.is_dir():
            return None  # opening it would create it
        try:
            return bytes(self.objects().get(name).bytes())
        except FileNotFoundError:
            return None

    def checksum(self, name: str) -> str | None:
        """64-bit checksum of object `name`, of whatever size; None when there is none."""
        if self.local is not None and not self.local.is_dir():
            return None
        found = xxhash.xxh3_64()
        try:
            for piece in self.objects().get(name).stream(PIECE):
                found.update(piece)
        except FileNotFoundError:
            return None
        return found.hexdigest()

    def version(self, name: str) -> Any:
        """Return what differs when object `name` has been written anew; None when there is none."""
        if self.local is None:
            return self.checksum(name)
        try:
            stat = (self.local / name).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def names(self, prefix: str = "") -> list[str]:
        """Names of all objects under `prefix`, sorted."""
        pages = self.objects().list(prefix=prefix or None)
        return sorted(entry["path"] for page in pages for entry in page)

    def sizes(self) -> dict[str, int]:
        """Names of all objects and their sizes in bytes."""
        pages = self.objects().list()
        return {entry["path"]: entry["size"] for page in pages for entry in page}

    def delete_object(self, name: str) -> None:
        """Delete object `name`."""
        self.objects().delete(name)

    def delete(self, prefix: str) -> None:
        """Delete everything under `prefix`."""
        if self.local is not None:
            shutil.rmtree(self.local / prefix, ignore_errors=True)
            return
        store = self.objects()
        for name in self.names(prefix):
            store.delete(name)

    def put_json(self, name: str, value: Any) -> None:
        """Write `value` as JSON; what is no number there, such as NaN, as a word."""
        text = json.dumps(_plain(value), indent=2, default=str, allow_nan=False)
        self.put(name, f"{text}\n".encode())

    def get_json(self, name: str) -> Any:
        """Return the JSON object `name`, or None when there is none."""
        data = self.get(name)
        return None if data is None else json.loads(data)

    def put_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write named arrays as one compressed .npz."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
        self.put(name, buffer.getvalue())

    def get_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the named arrays of `name`; None when there is none or it is damaged."""
        data = self.get(name)
        if data is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except Exception:  # what a damaged archive raises depends on where it is damaged
            return None

    def check_writable(self) -> None:
        """Raise InputError when nothing can be written here."""
        if self.local is not None and self.local.is_file():
            raise InputError(f"the output {self.where} is a file; give the name of a new folder")
        probe = f".segpipe-probe-{uuid.uuid4().hex}"
        try:
            self.objects().put(probe, bytes(PROBE))
            self.objects().delete(probe)
        except Exception as error:
            raise InputError(
                f"cannot write to the output folder {self.where}: {_refusal(error)}"
            ) from error


def _plain(value: Any) -> Any:
    """Return a value without numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _refusal(error: Exception) -> str:
    """Say why a folder takes nothing, without the name of what was tried, and what to do."""
    if is_full(error):
        return "the disk is full; free some space, or choose another `output`"
    for text in REFUSALS:
        if text in str(error):
            return f"{text.lower()}; choose another `output`, or mend its rights"
    return f"{first_line(error)}; choose another `output`, or mend its rights"


def _s3_options(url: str) -> dict[str, Any]:
    """Allow plain-http endpoints (a local object store) when AWS_ENDPOINT_URL names one."""
    import os

    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if url.startswith("s3://") and endpoint.startswith("http://"):
        return {"client_options": {"allow_http": True}, "endpoint": endpoint}
    return {}
