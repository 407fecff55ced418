"""Collections: every image as if it were alone, bad ones set aside, nothing done twice or lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from segpipe import session
from segpipe.collection import session as collection
from segpipe.config import Config
from segpipe.errors import InputError, RunError, Unavailable
from segpipe.progress import Silent
from segpipe.store.folder import Folder
from tests.collection.conftest import BAD, GOOD, Configure, picture, run
from tests.nets.tiny import tiny_model

STAGES = [
    {"method": "slic", "parameters": {"step": 8}},
    {"method": "region-merging", "reads": "slic", "parameters": {"threshold": 6}},
]


def rows(config: Config) -> dict[str, dict[str, Any]]:
    table = pq.read_table(Path(config.output) / "images.parquet")
    return {row["name"]: row for row in table.to_pylist()}


def alone(config: Config, name: str, output: Path, **changes: Any) -> dict[str, Any]:
    """Run one image without a collection, in small tiles; return what it says."""
    where = next(
        i.where for i in collection.find_items(config.input, config.output) if i.name == name
    )
    size = config.tiles.model_copy(update={"size": 64})
    values = {"input": where, "output": str(output), "tiles": size}
    single = config.model_copy(update=values | changes)
    session.execute(single, Silent(), resume=False)
    return dict(Folder(str(output)).get_json("run.json"))


def test_run__networks_keep_their_maps(configure: Configure, tmp_path: Path) -> None:
    """A class map and probabilities are those of a run of the image alone, in tiles."""
    pytest.importorskip("torch")
    network = {"model": str(tiny_model(tmp_path, channels=3)), "output": "instances"}
    config = configure(
        method=None, parameters={}, stages=[{"method": "unet", "parameters": network}]
    )
    run(config)
    name = "a/one.jpg"
    folder = Path(config.output) / "images" / name
    found = json.loads((folder / "run.json").read_text())
    single = alone(config, name, tmp_path / "alone")
    assert found["labels"] == single["labels"]
    assert found["maps"] == single["maps"]
    assert found["notes"] == single["notes"]
    assert found["notes"]["unet-network"]["backend"]
    for array in ("labels/unet-classes/0", "probability/unet/0"):
        here, there = (
            zarr.open_array(place / "image.ome.zarr" / array, mode="r")[:]
            for place in (folder, tmp_path / "alone")
        )
        np.testing.assert_array_equal(here, there)


def test_run__stages_read_filtered_images(configure: Configure, tmp_path: Path) -> None:
    smooth = {"spatial_bandwidth": 3, "range_bandwidth": 40, "iterations": 2, "filtered": True}
    stages = [
        {"method": "mean-shift", "name": "smooth", "parameters": smooth},
        {"method": "slic", "reads": "smooth", "parameters": {"step": 8}},
    ]
    config = configure(method=None, parameters={}, stages=stages)
    run(config)
    name = "a/one.jpg"
    folder = Path(config.output) / "images" / name
    found = json.loads((folder / "run.json").read_text())
    assert found["labels"] == alone(config, name, tmp_path / "alone")["labels"]
    here, there = (
        zarr.open_array(place / "image.ome.zarr/filtered/smooth/0", mode="r")[:]
        for place in (folder, tmp_path / "alone")
    )
    np.testing.assert_array_equal(here, there)


def test_run__good_ones_are_done_bad_ones_set_aside(configure: Configure) -> None:
    config = configure()
    done = run(config)
    found = rows(config)
    assert list(found) == sorted((*GOOD, *BAD))
    assert {n for n, row in found.items() if row["status"] == "done"} == set(GOOD)
    for name, why in {
        "bomb.png": "decompression bomb",
        "cut.jpg": "truncated or damaged",
        "empty.png": "is empty (0 bytes)",
        "text.jpg": "of no known format",
    }.items():
        assert why in found[name]["error"]
        assert found[name]["digest"] is None
    assert done.state["counts"] == {
        "images": 10,
        "done": 6,
        "set aside": 4,
        "reused": 0,
        "remarked": 0,
    }
    row = found["b/gray.png"]
    assert (row["height"], row["width"], row["channels"], row["dtype"]) == (50, 70, 1, "uint8")
    assert row["segments"] > 20
    assert 0 < row["explained_variation"] < 1
    lines = collection.summary(config.output, done.state)
    assert lines["images"] == "6 of 10 done"
    assert lines["  empty.png"] == "is empty (0 bytes); copy it again"


def test_run__remarks_on_images_are_counted_and_named(configure: Configure) -> None:
    """Where one segment is nearly all of an image, its row, the end and a resume say so."""
    config = configure(parameters={"step": 64})
    done = run(config)
    remarked = {name: row["remark"] for name, row in rows(config).items() if row["remark"]}
    assert 0 < len(remarked) < len(GOOD)
    assert all(text.startswith("one segment covers ") for text in remarked.values())
    assert set(remarked) == {n for n in GOOD if rows(config)[n]["largest_share"] >= 0.9}
    lines = collection.summary(config.output, done.state)
    assert lines["remarks"].startswith(f"{len(remarked)}, which table")
    assert all(lines[f"  {name}"] == text for name, text in remarked.items())
    assert run(config, resume=True).state["counts"]["remarked"] == len(remarked)


def test_images__are_what_runs_of_them_alone_give(configure: Configure, tmp_path: Path) -> None:
    """Labels, tables, scores and pyramids, of one piece and of tiles, of gray and masked images."""
    config = configure(stages=STAGES, method=None, parameters={})
    state = run(config).state
    assert collection.digest_of(config.output) == state["digest"], "of the last stage"
    first = collection.digest_of(config.output, "slic")
    assert first != state["digest"]
    for name in GOOD:
        state = alone(config, name, tmp_path / "alone" / name)
        home = Path(config.output) / "images" / name
        mine = json.loads((home / "run.json").read_text())
        assert mine["labels"] == state["labels"], name
        for stage in state["labels"]:
            assert mine["conditions"][stage] == state["conditions"][stage], (name, stage)
            table = f"segments-{stage}.parquet"
            assert pq.read_table(home / table).equals(
                pq.read_table(tmp_path / "alone" / name / table)
            )
            assert session.digest_of(str(home), stage) == state["labels"][stage]["digest"]
        assert session.verify_run(str(home)) == []
    row = rows(config)["a/one.jpg"]
    assert row["digest-region-merging"] != row["digest-slic"]


def test_image_in_one_piece__has_the_pyramid_of_a_tiled_run(
    configure: Configure, tmp_path: Path, photos: Path
) -> None:
    shutil.rmtree(photos)
    photos.mkdir()
    Image.fromarray(picture(90, 1100)).save(photos / "wide.png")
    config = configure(collection={"whole_pixels": 1 << 20})
    run(config)
    alone(config, "wide.png", tmp_path / "alone")
    mine, other = (
        Path(p) / "image.ome.zarr" for p in (f"{config.output}/images/wide.png", tmp_path / "alone")
    )
    import zarr

    for path in ("0", "1", "labels/slic/0", "labels/slic/1"):
        pair = [zarr.open_array(home / path, mode="r")[:] for home in (mine, other)]
        np.testing.assert_array_equal(*pair)
    for path in ("zarr.json", "labels/zarr.json", "labels/slic/zarr.json"):
        assert (mine / path).read_text() == (other / path).read_text()


def test_image__needs_few_files(configure: Configure) -> None:
    config = configure()
    run(config)
    files = [p for p in (Path(config.output) / "images/a/one.jpg").rglob("*") if p.is_file()]
    assert len(files) == 11, files


def test_digest__is_what_sha256sum_would_list(configure: Configure) -> None:
    config = configure()
    done = run(config)
    lines = [f"{row['digest']}  {n}\n" for n, row in rows(config).items() if row["digest"]]
    assert lines == sorted(lines, key=lambda line: line[66:])
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert collection.digest_of(config.output) == done.state["digest"] == expected


def test_digest__does_not_depend_on_workers(configure: Configure, tmp_path: Path) -> None:
    expected = run(configure()).state["digest"]
    cluster = {"workers": 2, "dashboard": "127.0.0.1:0"}
    done = run(configure(output=str(tmp_path / "more"), cluster=cluster))
    assert done.state["digest"] == expected


def test_resume__does_what_is_new_changed_or_damaged(configure: Configure, photos: Path) -> None:
    config = configure()
    before = run(config)
    home = Path(config.output) / "images"
    stamps = {name: (home / name / "run.json").stat().st_mtime_ns for name in GOOD}
    again = run(collection.stored_config(config.output), resume=True)
    assert again.state["counts"] == {
        "images": 10,
        "done": 6,
        "set aside": 4,
        "reused": 10,
        "remarked": 0,
    }
    assert again.state["digest"] == before.state["digest"]

    Image.fromarray(picture(60, 80, 9)).save(photos / "one.jpg", quality=90)  # changed
    Image.fromarray(picture(50, 60, 9)).save(photos / "a/new.png")  # new
    (photos / "cut.jpg").write_bytes((photos / "one.jpg").read_bytes())  # mended
    (photos / "a/two.png").write_bytes(b"")  # broken now
    (home / "b/gray.png/segments.parquet").write_bytes(b"")  # damaged
    (home / "b/holes.tif/run.json").write_text("{")  # damaged
    (photos / "large.png").unlink()  # gone
    again = run(collection.stored_config(config.output), resume=True)
    assert again.state["counts"] == {
        "images": 10,
        "done": 6,
        "set aside": 4,
        "reused": 4,
        "remarked": 0,
    }
    found = rows(config)
    assert "large.png" not in found
    assert found["a/two.png"]["status"] == "set aside"
    assert not (home / "a/two.png/image.ome.zarr").exists()
    assert (
        found["cut.jpg"]["digest"]
        == found["one.jpg"]["digest"]
        == session.digest_of(str(home / "one.jpg"))
    )
    assert (home / "a/one.jpg/run.json").stat().st_mtime_ns == stamps["a/one.jpg"]
    assert collection.verify_collection(config.output) == []


def test_resume__tries_again_what_was_set_aside_only_if_asked(configure: Configure) -> None:
    config = configure()
    run(config)
    (Path(config.output) / "images/cut.jpg/aside.json").touch()
    stamp = (Path(config.output) / "images/cut.jpg/aside.json").stat().st_mtime_ns
    assert run(config, resume=True).state["counts"]["reused"] == 10
    assert (Path(config.output) / "images/cut.jpg/aside.json").stat().st_mtime_ns == stamp
    assert run(config, resume=True, retry=True).state["counts"]["reused"] == 6
    assert (Path(config.output) / "images/cut.jpg/aside.json").stat().st_mtime_ns != stamp


def test_resume__an_unreachable_image_keeps_its_result(configure: Configure, photos: Path) -> None:
    (photos / "list.txt").write_text("a/one.jpg\none.jpg\n")
    config = configure(input="photos/list.txt")
    digest = run(config).state["digest"]
    (photos / "one.jpg").unlink()
    assert run(config, resume=True).state["digest"] == digest


def test_retry__is_only_needed_for_equal_files_of_manifest(
    configure: Configure, photos: Path
) -> None:
    """A missing file is set aside; when it is there, a resume does it."""
    (photos / "list.txt").write_text("a/one.jpg\nlater.png\n")
    config = configure(input="photos/list.txt")
    assert run(config).state["counts"]["set aside"] == 1
    assert "does not exist" in rows(config)["later.png"]["error"]
    Image.fromarray(picture(40, 40)).save(photos / "later.png")
    assert run(config, resume=True).state["counts"]["set aside"] == 0


def run_until(config: Config, life: int) -> None:
    """Go on with a collection until so many tasks were submitted."""
    with collection.opened(config, resume=True) as (it, executor):
        submit, left = executor.submit, [life]

        def dying(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return submit(*arguments, **named)

        executor.submit = dying  # type: ignore[method-assign]
        for step in it.steps():
            step.run(executor, Silent())


def test_interrupted__goes_on(configure: Configure, tmp_path: Path) -> None:
    """Stopped after any image, and inside a large one, a resume ends with the same digest."""
    expected = run(configure()).state["digest"]
    config = configure(output=str(tmp_path / "again"))
    for life in (0, 3, 7, 9):
        with pytest.raises(KeyboardInterrupt):
            run_until(config, life)
        assert not (Path(config.output) / "report.html").exists()
    done = run(config, resume=True)
    assert done.state["digest"] == expected
    assert done.state["resumed"] == 4
    assert done.state["counts"]["reused"] == 9
    assert collection.verify_collection(config.output) == []


def test_half_written_image__is_done_again(configure: Configure) -> None:
    config = configure()
    digest = run(config).state["digest"]
    home = Path(config.output) / "images/a/one.jpg"
    os.rename(home / "image.ome.zarr", home / "partial.ome.zarr")
    (home / "run.json").unlink()
    assert run(config, resume=True).state["digest"] == digest
    assert not (home / "partial.ome.zarr").exists()


def test_unusable_parameters_for_some_images__set_those_aside(
    configure: Configure, photos: Path
) -> None:
    """Seeds that lie outside of small images: the method's reason, and the others are done."""
    growing = {"method": "region-growing", "parameters": {"seeds": [[70, 60]]}}
    config = configure(**growing)
    run(config)
    found = rows(config)
    assert found["large.png"]["status"] == "done"
    assert found["a/one.jpg"]["status"] == "set aside"
    assert "cannot segment this image" in found["a/one.jpg"]["error"]


