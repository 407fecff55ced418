"""Which images a collection has: a folder, a pattern, a list or a manifest, on disk or behind URLs.

Every image gets a name, from which follows the folder of its run. Names depend on where an image
lies, not on which others there are, so that a collection may grow between two runs.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from segpipe.errors import InputError
from segpipe.readers.ome_zarr import METADATA
from segpipe.readers.open import absolute
from segpipe.readers.places import file_system, local_path, open_place, said_plainly
from segpipe.state import COLLECTION, RUN

ENDINGS = (
    *(".tif", ".tiff", ".tf8", ".btf", ".svs", ".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".webp", ".bmp", ".gif", ".avif", ".zarr"),
)
"""What is taken for an image in a folder (a pattern or a list takes what it names)."""
MANIFESTS = (".txt", ".csv", ".tsv")
RESULTS = {RUN, COLLECTION}
"""Files that tell the folder of a run, or of a collection."""
MAGIC = re.compile(r"[*?\[]")
UNSAFE = re.compile(r"[^\w.\-+=@]+")
"""What a name must not have in it: some file system or object store stumbles over it."""
LONGEST = 120
"""Characters of a part of a name; file systems allow 255 bytes."""


@dataclass(frozen=True)
class Item:
    """One image of a collection."""

    name: str
    """Folder of its run below ``images/``: parts of letters, digits and ``._-+=@``."""
    where: str
    """Path or URL."""
    mask: str | None = None


@dataclass(frozen=True)
class _Found:
    """An image, and what of its place is to be its name."""

    where: str
    inside: str
    """Path relative to the folder it was found in; the whole path where there was none."""
    name: str | None = None
    mask: str | None = None


def is_collection(given: str | Sequence[str]) -> bool:
    """Whether an `input` means several images."""
    if not isinstance(given, str):
        return True
    path = local_path(given)
    if path is None:
        bare = given.split("?")[0].lower()
        return bool(MAGIC.search(bare)) or bare.endswith(("/", *MANIFESTS))
    if path.suffix.lower() in MANIFESTS:
        return True
    if path.is_dir():
        return not _is_zarr(path)
    return bool(MAGIC.search(given)) and not path.exists()


def find_items(
    given: str | Sequence[str], output: str, mask: str | None = None
) -> tuple[Item, ...]:
    """Return the images of a collection, by name.

    Parameters
    ----------
    given
        A folder (searched through, hidden files left out), a pattern (``**`` = any folders), a
        manifest, or a list of such and of single images.
    output
        Folder of the collection: never searched, if it lies in a folder that is.
    mask
        Polygons or an image for those that have no mask of their own.

    Raises
    ------
    InputError
        There is no image, a manifest cannot be used, or two images claim one name.
    """
    several = [given] if isinstance(given, str) else given
    home = local_path(output)
    away = None if home is None else str(home.absolute())
    found = [one for where in several for one in _expand(where, away)]
    if not isinstance(given, str):
        found = list(_below_common(found))
    found = list(dict.fromkeys(found))
    if not found:
        raise InputError(
            f"there is no image in {', '.join(several[:3])}; in folders, files that end in "
            f"{', '.join(ENDINGS)} are looked for"
        )
    names = _unique([_safe(one.name or one.inside) for one in found], found)
    items = [Item(n, f.where, f.mask or mask) for n, f in zip(names, found, strict=True)]
    return tuple(sorted(items, key=lambda item: item.name))


def _expand(where: str, output: str | None) -> Iterator[_Found]:
    """Yield the images that one entry means."""
    path = local_path(where)
    if not is_collection(where):
        # a single image: its whole place, of which a list leaves out what all have in common
        yield _Found(absolute(where), _whole_place(where))
    elif where.split("?")[0].lower().endswith(MANIFESTS):
        yield from _manifest(where)
    elif path is None:
        yield from _remote(where)
    elif path.is_dir():
        for found in _walk(path.absolute(), output):
            yield _Found(found, os.path.relpath(found, path.absolute()))
    else:
        base = _fixed_part(str(path.absolute()))
        for name in sorted(glob.glob(str(path.absolute()), recursive=True)):
            if _is_image(Path(name)) and not _lies_in(name, output):
                yield _Found(name, os.path.relpath(name, base))


def _walk(folder: Path, output: str | None) -> Iterator[str]:
    """Yield the images below a folder, OME-Zarr folders among them."""
    for here, folders, files in os.walk(folder):
        if RESULTS & set(files):
            folders.clear()  # what a run has written is no source
            continue
        for name in sorted(folders + files):
            path = os.path.join(here, name)
            seen = not name.startswith(".") and not _lies_in(path, output)
            if name.lower().endswith(ENDINGS) and seen and _is_image(Path(path)):
                yield path
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and not name.lower().endswith(".zarr")
            and not _lies_in(os.path.join(here, name), output)
        ]


def _remote(where: str) -> Iterator[_Found]:
    """Yield the images behind a URL that ends in a slash, or is a pattern."""
    scheme = where.partition("://")[0]
    fs, root = file_system(where)
    with said_plainly(where):
        if MAGIC.search(where):
            base, names = _fixed_part(root), fs.glob(root)
        else:
            base, names = root.rstrip("/"), fs.find(root)
            names = [n for n in names if n.lower().endswith(ENDINGS)]
    for name in sorted(names):
        inside = name.removeprefix(base).lstrip("/")
        if not any(part.startswith(".") for part in inside.split("/")):
            yield _Found(name if "://" in name else f"{scheme}://{name.lstrip('/')}", inside)


def _manifest(where: str) -> Iterator[_Found]:
    """Yield the images that a text or CSV file names; relative paths start at its folder."""
    place = open_place(where)
    try:
        text = place.stream().read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the manifest {where} is no UTF-8 text: {error}") from error
    finally:
        place.close()
    home = where.rpartition("/")[0] if local_path(where) is None else str(Path(where).parent)
    rows = _lines(text) if where.lower().endswith(".txt") else _records(where, text)
    for path, name, mask in rows:
        place_of = _joined(home, path)
        inside = place_of.removeprefix(f"{home}/") if place_of.startswith(f"{home}/") else ""
        yield _Found(
            place_of, inside or _whole_place(path), name or None, _joined(home, mask) or None
        )


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            yield line, "", ""


def _records(where: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, name and mask of the rows of a table."""
    head = text.partition("\n")[0]
    delimiter = max("\t;,", key=head.count)
    table = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    known = [(name or "").strip() for name in table.fieldnames or ()]
    table.fieldnames = known
    if "path" not in known:
        raise InputError(
            f"the manifest {where} has the columns {', '.join(known) or '(none)'}; it needs "
            f"`path`, and may have `name` (folder of the run) and `mask`"
        )
    for row in table:
        path, name, mask = ((row.get(key) or "").strip() for key in ("path", "name", "mask"))
        if not path:
            raise InputError(f"the manifest {where} has no path in line {table.line_num}")
        yield path, name, mask


