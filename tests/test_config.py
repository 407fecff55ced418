"""The configuration: what is allowed, and how it says what is not."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields
from pathlib import Path

import pytest

from segpipe.cluster import limits
from segpipe.config import Cluster, Config, load, load_cluster, parse, placed
from segpipe.errors import InputError
from segpipe.methods import everything
from segpipe.stage_plans import build_method

ROOT = Path(__file__).resolve().parents[1]
STAGE = {"input": "a", "output": "b"}
GOOD = {"input": "a.tif", "output": "out", "method": "slic"}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_ready_configurations__are_valid() -> None:
    for path in ROOT.glob("configs/*.yaml"):
        config = load(path)
        for stage in config.work:
            build_method(stage.method, stage.parameters)
    for path in ROOT.glob("configs/cluster/*.yaml"):
        parse({**GOOD, "cluster": load_cluster(path)})


def test_relative_input__starts_at_the_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "input: images/a.tif\noutput: runs/a\nmethod: slic\n")
    config = load(path)
    assert config.input == str(tmp_path / "images/a.tif")
    assert config.output == "runs/a"
    assert load(path, overrides={"input": "b.tif"}).input == str(Path("b.tif").resolve())


def test_url__is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "input: s3://bucket/a.tif\noutput: s3://bucket/run\nmethod: slic\n")
    assert load(path).input == "s3://bucket/a.tif"


def test_set__overrides_any_key(tmp_path: Path) -> None:
    path = write(tmp_path, "input: a.tif\noutput: o\nmethod: slic\ntiles: {size: 1024}\n")
    config = load(path, ["tiles.size=[500, 700]", "parameters.step=24", "cluster.memory=2GB"])
    assert config.tiles.size == (500, 700)
    assert config.parameters == {"step": 24}
    assert config.cluster.memory == "2GB"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**GOOD, "tile": 3}, "tile: unknown key; did you mean `tiles`"),
        ({**GOOD, "tiles": {"sise": 3}}, "tiles.sise: unknown key; did you mean `size`"),
        ({**GOOD, "cluster": {"worker": 3}}, "did you mean `workers`"),
        (
            {**GOOD, "tiles": {"size": 3}},
            "tiles.size must be auto, whole, 64 or more or a list, got 3; Core of",
        ),
        (
            {**GOOD, "tiles": {"size": "big"}},
            "auto, whole, a whole number or a list, got 'big'; Core of a tile",
        ),
        ({**GOOD, "tiles": {"size": "hole"}}, "a list, got 'hole'; did you mean `whole`?"),
        ({**GOOD, "tiles": {"size": ["a", 99]}}, "tiles.size.0 must be a whole number, got 'a'"),
        ({**GOOD, "tiles": {"size": [99]}}, "tiles.size: [99] is not allowed; Core of a tile"),
        ({**GOOD, "cluster": {"workers": "nne"}}, "got 'nne'; did you mean `none`?"),
        ({**GOOD, "cluster": {"retries": "two"}}, "must be a whole number, got 'two'; How often"),
        ({**GOOD, "report": {"page": None}}, "report.page must be true or false, got null;"),
        ({**GOOD, "tiles": 512}, "tiles: has keys of its own: size"),
        ({**GOOD, "step": 24}, "a parameter of the method is `parameters.step`"),
        ({**GOOD, "measure": "colours"}, "nothing called `colours` can be measured; did you mean"),
        ({**GOOD, "measure": ["shape", "all"]}, "there are basic, standard, full, area"),
        ({"input": "a", "method": "slic"}, "output: this key is needed"),
        ({"input": "a", "output": "b"}, "give either `method`"),
        ({**GOOD, "stages": [{"method": "slic"}]}, "give either `method`"),
        ({**GOOD, "cluster": {"retries": -1}}, "cluster.retries must be 0 or more, got -1"),
        ({**GOOD, "max_pixels": 0}, "max_pixels must be more than 0, got 0"),
        (
            {**GOOD, "cluster": {"workers": 0}},
            "cluster.workers must be auto, none or 1 or more, got 0",
        ),
        (STAGE | {"stages": [{"method": "slic", "name": "a/b"}]}, "letters, digits and - _ . and"),
        (STAGE | {"stages": [{"method": "slic", "name": "../b"}]}, "got '../b'"),
        (STAGE | {"stages": [{"method": "slic", "name": "image"}]}, "and not `image`, got 'image'"),
        (
            {"input": "a", "output": "b", "stages": [{"method": "slic"}, {"method": "slic"}]},
            "two stages write the same label image",
        ),
    ],
)
def test_parse__explains_what_is_wrong(values: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("slik", {}, "did you mean `slic`"),
        ("watershed", {"markers": "peaks"}, "segments or a list, got 'peaks'; Where regions begin"),
        ("slic", {"stepp": 3}, "did you mean `step`"),
        ("slic", {"step": 0}, "step"),
        ("slic", {"step": "wide"}, "slic: step must be a whole number, got 'wide'; Spacing"),
        ("watershed", {"markers": "minnima"}, "a list, got 'minnima'; did you mean `minima`?"),
        ("watershed", {"markers": [[1, 2], [3, "x"]]}, "markers.1.1 must be a whole number"),
        ("watershed", {"markers": [[1, 2], [3]]}, r"markers.1: \[3\] is not allowed; Where"),
        ("threshold", {"rule": "otus"}, "otsu, local or fixed, got 'otus'; did you mean `otsu`?"),
        ("mean-shift", {"features": ["lab", "colur"]}, "features.1 must be .* mean `colour`?"),
        ("slic", {"compactness": -1}, "compactness"),
    ],
)
def test_build_method__explains_what_is_wrong(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_method(name, parameters)


def test_explanations__are_in_plain_words() -> None:
    """No word of the library that checks, for any type of wrong value of any key."""
    wrong = ["x", 1.5, -1, None, [], ["x"], [[1, "x"]], {"x": 1}]
    said = []
    for method, kind in everything().items():
        for field, value in itertools.product(fields(kind), wrong):
            try:
                build_method(method, {field.name: value})
            except InputError as error:
                said.append(str(error))
    for key, value in itertools.product(Config.model_fields, wrong):
        try:
            parse({**GOOD, key: value})
        except InputError as error:
            said.append(str(error))
    assert len(said) > 200
    assert not [
        text for text in said if re.search("Input should|a valid|unable to|instance of", text)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input: [", "run.yaml is not valid YAML, line 1, column 9: expected the node content"),
        (
            "input: a\n  b: c",
            "run.yaml is not valid YAML, line 2, column 4: mapping values are not",
        ),
        ("- a\n", "key: value"),
        ("# nothing\n", "run.yaml is empty; it needs the keys `input`, `output` and `method`"),
        ("input: a\noutput: b\nstages: 5\n", "stages"),
        ("input: a\noutput: b\nstages: [{method: [slic]}]\n", "stages.0.method"),
    ],
)
def test_load__explains_broken_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write(tmp_path, text))


def test_load__missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the configuration"):
        load(tmp_path / "no.yaml")


def test_set__below_a_key_that_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path, "input: a\noutput: b\nmethod: slic\nparameters:\n")
    assert load(path, ["parameters.step=24"]).parameters == {"step": 24}


def test_cluster__paths_start_at_its_file(tmp_path: Path) -> None:
    tls = "tls: {ca: ca.pem, cert: /c/client.pem, key: k/client.key}\n"
    (tmp_path / "cluster.yaml").write_text(f"address: tls://host:1\n{tls}")
    found = load_cluster(tmp_path / "cluster.yaml")["tls"]
    wanted = {
        "ca": f"{tmp_path}/ca.pem",
        "cert": "/c/client.pem",
        "key": f"{tmp_path}/k/client.key",
    }
    assert found == wanted
    for text in ("cluster:\n", "cluster: 3\n"):
        (tmp_path / "cluster.yaml").write_text(text)
        with pytest.raises(InputError, match="`cluster` must hold"):
            load_cluster(tmp_path / "cluster.yaml")


def test_dashboard__is_checked_before_a_run_is_claimed() -> None:
    for address in ("127.0.0.1:99999", "here", "host:"):
        with pytest.raises(InputError, match="no host:port; ports are 0"):
            limits(Cluster(dashboard=address))


def test_placed__output_is_one_place_for_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = parse(GOOD)
    assert placed(here) is here
    away = parse({**GOOD, "cluster": {"address": "tcp://host:1"}})
    assert placed(away).output == str(tmp_path / GOOD["output"])
    url = parse({**GOOD, "output": "s3://bucket/run", "cluster": {"address": "tcp://host:1"}})
    assert placed(url).output == "s3://bucket/run"


def test_set__needs_an_equals_sign(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give key=value"):
        load(write(tmp_path, "input: a\noutput: b\nmethod: slic\n"), ["tiles.size"])


def test_set__reaches_into_stages(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("input: a\noutput: b\nstages: [{method: slic}, {method: slic, name: c}]\n")
    found = load(path, ["stages.1.parameters.step=20"])
    assert [stage.parameters for stage in found.work] == [{}, {"step": 20}]
    for change, message in (
        ("stages.2.parameters.step=20", "`2` is no item of that list; give 0 to 1"),
        ("stages.c.name=d", "`c` is no item"),
        ("stages.1=3", "say what of it"),
        (
            "parameters.step=3",
            r"give `stages.0.parameters.step` \(slic\) or `stages.1.parameters.step` \(slic\)",
        ),
    ):
        with pytest.raises(InputError, match=message):
            load(path, [change])
