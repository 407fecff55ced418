"""Whole runs in one process: one digest for every tiling and order, resume, verify, S3."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr

from segpipe import session
from segpipe.config import Config, parse
from segpipe.engine import Pile, Workload, run_jobs
from segpipe.errors import InputError, RunError
from segpipe.methods.region_merging import region_merging
from segpipe.methods.slic import slic
from segpipe.progress import Silent
from segpipe.regions.measure import measure
from segpipe.run import Step, open_run
from segpipe.store.digest import array_digest
from segpipe.tasks import Report

PARAMETERS = {"step": 10, "iterations": 3}


class Quiet(Silent):
    """A watch that only counts."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}

    def begin(self, step: str, total: int) -> None:
        self.done[step] = 0

    def advance(self, step: str, done: int) -> None:
        self.done[step] += done


class Disorder:
    """An executor that finishes tasks in a random order, two at a time."""

    dashboard = None
    workers = 5

    def __init__(self, seed: int) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._random = random.Random(seed)

    def retried(self) -> list[str]:
        """Try nothing twice."""
        return []

    def check(self) -> None:
        """Have nothing to say when a busy machine keeps us waiting."""

    def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Future[Any]:
        pause = self._random.random() * 0.02
        return self._pool.submit(lambda: (time.sleep(pause), function(*args))[1])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, slide_rgb: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("image") / "slide.tif"
    tifffile.imwrite(path, slide_rgb, tile=(64, 64), photometric="rgb", compression="deflate")
    return path


def config(image: Path | str, output: Path | str, **more: Any) -> Config:
    values = {
        "input": str(image),
        "output": str(output),
        "method": "slic",
        "parameters": PARAMETERS,
        "cluster": {"workers": "none"},
    }
    return parse(values | more)


def run(chosen: Config, *, resume: bool = False) -> dict[str, str]:
    return session.execute(chosen, Quiet(), resume=resume)


def state_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "run.json").read_text())


@pytest.fixture(scope="module")
def expected(slide_rgb: np.ndarray) -> str:
    return array_digest(slic(slide_rgb, **PARAMETERS))


@pytest.mark.parametrize("size", ["whole", "auto", 64, 128, [100, 137], [400, 64]])
def test_digest__is_that_of_the_plain_function(
    size: Any, image: Path, expected: str, tmp_path: Path
) -> None:
    found = run(config(image, tmp_path / "run", tiles={"size": size}))
    assert found["digest"] == expected
    assert session.digest_of(str(tmp_path / "run")) == expected
    assert session.verify_run(str(tmp_path / "run")) == []


def test_table__does_not_depend_on_tiles(
    image: Path, slide_rgb: np.ndarray, tmp_path: Path
) -> None:
    from skimage.measure import regionprops_table

    labels = slic(slide_rgb, **PARAMETERS)
    names = ("label", "area", "bbox", "centroid", "intensity_mean")
    expected = regionprops_table(labels, slide_rgb, properties=names)
    for size in (64, [150, 90], "whole"):
        output = tmp_path / str(size)
        groups = ["shape", "colour", "neighbours"]
        run(config(image, output, tiles={"size": size}, measure=groups))
        table = pq.read_table(output / "segments.parquet")
        assert set(table.column_names) > set(expected)
        plain = measure(labels, slide_rgb, groups=groups)
        neighbours = pq.read_table(output / "neighbours.parquet")
        for found, wanted in ((table, plain["segments"]), (neighbours, plain["neighbours"])):
            assert found.column_names == list(wanted)
            for name, column in wanted.items():
                np.testing.assert_array_equal(found[name].to_numpy(), column, err_msg=name)
        for name, column in expected.items():
            np.testing.assert_allclose(table[name], column, rtol=1e-12, err_msg=name)


def test_measure__chooses_columns(image: Path, slide_rgb: np.ndarray, tmp_path: Path) -> None:
    labels = slic(slide_rgb, **PARAMETERS)
    for chosen, groups in (("basic", []), (["shape", "percentiles"], ["shape", "percentiles"])):
        output = tmp_path / str(len(groups))
        run(config(image, output, tiles={"size": 100}, measure=chosen))
        expected = measure(labels, slide_rgb, groups=groups)["segments"]
        table = pq.read_table(output / "segments.parquet")
        assert table.column_names == list(expected)
        for name, column in expected.items():
            np.testing.assert_array_equal(table[name].to_numpy(), column, err_msg=name)
        assert not (output / "neighbours.parquet").exists()
        assert session.verify_run(str(output)) == []


