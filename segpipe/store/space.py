"""Failures to write: a full disk is told from all others, and said with figures."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segpipe.errors import DiskFull, SegpipeError, Unavailable, first_line

FULL = {errno.ENOSPC, errno.EDQUOT}
SAID = ("No space left on device", "Disk quota exceeded", "StorageFull", "QuotaExceeded")
"""What libraries say that hand on no number."""
KEPT = "what is finished is kept"


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that a disk is full.

    >>> is_full(OSError(28, "whatever")), is_full(RuntimeError("No space left on device"))
    (True, True)
    >>> is_full(OSError(13, "Permission denied"))
    False
    """
    while error is not None:
        if getattr(error, "errno", None) in FULL or any(text in str(error) for text in SAID):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_bytes(folder: str | Path) -> int | None:
    """Return what can still be written where a local folder lies, or will lie; None of a URL."""
    if "://" in str(folder):
        return None
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def amount(n: float) -> str:
    """Write a number of bytes as people do, with three digits that count.

    >>> amount(0), amount(1_234_567), amount(11.4e9), amount(999_600), amount(3e15)
    ('0 B', '1.23 MB', '11.4 GB', '1 MB', '3000 TB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 999.5 or unit == "TB":
            break
        n /= 1000
    return f"{n:.3g} {unit}" if n < 999.5 else f"{n:.0f} {unit}"


def write_error(error: BaseException, where: str, needed: int | None = None) -> Unavailable:
    """Say what kept us from writing, and that nothing finished is lost.

    Parameters
    ----------
    error
        What was raised.
    where
        What was to be written: its path or URL.
    needed
        Its bytes, as far as they are known.
    """
    if not is_full(error):
        text = first_line(error)
        return Unavailable(f"cannot write {where}: {text}; {KEPT}, then `segpipe resume`")
    return DiskFull(
        f"cannot write {where}: the disk is full{_figures(where, needed)}; {KEPT}: free some "
        f"space, then go on with `segpipe resume`"
    )


def _figures(where: str, needed: int | None) -> str:
    free = free_bytes(where)
    found = [] if free is None else [f"{amount(free)} free"]
    if needed:
        found.append(f"the next piece takes up to {amount(needed)}")
    return f" ({', '.join(found)})" if found else ""


@contextmanager
def said_when_full(where: str) -> Iterator[None]:
    """Turn whatever a library raises because the disk of `where` is full into a `DiskFull`."""
    try:
        yield
    except SegpipeError:
        raise
    except Exception as error:
        if is_full(error):
            raise write_error(error, where) from error
        raise
