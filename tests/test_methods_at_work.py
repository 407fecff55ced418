"""Every ready configuration as a run: one digest for any tiles, any order, and after interruption."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

from segpipe import session
from segpipe.config import Config, load
from segpipe.progress import Silent
from segpipe.run import Step, open_run
from tests.nets.tiny import tiny_model

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


class Disorder:
    """An executor that finishes tasks in a random order, two at a time; it dies after `life`."""

    dashboard = None
    workers = 5

    def __init__(self, seed: int, life: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._random = random.Random(seed)
        self.life = life

    def retried(self) -> list[str]:
        """Try nothing twice."""
        return []

    def check(self) -> None:
        """Have nothing to say when a busy machine keeps us waiting."""

    def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Future[Any]:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                raise KeyboardInterrupt
        pause = self._random.random() * 0.01
        return self._pool.submit(lambda: (time.sleep(pause), function(*args))[1])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, slide_rgb: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("image") / "slide.tif"
    tifffile.imwrite(path, slide_rgb[:300, :340], tile=(64, 64), photometric="rgb")
    return path


def configuration(path: Path, image: Path, output: Path, tiles: Any) -> Config:
    chosen = {"input": str(image), "output": str(output), "tiles.size": tiles}
    chosen |= {"cluster.workers": "none", "measure": "full"}
    if ".safetensors" in path.read_text():  # weights that a user has to train
        pytest.importorskip("torch", reason="networks need pip install 'segpipe[nets]'")
        chosen["parameters.model"] = str(tiny_model(image.parent))
    return load(path, (), chosen)


def begin(chosen: Config, executor: Disorder, *, resume: bool = False) -> dict[str, Any]:
    """Do a run's steps; return what ``run.json`` says."""
    started = open_run(session.prepare(chosen), resume=resume)
    steps: list[Step] = started.steps()
    for step in steps:
        step.run(executor, Silent())
    return state(chosen)


def state(chosen: Config) -> dict[str, Any]:
    return dict(json.loads((Path(chosen.output) / "run.json").read_text()))


def tables(chosen: Config) -> list[Any]:
    return [pq.read_table(path) for path in sorted(Path(chosen.output).glob("*.parquet"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration__gives_one_result(path: Path, image: Path, tmp_path: Path) -> None:
    whole = configuration(path, image, tmp_path / "whole", "whole")
    expected = begin(whole, Disorder(0))
    segments = [found["segments"] for found in expected["labels"].values()]
    assert min(segments) > 1, "nothing was segmented"
    for seams in expected["seams"].values():
        assert seams["check"].get("changed", 0) == 0

    tiled = configuration(path, image, tmp_path / "tiled", [128, 96])
    assert begin(tiled, Disorder(1))["labels"] == expected["labels"]

    broken = configuration(path, image, tmp_path / "broken", [150, 200])
    tries, life = 0, 7
    while True:
        try:
            found = begin(broken, Disorder(tries, life), resume=tries > 0)
            break
        except KeyboardInterrupt:
            tries, life = tries + 1, life + 6
            stored = state(broken)
            stored["process"]["pid"] = 2**22 + 1  # no process has this number
            (Path(broken.output) / "run.json").write_text(json.dumps(stored))
    assert tries >= 1
    assert sum(step["reused"] for step in found["steps"].values()) > 0
    assert found["labels"] == expected["labels"]
    for one, two, three in zip(tables(whole), tables(tiled), tables(broken), strict=True):
        for name in one.column_names:  # NaN equals NaN
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
            np.testing.assert_array_equal(one[name], three[name], err_msg=name)
