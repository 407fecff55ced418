"""The import table: who may import whom. A new import that breaks it is a design question."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GROUND = {"tiles", "errors", "colour"}
REGIONS = GROUND | {"passes", "regions"}
ALLOWED = {
    "tiles": set(),
    "errors": set(),
    "colour": {"tiles"},
    "passes": {"tiles"},
    "regions": REGIONS,
    "methods": REGIONS | {"methods", "nets"},
    "readers": GROUND | {"readers"},
    "store": {"tiles", "errors", "store"},
    "config": {"errors", "explain", "passes"},
    "explain": set(),
    "nets": REGIONS
    | {"", "config", "explain", "methods", "nets", "processes", "quality", "readers", "report"}
    | {"worker"},
    "stage_files": {"", "config", "errors", "methods", "readers"},
    "stage_plans": REGIONS | {"", "config", "explain", "methods", "readers", "stage_files"},
    "plan": REGIONS | {"", "config", "readers", "stage_plans"},
    "calibration": {"passes", "plan"},
    "tasks": {"errors", "kernels", "passes", "store"},
    "jobs": {"errors", "passes", "readers", "stage_files", "store", "tasks", "tiles"},
    "engine": {"errors", "tasks"},
    "difference": {"", "plan"},
    "state": {"errors", "store"},
    "steps": {"tasks"},
    "provenance": {"", "difference", "errors", "passes", "plan", "state", "store"},
    "report": {"", "config", "errors", "methods", "quality", "tiles", "store", "report"},
    "quality": REGIONS | {"quality"},
    "inspection": {"engine", "inspection", "jobs", "passes", "quality", "store", "tasks", "tiles"},
    "remarks": {"passes", "plan"},
    "finish": {
        "engine",
        "inspection",
        "jobs",
        "layers",
        "plan",
        "provenance",
        "remarks",
        "report",
        "run",
        "stage_plans",
        "steps",
        "store",
        "tiles",
    },
    "run": {
        "engine",
        "finish",
        "jobs",
        "layers",
        "passes",
        "plan",
        "provenance",
        "steps",
        "store",
        "tasks",
        "tiles",
    },
    "verify": {"errors", "store", "tasks", "tiles"},
    "kernels": set(),
    "processes": set(),
    "cluster": {"cluster", "config", "engine", "errors", "plan", "processes", "worker"},
    "session": {
        "cluster",
        "config",
        "engine",
        "errors",
        "kernels",
        "plan",
        "readers",
        "report",
        "run",
        "state",
        "store",
        "verify",
    },
    "collection": {
        "",
        "cluster",
        "collection",
        "config",
        "engine",
        "errors",
        "finish",
        "inspection",
        "jobs",
        "layers",
        "passes",
        "plan",
        "progress",
        "provenance",
        "quality",
        "readers",
        "report",
        "run",
        "session",
        "stage_plans",
        "state",
        "steps",
        "store",
        "tasks",
        "tiles",
    },
    "export": {"errors", "export", "state", "store"},
    "score": {
        "",
        "errors",
        "methods",
        "quality",
        "readers",
        "score",
        "stage_plans",
        "state",
        "store",
        "tiles",
    },
    "view": {"errors", "quality", "readers", "report", "state", "store", "tiles", "view"},
    "layers": {"errors", "passes", "plan"},
    "progress": set(),
    "worker": set(),
    "cli": {
        "",
        "calibration",
        "cli",
        "cluster",
        "collection",
        "errors",
        "export",
        "finish",
        "methods",
        "nets",
        "plan",
        "processes",
        "progress",
        "quality",
        "score",
        "session",
        "state",
        "store",
        "view",
    },
    "__main__": {"cli"},
    "__init__": set(),
}
"""Module or package -> the parts of segpipe it may import ("" is the package itself)."""

HOMES = {
    "prefect": {"flows"},
    "dask": {"cluster"},
    "distributed": {"cluster"},
    "zarr": {"store", "readers"},
    "xarray": {"store"},
    "yaml": {"config"},
    "typer": {"cli", "flows"},
    "pyarrow": {"store", "export", "readers"},
    "bokeh": {"report"},
    "pyogrio": {"export", "readers"},
    "rasterio": {"export"},
    "neuroglancer": {"view"},
    "torch": {"nets"},
    "safetensors": {"nets"},
}
"""Library -> the only places that may import it."""


def modules() -> list[Path]:
    return sorted([*ROOT.glob("segpipe/**/*.py"), *ROOT.glob("flows/**/*.py")])


def part(path: Path) -> str:
    """Which part of the house a file belongs to."""
    first = path.relative_to(ROOT).parts
    return "flows" if first[0] == "flows" else Path(first[1]).stem


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports__follow_the_table(path: Path) -> None:
    here = part(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top in HOMES:
            assert here in HOMES[top], f"{path} imports {top}, which lives in {HOMES[top]}"
        if top == "segpipe" and here != "flows":
            wanted = rest.partition(".")[0]
            wanted = (
                wanted
                if (ROOT / "segpipe" / wanted).exists()
                or (ROOT / "segpipe" / f"{wanted}.py").exists()
                else ""
            )
            assert wanted in ALLOWED[here], f"{path} imports {name}"


def test_methods__know_nothing_of_orchestration() -> None:
    banned = {"dask", "distributed", "zarr", "xarray", "prefect", "yaml", "pydantic"}
    parts = ("methods", "regions", "quality")
    for path in [path for name in parts for path in ROOT.glob(f"segpipe/{name}/*.py")]:
        assert not {name.partition(".")[0] for name in imports(path)} & banned, path
