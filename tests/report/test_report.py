"""The report page: what is on it, for every kind of image, and that it needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from scipy.ndimage import maximum_filter

from segpipe.report import content, distributions, overlay_png, write_report
from segpipe.report.pictures import border_mask
from segpipe.store.folder import Folder
from tests.report.chromium import dumped, needs_chromium, printed, screenshot
from tests.report.runs import cells, scene, write_run

EVIL = "<script>alert('x')</script>&\"{{ 7 * 7 }}.tif"


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\u00a0", " ")

    def images(self) -> list[Image.Image]:
        sources = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        return [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in sources]


@cache
def page_of(folder: Folder) -> str:
    return write_report(folder, folder.get_json("run.json"))


@pytest.fixture(scope="module")
def rgb_run(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    shape = (1300, 1500)
    where = tmp_path_factory.mktemp("rgb") / "run"
    return write_run(where, scene(shape), cells(shape), rgb=True, unit="micrometer")


def test_report__says_what_one_wants_to_know(rgb_run: Folder) -> None:
    page, state = Page(page_of(rgb_run)), rgb_run.get_json("run.json")
    found = state["labels"]["cells"]
    number = f"{found['segments']:,}".replace(",", "\u202f")
    for text in (
        *("field.tif", "slic", "complete", "1\u202f500 × 1\u202f300 px", number, found["digest"]),
        *("Exact.", "step_px", "0.5 micrometer", "uint8", "9 of 512 × 512 px", "cells-label"),
        *("315 MB", f"segpipe view {rgb_run}", "workstation", "0.1.0"),
    ):
        assert text in page.text, text


def test_report__median_is_that_of_the_table(tmp_path: Path) -> None:
    """Exact, also where bins are wide, between two sizes, and over many batches of rows."""
    rng = np.random.default_rng(3)
    for areas in (
        rng.integers(5000, 60_000, 1001),
        rng.integers(200, 300, 1000),
        np.array([1, 2, 10**9, 10**9 + 7]),
        np.array([7]),
    ):
        pq.write_table(pa.table({"area": areas}), tmp_path / "a.parquet")
        found = distributions.areas(Folder(str(tmp_path)), "a.parquet")
        assert found is not None
        assert found.median == np.median(areas)
    parts = np.array_split(areas := rng.integers(1, 99_999, 500), 37)
    found = distributions.distribution(lambda: iter(parts), distributions.WHOLE)
    assert found is not None
    assert found.median == np.median(areas)


def test_report__says_what_holds_where_nothing_is_set(tmp_path: Path) -> None:
    shape = (120, 160)
    given = {"step": 16, "compactness": 10.0, "min_size": None}
    stages = [{"method": "slic", "name": "cells", "parameters": given}]
    folder = write_run(tmp_path / "run", scene(shape), cells(shape), config={"stages": stages})
    assert "42 (not set: a sixth of step * step)" in Page(page_of(folder)).text
    given = content.parameters({"config": {"stages": [
        {"method": "components", "parameters": {"background": None, "channel": None}}
    ]}}, "components")  # fmt: skip
    assert given["background"] == "not set: every pixel is labelled"
    assert given["channel"] == "not set: at all of them"


def test_report__marks_the_least_uniform_segments(rgb_run: Folder) -> None:
    """A white line runs round the segment that the place is about, and no other."""
    page, state = Page(page_of(rgb_run)), rgb_run.get_json("run.json")
    worst = {s["label"] for s in state["conditions"]["cells"]["worst"]}
    layers = [np.asarray(image.convert("RGBA")) for image in page.images()[3::2]]
    marked = [(layer[..., :3].min(-1) == 255) & (layer[..., 3] == 255) for layer in layers]
    assert [bool(mark.any()) for mark in marked] == [False, False, True, True] + 4 * [False]
    labels = cells((1300, 1500))
    places = re.findall(r"(\d+) × (\d+) px at x ([\d\u202f]+), y ([\d\u202f]+)\.", page.text)
    for place, mark in list(zip(places, marked, strict=False))[2:4]:
        width, height, left, top = (int(n.replace("\u202f", "")) for n in place)
        part = labels[top : top + height, left : left + width]
        rows, columns = np.nonzero(mark)
        middle = part[int(rows.mean()) // 2, int(columns.mean()) // 2]
        assert middle in worst
        inside = np.repeat(np.repeat(part == middle, 2, 0), 2, 1)
        assert not (mark & inside).any()
        near = maximum_filter(inside, 5)
        assert (mark <= near).all()
        assert mark[near & ~inside].mean() > 0.5


def test_report__configuration_can_be_read_back(rgb_run: Folder) -> None:
    text = re.search(r"<pre>(.*?)</pre>", page_of(rgb_run), re.S)
    assert text
    assert yaml.safe_load(text[1]) == rgb_run.get_json("run.json")["config"]


def without_scripts(html: str) -> str:
    return re.sub(r"<script>.*?</script>", "", html, flags=re.S)


def test_report__loads_nothing_and_is_small(rgb_run: Folder) -> None:
    """The scripts may hold addresses, but the page's policy lets the browser ask nobody."""
    html = page_of(rgb_run)
    page = Page(html)
    policies = [attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs]
    assert len(policies) == 1
    assert (policies[0] or "").startswith("default-src 'none'; ")
    assert not re.search(r"https?:|\*|connect-src|'self'|unsafe-eval", policies[0])
    assert "://" not in without_scripts(html)
    assert not {tag for tag, _ in page.tags} & {"iframe", "object", "embed", "base"}
    for _, attrs in page.tags:
        for key in ("src", "href"):
            assert (attrs.get(key) or "data:").startswith("data:")
    assert len(html) < 4_000_000


