"""Which images a collection has, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.collection.listing import Item, _Found, _safe, _unique, find_items, is_collection
from segpipe.errors import InputError
from tests.collection.conftest import BAD, GOOD


def names(items: tuple[Item, ...]) -> list[str]:
    return [item.name for item in items]


def test_folder__is_searched_through(photos: Path) -> None:
    items = find_items(str(photos), str(photos / "out"))
    assert names(items) == sorted((*GOOD, *BAD))
    assert items[0] == Item("a/one.jpg", str(photos / "a/one.jpg"))


def test_folder__output_inside_is_left_out(photos: Path) -> None:
    (photos / "b/out/images/x.png").mkdir(parents=True)
    (photos / "b/out/images/x.png/thumbnail.jpg").touch()
    assert names(find_items(str(photos), str(photos / "b/out"))) == sorted((*GOOD, *BAD))


def test_folder__results_inside_are_left_out(photos: Path) -> None:
    for home in ("old", "old/images/x.png"):
        (photos / home).mkdir(parents=True)
    (photos / "old/collection.json").touch()
    (photos / "old/images/x.png/thumbnail.jpg").touch()
    assert names(find_items(str(photos), "/nowhere")) == sorted((*GOOD, *BAD))


def test_folder__ome_zarr_is_one_image(photos: Path) -> None:
    (photos / "c.ome.zarr/0").mkdir(parents=True)
    (photos / "c.ome.zarr/0/stray.png").touch()
    assert "c.ome.zarr" in names(find_items(str(photos), "/nowhere"))
    assert not is_collection(str(photos / "c.ome.zarr"))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.jpg", ["a/one.jpg", "cut.jpg", "one.jpg", "text.jpg"]),
        ("a/*", ["one.jpg", "two.png"]),
        ("?/*.png", ["a/two.png", "b/gray.png"]),
        ("*.md", ["notes.md"]),
    ],
)
def test_pattern(photos: Path, pattern: str, found: list[str]) -> None:
    given = str(photos / pattern)
    assert is_collection(given)
    assert names(find_items(given, "/nowhere")) == found


def test_pattern__a_file_of_that_very_name_is_a_single_image(tmp_path: Path) -> None:
    (tmp_path / "scan[1].png").touch()
    assert not is_collection(str(tmp_path / "scan[1].png"))


def test_list__leaves_out_what_all_have_in_common(photos: Path) -> None:
    chosen = (str(photos / "a/one.jpg"), str(photos / "b/gray.png"), str(photos / "a/one.jpg"))
    assert is_collection(chosen)
    assert names(find_items(chosen, "/nowhere")) == ["a/one.jpg", "b/gray.png"]
    urls = ("s3://bucket/x/1.tif?versionId=3", "https://host/x/1.tif")
    assert names(find_items(urls, "/nowhere")) == ["bucket/x/1.tif", "host/x/1.tif"]


def test_manifest__text(photos: Path) -> None:
    path = photos / "list.txt"
    path.write_text("\ufeff# chosen\na/one.jpg\n\n  b/gray.png  \nhttps://host/d/3.tif\n")
    items = find_items(str(path), "/nowhere")
    assert names(items) == ["a/one.jpg", "b/gray.png", "host/d/3.tif"]
    assert items[0].where == str(photos / "a/one.jpg")
    assert items[2].where == "https://host/d/3.tif"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifest__table(photos: Path, separator: str) -> None:
    path = photos / "list.csv"
    rows = [("name", "path", "mask", "who"), ("left", "a/one.jpg", "m.png", "x"),
            ("", "b/gray.png", "", "y")]  # fmt: skip
    path.write_text("\n".join(separator.join(row) for row in rows))
    left, gray = sorted(
        find_items(str(path), "/nowhere", mask="/all.png"), key=lambda i: -len(i.name)
    )[::-1]
    assert left == Item("left", str(photos / "a/one.jpg"), str(photos / "m.png"))
    assert gray == Item("b/gray.png", str(photos / "b/gray.png"), "/all.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [("file,name\na.png,x\n", "needs `path`"), ("path,name\n,x\n", "no path in line 2"),
     ("path,name\na.png,x\nb.png,x\nb.png,X\n", None)],
)  # fmt: skip
def test_manifest__that_cannot_be_used(tmp_path: Path, text: str, message: str | None) -> None:
    (tmp_path / "list.csv").write_text(text)
    if message is None:
        # one name for two images: both are marked; twice the same image and name are one mark
        with pytest.raises(InputError, match="several images would be called"):
            find_items(str(tmp_path / "list.csv"), "/nowhere")
        return
    with pytest.raises(InputError, match=message):
        find_items(str(tmp_path / "list.csv"), "/nowhere")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no image in .*\.tiff"):
        find_items(str(tmp_path), "/nowhere")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8, unique=True))
def test_names__stay_inside_and_apart(given_names: list[str]) -> None:
    """Whatever files are called, no run folder is another's, or outside, or inside another."""
    found = [_Found(f"/photos/{name}", name) for name in given_names]
    unique = _unique([_safe(one.inside) for one in found], found)
    for name in unique:
        home = "/out/images/"
        assert os.path.normpath(home + name) == home + name
        assert all(0 < len(part.encode()) <= 255 for part in name.split("/"))
        assert not any(part.startswith(".") for part in name.split("/"))
    folded = [name.casefold() for name in unique]
    assert len(set(folded)) == len(folded)
    parents = {str(parent) for name in folded for parent in PurePosixPath(name).parents}
    assert not parents & set(folded)


def test_names__of_some_do_not_depend_on_others(photos: Path) -> None:
    before = {item.where: item.name for item in find_items(str(photos), "/nowhere")}
    (photos / "a/later.png").touch()
    (photos / "c").mkdir()
    (photos / "c/one.jpg").touch()
    after = {item.where: item.name for item in find_items(str(photos), "/nowhere")}
    assert before.items() <= after.items()
