"""The command line as a user meets it: results on the last lines, errors without tracebacks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.commands import run_command

ROOT = Path(__file__).resolve().parents[1]


def segpipe(*arguments: str | Path, code: int = 0) -> str:
    """Run the command line; return what it printed after checking the exit code."""
    found, text = run_command(*arguments)
    assert found == code, text
    assert "Traceback" not in text
    return text


def test_installed_command__fails_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "segpipe", "run", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("segpipe: cannot read the configuration")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image, its configuration, and a finished run of it."""
    folder = tmp_path_factory.mktemp("cli")
    pixels = np.random.default_rng(0).integers(0, 255, (200, 240, 3), dtype=np.uint8)
    tifffile.imwrite(folder / "a.tif", pixels, tile=(64, 64), photometric="rgb")
    (folder / "run.yaml").write_text(
        f"input: a.tif\noutput: {folder}/done\nmethod: slic\n"
        "parameters: {step: 12, iterations: 2}\ncluster: {workers: none}\n"
    )
    segpipe("run", folder / "run.yaml")
    return folder


def test_run__prints_where_everything_is(files: Path, tmp_path: Path) -> None:
    text = segpipe("run", files / "run.yaml", "--output", tmp_path / "r", "--set", "tiles.size=100")
    for word in ("segments", "labels", "digest", "table", "report", "px/s"):
        assert word in text
    assert ", 0.0 " not in text, "a speed that says nothing"
    assert re.search(r"\ntime  .* s, .*; the command [\d.]+ s, its start included\n", text)
    assert (tmp_path / "r/report.html").is_file()
    steps = [line for line in text.splitlines() if " tasks in " in line]
    assert steps[0].startswith("image-ingest: 6 of 6 tasks in ")
    assert steps[-1].startswith("publish: 1 of 1 tasks in "), "the last stage is said to be done"
    assert (
        "<th>compute</th><th>write</th><th>compile</th>" in (tmp_path / "r/report.html").read_text()
    )


def test_time_of_the_command__is_that_of_its_process() -> None:
    said = "import time; from segpipe.cli.shared import with_start; time.sleep(0.5); "
    said += "print(with_start({'time': '0.1 s'})['time'])"
    begun = time.time()
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    found = re.fullmatch(r"0.1 s; the command ([\d.]+) s, its start included\n", done.stdout)
    assert found is not None, done.stdout
    assert 0.5 <= float(found[1]) <= time.time() - begun + 0.1


def test_digest__stands_alone_on_its_line(files: Path) -> None:
    line = segpipe("digest", files / "done")
    assert len(line.strip()) == 64
    assert line == line.strip() + "\n"
    assert set(line.strip()) <= set("0123456789abcdef")


def test_verify__says_so(files: Path) -> None:
    assert "as they were written" in segpipe("verify", files / "done")


def test_plan__shows_the_passes_and_writes_nothing(files: Path, tmp_path: Path) -> None:
    text = segpipe("plan", files / "run.yaml", "--output", tmp_path / "never")
    for word in ("image-ingest", "slic-regions", "slic-label", "halo", "per worker", " free"):
        assert word in text
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("pass ")) + 1
    last = next(i for i, line in enumerate(lines) if line.startswith("start, report"))
    times = [float(line.removesuffix(" s").split()[-1]) for line in lines[first : last + 1]]
    assert len(times) == 5
    assert f"about {sum(times):.1f} s " in text, "the rows add up to the whole"
    assert not (tmp_path / "never").exists()


def test_methods__lists_and_explains() -> None:
    assert "slic" in segpipe("methods")
    assert "compactness" in segpipe("methods", "slic")
    assert "did you mean `slic`" in segpipe("methods", "slik", code=2)


@pytest.mark.parametrize(
    "command",
    ["", "run", "plan", "resume", "methods", "digest", "verify", "view", "export"],
)
def test_help__is_there(command: str) -> None:
    text = segpipe(*command.split(), "--help")
    assert "Usage" in text
    assert len(text.splitlines()) > 8


def test_version__is_printed() -> None:
    from segpipe import __version__

    assert segpipe("--version").strip() == __version__