def test_masks_of_a_manifest(configure: Configure, photos: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(photos / "half.png")
    (photos / "list.csv").write_text(
        "path,mask\na/one.jpg,half.png\none.jpg,\na/two.png,half.png\n"
    )
    config = configure(input="photos/list.csv")
    run(config)
    found = rows(config)
    assert found["a/one.jpg"]["segments"] < 0.7 * found["one.jpg"]["segments"]
    assert found["a/two.png"]["status"] == "set aside"


def test_pages__only_on_request(configure: Configure) -> None:
    config = configure(collection={"pages": True, "thumbnail": 0})
    run(config)
    home = Path(config.output) / "images/a/one.jpg"
    assert (home / "report.html").exists()
    assert not (home / "thumbnail.jpg").exists()


def test_full_disk__ends_the_collection_and_blames_no_image(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()

    def full(*_: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("segpipe.collection.whole.write_table", full)
        with pytest.raises(RunError, match="disk is full"):
            run(config)
    assert not list(Path(config.output).rglob("one.jpg/aside.json"))
    assert run(config, resume=True).state["counts"]["done"] == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"stepp": 8}}, "did you mean `step`"),
        ({"method": "slik", "parameters": {}}, "slic"),
        ({"input": "nowhere/*.jpg"}, "there is no image"),
        ({"output": "photos/a"}, "no segpipe run"),
        ({"collection": {"thumbnails": 3}}, "did you mean `thumbnail`"),
    ],
)
def test_refused__before_anything_is_written(
    configure: Configure,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run(configure(**changes))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "photos/collection.json").exists()