def test_report__shows_overview_and_places_that_say_why(rgb_run: Folder) -> None:
    page = Page(page_of(rgb_run))
    whole, borders, *places = page.images()
    assert whole.size == (1200, 1040)
    assert borders.size == (2400, 2080)
    assert len(places) == 2 * 8
    boxes = re.findall(r"(\d+) × (\d+) px at x ([\d\u202f]+), y ([\d\u202f]+)\.", page.text)
    shown = [tuple(int(n.replace("\u202f", "")) for n in box) for box in boxes]
    for i, (_w, _h, x, y) in enumerate(shown[:2]):
        for w, h, left, top in shown[:i] + shown[i + 1 :]:
            across, down = max(0, w - abs(x - left)), max(0, h - abs(y - top))
            assert across * down <= 0.05 * w * h, "places drawn at random stand apart"
    for why in ("Drawn at random", "Least uniform segment"):
        assert page.text.count(why) == 2, why
    assert len(re.findall(r"Seam [xy] \d", page.text)) == 4
    classes = [attrs.get("class") for _, attrs in page.tags]
    assert classes.count("tick x") + classes.count("tick y") >= 2


def test_report__scores_say_what_they_mean(rgb_run: Folder) -> None:
    page, state = Page(page_of(rgb_run)), rgb_run.get_json("run.json")
    scored, traces = state["conditions"]["cells"], state["seams"]["cells"]
    for text in (
        *("Homogeneity", "Size", "Compactness", "Evenness", "Boundary strength", "Time"),
        f"{scored['explained_variation'] * 100:.3g} %",
        f"{scored['boundary_strength']:.3g} ×",
        "No window was segmented again",
        f"{traces['density'] * 100:.3g} % of",
        "resumed" if state["resumed"] else "none of 18 tasks",
    ):
        assert text in page.text, text
    assert "not measured" not in page.text
    classes = [attrs.get("class") for _, attrs in page.tags]
    assert classes.count("plot") == 7


