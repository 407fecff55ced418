"""Label images in NumPy and MATLAB files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.readers.base import ReadError
from segpipe.readers.places import local_path, open_place, said_plainly

ARRAY_FILES = (".npy", ".npz", ".mat")
BSDS = "groundTruth"
"""Variable of the Berkeley segmentation data set: a cell per annotator with `Segmentation`."""


def find_arrays(where: str, name: str = "") -> list[tuple[str, np.ndarray]]:
    """Return the label images (H, W) of a file with what to call each of them.

    Parameters
    ----------
    where
        Path or URL of a .npy, .npz or .mat file.
    name
        Array to take; may be left out when only one can be labels.
    """
    suffix = Path(where.split("?")[0]).suffix.lower()
    place = open_place(where)
    try:
        if suffix == ".npy" and local_path(where) is not None:
            arrays: Mapping[str, np.ndarray] = {
                "": _loaded(where, local_path(where), mmap_mode="r")
            }
        else:
            with said_plainly(where), place.stream() as file:
                arrays = _matlab(where, file) if suffix == ".mat" else _numpy(where, file)
    finally:
        place.close()
    if BSDS in arrays and name in ("", BSDS):
        cells = arrays[BSDS]
        return _annotators(where, _bsds(where, cells) if cells.dtype.kind == "O" else cells)
    return _annotators(where, _chosen(where, arrays, name))


def _numpy(where: str, file: Any) -> Mapping[str, np.ndarray]:
    """Return the arrays of a .npz file, or the one of a .npy file."""
    found = _loaded(where, file)
    if isinstance(found, np.ndarray):
        return {"": found}
    try:
        return {key: found[key] for key in found.files}
    except Exception as err:
        raise _unreadable(where, "NumPy", err) from err


def _loaded(where: str, file: Any, **how: Any) -> Any:
    try:
        return np.load(file, allow_pickle=False, **how)
    except Exception as err:  # zipfile's, zlib's and NumPy's own errors
        raise _unreadable(where, "NumPy", err) from err


def _matlab(where: str, file: Any) -> Mapping[str, np.ndarray]:
    """Return the variables of a .mat file."""
    from scipy.io import loadmat

    try:
        found = loadmat(file)
    except NotImplementedError:  # MATLAB 7.3 is HDF5
        file.seek(0)
        return _matlab_hdf5(where, file)
    except Exception as err:  # scipy.io raises whatever damaged bytes lead to
        raise _unreadable(where, "MATLAB", err) from err
    return {key: value for key, value in found.items() if not key.startswith("__")}


def _matlab_hdf5(where: str, file: Any) -> Mapping[str, np.ndarray]:
    """Return the variables of a MATLAB 7.3 file; it stores columns first."""
    try:
        import h5py
    except ImportError as err:
        raise ReadError(
            f"{where} is a MATLAB 7.3 (HDF5) file, which needs h5py: pip install 'segpipe[mat]'; "
            "or save it again with -v7, or as PNG or npz"
        ) from err
    try:
        with h5py.File(file, "r") as variables:
            if BSDS in variables:
                cells = variables[BSDS][()].ravel(order="F")
                found = [variables[cell]["Segmentation"][()].T for cell in cells]
                return {BSDS: np.stack(found)}
            return {
                name: item[()].T
                for name, item in variables.items()
                if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf"
            }
    except Exception as err:  # h5py raises whatever damaged bytes lead to
        raise _unreadable(where, "MATLAB", err) from err


def _unreadable(where: str, kind: str, err: Exception) -> ReadError:
    return ReadError(
        f"{where} cannot be read as a {kind} file of arrays ({type(err).__name__}: {err}); copy it "
        "again"
    )


def _bsds(where: str, cells: np.ndarray) -> np.ndarray:
    """Return (annotators, H, W) of the Berkeley data set's cell array."""
    try:
        found = [np.asarray(cell["Segmentation"][0, 0]) for cell in cells.ravel()]
        return np.stack(found) if found else np.zeros((0, 0, 0), np.uint8)
    except (IndexError, KeyError, ValueError, TypeError) as err:
        raise ReadError(
            f"{where}: {BSDS} is no cell array of structures with a `Segmentation` each ({err})"
        ) from err


def _chosen(where: str, arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the one array that is meant."""
    if name:
        if name not in arrays:
            raise ReadError(f"{where} has no array `{name}`; it has {', '.join(arrays) or 'none'}")
        return arrays[name]
    fit = [key for key, array in arrays.items() if len(arrays) == 1 or _may_be_labels(array)]
    if len(fit) == 1:
        return arrays[fit[0]]
    told = ", ".join(f"{k or 'array'} {a.dtype} {a.shape}" for k, a in arrays.items()) or "nothing"
    if fit:
        raise ReadError(f"{where} has several arrays: {told}; choose one with FILE::NAME")
    raise ReadError(
        f"{where} has no labels in it but {told}; labels are whole numbers (H, W) or (annotators, "
        "H, W)"
    )


def _may_be_labels(array: np.ndarray) -> bool:
    """Whether an array looks like labels; MATLAB writes whole numbers as float64, too."""
    planes = array.ndim in (2, 3) and min(array.shape) > 0
    if not planes or array.dtype.kind not in "biuf":
        return False
    small = array.ndim == 2 and 1 in array.shape  # a list of numbers beside the labels
    return not small and (array.dtype.kind != "f" or bool((array == np.floor(array)).all()))


def _annotators(where: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Split (annotators, H, W); refuse what is no stack of label images."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2 and array.size:
        return [(where, array)]
    if array.ndim == 3 and len(array) == 0:
        raise ReadError(f"{where} has no annotator in it; give a file with at least one")
    if array.ndim == 3 and array.size:
        return [(f"{where} [{i + 1}]", plane) for i, plane in enumerate(array)]
    raise ReadError(
        f"{where}: an array of shape {array.shape} is no label image; allowed are (H, W) and "
        "(annotators, H, W)"
    )
