"""The YAML of a run: every key, its meaning and its default; the only place that reads YAML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from segpipe.errors import InputError
from segpipe.explain import explained, nearest, one_of
from segpipe.passes import GROUPS, STANDARD, Group

Model = TypeVar("Model", bound=BaseModel)
FILES = ("seeds", "markers", "model")
"""Parameters of methods that may name a file."""
MEASURES: dict[str, tuple[Group, ...]] = {
    "basic": ("area",),
    "standard": STANDARD,
    "full": GROUPS,
}
"""Words for common sets of measurements."""

NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
"""Of a stage: it names folders."""
NEEDS = "; it needs the keys `input`, `output` and `method` (or `stages`): configs/ has examples"


def _groups(given: Any) -> Any:
    """Turn what a user wrote for `measure` into groups, or say what is allowed."""
    names = list(given or ()) if isinstance(given, list | tuple | None) else [given]
    known = [*MEASURES, *GROUPS]
    for name in names:
        if name not in known:
            hint = nearest(name, known, f"there are {', '.join(known)}")
            raise ValueError(f"nothing called `{name}` can be measured; {hint}")
    chosen = {"area"}.union(*(MEASURES.get(name, {name}) for name in names))
    return tuple(group for group in GROUPS if group in chosen)


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Tiles(_Keys):
    """How the image is cut; the labels do not depend on it."""

    size: Literal["auto", "whole"] | Annotated[int, Field(ge=64)] | tuple[int, int] = "auto"
    """Core of a tile in pixels, from 64: one edge, [rows, columns], `whole`, or `auto` (the
    cheapest within the memory limit)."""


class Tls(_Keys):
    """Certificates for an encrypted cluster."""

    ca: str
    """Path of the certificate authority's file (PEM)."""
    cert: str
    """Path of this client's certificate (PEM)."""
    key: str
    """Path of this client's private key (PEM)."""


class Cluster(_Keys):
    """Where the work is done; never changes the result."""

    address: str | None = None
    """Scheduler of a running Dask cluster, for example `tcp://10.0.0.5:8786` or `tls://…`. Without
    it, worker processes are started on this machine."""
    workers: Annotated[int, Field(ge=1)] | Literal["auto", "none"] = "auto"
    """Worker processes to start here; `auto` = one per core this process may use;
    `none` = work in this process."""
    memory: str = "auto"
    """Memory limit of one worker, for example `4GB`; `auto` = an equal share of this machine's."""
    dashboard: str = "127.0.0.1:8787"
    """Address of the Dask dashboard of local workers (another port is taken if this one is in use);
    it listens on this machine alone unless you say otherwise here."""
    retries: int = Field(default=2, ge=0)
    """How often a failing task is tried again."""
    patience: str = "15 minutes"
    """How long to wait for workers when the cluster has none left; then the run ends, resumable."""
    tls: Tls | None = None
    """Certificates, for `tls://` addresses."""


class Report(_Keys):
    """What is looked at when the labels are done; never changes them."""

    seam_check: bool = True
    """Segment a few windows again with the seams elsewhere and compare: a few seconds at most."""
    page: bool = True
    """Write `report.html` of an image; a collection has `collection.pages` for its images."""


class Collection(_Keys):
    """How the images of a collection are worked on; never changes the labels of any."""

    whole_pixels: int = Field(default=1 << 24, ge=0)
    """Images of at most so many pixels are segmented in one piece, one per worker, if its memory
    allows; larger ones in tiles, one after the other by all workers."""
    thumbnail: int = Field(default=240, ge=0, le=1024)
    """Longest edge of the thumbnails with borders of segments (px); 0 = none."""
    pages: bool = False
    """Write a report page for every image too: 1.5 MB and most of a second of a core each."""


