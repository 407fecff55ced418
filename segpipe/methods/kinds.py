"""Parameters of the kind that their fields say: whole numbers, numbers, yes or no, a choice.

A configuration is checked before a method sees it; whoever calls a method's function is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SAID = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def check_kinds(parameters: Any) -> None:
    """Refuse parameters of another kind than their fields'; called before ranges are looked at.

    Whole numbers may come as floats, 16.0, or as NumPy's: they are made Python's. Fields that are
    neither numbers nor choices are left to the method.

    Parameters
    ----------
    parameters
        An instance of a dataclass of parameters.

    Raises
    ------
    ValueError
        If one is of another kind.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Rule:
    ...     step: int = 16
    ...     edges: Literal["sharp", "soft"] | None = None
    >>> Rule(16.0).step  # not checked
    16.0
    >>> rule = Rule(16.0)
    >>> check_kinds(rule)
    >>> rule.step
    16
    >>> check_kinds(Rule(16, "blunt"))
    Traceback (most recent call last):
        ...
    ValueError: edges must be sharp, soft or null, got 'blunt'
    """
    for name, kinds in _fields(type(parameters)).items():  # type: ignore[arg-type]
        value = getattr(parameters, name)
        if not any(_fits(value, kind) for kind in kinds):
            raise ValueError(f"{name} must be {_said(kinds)}, got {value!r}")
        if int in kinds and value is not None:
            object.__setattr__(parameters, name, int(value))


@cache
def _fields(of: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the fields that can be checked, and what each may be."""
    hints = get_type_hints(of)
    found = {}
    for field in dataclasses.fields(of):
        kind = hints[field.name]
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        if all(one in SAID or get_origin(one) is Literal for one in kinds):
            found[field.name] = kinds
    return found


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str | int) and value in get_args(kind)
    if kind is bool or kind is type(None):
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return kind is float or isinstance(value, Integral) or float(value).is_integer()


def _said(kinds: tuple[Any, ...]) -> str:
    names = []
    for kind in kinds:
        choice = get_origin(kind) is Literal
        names += [str(one) for one in get_args(kind)] if choice else [SAID[kind]]
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def check_read(parameters: Any, choice: str, read_by: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse what is set and has no meaning: fields that the `choice` made does not read.

    Parameters
    ----------
    parameters
        A method with its parameters.
    choice
        The field that decides, for example ``rule``.
    read_by
        Field -> the values of `choice` that read it.
    """
    made = getattr(parameters, choice)
    for field in dataclasses.fields(parameters):
        values, value = read_by.get(field.name, (made,)), getattr(parameters, field.name)
        if made not in values and value != field.default:
            raise ValueError(
                f"{field.name} belongs to {choice}: {' or '.join(values)}, got {value!r} with"
                f" {choice}: {made}; leave it out, or take {choice}: {values[0]}"
            )