def test_report__of_a_poorer_table_says_what_is_missing(tmp_path: Path) -> None:
    """Older runs, and methods without such columns: no score is made up."""
    shape = (300, 420)
    folder = write_run(tmp_path / "run", scene(shape), cells(shape), tile=(128, 128))
    table = pq.read_table(tmp_path / "run/segments.parquet", columns=["label", "area"])
    pq.write_table(table, tmp_path / "run/segments.parquet")
    state = folder.get_json("run.json")
    del state["conditions"], state["seams"]
    page = Page(write_report(folder, state))
    assert page.text.count("not measured") >= 4
    assert "Where segments are" in page.text


@pytest.mark.parametrize(
    ("apart", "says"),
    [(False, "nothing changes inside segments"), (True, "no segment has a neighbour")],
)
def test_report__of_flat_segments__has_no_empty_plots(
    tmp_path: Path, apart: bool, says: str
) -> None:
    """Each segment of one value, as components of a map are: nothing to draw, and it says so."""
    labels = cells((120, 160))
    image = (labels * 37 % 251).astype(np.uint8)[..., None].repeat(3, axis=2)
    if apart:
        labels = np.where(
            border_mask(labels) | border_mask(labels[::-1, ::-1])[::-1, ::-1], 0, labels
        )
    page = Page(page_of(write_run(tmp_path / "run", image, labels)))
    assert "Every segment is of one value." in page.text
    assert says in page.text
    classes = [attrs.get("class") for _, attrs in page.tags]
    assert classes.count("plot") == (4 if apart else 5)


@pytest.mark.parametrize("corner", [(0, 0), (291, 1377)])
def test_report__small_mask_is_found(tmp_path: Path, corner: tuple[int, int]) -> None:
    """A mask that no coarse level sees: places show it nevertheless, and none is empty."""
    shape = (300, 2100)
    labels = np.zeros(shape, np.uint32)
    y, x = corner
    labels[y : y + 9, x : x + 7] = cells((9, 7), 4)[: shape[0] - y, : shape[1] - x]
    folder = write_run(tmp_path / "run", scene(shape), labels, tile=(512, 512))
    for state in (folder.get_json("run.json"), folder.get_json("run.json") | {"conditions": {}}):
        page = Page(write_report(folder, state))
        _whole, _stripes, *places = page.images()
        assert len(places) >= 2
        for layer in places[1::2]:
            assert (np.asarray(layer.convert("RGBA"))[:, :, 3] == 255).any()


def test_report__tells_compiling_from_computing(rgb_run: Folder) -> None:
    state = rgb_run.get_json("run.json")
    pixels = np.prod(state["source"]["shape"])
    slow = state | {"wall_seconds": 60.0 + pixels / 2e6, "compile_seconds": 60.0}
    text = Page(write_report(rgb_run, slow)).text
    assert "1 min 00 s of it compiling kernels, once; else 2 Mpx/s" in text
    assert "500 ms" in text or "0.5 s" in text
    assert "Without compiling kernels" in text
    assert "compiling kernels" not in Page(page_of(rgb_run)).text


def test_report__says_of_which_session_retries_are(rgb_run: Folder) -> None:
    state = rgb_run.get_json("run.json")
    for resumed, said in ((0, "none"), (2, "none since the last resume")):
        page = write_report(rgb_run, state | {"resumed": resumed})
        assert f"<dt>retries</dt><dd>{said}</dd>" in page


def test_report__is_the_same_every_time(rgb_run: Folder) -> None:
    assert write_report(rgb_run, rgb_run.get_json("run.json")) == page_of(rgb_run)