class Stage(_Keys):
    """One method and the names of its input and output."""

    method: str
    """Name of a method; `segpipe methods` lists them."""
    name: str | None = None
    """Name of the label image that it writes; the method's name when omitted."""
    reads: str = "image"
    """What it works on: `image`, or, for methods that group segments or grow from them, the name of
    a stage before it or a file of labels of the image's size. A relative path starts at the folder
    of this YAML. Methods that segment pixels may read a stage that keeps a filtered image (see
    `segpipe methods mean-shift`): they segment and measure that image then."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The method's parameters; `segpipe methods NAME` explains them."""

    @field_validator("name")
    @classmethod
    def _named(cls, name: str | None) -> str | None:
        if name is not None and (name == "image" or not NAME.fullmatch(name)):
            raise ValueError(
                f"a stage's name is letters, digits and - _ . and not `image`, got {name!r}"
            )
        return name

    @property
    def output(self) -> str:
        """Name of the label image."""
        return self.name or self.method


class Config(_Keys):
    """One run: what to segment, how, where to."""

    input: str | tuple[str, ...]
    """Image file or URL: TIFF, OME-TIFF, GeoTIFF, SVS, PNG, JPEG, OME-Zarr. Or a collection:
    a folder, a pattern such as `photos/**/*.jpg`, a list, or a manifest (.txt: one path a line;
    .csv or .tsv with a column `path`). A relative path starts at the folder of this YAML."""
    output: str
    """Folder of the run (new, or that of the same run to resume). A relative path starts at the
    current directory."""
    method: str | None = None
    """Name of the method, short for a single stage."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of `method`."""
    stages: tuple[Stage, ...] = ()
    """Several methods one after the other, instead of `method` and `parameters`."""
    mask: str | None = None
    """Work only here: an image of the same size (non-zero = work) or a file of polygons
    (GeoJSON, GeoPackage, GeoParquet, shapefile)."""
    measure: Annotated[tuple[Group, ...], BeforeValidator(_groups)] = STANDARD
    """What the table of segments says besides area, box and centroid: a list of `shape` (perimeter,
    compactness, axes), `colour` (mean, deviation, extremes of every channel), `percentiles` (5, 25,
    50, 75, 95 % of every channel; costs twice as much as all the others) and `neighbours` (a second
    table: who meets whom along how many pixel edges); or `basic` (nothing more), `standard` (shape
    and colour), `full`."""
    tiles: Tiles = Tiles()
    cluster: Cluster = Cluster()
    report: Report = Report()
    collection: Collection = Collection()
    max_pixels: int | None = Field(default=None, gt=0)
    """Refuse images that claim more pixels than this: a guard against forged files; without it each
    format has a limit of its own."""

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Config:
        if bool(self.method) == bool(self.stages):
            raise ValueError("give either `method` (with `parameters`) or `stages`, and not both")
        if self.stages and self.parameters:
            name = next(iter(self.parameters))
            own = [
                f"`stages.{number}.parameters.{name}` ({stage.method})"
                for number, stage in enumerate(self.stages)
            ]
            raise ValueError(
                f"with `stages`, each has its own parameters; instead of `parameters.{name}`, give "
                f"{one_of(own)}"
            )
        names = [stage.output for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages write the same label image: {sorted(names)}; name them")
        for number, stage in enumerate(self.stages):
            known = ["image", *names[:number]]
            if stage.reads not in known and not _is_file(stage.reads):
                raise ValueError(
                    f"stage {stage.output} reads `{stage.reads}`; allowed are {', '.join(known)}"
                    " and files of labels"
                )
        return self

    @property
    def work(self) -> tuple[Stage, ...]:
        """The stages, however they were given."""
        if self.method:
            return (Stage(method=self.method, parameters=self.parameters),)
        return self.stages


def load(
    path: str | Path, changes: Sequence[str] = (), overrides: dict[str, Any] | None = None
) -> Config:
    """Read a configuration file.

    Parameters
    ----------
    path
        The YAML.
    changes
        ``key.key=value`` strings that win over the file; the value is YAML.
    overrides
        Values by dotted key that win over everything (command-line options).

    Raises
    ------
    InputError
        The file cannot be read, or a key or value is not allowed.
    """
    values = read(path, NEEDS)
    _settle(values, Path(path).parent)
    change(values, changes)
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(values, key, value)
    _settle(values, Path.cwd())
    return parse(values, str(path))


def parse(values: dict[str, Any], where: str = "the configuration") -> Config:
    """Validate configuration values."""
    return validated(Config, values, where)


def validated(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Return values as the keys of `model`, or raise an InputError with a line per wrong key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{where} cannot be used:", *explained(error.errors(), model)]
        raise InputError("\n".join(lines)) from error


def placed(config: Config) -> Config:
    """Return a configuration that means the same output to workers of another directory."""
    if config.cluster.address is None:
        return config
    return config.model_copy(update={"output": relative(config.output, Path.cwd())})


def relative(path: str, folder: Path) -> str:
    """Let a relative path start at `folder`; URLs and absolute paths stay."""
    return path if "://" in path or Path(path).is_absolute() else str((folder / path).resolve())


def dump(values: dict[str, Any]) -> str:
    """Return configuration values as YAML."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=88)


def load_cluster(path: str | Path) -> dict[str, Any]:
    """Read a cluster file: the keys of `cluster`, alone or under that name."""
    values = read(path)
    found = values.get("cluster", values)
    if not isinstance(found, dict):
        raise InputError(f"{path}: `cluster` must hold `key: value` lines, got {found!r}")
    _settle_tls(found, Path(path).parent)
    return found


def read(path: str | Path, needs: str = "") -> dict[str, Any]:
    """Return what a YAML says, not validated yet; `needs` is said of an empty one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no YAML; the configuration comes first, the image with --input"
        ) from error
    values = _yaml(text, str(path))
    if values is None:
        raise InputError(f"{path} is empty{needs}")
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold `key: value` lines, got {type(values).__name__}")
    return values


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or error.context
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        shown = mark.get_snippet(indent=2) if mark else None
        more = f"\n{shown}" if shown else ""
        raise InputError(f"{where} is not valid YAML{place}: {problem}{more}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not valid YAML: {error}") from error


def _settle(values: dict[str, Any], folder: Path) -> None:
    """Let relative paths start at `folder`, for good: a run may be resumed from anywhere."""
    for key in ("input", "mask"):
        given = values.get(key)
        if isinstance(given, str):
            values[key] = relative(given, folder)
        elif isinstance(given, list | tuple):
            values[key] = [relative(g, folder) if isinstance(g, str) else g for g in given]
    listed: Any = values.get("stages")
    stages = [s for s in listed if isinstance(s, dict)] if isinstance(listed, list) else []
    names = [stage.get("name") or stage.get("method") for stage in stages]
    _settle_tls(values.get("cluster"), folder)
    for stage in [values, *stages]:
        if _is_file(stage.get("reads")) and stage["reads"] not in names:
            stage["reads"] = relative(stage["reads"], folder)
        parameters: Any = stage.get("parameters")
        if isinstance(parameters, dict):
            files = {k: v for k, v in parameters.items() if k in FILES and _is_file(v)}
            parameters.update({k: relative(v, folder) for k, v in files.items()})


def _settle_tls(cluster: Any, folder: Path) -> None:
    """Let the relative paths of certificates start at `folder`."""
    tls: Any = cluster.get("tls") if isinstance(cluster, dict) else None
    if isinstance(tls, dict):
        tls.update({k: relative(v, folder) for k, v in tls.items() if isinstance(v, str)})


def _is_file(value: Any) -> bool:
    """Tell a file from a word such as `image` or `minima`."""
    return isinstance(value, str) and ("/" in value or bool(Path(value).suffix))


def change(values: dict[str, Any], changes: Sequence[str]) -> None:
    """Put ``key.key=value`` strings into values; what is behind = is YAML."""
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: give key=value, for example --set tiles.size=512")
        _put(values, key.strip(), _yaml(value, f"--set {text}"))


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = _item(values, parent, key) if isinstance(values, list) else None
        if inner is None and values.get(parent) is None:
            values[parent] = {}  # also what a YAML leaves empty
        values = values[parent] if inner is None else inner
        if not isinstance(values, dict | list):
            raise InputError(f"cannot set {key}: {parent} has no keys of its own")
    if isinstance(values, list):
        raise InputError(f"cannot set {key}: say what of it, for example {key}.parameters.NAME")
    values[last] = value


def _item(values: list[Any], number: str, key: str) -> Any:
    """Return an item of a list by its number, from 0."""
    if not number.isdigit() or int(number) >= len(values):
        raise InputError(
            f"cannot set {key}: `{number}` is no item of that list; give 0 to {len(values) - 1}"
        )
    return values[int(number)]
