"""The look at a result: the same for any tiling, and it tells a method that feels its tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from segpipe.config import parse
from segpipe.inspection import inspect, windows
from segpipe.inspection.jobs import segmented_again
from segpipe.methods.slic import Slic
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.session import execute
from segpipe.store.folder import Folder
from tests.report.runs import cells, in_turn, scene, subject_of, write_run

SHAPE = (700, 900)


class Blind:
    """Nobody watches."""

    def __enter__(self) -> Blind:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def begin(self, *_: Any) -> None: ...

    advance = end = begin


def run_of(slide: Path, output: Path, tile: Sequence[int], **report: bool) -> dict[str, Any]:
    values = {"input": str(slide), "output": str(output), "method": "slic", "report": report,
              "parameters": {"step": 20, "iterations": 2}, "tiles": {"size": tuple(tile)},
              "cluster": {"workers": "none"}}  # fmt: skip
    execute(parse(values), watch=Blind(), resume=False)
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


def test_run__seam_check_can_be_left_out(slide: Path, tmp_path: Path) -> None:
    state = run_of(slide, tmp_path / "run", (3000, 3000), seam_check=False)
    assert "check" not in state["seams"]["slic"]
    assert state["seams"]["slic"]["pairs"] == 0
    assert "seam-check" not in state["steps"]
    assert "No window was segmented again" in (tmp_path / "run/report.html").read_text()


@dataclasses.dataclass(frozen=True)
class Torn:
    """Labels blocks of the tile, so that seams show."""

    name: ClassVar[str] = "torn"
    exactness: ClassVar[Literal["measured"]] = "measured"
    refuses: bool = False

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        if self.refuses:
            raise ValueError("never")
        return (Pass("label", _tear, writes={"labels": "uint32"}),)


def _tear(window: Window, _part: None) -> Output:
    rows, columns = window.tile.core.shape
    parts = np.arange(rows)[:, None] // 40 * 100 + np.arange(columns) // 40
    return Output({"labels": (1 + window.tile.number * 10_000 + parts).astype(np.uint32)})


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