def test_report__escapes_everything(tmp_path: Path) -> None:
    shape = (120, 160)
    stages = [{"method": "slic", "name": "cells", "parameters": {EVIL: [EVIL, True, None]}}]
    folder = write_run(
        tmp_path / "run", scene(shape), cells(shape), source=EVIL,
        config={"input": EVIL, "stages": stages}, machine={
            "host": EVIL, "system": EVIL, "processor": EVIL, "python": EVIL,
            "cores": 1, "workers": 1, "worker_memory": 1,
        },
        steps={f"{EVIL}'-label": {"tasks": 1, "reused": 0, "wall": 1.0, "peak_bytes": 1}},
    )  # fmt: skip
    html = page_of(folder)
    assert "<script>alert" not in html
    assert html.count("<script>") == html.count("</script>") == 3
    assert "49.tif" not in html
    assert EVIL in Page(html).text


def test_report__keeps_passwords_and_signatures_out(tmp_path: Path) -> None:
    shape = (120, 160)
    url = "https://me:hunter2@host/field.tif?X-Amz-Signature=5eCr3t&part=7"
    folder = write_run(tmp_path / "run", scene(shape), cells(shape), source=url)
    html = page_of(folder)
    assert "hunter2" not in html
    assert "5eCr3t" not in html
    assert "field.tif</h1>" in html
    assert "part=7" in html


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_report__shows_any_kind_of_image(tmp_path: Path, dtype: str, channels: int) -> None:
    """Shown between the 1 % and 99 % quantiles: never black, whatever the unit of the values."""
    shape = (210, 330)
    image = scene(shape, channels).astype(dtype)
    if dtype != "uint8":
        image = (image * np.array(37, dtype) + np.array(1000, dtype)).astype(dtype)
    folder = write_run(tmp_path / "run", image, cells(shape), tile=(128, 128))
    whole = Page(page_of(folder)).images()[0]
    assert whole.mode == ("RGB" if channels >= 3 else "L")
    values = np.asarray(whole)
    assert values.min() < 30
    assert values.max() > 225


def test_report__masked_pixels_do_not_spoil_the_contrast(tmp_path: Path) -> None:
    shape = (300, 400)
    image, labels = scene(shape, 1).astype(np.float32) / 255, cells(shape)
    image[100:, 250:], labels[100:, 250:] = np.nan, 0
    image[:100, 300:], labels[:100, 300:] = -32768.0, 0
    folder = write_run(tmp_path / "run", image, labels, tile=(300, 400))
    page = Page(page_of(folder))
    whole, borders = page.images()[:2]
    values = np.asarray(whole)
    assert abs(int(values[200, 330]) - 208) < 6
    assert values[:, :240].std() > 40
    assert "striped: in no segment" in page.text
    stripes = np.asarray(borders.convert("RGBA"))[:, :, 3]
    assert set(np.unique(stripes)) == {0, 140, 255}


def test_report__image_without_any_segment(tmp_path: Path) -> None:
    shape = (150, 200)
    folder = write_run(tmp_path / "run", scene(shape), np.zeros(shape, np.uint32))
    page = Page(page_of(folder))
    assert len(page.images()) == 2
    assert "Homogeneity" not in page.text


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (40, 3000)])
def test_report__odd_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    folder = write_run(tmp_path / "run", scene(shape), cells(shape), tile=(64, 64))
    assert Page(page_of(folder)).images()


def test_report__segments_too_small_are_not_outlined(tmp_path: Path) -> None:
    shape = (1100, 1300)
    labels = cells(shape, 8)
    folder = write_run(tmp_path / "run", scene(shape), labels, tile=(1100, 1300))
    page = Page(page_of(folder))
    assert "too small to be outlined" in page.text
    assert "No tiles meet here." in page.text
    assert "No segment lies across a seam" in page.text


def test_report__sparse_labels_say_what_is_explained(tmp_path: Path, rgb_run: Folder) -> None:
    labels = cells((300, 400))
    labels[:, 120:] = 0
    folder = write_run(tmp_path / "run", scene((300, 400)), labels, rgb=True)
    assert "Only pixels inside segments count, 30 % of the image" in Page(page_of(folder)).text
    assert "Only pixels inside segments" not in Page(page_of(rgb_run)).text


