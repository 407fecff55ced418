"""The look at a result: the same for any tiling, and it tells a method that feels its tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from PIL import Image

from segpipe import methods
from segpipe.config import parse
from segpipe.inspection import inspect, windows
from segpipe.inspection.jobs import segmented_again
from segpipe.methods.slic import Slic
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.progress import Silent
from segpipe.quality import seams
from segpipe.regions import rank
from segpipe.regions.finish import label_pass
from segpipe.report.scores import seams as said_of_seams
from segpipe.session import execute
from segpipe.store.digest import array_digest
from segpipe.store.folder import Folder
from tests.regions.test_rank import by_first_pixel
from tests.report.runs import cells, in_turn, scene, subject_of, write_run
from tests.report.test_report import Page

SHAPE = (700, 900)
EDGE = 40
"""Of the blocks of `Torn` (px)."""


def run_of(
    image: Path, output: Path, tile: Sequence[int], *, method: str = "slic", **report: bool
) -> dict[str, Any]:
    values = {"input": str(image), "output": str(output), "method": method, "report": report,
              "parameters": {"step": 20, "iterations": 2} if method == "slic" else {},
              "tiles": {"size": tuple(tile)}, "cluster": {"workers": "none"}}  # fmt: skip
    execute(parse(values), watch=Silent(), resume=False)
    return Folder(str(output)).get_json("run.json")


@pytest.fixture(scope="module")
def tilings(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    home = tmp_path_factory.mktemp("runs")
    return [run_of(slide, home / f"{t[0]}", t) for t in ((512, 768), (1000, 900))]


def test_run__scores_are_the_same_for_any_tiling(tilings: list[dict[str, Any]]) -> None:
    one, other = (state["conditions"]["slic"] for state in tilings)
    assert one == other
    assert one["boundary_strength"] > 1
    assert 0 < one["evenness"] <= 1
    assert len(one["drawn"]) >= 60


def test_run__exact_seams_are_computed_to_be_zero(tilings: list[dict[str, Any]]) -> None:
    for state in tilings:
        found = state["seams"]["slic"]
        assert found["pairs"] > 5000
        assert found["check"]["pixels"] > 500_000
        assert found["check"]["changed"] == 0
        assert found["check"]["identical"] is True
        assert "seam-check" in state["steps"]
        told = said_of_seams("slic", state)
        assert told is not None
        assert [value for value, _ in told["figures"]] == ["0\u00a0%"], "nothing that alarms"
        assert "Across the seams of tiles the label changes at" in told["sentence"]


@pytest.mark.parametrize("background", [0, None])
def test_run__scores_and_headline_suit_what_was_found(
    background: int | None, tmp_path: Path
) -> None:
    """Discs that touch nothing: their outlines are borders, and not those with what is masked."""
    y, x = np.mgrid[:300, :400]
    discs = (y % 50 - 25) ** 2 + (x % 50 - 25) ** 2 < 200
    noise = np.random.default_rng(0).integers(0, 8, discs.shape, dtype=np.uint8)
    mask = np.where((x > 30) & (x < 350), 255, 0).astype(np.uint8)
    image = np.where(mask > 0, 40 + 90 * discs + noise, 255).astype(np.uint8)
    for name, pixels in (("image", image), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    found = []
    for size in (128, "whole"):
        values = {"input": str(tmp_path / "image.png"), "output": str(tmp_path / str(size)),
                  "mask": str(tmp_path / "mask.png"), "method": "threshold",
                  "parameters": {"background": background}, "tiles": {"size": size},
                  "cluster": {"workers": "none"}}  # fmt: skip
        execute(parse(values), watch=Silent(), resume=False)
        found.append(Folder(values["output"]).get_json("run.json")["conditions"]["threshold"])
    assert found[0] == found[1]
    assert found[0]["background"] is (background == 0)
    assert 20 < found[0]["boundary_strength"] < 50, "a step of 90 over noise of 2.6"
    page = Page((tmp_path / "128/report.html").read_text()).text
    share = (discs & (mask > 0)).mean()
    if background is None:
        assert f"{100 * share:.3g} %of the image in class 1" in page
        assert "in class 0" in page
    else:
        assert f"{100 * share:.3g} %of the image in segments" in page
        assert "with the background included" in page


def test_run__seam_check_can_be_left_out(slide: Path, tmp_path: Path) -> None:
    state = run_of(slide, tmp_path / "run", (3000, 3000), seam_check=False)
    assert "check" not in state["seams"]["slic"]
    assert state["seams"]["slic"]["pairs"] == 0
    assert "seam-check" not in state["steps"]
    assert "No window was segmented again" in (tmp_path / "run/report.html").read_text()


@dataclasses.dataclass(frozen=True)
class Torn:
    """Blocks that begin anew in every tile: seams show, and move with the tiles."""

    name: ClassVar[str] = "torn"
    exactness: ClassVar[Literal["measured"]] = "measured"
    refuses: bool = False

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        if self.refuses:
            raise ValueError("never")
        tear = Pass("regions", _tear, ("image",), {"regions": "uint32"}, solve=rank.solve)
        return (tear, label_pass(image))


def _tear(window: Window, _part: None) -> Output:
    rows, columns = window.tile.core.shape
    regions = np.arange(rows)[:, None] // EDGE * -(-columns // EDGE) + np.arange(columns) // EDGE
    regions = (regions + 1).astype(np.uint32)
    ids = window.tile.number * 10_000 + np.arange(int(regions.max()))
    record = rank.summary(regions, ids, window.tile, window.grid.shape)
    return Output({"regions": regions}, record)


def test_run__of_a_method_that_feels_its_tiles_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of its own, counted pixel by pixel: score, worst seams, and what the report shows."""
    known = methods.everything() | {"torn": Torn}
    monkeypatch.setattr(methods, "everything", lambda: known)
    Image.fromarray(scene(SHAPE)).save(tmp_path / "a.png")
    state = run_of(tmp_path / "a.png", tmp_path / "run", (256, 256), method="torn")
    found, labels = state["seams"]["torn"], torn((256, 256))
    assert state["labels"]["torn"]["digest"] == array_digest(labels)
    # every pixel of a seam changes its label, only those of some blocks do elsewhere
    assert found["changes"] == found["pairs"] == 2 * SHAPE[1] + 3 * SHAPE[0]
    assert found["density_elsewhere"] < 0.5 < found["density"] == 1
    for seam in found["worst"]:
        y, x = seam["where"]
        assert (y if seam["axis"] == "y" else x) == seam["at"]
        assert seam["at"] % 256 == 0
        assert labels[y, x] != (labels[y - 1, x] if seam["axis"] == "y" else labels[y, x - 1])
    check = found["check"]
    assert 0.05 < check["share"] == check["changed"] / check["pixels"] < 1
    for window in check["windows"]:
        shape = [b - a for a, b in zip(window["start"], window["stop"], strict=True)]
        again = [torn((-(-n * shape[0] // 4), -(-n * shape[1] // 4)), shape) for n in (2, 3)]
        assert window["changed"] == seams.changed(*again)
    check_page((tmp_path / "run/report.html").read_text(), found)


def torn(tile: Sequence[int], shape: Sequence[int] = SHAPE) -> np.ndarray:
    """What the method gives for tiles of a size."""
    y, x = np.indices(tuple(shape))
    keys = [y // tile[0], y % tile[0] // EDGE, x // tile[1], x % tile[1] // EDGE]
    return by_first_pixel(np.ravel_multi_index(keys, [99, 99, 99, 99]) + 1)


def check_page(html: str, found: dict[str, Any]) -> None:
    """The report says what was found, and has a picture of each of the worst seams."""
    page = Page(html)
    for text in (
        "Measured. Tiles may differ",
        f"{100 * found['check']['share']:.3g} %",
        f"100 % / {100 * found['density_elsewhere']:.3g} %",
        "changed their segment",
    ):
        assert text in page.text, text
    assert "please report it" not in page.text
    assert len(found["worst"]) == 4
    shown = page.images()[-8:]  # each of image and borders
    for seam, picture, borders in zip(found["worst"], shown[::2], shown[1::2], strict=True):
        assert f"Seam {seam['axis']} {seam['at']}, " in page.text
        assert picture.size == (116, 116)
        assert (np.asarray(borders.convert("RGBA"))[:, :, 3] > 0).mean() > 0.01


def test_inspect__measures_a_method_that_feels_its_tiles(tmp_path: Path) -> None:
    image, labels = scene(SHAPE), cells(SHAPE)
    folder = write_run(tmp_path / "run", image, labels, tile=(256, 256))
    subject = subject_of(folder, image, labels, (256, 256), masked=False)
    torn = dataclasses.replace(subject, method=Torn())
    found = inspect([torn], in_turn)["seams"]["cells"]["check"]
    assert found["share"] > 0.05
    assert not found["identical"]
    assert found["windows"][0]["start"] != found["windows"][1]["start"]
    exact = dataclasses.replace(subject, key="other", method=Slic(step=12, iterations=1))
    assert inspect([exact], in_turn)["seams"]["cells"]["check"]["changed"] == 0


def test_inspect__says_when_a_window_is_refused(tmp_path: Path) -> None:
    image, labels = scene(SHAPE), cells(SHAPE)
    folder = write_run(tmp_path / "run", image, labels, tile=(256, 256))
    subject = subject_of(folder, image, labels, (256, 256), masked=False)
    torn = dataclasses.replace(subject, method=Torn(refuses=True))
    assert segmented_again(torn, {"image": image}) == {"refused": "never"}


def test_windows__hold_segments_and_cost_what_is_allowed(tmp_path: Path) -> None:
    image, labels = scene(SHAPE), np.zeros(SHAPE, np.uint32)
    labels[610:640, 30:60] = cells((30, 30), 8)
    folder = write_run(tmp_path / "run", image, labels, tile=(256, 256))
    subject = subject_of(folder, image, labels, (256, 256), masked=False)
    subject = dataclasses.replace(subject, method=Torn(), seconds=1.0)
    state = folder.get_json("run.json")
    boxes = list(windows(subject, state["conditions"]["cells"], state["seams"]["cells"]))
    assert 1 <= len(boxes) <= 4
    assert all(labels[box.slices].any() for box in boxes)