def _joined(home: str, path: str) -> str:
    if not path or "://" in path:
        return path
    if "://" in home:
        return f"{home}/{path}"
    return os.path.abspath(os.path.join(home, path))


def _whole_place(where: str) -> str:
    """Return path or URL as the parts of a name."""
    parts = urlsplit(where) if "://" in where else None
    if parts is None:
        return Path(where).absolute().as_posix().lstrip("/")
    return f"{parts.hostname or ''}{unquote(parts.path)}".lstrip("/")


def _below_common(found: Iterable[_Found]) -> Iterator[_Found]:
    """Leave out of names what the places of all single images have in common."""
    found = list(found)
    folders = [PurePosixPath(one.inside).parent.parts for one in found]
    levels = zip(*folders, strict=False)
    common = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, levels))
    for one in found:
        parts = PurePosixPath(one.inside).parts
        yield _Found(one.where, "/".join(parts[common:]), one.name, one.mask)


def _fixed_part(pattern: str) -> str:
    """Return the folders in front of the first that has a wildcard.

    >>> _fixed_part("/data/photos/20*/**/*.jpg")
    '/data/photos'
    """
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if MAGIC.search(part))
    return "/".join(parts[:first])


def _safe(name: str) -> str:
    r"""Return a name that is safe as a relative path, anywhere.

    >>> _safe("2024/Zürich See (1).jpg"), _safe("../../etc/passwd"), _safe("C:\\a\\b.png")
    ('2024/Zürich_See_1_.jpg', '_/_/etc/passwd', 'C_/a/b.png')
    """
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(_part(part) for part in parts if part) or "_"


def _part(part: str) -> str:
    clean = UNSAFE.sub("_", part).strip(".") or "_"
    if len(clean) <= LONGEST:
        return clean
    return f"{clean[: LONGEST - 9]}-{_mark(part)}"


def _unique(names: Sequence[str], found: Sequence[_Found]) -> list[str]:
    """Mark names that are not alone, or that are a folder of another, with a digest of the place.

    Upper and lower case count as the same: on some disks they are.
    """
    count = Counter(name.casefold() for name in names)
    folders = {str(p) for name in count for p in PurePosixPath(name).parents}
    unique = [
        f"{name}-{_mark(f'{one.where} {one.mask}')}"
        if count[name.casefold()] > 1 or name.casefold() in folders
        else name
        for name, one in zip(names, found, strict=True)
    ]
    if len({name.casefold() for name in unique}) < len(unique):
        twice = [n for n, k in Counter(map(str.casefold, unique)).items() if k > 1]
        raise InputError(f"several images would be called {twice[0]}; give them other names")
    return unique


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def _is_image(path: Path) -> bool:
    return not path.is_dir() or _is_zarr(path)


def _is_zarr(path: Path) -> bool:
    return path.suffix.lower() == ".zarr" or any((path / name).exists() for name in METADATA)


def _lies_in(path: str, folder: str | None) -> bool:
    return folder is not None and (path == folder or path.startswith(f"{folder}/"))