def test_report__state_may_come_from_memory(rgb_run: Folder) -> None:
    """Before ``run.json`` is written, sizes are tuples and numbers may be NumPy's."""
    state = rgb_run.get_json("run.json")
    source = state["source"]
    source |= {"shape": tuple(source["shape"]), "pixel_size": tuple(source["pixel_size"])}
    assert write_report(rgb_run, state) == page_of(rgb_run)


def test_report__several_stages(tmp_path: Path) -> None:
    shape = (200, 260)
    folder = write_run(tmp_path / "run", scene(shape), cells(shape))
    home = tmp_path / "run/image.ome.zarr/labels"
    shutil.copytree(home / "cells", home / "parts")
    (tmp_path / "run/segments.parquet").rename(tmp_path / "run/segments-parts.parquet")
    state = folder.get_json("run.json")
    state["labels"]["parts"] = state["labels"]["cells"]
    state["exactness"]["parts"] = "certified"
    page = Page(write_report(folder, state))
    for text in ("Labels cells", "Exact.", "Labels parts", "Certified."):
        assert text in page.text
    assert page.text.count("Homogeneity") == 2
    assert page.text.count("have fewer than") == 2


def test_overlay_png__draws_borders(rgb_run: Folder) -> None:
    picture = Image.open(io.BytesIO(overlay_png(rgb_run, "cells", 750)))
    assert picture.size == (750, 650)
    plain = np.asarray(Image.fromarray(scene((1300, 1500))).resize((750, 650)))
    assert 0.05 < (np.abs(np.asarray(picture).astype(int) - plain).max(-1) > 60).mean() < 0.3
    assert max(Image.open(io.BytesIO(overlay_png(rgb_run, "cells", 60))).size) == 60


