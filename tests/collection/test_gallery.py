"""The page of a collection: what is on it, that it sorts and filters, and that it bears many images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from segpipe.report import gallery
from segpipe.report.gallery import write_gallery
from segpipe.store.folder import Folder
from tests.collection.conftest import picture
from tests.report.chromium import dumped, needs_chromium, screenshot

EVIL = "<script>alert('x')</script>&\"{{ 7 * 7 }}.png"


def write(folder: Path, images: int, pictures: int = 0, **changes: Any) -> Folder:
    """Write what a collection leaves: of every ten images the last was set aside."""
    folder.mkdir(exist_ok=True)
    number = np.arange(images)
    done = number % 10 != 9
    known = lambda values: [v if d else None for v, d in zip(values.tolist(), done, strict=True)]  # noqa: E731
    names = [f"trip {n // 1000}/photo{n:06}.jpg" for n in number]
    table = {
        "name": names,
        "path": [f"/photos/{name}" for name in names],
        "status": ["done" if d else "set aside" for d in done],
        "error": [
            "" if d else f"/photos/{n}: rows 3 to 9 cannot be decoded"
            for n, d in zip(names, done, strict=True)
        ],
        "remark": ["one segment covers 93 %" if n % 20 == 5 else "" for n in number],
        "height": known(300 + number % 7),
        "width": known(400 + number % 5),
        "channels": known(np.full(images, 3)),
        "seconds": known(0.05 + number % 13 / 100),
        "segments": known(500 + number * 7 % 301),
        "explained_variation": known(0.5 + number % 49 / 100),
        "boundary_strength": known(1.5 + number % 23 / 10),
        "compactness": known(0.3 + number % 31 / 100),
        "evenness": known(0.8 + number % 11 / 100),
        "small_share": known(number % 5 / 100),
        "largest_share": known(number % 7 / 10),
        "digest": known(np.array(["0" * 64] * images)),
    }
    pq.write_table(pa.table(table), folder / "images.parquet")
    for n in range(pictures):
        if done[n]:
            home = folder / "images" / names[n]
            home.mkdir(parents=True)
            Image.fromarray(picture(90, 120, n)).save(home / "thumbnail.jpg")
    stages = [{"method": "slic", "name": "slic", "parameters": {"step": 16}}]
    state = {
        "segpipe": "0.1.0", "state": "complete", "identity": "1" * 64, "digest": "2" * 64,
        "config": {
            "input": "/photos", "output": str(folder), "stages": stages,
            "collection": {"thumbnail": 240, "pages": False},
        },
        "counts": {"images": images, "done": int(done.sum()), "set aside": int((~done).sum()), "reused": 0,
                   "remarked": int((number % 20 == 5).sum())},
        "machine": {
            "host": "workstation", "system": "Linux", "processor": "x86_64", "python": "3.12.1",
            "cores": 8, "workers": 4, "worker_memory": 4 << 30,
        },
        "started": "2026-03-04T22:15:00+00:00", "ended": "2026-03-04T22:25:00+00:00",
        "wall_seconds": 600.0, "seconds_here": 600.0, "resumed": 0,
    }  # fmt: skip
    where = Folder(str(folder))
    where.put_json("collection.json", state | changes)
    return where


def page_of(folder: Folder) -> str:
    html = write_gallery(folder, folder.get_json("collection.json"))
    folder.put("report.html", html.encode())
    return html


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    return dict(json.loads(found[1]))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = write(tmp_path_factory.mktemp("gallery") / "out", 40, pictures=40)
    page_of(folder)
    return folder


def test_page__says_what_one_wants_to_know(small: Folder) -> None:
    html = page_of(small)
    for text in ("photos", "36 of 40 done", "slic", "2" * 64, "rows 3 to 9 cannot be decoded",
                 f"segpipe resume {small}", "set aside", "workstation", "Homogeneity"):  # fmt: skip
        assert text in html, text
    for number in (
        r"[\d.]+ Mpx</b> <span>median, [\d.]+ to [\d.]+ Mpx",
        r"[\d.]+ s</b> <span>median",
    ):
        assert re.search(number, html), "figures have their units"
    data = data_of(html)
    assert len(data["name"]) == 40
    assert data["segments"][3] == 521
    assert data["segments"][9] is None
    assert len(data["pictures"]) == 36
    assert data["errors"]["9"] == "rows 3 to 9 cannot be decoded"
    assert "img-src data:;" in html


def test_page__of_many_keeps_pictures_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "INLINE", 20)
    folder = write(tmp_path / "out", 40, pictures=40)
    html = page_of(folder)
    assert data_of(html)["pictures"] == {}
    assert "img-src 'self' file: data:;" in html
    assert not re.search(r"https?:|connect-src", html[: html.index("<style>")])


def test_page__escapes_everything(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", 10)
    table = pq.read_table(tmp_path / "out/images.parquet").to_pydict()
    table["name"][9] = table["error"][9] = EVIL
    pq.write_table(pa.table(table), tmp_path / "out/images.parquet")
    html = page_of(folder)
    assert "<script>alert" not in html
    assert data_of(html)["name"][9] == EVIL
    assert "49.png" not in html


def test_page__without_pictures_speaks_of_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", 300)
    state = folder.get_json("collection.json")
    state["config"]["collection"]["thumbnail"] = 0
    html = write_gallery(folder, state)
    for text in ("all pictures itself", "pictures beside it", "in the small picture"):
        assert text not in html, text
    assert "This page is complete: it loads nothing from anywhere." in html


def test_page__without_any_result(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", 10)
    table = pq.read_table(tmp_path / "out/images.parquet").slice(9)
    pq.write_table(table, tmp_path / "out/images.parquet")
    counts = {"images": 1, "done": 0, "set aside": 1, "reused": 0, "remarked": 0}
    html = write_gallery(folder, folder.get_json("collection.json") | {"counts": counts})
    assert "0 of 1 done" in html
    assert "Homogeneity" not in html


def played(html: str, folder: Path, *actions: str) -> str:
    """Return the document after some clicks."""
    script = "".join(f"{action};" for action in actions)
    (folder / "played.html").write_text(
        html.replace("</body>", f"<script>{script}</script></body>")
    )
    return dumped(f"file://{folder}/played.html")


def set_to(name: str, value: str) -> str:
    event = "input" if name == "words" else "change"
    return f"(e => {{ e.value = '{value}'; e.on{event}(); }})(document.getElementById('{name}'))"


CARD = re.compile(r'class="facts"><b>([^<]*)</b>')


@needs_chromium
def test_gallery__sorts_filters_and_turns_pages(small: Folder, tmp_path: Path) -> None:
    html = page_of(small)
    data = data_of(html)
    order = [
        i for i in np.argsort(np.array(data["segments"], float), kind="stable") if data["done"][i]
    ]
    dom = played(html, tmp_path, set_to("key", "segments"), "document.getElementById('order').click()",
                 "document.getElementById('order').click()")  # fmt: skip
    assert CARD.findall(dom)[:36] == [data["name"][i] for i in order]
    dom = played(html, tmp_path, set_to("status", "0"), set_to("words", "decoded 1"))
    assert CARD.findall(dom) == ["trip 0/photo000019.jpg"]
    assert dom.count('class="card aside"') == 1
    dom = played(html, tmp_path, set_to("status", "remark"), set_to("words", "93"))
    assert CARD.findall(dom) == ["trip 0/photo000005.jpg", "trip 0/photo000025.jpg"]
    assert dom.count("one segment covers 93 %</span>") == 2
    dom = played(
        html, tmp_path, "document.getElementById('table').click()", set_to("key", "compactness")
    )
    assert 'aria-sort="ascending"' in dom
    assert not CARD.findall(dom)


@needs_chromium
def test_gallery__bears_a_hundred_thousand(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", 100_000, pictures=1)
    html = page_of(folder)
    assert len(html) < 16_000_000
    dom = played(html, tmp_path / "out", "document.getElementById('on').click()", set_to("key", "segments"),
                 "document.getElementById('on').click()")  # fmt: skip
    assert len(CARD.findall(dom)) == 60
    assert "61 – 120 of 100\u202f000" in dom


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("inline", [200, 20])
def test_gallery__in_a_browser(
    tmp_path: Path, width: int, inline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are shown, whether they are in the page or beside it, and nothing is out of place."""
    monkeypatch.setattr(gallery, "INLINE", inline)
    page_of(write(tmp_path / "out", 40, pictures=40))
    url = f"file://{tmp_path}/out/report.html"
    said = screenshot(url, tmp_path / "page.png", width, 4200 if width > 1000 else 7000)
    assert [line for line in said if not line.startswith("ResizeObserver loop")] == []
    image = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert image.shape[1] == width
    assert (image[:, :8] == 255).mean() > 0.98  # but for the line under the bar
    assert (image[:, -8:] == 255).mean() > 0.98
    assert (image.max(-1) - image.min(-1) > 60).mean() > 0.04
    assert (np.abs(image - (0x0B, 0x6E, 0x69)).max(-1) <= 2).sum() > 3000
