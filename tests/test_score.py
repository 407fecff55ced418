"""`segpipe score` on files: the same for any tiling and format, clear when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from segpipe import quality
from segpipe.errors import InputError
from segpipe.score import Options, score_files
from tests.test_cli import segpipe

SHAPE = (190, 230)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small image, and its truth in several formats; two annotators."""
    folder = tmp_path_factory.mktemp("score")
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = (1 + (y + x // 3) // 60 * 3 + (x + y // 4) // 80).astype(np.uint8)
    other = (1 + (y + x // 3) // 60).astype(np.uint8)
    image = np.random.default_rng(0).integers(0, 40, (*SHAPE, 3)) + (truth * 20)[..., None]
    tifffile.imwrite(folder / "a.tif", image.astype(np.uint8), photometric="rgb")
    Image.fromarray(truth).save(folder / "truth.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "small.png")
    np.savez(folder / "both.npz", segs=np.stack([truth, other]))
    (folder / "run.yaml").write_text(
        f"input: a.tif\noutput: {folder}/run\nmethod: slic\nparameters: {{step: 10, iterations: 3}}\n"
        "tiles: {size: 128}\ncluster: {workers: none}\n"
    )
    segpipe("run", folder / "run.yaml")
    return folder


def labels_of(files: Path) -> np.ndarray:
    return arrays_of(files / "run", "slic")


def arrays_of(run: Path, stage: str) -> np.ndarray:
    from segpipe.store import IMAGE
    from segpipe.store.arrays import open_array
    from segpipe.store.folder import Folder

    return np.asarray(open_array(Folder(str(run)) / IMAGE, f"labels/{stage}/0")[:])


def test_score__of_a_run_equals_that_of_the_arrays(files: Path) -> None:
    labels, truth = labels_of(files), np.asarray(Image.open(files / "truth.png"))
    options = Options(classes=True, instances=True)
    table = quality.contingency(labels, truth)
    expected = (
        quality.score(labels, truth)
        | quality.class_scores(table)[0]
        | quality.instance_scores(table)[0]
    )
    for tile in (37, 64, 200, 1000):
        found = score_files(str(files / "run"), [str(files / "truth.png")], options, tile=tile)
        assert found["mean"] == expected, tile
    assert found["annotators"][0]["segments"] == labels.max()
    assert list(found["mean"]) == list(quality.METRICS)
    assert 0.9 < found["mean"]["asa"] < 1
    assert 0.5 < found["mean"]["boundary_recall"] < 1


def test_score__with_wide_borders_and_ignored_values_on_any_tiling(files: Path) -> None:
    options = Options(radius=9, ignore=(2, 5), ignore_labels=(1, 70), instances=True)
    truths = [str(files / "truth.png"), str(files / "both.npz")]
    found = [score_files(str(files / "run"), truths, options, tile=tile) for tile in (31, 90, 500)]
    assert found[0] == found[1] == found[2]
    assert [one["truth"].rpartition("/")[2] for one in found[0]["annotators"]] == [
        "truth.png",
        "both.npz [1]",
        "both.npz [2]",
    ]
    assert found[0]["annotators"][0]["ignored"] > 0
    assert found[0]["annotators"][0]["scores"] == found[0]["annotators"][1]["scores"]


def test_score__every_format_gives_the_same(files: Path, tmp_path: Path) -> None:
    labels = labels_of(files)
    expected = score_files(str(files / "run"), [str(files / "truth.png")])["mean"]
    np.save(tmp_path / "l.npy", labels.astype(np.int64))
    tifffile.imwrite(tmp_path / "l.tif", labels, tile=(64, 64), compression="deflate")
    places = [tmp_path / "l.npy", tmp_path / "l.tif", files / "run/image.ome.zarr/labels/slic"]
    for place in places:
        assert score_files(str(place), [f"{files}/both.npz"])["annotators"][0]["scores"] == expected


def test_score__truth_as_polygons(files: Path, tmp_path: Path) -> None:
    """Objects of a vector file on the pixels of the run, whichever of the two is the truth."""
    ring = [[10, 20], [110, 20], [110, 90], [10, 90], [10, 20]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": geometry}))
    truth = np.zeros(SHAPE, int)
    truth[20:90, 10:110] = 1
    options = Options(instances=True)
    found = score_files(str(files / "run"), [str(path)], options, tile=50)["mean"]
    assert found["asa"] == quality.score(labels_of(files), truth)["asa"]
    np.save(tmp_path / "same.npy", truth)
    assert score_files(str(path), [f"{tmp_path}/same.npy"], options)["mean"]["pq"] == 1.0
    with pytest.raises(InputError, match="as a raster"):
        score_files(str(path), [str(path)])


def test_score__nodata_of_the_truth_does_not_count(tmp_path: Path) -> None:
    truth = np.array([[1, 1, 2, 2], [1, 1, 2, np.nan]], np.float32)
    tifffile.imwrite(tmp_path / "t.tif", truth)
    np.save(tmp_path / "l.npy", np.array([[1, 1, 2, 2], [1, 1, 2, 9]]))
    (found,) = score_files(f"{tmp_path}/l.npy", [f"{tmp_path}/t.tif"])["annotators"]
    assert (found["pixels"], found["ignored"], found["scores"]["rand"]) == (7, 1, 1.0)


@pytest.mark.parametrize("background", ["null", "0"])
def test_classes__of_the_segments_of_a_run(files: Path, tmp_path: Path, background: str) -> None:
    """The table says which class each segment is; label 0 is class 0 when no segment is."""
    truth = np.asarray(Image.open(files / "truth.png"))
    (tmp_path / "a.yaml").write_text(
        f"input: {files}/a.tif\noutput: {tmp_path}/run\nmethod: threshold\n"
        f"parameters: {{rule: fixed, levels: [60, 120], background: {background}}}\ncluster: {{workers: none}}\n"
    )
    segpipe("run", tmp_path / "a.yaml")
    labels = arrays_of(tmp_path / "run", "threshold")
    table = pq.read_table(tmp_path / "run/segments.parquet")
    of_label = np.concatenate([[0], table["class"].to_numpy()])
    expected = quality.class_scores(quality.contingency(of_label[labels], truth))[0]
    assert (labels == 0).any() == (background == "0")
    found = score_files(str(tmp_path / "run"), [f"{files}/truth.png"], Options(classes=True))
    assert found["classes_of"] == "segments"
    assert {name: found["mean"][name] for name in expected} == expected
    assert len({row["class"] for row in found["annotators"][0]["classes"]}) > 2


@pytest.fixture(scope="module")
def masked(files: Path) -> tuple[Path, np.ndarray]:
    """A run that leaves out an upper corner of the image, and what it leaves out."""
    mask = np.ones(SHAPE, np.uint8)
    mask[:120, :150] = 0
    Image.fromarray(mask).save(files / "mask.png")
    segpipe(
        "run", files / "run.yaml", "--output", files / "masked", "--set", f"mask={files}/mask.png"
    )
    return files / "masked", mask == 0


def test_score__outside_of_the_mask_is_no_segment(files: Path, masked: tuple) -> None:
    """Neither borders nor regions know of it; to objects and classes it is background."""
    run, outside = masked
    labels, truth = arrays_of(run, "slic"), np.asarray(Image.open(files / "truth.png"))
    np.testing.assert_array_equal(labels == 0, outside)
    inside = quality.contingency(labels, truth, ignore_labels=[0])
    whole = quality.contingency(labels, truth)
    expected = (
        quality.score(labels, truth, ignore_labels=[0])
        | quality.class_scores(whole)[0]
        | quality.instance_scores(whole)[0]
    )
    options = Options(classes=True, instances=True)
    for tile in (50, 1000):
        found = score_files(str(run), [f"{files}/truth.png"], options, tile=tile)
        assert found["mean"] == expected, tile
    (one,) = found["annotators"]
    assert (one["unlabelled"], one["pixels"]) == (outside.sum(), (~outside).sum())
    assert one["segments"] == labels.max() == len(inside.labels)
    as_region = score_files(str(run), [f"{files}/truth.png"], Options(unlabelled="region"))
    assert as_region["mean"] == quality.score(labels, truth)
    assert as_region["mean"]["covering"] > 1.3 * found["mean"]["covering"]


def test_score__what_lies_outside_of_the_mask_does_not_matter(
    files: Path, masked: tuple, tmp_path: Path
) -> None:
    """A truth that says something else there, or that it does not count, scores the same."""
    run, outside = masked
    truth = np.asarray(Image.open(files / "truth.png")).astype(np.int64)
    expected = score_files(str(run), [f"{files}/truth.png"])["mean"]
    noise = np.random.default_rng(0).integers(0, 9, SHAPE)
    for name, values in (("noise", np.where(outside, noise, truth)), ("void", truth * ~outside)):
        np.save(tmp_path / f"{name}.npy", values)
        ignore = (0,) if name == "void" else ()
        found = score_files(str(run), [f"{tmp_path}/{name}.npy"], Options(ignore=ignore))
        assert found["mean"] == expected, name


def test_score__background_of_a_method_is_a_region(files: Path, tmp_path: Path) -> None:
    """Label 0 of a threshold is what it says of pixels that it saw, in masked images, too."""
    levels = "parameters={rule: fixed, levels: [80], background: 0}"
    changes = ["--set", "method=threshold", "--set", levels, "--set", f"mask={files}/mask.png"]
    segpipe("run", files / "run.yaml", "--output", tmp_path / "run", *changes)
    labels = arrays_of(tmp_path / "run", "threshold")
    truth = np.asarray(Image.open(files / "truth.png"))
    found = score_files(str(tmp_path / "run"), [f"{files}/truth.png"])
    assert (labels == 0).any()
    assert found["mean"] == quality.score(labels, truth)
    assert found["options"]["unlabelled"] == "region"


def test_command__says_what_is_left_out(files: Path, masked: tuple) -> None:
    text = segpipe("score", masked[0], "--truth", f"{files}/truth.png")
    assert f"{masked[1].sum():,} in no segment, left out" in " ".join(text.split())
    text = segpipe("score", masked[0], "--truth", f"{files}/truth.png", "--unlabelled", "region")
    assert "in no segment" not in text


def test_command__tables_and_json(files: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.json"
    arguments = ["--truth", f"{files}/both.npz", "--classes", "--instances", "--iou", "0.5"]
    text = segpipe("score", files / "run", *arguments, "--iou", "0.75", "--json", target)
    found = json.loads(target.read_text())
    assert found["options"]["thresholds"] == [0.5, 0.75]
    assert [row["iou"] for row in found["annotators"][1]["thresholds"]] == [0.5, 0.75]
    assert sum(row["pixels_truth"] for row in found["annotators"][0]["classes"]) == np.prod(SHAPE)
    for metric, value in found["mean"].items():
        name = quality.METRICS[metric].name.split()[0]
        assert name in text
        assert f"{value:.4f}" in text, metric
    assert "lowest" in text
    each = segpipe("score", files / "run", "--truth", f"{files}/both.npz", "--each")
    asa = found["annotators"][1]["scores"]["asa"]
    assert f"{asa:.4f}" in each
    assert "--instances" in each


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{f}/run"], ["--truth"]),
        (["{f}/none.png", "--truth", "{f}/truth.png"], ["none.png", "does not exist"]),
        (["{f}/run", "--truth", "{f}/none.mat"], ["none.mat", "does not exist"]),
        (["{f}/run", "--truth", "{f}/small.png"], ["9 x 8", "190 x 230", "same size"]),
        (["{f}/run", "--truth", "{f}/run.yaml"], ["no known format"]),
        (["{f}/run", "--truth", "{f}/a.tif", "--stage", "x"], ["no label image `x`", "slic"]),
        (["{f}/truth.png", "--truth", "{f}/truth.png", "--stage", "x"], ["--stage", "no run"]),
        (["{f}/both.npz", "--truth", "{f}/truth.png"], ["2 label images", "one can be scored"]),
        (["{f}/run/image.ome.zarr", "--truth", "{f}/truth.png"], ["3 channels", "labels/NAME"]),
        (["{f}", "--truth", "{f}/truth.png"], ["without Zarr metadata"]),
        (["{f}/run", "--truth", "{f}/truth.png", "--tolerance", "-1"], ["0 pixels or more"]),
        (["{f}/run", "--truth", "{f}/truth.png", "--inside", "95"], ["0 to 1, got 95"]),
        (["{f}/run", "--truth", "{f}/truth.png", "--iou", "50"], ["at most 1, got 50"]),
        (["{f}/run", "--truth", "{f}/truth.png", "--unlabelled", "in"], ["out or region, got in"]),
        (["{f}/truth.png", "--truth", "{f}/half.npy"], ["half.npy", "whole numbers"]),
        (["{f}/truth.png", "--truth", "{f}/truth.png", *(f"--ignore={i}" for i in range(1, 20))], ["all are ignored"]),
        (["{f}/run", "--truth", "{f}/truth.png", "--json", "{f}/no/where.json"], ["cannot write"]),
    ],
)  # fmt: skip
def test_command__errors_are_explained(arguments: list[str], words: list[str], files: Path) -> None:
    np.save(files / "half.npy", np.full(SHAPE, 0.5))
    text = segpipe("score", *(one.format(f=files) for one in arguments), code=2)
    for word in words:
        assert word in " ".join(text.split()), text


def test_score__an_unfinished_run_is_refused(files: Path, tmp_path: Path) -> None:
    state = json.loads((files / "run/run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(state | {"state": "running"}))
    text = segpipe("score", tmp_path, "--truth", files / "truth.png", code=2)
    assert "not complete" in text