def test_output__of_another_collection_is_refused(configure: Configure) -> None:
    run(configure())
    with pytest.raises(InputError, match="holds this collection, complete; `segpipe resume"):
        run(configure())
    with pytest.raises(InputError, match="holds another collection"):
        run(configure(parameters={"step": 9}), resume=True)


def test_verify__names_the_image(configure: Configure) -> None:
    config = configure()
    run(config)
    home = Path(config.output) / "images"
    chunk = home / "a/one.jpg/image.ome.zarr/labels/slic/0/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-3] + b"xyz")
    shutil.rmtree(home / "one.jpg")
    bad = collection.verify_collection(config.output)
    assert any(line.startswith("a/one.jpg: ") for line in bad)
    assert any(line.startswith("one.jpg: there is no run") for line in bad)
    with pytest.raises(RunError, match=r"a/one\.jpg"):
        collection.digest_of(config.output)
    run(config, resume=True)  # sizes tell of what is gone
    assert not any(
        line.startswith("one.jpg") for line in collection.verify_collection(config.output)
    )


def test_plan__looks_at_headers_alone(configure: Configure) -> None:
    config = configure()
    sample = collection.sampled(config)
    assert (len(sample.items), sample.seen, sample.large) == (10, 10, 1)
    assert [name for name, _ in sample.refused] == ["bomb.png", "empty.png", "text.jpg"]
    assert len(sample.plans) == 6  # that a file is cut shows when it is read
    assert not Path(config.output).exists()
