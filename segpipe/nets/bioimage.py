"""Packages of bioimage.io: read by the specification's own library, offline; weights as ONNX.

Of what a description can say about values before and after the network, those that one formula per
channel covers are done here, for tiles and for whole images alike; others are refused by name.
Specification: https://bioimage.io, Ouyang et al., "BioImage Model Zoo: a community-driven resource
for accessible deep learning in bioimage analysis", bioRxiv 2022, 10.1101/2022.06.07.495102.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe.errors import InputError
from segpipe.nets.card import Grouping, Normalisation, PixelSize
from segpipe.nets.files import UNITS, Activation, ModelFile
from segpipe.nets.onnx_file import checked, edges, effort, fits, framed, read_weights


def read_package(path: str) -> ModelFile:
    """Read a bioimage.io description (``rdf.yaml``) with the files beside it, or a ``.zip``.

    Raises
    ------
    InputError
        The description is not valid, its weights are missing or have another checksum, or it needs
        what is not done here.
    """
    found = _described(path)
    weights, member, content = _weights(found, path)
    inputs, outputs = found.inputs, found.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"{path}: models with one input and one output are run, this one has {len(inputs)} and"
            f" {len(outputs)}"
        )
    given, result = inputs[0], outputs[0]
    names = _channels(given)
    model = checked(content, weights)
    halo = max(getattr(axis, "halo", 0) for axis in result.axes)
    frame = framed(model, weights, halo, _align(given, edges(model)))
    activation, classes = _classes(result)
    fits(model, weights, len(names), len(classes) - (activation == "sigmoid"))
    flops, values = effort(model)
    file = ModelFile(
        path=weights,
        member=member,
        format="onnx",
        digest=hashlib.sha256(content).hexdigest(),
        name=str(found.name),
        channels=names,
        classes=classes,
        frame=frame,
        activation=activation,
        pixel_size=_pixel_size(given),
        # a map of foreground parts objects by its saddles alone
        grouping=Grouping() if len(classes) == 2 else None,
        flops=flops,
        values=values,
    )
    return _with_preprocessing(file, given.preprocessing, path)


def _described(path: str) -> Any:
    """Return the description as the specification's library reads it; nothing is fetched."""
    try:
        from bioimageio.spec import ValidationContext, load_description
        from bioimageio.spec.model import v0_5
    except ImportError as error:
        raise InputError(
            "bioimage.io packages need `pip install 'segpipe[nets]'` (bioimageio.spec)"
        ) from error
    try:
        with ValidationContext(perform_io_checks=False, disable_cache=True):
            found = load_description(Path(path), format_version="latest")
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path} is no intact bioimage.io package: {error}") from error
    if not isinstance(found, v0_5.ModelDescr):
        errors = [e.msg for d in found.validation_summary.details for e in d.errors][:3]
        raise InputError(
            f"{path} is no valid bioimage.io model: {'; '.join(errors) or type(found).__name__}"
        )
    return found


def _weights(found: Any, path: str) -> tuple[str, str | None, bytes]:
    """Return where a package's ONNX weights lie (file, name inside of it), and what they are."""
    entry = found.weights.onnx
    if entry is None:
        others = [name for name, kind in found.weights if kind is not None]
        raise InputError(
            f"{path} has no ONNX weights but {', '.join(others)}, which are or need programs;"
            " convert it with `bioimageio add-weights` (bioimageio.core)"
        )
    name = str(getattr(entry.source, "path", entry.source))
    home = Path(path)
    zipped = home.suffix.lower() == ".zip"
    inside = (home.parent / name).resolve().is_relative_to(home.parent.resolve())
    if "://" in name or not inside:
        raise InputError(
            f"the weights of {path} lie elsewhere ({name}); download the whole package, nothing"
            " is fetched here"
        )
    weights, member = (path, name) if zipped else (str(home.parent / name), None)
    content = read_weights(weights, member)
    if entry.sha256 and hashlib.sha256(content).hexdigest() != str(entry.sha256):
        raise InputError(
            f"{name} of {path} is damaged: its SHA-256 is not the one that the description names;"
            " download it again"
        )
    return weights, member, content