@needs_chromium
def test_report__draws_and_sorts_in_a_browser(rgb_run: Folder, tmp_path: Path) -> None:
    """Every plot has marks, and a click on a head sorts the table of steps."""
    clicks = """<script>addEventListener("load", () => setTimeout(() => {
        const heads = [...document.querySelectorAll("thead th button")];
        const wall = heads.findLast(b => b.textContent === "wall"); wall.click(); wall.click();
        document.title = "sorted";
    }, 500));</script>"""
    state = rgb_run.get_json("run.json")
    for i, step in enumerate(state["steps"].values()):
        step["wall"] = [7.5, 130.0, 0.25][i]
    html = write_report(rgb_run, state).replace("</body>", clicks + "</body>")
    (tmp_path / "report.html").write_text(html)
    dom = dumped(f"file://{tmp_path}/report.html")
    assert "<title>sorted</title>" in dom
    assert dom.count('aria-sort="descending"') == 1
    body = dom[dom.index('aria-sort="descending"') :]
    names = re.findall(r'<tr><td data-name="step">([^<]*)</td>', body[: body.index("</tbody>")])
    assert names == ["cells-label", "ingest", "finish"]
    assert dom.count("data-root-id") == 7


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
def test_report__in_a_browser(rgb_run: Folder, tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(page_of(rgb_run))
    said = screenshot(
        f"file://{tmp_path}/report.html",
        tmp_path / "page.png",
        width,
        5200 if width > 1000 else 9000,
    )
    # a plot that grows into its place is heard once; nothing else may be said
    assert [line for line in said if not line.startswith("ResizeObserver loop")] == []
    picture = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert picture.shape[1] == width
    # the page uses the width, leaves margins white, and its pictures have colour
    assert (picture[:, :8] == 255).all()
    assert (picture[:, -8:] == 255).all()
    assert (picture.max(-1) - picture.min(-1) > 60).mean() > 0.1
    # and the plots have their bars, and their medians or bars of the other colour
    for colour, least in (((0x0B, 0x6E, 0x69), 5000), ((0xC2, 0x18, 0x5B), 500)):
        assert (np.abs(picture - colour).max(-1) <= 2).sum() > least, colour


FITS = """<script>addEventListener("load", () => setTimeout(() => {
    const found = [], all = [];
    const walk = root => { for (const e of root.querySelectorAll("*")) {
        all.push(e); if (e.shadowRoot) walk(e.shadowRoot); } };
    walk(document);
    const wide = document.documentElement.clientWidth;
    for (const e of all) {
        const box = e.getBoundingClientRect();
        if (e.matches("td, th, img, dd, p, h1, .figures div") && box.right > wide + 1)
            found.push("cut off: " + e.tagName + " " + e.textContent.slice(0, 40));
        if (e.matches(".scroll") && e.scrollWidth > e.clientWidth + 1) found.push("table scrolls");
    }
    let marks = 0;
    for (const svg of all.filter(e => e.tagName === "svg")) {
        const words = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim());
        const boxes = words.map(t => [t.textContent, t.getBoundingClientRect()]);
        marks += boxes.length;
        for (const [a, one] of boxes) for (const [b, other] of boxes)
            if (one.left < other.left && other.left < one.right - 1
                && one.top < other.bottom - 3 && other.top < one.bottom - 3)
                found.push("labels collide: " + a + " " + b);
    }
    parent.postMessage(JSON.stringify({wide, marks, found}), "*");
}, 1500));</script>"""


def fits(html: str, path: Path, width: int) -> dict[str, Any]:
    """What is cut off, has to be scrolled or collides on a page of some width.

    The page lies in a frame: windows of a headless browser are never narrower than 500 px.
    """
    path.write_text(html.replace("</body>", FITS + "</body>"))
    outer = path.with_name("outer.html")
    outer.write_text(
        "<script>onmessage = event => { document.title = event.data; }</script>"
        f'<iframe src="{path.name}" scrolling="no" style="border: 0; width: {width}px; '
        f'height: 9000px"></iframe>'
    )
    title = re.search(r"<title>(.*?)</title>", dumped(f"file://{outer}"))
    assert title
    return dict(json.loads(title[1].replace("&quot;", '"')))


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
def test_report__nothing_is_cut_off_or_collides(
    wide_run: Folder, tmp_path: Path, width: int
) -> None:
    found = fits(page_of(wide_run), tmp_path / "a.html", width)
    assert found["wide"] == width
    assert found["marks"] > 30
    assert found["found"] == []


@needs_chromium
def test_report__fits_on_paper(wide_run: Folder, tmp_path: Path) -> None:
    """On sheets of A4 (718 px between usual margins) no table is clipped; some sheets are enough."""
    html = page_of(wide_run)
    (tmp_path / "page.html").write_text(html)
    assert 4 <= printed(f"file://{tmp_path}/page.html", tmp_path / "page.pdf") <= 9
    assert html.count("@media print") == 1
    found = fits(html.replace("@media print", "@media all"), tmp_path / "a.html", 718)
    assert found["found"] == []
    rules = re.sub(r"\s+", " ", html[html.index("@media print") : html.index("</style>")])
    assert "tr, .figures div, dl, .two { break-inside: avoid; }" in rules


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Areas from one pixel to many thousands, steps of all kinds that take long: much to fit."""
    shape = (1300, 1500)
    labels = cells(shape, 9)
    labels[:, 500:] = cells((1300, 1000), 190)[:, :] + labels.max()
    labels = np.unique(labels, return_inverse=True)[1].reshape(shape).astype(np.uint32) + 1
    step = {"tasks": 123_456, "reused": 23_456, "wall": 7654.3, "read": 4567.8, "compute": 9876.5,
            "write": 123.4, "compile": 61.2, "peak_bytes": 123_456_789_012}  # fmt: skip
    names = ("image-ingest", "felzenszwalb-attach", "felzenszwalb-label", "seam-check", "finish")
    where = tmp_path_factory.mktemp("wide") / "run"
    return write_run(where, scene(shape), labels, rgb=True, steps=dict.fromkeys(names, step))
