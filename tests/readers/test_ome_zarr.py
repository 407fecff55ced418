"""OME-Zarr 0.4 and 0.5 in a local folder."""

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.image import ImageAttrs as Attributes4
from ome_zarr_models.v05.image import ImageAttrs as Attributes5

from segpipe.readers import ReadError, open_source
from segpipe.tiles import Box


def write_zarr(where, array, axes, version="0.5", names=(), scale=1.0, unit=None, **options):
    """Write a valid OME-Zarr image and return it as (y, x, c)."""
    kinds = {"t": "time", "c": "channel"}
    told = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in told:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    steps = [scale * (2 if a == "y" else 1) if a in "zyx" else 1.0 for a in axes]
    attrs = {
        "multiscales": [
            {
                "name": "picture",
                "axes": told,
                "datasets": [
                    {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": steps}]}
                ],
            }
        ]
    }
    if names:
        window = {"min": 0, "max": 255, "start": 0, "end": 255}
        attrs["omero"] = {
            "channels": [{"label": n, "color": "FF0000", "window": window} for n in names]
        }
    group = zarr.open_group(where, mode="w", zarr_format=2 if version == "0.4" else 3)
    level = group.create_array("0", shape=array.shape, dtype=array.dtype, **options)
    level[...] = array
    if version == "0.4":
        attrs["multiscales"][0]["version"] = version
        Attributes4.model_validate(attrs)
        group.attrs.update(attrs)
    else:
        Attributes5.model_validate({"ome": attrs | {"version": version}}["ome"])
        group.attrs["ome"] = attrs | {"version": version}
    return where


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "tczyx"])
def test_zarr__axes(tmp_path, reads, picture, version, axes):
    array = picture[..., 0] if axes == "yx" else np.moveaxis(picture, -1, 0)
    if axes == "tczyx":
        array = array[None, :, None]
    chunks = tuple(32 if a in "yx" else 1 for a in axes)
    where = write_zarr(tmp_path / "a.zarr", array, axes, version, chunks=chunks)
    info = reads(where, picture[..., 0] if axes == "yx" else picture).info
    assert (info.access, info.native, info.rgb) == ("tiles", (32, 32), False)


def test_zarr__metadata(tmp_path, reads, picture):
    where = write_zarr(tmp_path / "a.zarr", np.moveaxis(picture, -1, 0), "cyx", names=("Red", "green", "B"),
                       scale=0.5, unit="micrometer", chunks=(3, 32, 32), shards=(3, 64, 64))  # fmt: skip
    info = reads(where, picture).info
    assert info.rgb
    assert info.channel_names == ("Red", "green", "B")
    assert (info.pixel_size, info.pixel_unit) == ((1.0, 0.5), "micrometer")


def test_zarr__channels_that_are_no_colours(tmp_path, picture):
    where = write_zarr(
        tmp_path / "a.zarr", np.moveaxis(picture, -1, 0), "cyx", names=("DAPI", "GFP", "RFP")
    )
    info = open_source(where).info
    assert not info.rgb
    assert (info.pixel_size, info.pixel_unit) == ((2.0, 1.0), None)


def test_zarr__float_nan_does_not_count(tmp_path, reads):
    image = np.ones((50, 60), np.float32)
    image[3, 4] = np.nan
    reads(write_zarr(tmp_path / "a.zarr", image, "yx"), image, np.isfinite(image).astype(np.uint8))


def test_zarr__stack_is_refused(tmp_path):
    where = write_zarr(tmp_path / "a.zarr", np.zeros((4, 20, 20), np.uint8), "zyx")
    with pytest.raises(ReadError, match=r"z = 4.*length 1"):
        open_source(where)


def test_zarr__folder_without_metadata(tmp_path):
    with pytest.raises(ReadError, match="folder without Zarr metadata"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("attrs", "hint"),
    [({}, "levels"), ({"bioformats2raw.layout": 3}, "<folder>/0"), ({"plate": {}}, "field")],
)
def test_zarr__group_without_multiscales(tmp_path, attrs, hint):
    zarr.open_group(tmp_path / "a.zarr", mode="w").attrs["ome"] = attrs
    with pytest.raises(ReadError, match=f"no multiscales.*{hint}"):
        open_source(tmp_path / "a.zarr")


def test_zarr__plain_array(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(9, 9), dtype="uint8")
    with pytest.raises(ReadError, match=r"no multiscales.*levels"):
        open_source(tmp_path / "a.zarr")


@pytest.mark.parametrize("damage", ["zarr.json", "0/zarr.json"])
def test_zarr__damaged_metadata(tmp_path, picture, damage):
    where = write_zarr(tmp_path / "a.zarr", picture[..., 0], "yx")
    (where / damage).write_text("{ not json")
    with pytest.raises(ReadError, match="metadata cannot be read"):
        open_source(where)


def test_zarr__damaged_chunk(tmp_path, picture):
    where = write_zarr(tmp_path / "a.zarr", picture[..., 0], "yx", chunks=(32, 32))
    (where / "0/c/1/2").write_bytes(b"nonsense")
    source = open_source(where)
    source.read(Box((0, 0), (32, 200)))
    with pytest.raises(ReadError, match=r"rows 30 to 40, columns 60 to 70 cannot be decoded"):
        source.read(Box((30, 60), (40, 70)))


def test_zarr__bomb(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=(2**31, 2**31), chunks=(512, 512), dtype="uint8")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [{"name": "y"}, {"name": "x"}],
                                                             "datasets": [{"path": "0"}]}]}  # fmt: skip
    with pytest.raises(ReadError, match="raise max_pixels"):
        open_source(tmp_path / "a.zarr")