def make_bad_inputs(folder: Path) -> None:
    good = (folder / "a.tif").read_bytes()
    (folder / "truncated.tif").write_bytes(good[: len(good) // 2])
    (folder / "empty.tif").write_bytes(b"")
    (folder / "text.tif").write_text("this is no image")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "{f}/none.tif"], ["none.tif"]),
        (["--input", "{f}/truncated.tif"], ["truncated.tif"]),
        (["--input", "{f}/empty.tif"], ["empty.tif"]),
        (["--input", "{f}/text.tif"], ["text.tif"]),
        (["--set", "tiles.sise=3"], ["did you mean `size`"]),
        (["--set", "parameters.stepp=3"], ["did you mean `step`"]),
        (["--set", "parameters.step=0"], ["step", "got 0"]),
        (["--set", "parameters.step=255"], ["step 255", "200"]),
        (["--set", "tiles.size=10"], ["tiles.size"]),
        (["--set", "max_pixels=1000"], ["48,000", "max_pixels"]),
        (["--set", "cluster.memory=10MB", "--workers", "2"], ["needs about", "cluster.memory"]),
        (["--set", "cluster.memory=much"], ["no size"]),
        (["--set", "mask={f}/none.geojson"], ["none.geojson"]),
        (["--output", "{f}/done"], ["is complete"]),
        (["--output", "{f}"], ["no segpipe run"]),
        (["--output", "/proc/nowhere/run"], ["cannot write", "/proc/nowhere"]),
        (
            ["--cluster", "tcp://127.0.0.1:9"],
            ["cannot reach", "127.0.0.1:9", "`--cluster ADDRESS`", "`--workers N`"],
        ),
        (
            ["--set", "cluster.address=somewhere"],
            ["cannot reach a Dask scheduler at somewhere: missing port", "`--cluster ADDRESS`"],
        ),
        (["--cluster", "local"], ["YAML file or an address"]),
        (["--set", "nonsense"], ["key=value"]),
    ],
)
def test_bad_input__is_explained_before_anything_is_written(
    arguments: list[str], words: list[str], files: Path, tmp_path: Path
) -> None:
    make_bad_inputs(files)
    given = [a.format(f=files) for a in arguments]
    if "--output" not in given:
        given += ["--output", str(tmp_path / "run")]
    text = segpipe("run", files / "run.yaml", *given, code=2)
    for word in words:
        assert word in text, text
    assert not (tmp_path / "run").exists(), "something was written"


@pytest.mark.parametrize("command", ["digest", "resume", "verify", "view"])
def test_no_run__is_explained(command: str, tmp_path: Path) -> None:
    text = segpipe(command, tmp_path / "none", code=2)
    assert "none" in text
    assert not (tmp_path / "none").exists()


def test_corrupt_tile__fails_with_its_place_and_the_way_back(files: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", compression="deflate")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[5]
    intact = path.read_bytes()
    path.write_bytes(intact[:offset] + b"\x55" * 2000 + intact[offset + 2000 :])
    output = tmp_path / "r"
    given = ("run", files / "run.yaml", "--input", path, "--output", output)
    text = segpipe(*given, code=2)
    assert "c.tif: tile 5 (rows 64 to 128, columns 64 to 128) cannot be decoded" in text
    assert f"delete {output} (or give another --output) and run again" in text
    assert f"go on with `segpipe resume {output}`" in text

    path.write_bytes(intact + b"\0")
    for command in (given, ("resume", output)):
        text = segpipe(*command, code=2)
        assert f"its input was a file of {len(intact):,} bytes, written 20" in text
        assert f"now it is one of {len(intact) + 1:,} bytes" in text
        assert "or delete it" in text
    shutil.rmtree(output)
    segpipe(*given)


def test_image_without_a_pixel_that_counts__is_said(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "nan.tif"
    tifffile.imwrite(path, np.full((200, 240), np.nan, np.float32), tile=(64, 64))
    text = segpipe("run", files / "run.yaml", "--input", path, "--output", tmp_path / "r")
    sentence = "no pixel of the image counts: all are NaN or infinite; so there are no segments"
    assert f"note      {sentence}" in text
    assert sentence in (tmp_path / "r/report.html").read_text()
    assert json.loads((tmp_path / "r/run.json").read_text())["notes"]["image"] == sentence


def test_resume__of_a_complete_run_has_nothing_to_do(files: Path) -> None:
    said = segpipe("resume", files / "done")
    assert "is complete: nothing to do" in said


def test_another_run__is_named(files: Path) -> None:
    said = segpipe("run", files / "run.yaml", "--set", "parameters.step=11", code=2)
    assert "holds another run:\n  its parameters.step is 12, here 11\nchoose" in said


def test_stage__is_the_last_and_said(files: Path, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(
        f"input: {files}/a.tif\noutput: {tmp_path}/run\ncluster: {{workers: none}}\nstages:\n"
        "  - {method: slic, parameters: {step: 12}}\n"
        "  - {method: region-merging, reads: slic, parameters: {threshold: 60}}\n"
    )
    segpipe("run", tmp_path / "two.yaml")
    state = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(state | {"state": "running"}))
    segpipe("resume", tmp_path / "run")  # knows what each stage reads
    said = segpipe("digest", tmp_path / "run")
    assert "stage region-merging, the last (--stage: slic)" in said
    named = segpipe("digest", tmp_path / "run", "--stage", "region-merging")
    assert "the last" not in named
    assert named.split()[-1] in said
    assert segpipe("digest", tmp_path / "run", "--stage", "slic").split()[-1] not in said
    target = tmp_path / "a.csv"
    assert "the last" in segpipe("export", tmp_path / "run", "--to", target)
    assert len(target.read_text().splitlines()) > 2
