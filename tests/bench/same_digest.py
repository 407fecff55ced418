"""Is a result the same for any tiles, any workers, and after being stopped? Run it and see.

    python tests/bench/same_digest.py configs/nuclei.yaml --input mosaic.tif
    python tests/bench/same_digest.py --all --input mosaic.tif --tiles 512 whole --workers 1 2

Every run is a ``segpipe run`` of its own, with real worker processes. The last two are stopped amid
their tasks, one by Ctrl-C and one by ``kill -9`` of it and its workers, and gone on with by
``segpipe resume``. Compared are the digests of all labels and of all other maps that the method
keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEGPIPE = (sys.executable, "-m", "segpipe")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
APART = ("collection", "membranes", "vessels")
"""Ready configurations that `--all` leaves out: not of one image, of a network yet to train, or of
photographs of retinas."""
PART = 0.4
"""Share of a run's tasks after which it is stopped."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--all", action="store_true", help="every ready configuration of one image")
    parser.add_argument("--input")
    parser.add_argument("--set", action="append", default=[], help="as of segpipe run")
    parser.add_argument("--tiles", nargs="+", default=["256", "512", "[1000, 700]", "whole"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    given = parser.parse_args()
    configs = given.configs
    if given.all:
        configs = [str(p) for p in sorted(CONFIGS.glob("*.yaml")) if p.stem not in APART]
    if not configs:
        parser.error("name a configuration, or give --all")
    unequal = [config for config in configs if not same(config, given)]
    sys.exit(f"DIFFERENT: {', '.join(unequal)}" if unequal else 0)


def same(config: str, given: argparse.Namespace) -> bool:
    """Run a configuration in all ways; return whether one result came out."""
    shared = [config, *(["--input", given.input] if given.input else [])]
    shared += [f"--set={change}" for change in given.set]
    runs = [(tiles, given.workers[-1]) for tiles in given.tiles]
    runs += [(given.tiles[0], workers) for workers in given.workers[:-1]]
    seen: dict[str, tuple[tuple[str, str], ...]] = {}
    print(config, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, (tiles, workers) in enumerate(runs):
            output = f"{folder}/{number}"
            begun = time.monotonic()
            if subprocess.run(
                command(shared, output, tiles, workers), stdout=subprocess.DEVNULL
            ).returncode:
                sys.exit(f"the run with tiles {tiles} and {workers} workers failed")
            seen[f"tiles {tiles}, {workers} workers"] = digests(output)
            show(seen, f"{time.monotonic() - begun:.0f} s")
        tasks = int(PART * finished(f"{folder}/0"))
        for kind in (signal.SIGINT, signal.SIGKILL):
            output = stopped(shared, f"{folder}/{kind.name}", kind, tasks, *runs[0])
            subprocess.run([*SEGPIPE, "resume", output], check=True, stdout=subprocess.DEVNULL)
            steps = json.loads(Path(output, "run.json").read_text())["steps"].values()
            seen[f"{kind.name} and resumed"] = digests(output)
            show(seen, f"{sum(step['reused'] for step in steps)} tasks kept")
    return len(set(seen.values())) == 1


def command(shared: list[str], output: str, tiles: str, workers: int) -> list[str]:
    """Return the command line of a run."""
    settings = [f"--set=tiles.size={tiles}", f"--set=cluster.workers={workers}"]
    return [*SEGPIPE, "run", *shared, "--output", output, *settings]


def stopped(
    shared: list[str], name: str, kind: signal.Signals, tasks: int, tiles: str, workers: int
) -> str:
    """Stop a run after so many tasks, with its workers; return its folder.

    A run that is over before the signal comes is run again, and stopped after half as many.
    """
    for after in (tasks >> halved for halved in range(tasks.bit_length())):
        output = f"{name}-{after}"
        running = subprocess.Popen(
            command(shared, output, tiles, workers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while running.poll() is None and finished(output) < after:
            time.sleep(0.005)
        if running.poll() is None:
            os.killpg(running.pid, kind)
        if running.wait():
            return output
    sys.exit(f"the run was over before {kind.name} came; take a larger image")


def finished(output: str) -> int:
    """Return how many tasks of a run have left a record."""
    return sum(1 for _ in Path(output, "records").glob("*/*.npz"))


def digests(output: str) -> tuple[tuple[str, str], ...]:
    """Return the digest of each label image and other map of a run."""
    state = json.loads(Path(output, "run.json").read_text())
    found = state["labels"] | state.get("maps", {})
    return tuple((name, entry["digest"]) for name, entry in sorted(found.items()))


def show(seen: dict[str, tuple[tuple[str, str], ...]], note: str) -> None:
    """Say what the last run gave, and whether it is what the first one gave."""
    name, found = list(seen.items())[-1]
    same = "equal" if found == next(iter(seen.values())) else "DIFFERENT"
    said = "  ".join(f"{title} {digest[:16]}" for title, digest in found)
    print(f"{name:34} {said}  {same}  ({note})", flush=True)


if __name__ == "__main__":
    main()