def _channels(given: Any) -> tuple[str, ...]:
    kinds = [getattr(axis, "type", "") for axis in given.axes]
    spaces = [str(axis.id) for axis in given.axes if axis.type == "space"]
    if kinds != ["batch", "channel", "space", "space"] or spaces != ["y", "x"]:
        raise InputError(
            f"models whose input has the axes batch, channel, y, x are run; this one has"
            f" {', '.join(str(axis.id) for axis in given.axes)}"
        )
    (channel,) = [axis for axis in given.axes if axis.type == "channel"]
    return tuple(str(name) for name in channel.channel_names)


def _align(given: Any, fixed: tuple[int, int] | None) -> int:
    """Return what edges of windows have to be multiples of."""
    steps = [getattr(a.size, "step", 0) for a in given.axes if a.type == "space"]
    if any(steps):
        return max(steps)
    return next(n for n in (32, 16, 8, 4, 2, 1) if all(e % n == 0 for e in fixed or (32,)))


def _classes(result: Any) -> tuple[Activation, tuple[str, ...]]:
    """Return what turns outputs into probabilities, and the classes."""
    (channel,) = [axis for axis in result.axes if axis.type == "channel"]
    names = tuple(str(name) for name in channel.channel_names)
    steps = [str(step.id) for step in result.postprocessing if step.id != "ensure_dtype"]
    if steps == ["sigmoid"] or (not steps and len(names) == 1):
        return ("sigmoid" if steps else "none"), ("background", *names)
    if steps in (["softmax"], []):
        return ("softmax" if steps else "none"), names
    raise InputError(
        f"outputs followed by {', '.join(steps)} are not done here; sigmoid and softmax are"
    )


def _pixel_size(given: Any) -> PixelSize | None:
    (y, _x) = [axis for axis in given.axes if axis.type == "space"]
    return PixelSize(value=y.scale, unit=y.unit) if y.unit in UNITS else None


def _with_preprocessing(file: ModelFile, steps: Any, path: str) -> ModelFile:
    """Return the model with the one formula that brings values to inputs."""
    kept = [step for step in steps if step.id != "ensure_dtype"]
    clip = None
    if kept and kept[-1].id == "clip":
        limits = kept.pop().kwargs
        clip = (float(limits.min), float(limits.max))
    if len(kept) > 1:
        names = ", ".join(step.id for step in kept)
        raise InputError(f"{path}: {names} one after the other are not done here")
    plain = Normalisation(method="range", low=(0.0,), high=(1.0,), clip=clip)
    if not kept:
        return replace(file, normalisation=plain)
    step, kwargs = kept[0], kept[0].kwargs
    if step.id == "zero_mean_unit_variance" and _by_image(kwargs.axes, file):
        return replace(file, normalisation=plain, standardise=float(kwargs.eps))
    if step.id == "scale_range" and _by_image(kwargs.axes, file):
        low, high = float(kwargs.min_percentile), float(kwargs.max_percentile)
        rule = Normalisation(method="percentiles", low=(low,), high=(high,), clip=clip)
    elif step.id == "fixed_zero_mean_unit_variance":
        mean, deviation = _numbers(kwargs.mean), _numbers(kwargs.std)
        high_end = tuple(m + s for m, s in zip(mean, deviation, strict=True))
        rule = Normalisation(method="zscore", low=mean, high=high_end, clip=clip)
    elif step.id == "scale_linear":
        gain, offset = _numbers(kwargs.gain), _numbers(kwargs.offset)
        zero = tuple(-o / g for g, o in zip(gain, offset, strict=True))
        one = tuple(z + 1 / g for z, g in zip(zero, gain, strict=True))
        rule = Normalisation(method="range", low=zero, high=one, clip=clip)
    else:
        raise InputError(f"{path}: preprocessing by {step.id} as described there is not done here")
    return replace(file, normalisation=rule)


def _by_image(axes: Any, file: ModelFile) -> bool:
    """Whether statistics are taken of each channel of one image."""
    names = {str(axis) for axis in axes} if axes else {"y", "x"}
    return names - {"channel"} == {"y", "x"} and ("channel" not in names or len(file.channels) == 1)


def _numbers(given: Any) -> tuple[float, ...]:
    return (float(given),) if isinstance(given, int | float) else tuple(float(v) for v in given)