def test_georeferenced_image__has_world_coordinates(slide_rgb: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "geo.tif"
    tags = [
        (33550, "d", 3, (0.5, 0.25, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4000000.0, 0.0), True),
        (34735, "H", 12, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32632), True),
    ]
    tifffile.imwrite(path, slide_rgb, photometric="rgb", tile=(64, 64), extratags=tags)
    run(config(path, tmp_path / "run", measure="basic"))
    table = pq.read_table(tmp_path / "run/segments.parquet")
    y, x = table["centroid-0"].to_numpy(), table["centroid-1"].to_numpy()
    np.testing.assert_allclose(table["world_x"], 500000 + 0.5 * (x + 0.5), rtol=1e-15)
    np.testing.assert_allclose(table["world_y"], 4000000 - 0.25 * (y + 0.5), rtol=1e-15)


def test_order__does_not_matter(image: Path, expected: str, tmp_path: Path) -> None:
    for seed in range(2):
        chosen = config(image, tmp_path / str(seed), tiles={"size": 96})
        started = open_run(session.prepare(chosen), resume=False)
        for step in started.steps():
            step.run(Disorder(seed), Quiet())
        assert started.state["labels"]["slic"]["digest"] == expected


def test_resume__does_only_what_is_missing(image: Path, expected: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    chosen = config(image, output, tiles={"size": 128})
    interrupt_after(chosen, "slic-regions")
    with pytest.raises(InputError, match="unfinished; go on with `segpipe resume"):
        run(chosen)
    assert not (output / "image.ome.zarr").exists(), "an unfinished run must not look finished"
    with pytest.raises(InputError, match="not complete"):
        session.digest_of(str(output))
    assert run(session.stored_config(str(output)), resume=True)["digest"] == expected
    steps = state_of(output)["steps"]
    assert steps["slic-regions"]["reused"] == steps["slic-regions"]["tasks"] == 16
    assert steps["slic-label"]["reused"] == 0


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "record", "flipped-record"])
def test_resume__redoes_what_is_damaged(
    damage: str, image: Path, expected: str, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    chosen = config(image, output, tiles={"size": 128})
    interrupt_after(chosen, "slic-regions")
    victims = sorted((output / "work/slic/regions/c").rglob("*"))
    victim = next(path for path in victims if path.is_file())
    content = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    elif damage == "truncate":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 0x55
        victim.write_bytes(content)
    else:
        record = sorted((output / "records/slic-regions").iterdir())[3]
        content = bytearray(record.read_bytes())
        content[28:90] = bytes(b ^ 0x55 for b in content[28:90])
        record.write_bytes(content if damage == "flipped-record" else content[:40])
    assert run(session.stored_config(str(output)), resume=True)["digest"] == expected
    assert state_of(output)["steps"]["slic-regions"]["reused"] == 15


@pytest.mark.parametrize("broken", ["", "{", "\x00garbage"])
def test_resume__mends_damaged_metadata(
    broken: str, image: Path, expected: str, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    interrupt_after(config(image, output, tiles={"size": 128}), "slic-label")
    for path in [*output.glob("partial.ome.zarr/**/zarr.json"), *output.glob("work/**/zarr.json")]:
        path.write_text(broken)
    assert run(session.stored_config(str(output)), resume=True)["digest"] == expected
    assert session.verify_run(str(output)) == []


def test_resume__refuses_a_changed_mask(image: Path, tmp_path: Path) -> None:
    mask = np.zeros((400, 500), np.uint8)
    mask[50:300, 90:410] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    output = tmp_path / "run"
    interrupt_after(config(image, output, mask=str(tmp_path / "mask.tif")), "ingest")
    tifffile.imwrite(tmp_path / "mask.tif", np.roll(mask, 30, axis=1))
    with pytest.raises(InputError, match="holds another run"):
        run(session.stored_config(str(output)), resume=True)


def test_input_changed_after_planning__is_refused(image: Path, tmp_path: Path) -> None:
    copied = tmp_path / "a.tif"
    copied.write_bytes(image.read_bytes())
    started = open_run(session.prepare(config(copied, tmp_path / "run")), resume=False)
    tifffile.imwrite(copied, np.zeros((400, 500, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="has changed"):
        started.steps()[0].run(Disorder(0), Quiet())


def test_resume__of_an_image_smaller_than_a_tile(slide_rgb: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", slide_rgb[:50], photometric="rgb")
    output = tmp_path / "run"
    interrupt_after(config(tmp_path / "a.tif", output, tiles={"size": 128}), "slic-regions")
    found = run(session.stored_config(str(output)), resume=True)
    assert found["digest"] == array_digest(slic(slide_rgb[:50], **PARAMETERS))


def test_begun_at_once__one_of_two_wins(image: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    plan = session.prepare(config(image, tmp_path / "run"))
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(open_run, plan, resume=True) for _ in range(8)]
    assert sum(t.exception() is None for t in tries) >= 1
    claims = sorted(p.name for p in (tmp_path / "run/claims").iterdir())
    assert len(claims) == sum(t.exception() is None for t in tries), "two shared one claim"


@pytest.mark.parametrize("content", ["", "{", "{}", "5", "[]"])
def test_damaged_state__is_explained(content: str, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    interrupt_after(config(image, output), "ingest")
    (output / "run.json").write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        session.stored_config(str(output))
    with pytest.raises(InputError, match="is damaged"):
        run(config(image, output))


def test_stored_config__forgets_where_the_run_was_begun(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    interrupt_after(config(image, output), "ingest")
    state = state_of(output)
    state["config"]["cluster"] = {
        "address": "tls://gone:8786",
        "tls": {"ca": "a", "cert": "b", "key": "c"},
    }
    (output / "run.json").write_text(json.dumps(state))
    again = session.stored_config(str(output), workers=2).cluster
    assert (again.address, again.tls, again.workers) == (None, None, 2)
    elsewhere = session.stored_config(str(output), cluster="tcp://there:8786").cluster
    assert (elsewhere.address, elsewhere.tls) == ("tcp://there:8786", None)


def test_local_workers__leave_the_environment_alone(image: Path, tmp_path: Path) -> None:
    """Dask sets what its workers shall find in this process, where others may be started, too."""
    before = dict(os.environ)
    chosen = config(image, tmp_path / "run", cluster={"workers": 1})
    with session.clusters.open_executor(chosen.cluster) as executor:
        there = executor.submit(os.getenv, "OMP_NUM_THREADS", name="ask").result()
    assert there == "1"
    assert dict(os.environ) == before


def interrupt_after(chosen: Config, last: str) -> None:
    """Do a run's steps up to `last`, then act as if the process had died."""
    started = open_run(session.prepare(chosen), resume=False)
    with session.clusters.open_executor(chosen.cluster) as executor:
        for step in started.steps():
            step.run(executor, Quiet())
            if step.name == last:
                break
    state = state_of(Path(chosen.output))
    state["process"]["pid"] = 2**22 + 1  # no process has this number
    started.folder.put_json("run.json", state)


def test_finished_run__is_not_done_again(image: Path, tmp_path: Path) -> None:
    chosen = config(image, tmp_path / "run")
    run(chosen)
    for resume in (False, True):
        with pytest.raises(InputError, match="is complete"):
            run(chosen, resume=resume)


def test_other_run__is_refused(image: Path, tmp_path: Path) -> None:
    run(config(image, tmp_path / "run"))
    with pytest.raises(InputError, match="holds another run"):
        run(config(image, tmp_path / "run", parameters={"step": 12}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    with pytest.raises(InputError, match="no segpipe run"):
        run(config(image, tmp_path / "mine"))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_verify__finds_what_was_changed(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(config(image, output, tiles={"size": 128}))
    labels = zarr.open_array(output / "image.ome.zarr/labels/slic/0", mode="r+")
    labels[200, 200] += 1
    bad = session.verify_run(str(output))
    assert any("labels/slic/0" in line for line in bad)
    assert any("digest differs" in line for line in bad)
    with pytest.raises(RunError, match="not those that the run wrote"):
        session.digest_of(str(output))


def test_verify__minds_records_that_are_gone(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(config(image, output, tiles={"size": 128}))
    assert session.verify_run(str(output)) == []
    shutil.rmtree(output / "records/slic-label")
    (line,) = session.verify_run(str(output))
    assert re.match(r"records: \d+ of \d+ are missing", line)


def test_begun_anew_in_its_place__is_not_written_as_the_one_before(
    image: Path, expected: str, tmp_path: Path
) -> None:
    """Workers outlive runs: what they know of an array goes with it."""
    output = tmp_path / "run"
    for size in (128, 200, 97):
        run(config(image, output, tiles={"size": size}))
        assert session.digest_of(str(output)) == expected
        labels = zarr.open_array(output / "image.ome.zarr/labels/slic/0", mode="r")
        assert array_digest(labels[:]) == expected, "as any other reader sees it"
        shutil.rmtree(output)


@pytest.mark.parametrize("damage", ["delete", "truncate", "garbage"])
def test_verify__explains_unreadable_labels(damage: str, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(config(image, output, tiles={"size": 128}))
    victims = sorted((output / "image.ome.zarr/labels/slic/0/c").rglob("*"))
    victim = next(path for path in victims if path.is_file())
    if damage == "delete":
        victim.unlink()
    else:
        content = victim.read_bytes()
        victim.write_bytes(content[:50] if damage == "truncate" else b"\xff" * len(content))
    assert session.verify_run(str(output))
    with pytest.raises(RunError, match=r"damaged|not those"):
        session.digest_of(str(output))


def test_mask__limits_the_work(image: Path, slide_rgb: np.ndarray, tmp_path: Path) -> None:
    mask = np.zeros(slide_rgb.shape[:2], np.uint8)
    mask[50:300, 90:410] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    expected = array_digest(slic(slide_rgb, mask=mask > 0, **PARAMETERS))
    polygon = [[90, 50], [410, 50], [410, 300], [90, 300], [90, 50]]
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [polygon]},
    }
    (tmp_path / "area.geojson").write_text(json.dumps(feature))
    for number, (name, size) in enumerate([("mask.tif", 64), ("area.geojson", [130, 97])]):
        chosen = config(
            image, tmp_path / f"run{number}", mask=str(tmp_path / name), tiles={"size": size}
        )
        assert run(chosen)["digest"] == expected


def test_output_is_valid_ome_zarr(image: Path, tmp_path: Path) -> None:
    import yaozarrs
    from ome_zarr_models.v05 import Image

    run(config(image, tmp_path / "run", tiles={"size": 128}))
    folder = tmp_path / "run/image.ome.zarr"
    yaozarrs.validate_zarr_store(str(folder))
    found = Image.from_zarr(zarr.open_group(folder, mode="r"))
    assert found.labels is not None


def test_two_stages__write_two_label_images(
    image: Path, slide_rgb: np.ndarray, tmp_path: Path
) -> None:
    stages = [
        {"method": "slic", "name": "fine", "parameters": {"step": 8, "iterations": 2}},
        {"method": "slic", "name": "coarse", "parameters": {"step": 20, "iterations": 2}},
    ]
    values = {"input": str(image), "output": str(tmp_path / "run"), "stages": stages}
    found = run(parse(values | {"cluster": {"workers": "none"}, "tiles": {"size": 128}}))
    assert found["fine digest"] == array_digest(slic(slide_rgb, step=8, iterations=2))
    assert session.digest_of(str(tmp_path / "run"), "coarse") == found["coarse digest"]
    assert (tmp_path / "run/segments-fine.parquet").is_file()


def test_stage__groups_the_segments_of_another(
    image: Path, slide_rgb: np.ndarray, tmp_path: Path
) -> None:
    stages = [
        {"method": "slic", "parameters": {"step": 8, "iterations": 2}},
        {"method": "region-merging", "name": "grouped", "reads": "slic"},
    ]
    segments = slic(slide_rgb, step=8, iterations=2)
    expected = array_digest(region_merging(slide_rgb, segments))
    for size in (100, 256, "whole"):
        output = tmp_path / str(size)
        values = {"input": str(image), "output": str(output), "stages": stages}
        found = run(parse(values | {"cluster": {"workers": "none"}, "tiles": {"size": size}}))
        assert found["grouped digest"] == expected
        assert Path(found["grouped table"]) == output / "segments-grouped.parquet"
        assert Path(found["grouped table"]).is_file()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"method": "region-merging"}], "works on the labels of another stage; give `stages`"),
        (
            [{"method": "slic"}, {"method": "slic", "name": "b", "reads": "slic"}],
            "segments `image`",
        ),
        ([{"method": "slic", "reads": "later"}], "reads `later`; allowed are image"),
    ],
)
def test_stage__reads_what_there_is(
    image: Path, tmp_path: Path, stages: list[dict], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(parse({"input": str(image), "output": str(tmp_path / "run"), "stages": stages}))


def test_float_image__with_nodata(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(150, 130, 2)).astype(np.float32)
    pixels[40:60, 30:90] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), planarconfig="contig")
    expected = array_digest(slic(pixels, **PARAMETERS))
    for size in (64, "whole"):
        chosen = config(tmp_path / "a.tif", tmp_path / str(size), tiles={"size": size})
        assert run(chosen)["digest"] == expected


def test_s3__output_and_input(image: Path, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="images")
        client.upload_file(str(image), "images", "slide.tif")
        chosen = config("s3://images/slide.tif", "s3://images/run", tiles={"size": 200})
        assert run(chosen)["digest"] == expected
        assert session.digest_of("s3://images/run") == expected
        assert session.verify_run("s3://images/run") == []
        with pytest.raises(InputError, match="is complete"):
            run(chosen)
    finally:
        server.stop()


def test_failed_task__leaves_the_others(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segpipe.store.arrays import Region

    chosen = config(image, tmp_path / "run", tiles={"size": 128})
    write = Region.write

    def full(region: Region, pixels: np.ndarray) -> str:
        if region.path == "slic/regions" and region.box.start == (128, 256):
            raise OSError(28, "No space left on device")
        return write(region, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(Region, "write", full)
        with pytest.raises(RunError, match=r"the disk is full .*segpipe resume"):
            run(chosen)
    assert state_of(tmp_path / "run")["state"] == "running"


def test_step_names__say_what_is_done(image: Path, tmp_path: Path) -> None:
    steps = open_run(session.prepare(config(image, tmp_path / "run")), resume=False).steps()
    assert all(isinstance(step, Step) for step in steps)
    names = [step.name for step in steps]
    assert names == ["ingest", "slic-regions", "slic-label", "finish", "seam-check", "publish"]


def test_load_that_waits__begins_when_the_other_is_done() -> None:
    done: list[str] = []

    class Job:
        def __init__(self, name: str, tasks: int) -> None:
            self.name, self.tasks = name, tasks

        def __len__(self) -> int:
            return self.tasks

    class Noting(Disorder):
        def submit(self, _function: Any, *args: Any, name: str) -> Future[Any]:
            def task() -> list[Any]:
                done.append(name)
                return [Report(number, {}, {}) for number, _part in args[1]]

            return super().submit(task, name=name)

    loads = [
        Workload(Job("first", 4)),
        Workload(Job("second", 3), after=0),
        Workload(Job("free", 9)),
    ]
    found = run_jobs("jobs", loads, Noting(0), Quiet())
    assert [len(reports) for reports in found] == [4, 3, 9]
    assert done.index("second") > max(i for i, name in enumerate(done) if name == "first")
    assert done.index("free") < done.index("second"), "others need not wait"


def test_lost_task__is_never_success() -> None:
    class Job:
        name = "job"

        def __len__(self) -> int:
            return 3

    class Forgetful(Disorder):
        def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result([])
            return future

    with pytest.raises(RunError, match="3 tasks were lost"):
        run_jobs("job", [Workload(Job())], Forgetful(0), Quiet())


@pytest.mark.parametrize("tasks", [1, 2, 16, 17, 1000])
def test_pile__keeps_one_record_of_all(tasks: int) -> None:
    pile = Pile(lambda records: {"sum": sum(record["sum"] for record in records)})
    reports = [pile.kept(Report(n, {"sum": n}, {})) for n in range(tasks)]
    assert all(report.record == {} for report in reports)
    assert len(pile.records) <= 16, "no more than a few are held"
    first, *rest = pile.closed(reports)
    assert first.record == {"sum": tasks * (tasks - 1) // 2}
    assert [report.number for report in (first, *rest)] == list(range(tasks))
    assert Pile(None).closed(reports) == reports
