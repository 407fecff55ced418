"""Time whole runs: `python tests/bench/bench_run.py --size 16384 --workers 2`.

Makes a mosaic from real photographs (see make_mosaic.py), runs `segpipe run` on it in a process of its
own, and prints throughput, memory, where the time went, and the share outside read, compute and write.
The mosaic is read once before, as when it has just been made: a file that has to come from a slow disk
takes as long as it takes. With --kill it also kills the run half way, resumes it and compares the digests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tiles", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    parser.add_argument("--compression", default="zstd")
    parser.add_argument("--kill", action="store_true", help="kill half way, resume, compare")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    image = args.folder / f"mosaic-{args.size}-{args.compression}.tif"
    if not image.exists():
        options = ["--size", str(args.size), "--compression", args.compression]
        subprocess.run([sys.executable, HERE / "make_mosaic.py", image, *options], check=True)
    warm_up(args.folder)
    with image.open("rb") as file:
        while file.read(1 << 24):
            pass
    output = args.folder / f"run-{args.size}-{args.workers}-{args.tiles}"
    command = run_command(image, output, args.workers, args.tiles)
    begun = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    spent = time.time() - begun
    state = json.loads((output / "run.json").read_text())
    show(state)
    pixels = args.size**2
    print(
        f"with Python's start, the report and the end: {spent:.1f} s = {pixels / spent / 1e6:.1f} Mpx/s"
    )
    if args.kill:
        killed_and_resumed(command, output, state)


def run_command(image: Path, output: Path, workers: int, tiles: str) -> list[str]:
    """Return the command of a fresh run."""
    shutil.rmtree(output, ignore_errors=True)
    config = HERE.parents[1] / "configs/superpixels.yaml"
    return [
        *(sys.executable, "-m", "segpipe", "run", str(config), "--input", str(image)),
        *("--output", str(output), "--workers", str(workers), "--set", f"tiles.size={tiles}"),
    ]


def warm_up(folder: Path) -> None:
    """Compile the kernels into the cache: a user pays for that once per installation."""
    config = HERE.parents[1] / "configs/superpixels.yaml"
    output = folder / "warm"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "segpipe", "run", str(config), "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def show(state: dict[str, Any]) -> None:
    height, width = state["source"]["shape"]
    pixels, workers = height * width, state["machine"]["workers"]
    wall = state["wall_seconds"]
    print(f"\n{state['machine']['processor']}, {workers} workers, {height} x {width}")
    print(f"tiles {state['tile']}, {state['labels']['slic']['segments']} segments")
    print(f"whole run {wall:.1f} s = {pixels / wall / 1e6:.1f} Mpx/s")
    print(f"{'step':<15}{'wall s':>8}{'read':>8}{'compute':>9}{'write':>8}  ns/px, peak MB")
    busy = 0.0
    for name, step in state["steps"].items():
        phases = [step[phase] for phase in ("read", "compute", "write")]
        busy += sum(phases)
        figures = "".join(f"{v / pixels * 1e9:8.1f}" for v in phases)
        print(f"{name:<15}{step['wall']:8.1f}{figures}  {step['peak_bytes'] / 1e6:8.0f}")
    print(f"outside read, compute and write: {1 - busy / (wall * workers):.1%}")
    print(f"digest {state['labels']['slic']['digest']}")


def killed_and_resumed(command: list[str], output: Path, state: dict[str, Any]) -> None:
    shutil.rmtree(output)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep(state["wall_seconds"] / 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resume = [sys.executable, "-m", "segpipe", "resume", str(output)]
    subprocess.run(resume, check=True, stdout=subprocess.DEVNULL)
    again = json.loads((output / "run.json").read_text())
    reused = sum(step["reused"] for step in again["steps"].values())
    same = again["labels"] == state["labels"]
    print(
        f"killed half way and resumed: {reused} tasks reused, digest {'equal' if same else 'DIFFERS'}"
    )
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
