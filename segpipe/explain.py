"""Values that are not allowed, explained: what was given, what is allowed, what it means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel

KINDS = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "keys with values",
    "model": "keys with values",
}
"""What pydantic calls an error, or how that begins -> what is allowed."""


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
    deepest = max(len(item["loc"]) for item in items)
    # where a list was meant, it is one of its items that is wrong
    inner = [item for item in items if len(item["loc"]) == deepest]
    given, kind = inner[0]["input"], inner[0]["type"]
    if not key or kind == "value_error":
        message = inner[0]["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else str(message)
    numbers = [part for part in inner[0]["loc"][key.count(".") + 1 :] if isinstance(part, int)]
    place = ".".join([key, *map(str, numbers[:-1] if kind == "missing" else numbers)])
    choices = [choice for item in inner for choice in _choices(item)]
    allowed = [*choices, *dict.fromkeys(_kind(item) for item in inner if _kind(item))]
    hint = nearest(given, choices, "") if isinstance(given, str) else ""
    more = f"; {hint or ' '.join(meaning.split())}" if hint or meaning else ""
    got = "null" if given is None else repr(given)
    if not allowed:
        return f"{place}: {got} is not allowed{more}"
    return f"{place} must be {one_of(allowed)}, got {got}{more}"


def one_of(names: Sequence[str]) -> str:
    """Join what is allowed.

    >>> one_of(["otsu", "local", "fixed"]), one_of(["a number"])
    ('otsu, local or fixed', 'a number')
    """
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def nearest(name: Any, known: Sequence[str], otherwise: str, likeness: float = 0.7) -> str:
    """Return what a name may have been meant for, if one is so alike (0 to 1).

    >>> nearest("stepp", ["step", "seed"], "it has step, seed")
    'did you mean `step`?'
    >>> nearest("size", ["step", "seed"], "it has step, seed")
    'it has step, seed'
    """
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=likeness)
    return f"did you mean `{close[0]}`?" if close else otherwise


def _choices(item: Any) -> list[str]:
    """Return the words that an error says are allowed."""
    if item["type"] != "literal_error":
        return []
    return re.findall("'([^']*)'", item["ctx"]["expected"])


def _kind(item: Any) -> str:
    """Return the kind of value that an error says is allowed."""
    name = item["type"]
    said = KINDS.get(name) or KINDS.get(name.partition("_")[0], "")
    return said.format(**item.get("ctx", {}))


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
