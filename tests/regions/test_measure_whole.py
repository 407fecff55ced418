"""The tables of a run on a whole photograph equal scikit-image's, and NumPy's, on the whole array.

Other images by hand: ``python tests/regions/test_measure_whole.py IMAGE STEP``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segpipe import session
from segpipe.config import parse
from segpipe.progress import TerminalProgress
from segpipe.regions.percentiles import PERCENTS
from segpipe.store import IMAGE
from segpipe.store.arrays import open_array
from segpipe.store.columns import batches, column_names
from segpipe.store.folder import Folder

Image.MAX_IMAGE_PIXELS = None
EXACT = ("label", "area", "bbox", "intensity_min", "intensity_max")
"""Whole numbers."""
DERIVED = ("centroid", "intensity_mean", "intensity_std", "perimeter")
"""Rounded once or twice by us; scikit-image sums in floating point: some 16 digits."""
LOOSE = ("axis_major_length", "axis_minor_length", "eccentricity")
"""scikit-image takes them from sums of squares in floating point, of which most digits cancel."""
Columns = dict[str, np.ndarray]


def compare(source: Path, output: Path, step: int) -> None:
    """Run, read everything back from the run folder and compare every column."""
    settings = {
        "input": str(source),
        "output": str(output),
        "method": "slic",
        "measure": "full",
        "parameters": {"step": step},
        "tiles": {"size": 1000},
        "cluster": {"workers": "none"},
        "report": {"seam_check": False},
    }
    session.execute(parse(settings), TerminalProgress(Console(quiet=True)), resume=False)
    labels = open_array(Folder(str(output)) / IMAGE, "labels/slic/0")[:]
    found = read_table(output, "segments.parquet")
    image = np.asarray(Image.open(source).convert("RGB"))
    assert len(found["label"]) == labels.max() > 1000
    seen = (
        check_regionprops(found, labels, image)
        | check_percentiles(found, labels, image)
        | check_rest(found, labels)
    )
    assert seen == set(found), "every column"
    check_neighbours(read_table(output, "neighbours.parquet"), labels)


def read_table(folder: Path, table: str) -> Columns:
    home = Folder(str(folder))
    names = column_names(home, table)
    parts = list(batches(home, table, names, 1 << 20))
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def check_regionprops(found: Columns, labels: np.ndarray, image: np.ndarray) -> set[str]:
    """Compare what scikit-image has, too; return the names."""
    from skimage.measure import regionprops_table

    names = (*EXACT, *DERIVED, *LOOSE, "orientation")
    expected = regionprops_table(labels.astype(np.int64), image, properties=names)
    # the direction of a disc is noise
    long, short = expected["axis_major_length"], expected["axis_minor_length"]
    turned = long - short > 1e-4 * np.maximum(long, 1)
    for name, column in expected.items():
        if name.startswith(EXACT):
            np.testing.assert_array_equal(found[name], column, err_msg=name)
        elif name.startswith(DERIVED):
            np.testing.assert_allclose(found[name], column, rtol=1e-12, err_msg=name)
        elif name == "orientation":
            step = np.abs(found[name] - column)[turned]
            assert np.minimum(step, np.pi - step).max() < 1e-6
        else:
            np.testing.assert_allclose(found[name], column, rtol=1e-9, atol=2e-6, err_msg=name)
    # segments of a few pixels have no perimeter, and so no compactness
    perimeter = np.where(expected["perimeter"] > 0, expected["perimeter"], np.nan)
    compactness = 4 * np.pi * expected["area"] / perimeter**2
    np.testing.assert_allclose(found["compactness"], compactness, rtol=1e-12)
    return {*expected, "compactness"}


def check_percentiles(found: Columns, labels: np.ndarray, image: np.ndarray) -> set[str]:
    """Compare percentiles with NumPy's, region by region."""
    order = np.argsort(labels, axis=None, kind="stable")
    cuts = np.cumsum(np.bincount(labels.ravel()))[:-1]
    names = set()
    for c in range(image.shape[2]):
        parts = np.split(image[..., c].ravel()[order], cuts)[1:]
        expected = np.array([np.percentile(part, PERCENTS) for part in parts])
        for k, q in enumerate(PERCENTS):
            name = f"intensity_median-{c}" if q == 50 else f"intensity_p{q}-{c}"
            np.testing.assert_allclose(found[name], expected[:, k], rtol=1e-14, err_msg=name)
            names.add(name)
    return names


def check_rest(found: Columns, labels: np.ndarray) -> set[str]:
    """Compare who lies at the edge of the image; nothing is masked here."""
    edge = np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    np.testing.assert_array_equal(found["label"][found["touches_border"]], edge)
    assert not found["touches_none"].any()
    return {"touches_border", "touches_none"}


def check_neighbours(found: Columns, labels: np.ndarray) -> None:
    """Compare with all pairs of pixels side by side that differ."""
    sides = ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
    pairs = [np.stack([a[a != b], b[a != b]]) for a, b in sides]
    both = np.concatenate([*pairs, *(pair[::-1] for pair in pairs)], axis=1).astype(np.uint64)
    keys, lengths = np.unique(both[0] << np.uint64(32) | both[1], return_counts=True)
    np.testing.assert_array_equal(found["label"], keys >> np.uint64(32))
    np.testing.assert_array_equal(found["neighbour"], keys & np.uint64(0xFFFFFFFF))
    np.testing.assert_array_equal(found["length"], lengths)


@pytest.mark.parametrize("path", ["carrot_weed/images/*", "earth_mosaic/bmng.jpg"])
def test_table__of_a_photograph_equals_scikit_image(path: str, data: Path, tmp_path: Path) -> None:
    compare(sorted(data.glob(path))[0], tmp_path / "run", 64)


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        compare(Path(sys.argv[1]), Path(place) / "run", int(sys.argv[2]))
        count = len(read_table(Path(place) / "run", "segments.parquet")["label"])
        print(f"every column of {count:,} segments is that of the whole array")
