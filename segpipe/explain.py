"""Values that are not allowed, explained: what was given, what is allowed, what it means."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel


def explained(errors: Iterable[Any], model: type[BaseModel]) -> list[str]:
    """Return a line for each key of `model` that pydantic found something wrong with."""
    found = by_key(errors, lambda place: ".".join(_followed(place, model)[0]))
    return [_line(key, items, model) for key, items in found.items()]


def by_key(errors: Iterable[Any], key_of: Callable[[Sequence[Any]], str]) -> dict[str, list[Any]]:
    """Gather errors by what the user wrote: a value of several types has one for each of them."""
    found: dict[str, list[Any]] = {}
    for item in errors:
        found.setdefault(key_of(item["loc"]), []).append(item)
    return found


def refused(key: str, items: Sequence[Any], meaning: str) -> str:
    """Say what is wrong with the value of a key (or, without one, with them all together)."""
    given, message = items[0]["input"], items[0]["msg"].removeprefix("Value error, ")
    if not key:
        return str(message)
    more = f"; {' '.join(meaning.split())}" if meaning else ""
    if len(items) > 1:
        return f"{key}: {given!r} is not allowed{more}"
    return f"{key}: {message} (got {given!r}){more}"


def nearest(name: Any, known: Sequence[str], otherwise: str) -> str:
    """Return what a name may have been meant for.

    >>> nearest("stepp", ["step", "seed"], "it has step, seed")
    'did you mean `step`?'
    >>> nearest("size", ["step", "seed"], "it has step, seed")
    'it has step, seed'
    """
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.7)
    return f"did you mean `{close[0]}`?" if close else otherwise


def _line(key: str, items: Sequence[Any], model: type[BaseModel]) -> str:
    item = items[0]
    if item["type"] == "extra_forbidden":
        return f"  {key}: unknown key; {_other_key(item['loc'], model)}"
    if item["type"] == "missing":
        return f"  {key}: this key is needed"
    if not key:
        return f"  configuration: {refused(key, items, '')}"
    _, field, inner = _followed(item["loc"], model)
    if item["type"] == "model_type" and inner is not None:
        return f"  {key}: has keys of its own: {', '.join(inner.model_fields)}"
    return f"  {refused(key, items, (field and field.description) or '')}"


def _other_key(place: Sequence[Any], root: type[BaseModel]) -> str:
    """Return which key may have been meant."""
    keys = (_followed(place[:-1], root)[2] or root).model_fields
    allowed = f"allowed are {', '.join(keys)}"
    if "parameters" in keys:
        allowed = f"a parameter of the method is `parameters.{place[-1]}`; {allowed}"
    return nearest(place[-1], list(keys), allowed)


def _followed(
    place: Sequence[Any], model: type[BaseModel]
) -> tuple[list[str], Any, type[BaseModel] | None]:
    """Return the part of an error's place that the user wrote, its field, and the keys it holds."""
    inner: type[BaseModel] | None = model
    names: list[str] = []
    field = None
    for part in place:
        if isinstance(part, str):
            if inner is None:
                break
            field = inner.model_fields.get(part)
            inner = _keys_of(field.annotation) if field else None
        names.append(str(part))
    return names, field, inner


def _keys_of(annotation: Any) -> type[BaseModel] | None:
    """Return the group of keys that a field holds: alone, optional, or several in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((keys for keys in map(_keys_of, get_args(annotation)) if keys), None)
