"""The table of a run on a whole photograph equals scikit-image's on the whole array.

Other images by hand: ``python tests/regions/test_measure_whole.py IMAGE STEP``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from segpipe import session
from segpipe.config import parse
from segpipe.progress import TerminalProgress
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


def compare(source: Path, output: Path, step: int) -> None:
    """Run, read everything back from the run folder and compare."""
    from skimage.measure import regionprops_table

    settings = {
        "input": str(source),
        "output": str(output),
        "method": "slic",
        "parameters": {"step": step},
        "tiles": {"size": 1000},
        "cluster": {"workers": "none"},
        "report": {"seam_check": False},
    }
    session.execute(parse(settings), TerminalProgress(Console(quiet=True)), resume=False)
    folder = Folder(str(output))
    labels = open_array(folder / IMAGE, "labels/slic/0")[:]
    names = column_names(folder, "segments.parquet")
    parts = list(batches(folder, "segments.parquet", names, 1 << 20))
    found = {name: np.concatenate([part[name] for part in parts]) for name in names}
    image = np.asarray(Image.open(source).convert("RGB"))
    expected = regionprops_table(
        labels.astype(np.int64), image, properties=(*EXACT, *DERIVED, *LOOSE)
    )
    assert len(found["label"]) == labels.max() > 1000
    for name, column in expected.items():
        if name.startswith(EXACT):
            np.testing.assert_array_equal(found[name], column, err_msg=name)
        elif name.startswith(DERIVED):
            np.testing.assert_allclose(found[name], column, rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], column, rtol=1e-9, atol=2e-6, err_msg=name)


def test_table__of_a_whole_photograph_equals_scikit_image(data: Path, tmp_path: Path) -> None:
    compare(sorted((data / "carrot_weed/images").glob("*"))[0], tmp_path / "run", 64)


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        compare(Path(sys.argv[1]), Path(place) / "run", int(sys.argv[2]))
