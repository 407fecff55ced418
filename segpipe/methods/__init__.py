"""The segmentation methods: one file each, plain functions on arrays, parameters as a dataclass.

A module here that defines a class with a ``name`` and ``passes`` is a method; nothing else needs to
be told about it.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import inspect
import itertools
import pkgutil
import textwrap
from typing import Any

from segpipe.errors import InputError


def find(name: str) -> type[Any]:
    """Return the parameter dataclass of method `name`.

    >>> find("slic").exactness
    'exact'
    """
    own = name.replace("-", "_")  # a method lies in the file of its name: no other is imported
    if own in _modules() and name in (found := _methods_of(own)):
        return found[name]
    known = everything()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"methods are {', '.join(known)}"
        raise InputError(f"there is no method `{name}`; {hint}")
    return known[name]


def parameters(method: type[Any]) -> list[tuple[str, str, str, str]]:
    """Return (name, type, default, meaning) of a method's parameters.

    The meaning is the string below the field in the source, which Python itself does not keep.
    """
    (source,) = ast.parse(textwrap.dedent(inspect.getsource(method))).body
    meanings = {}
    for field, text in itertools.pairwise(getattr(source, "body", [])):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            meanings[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(text.value))
    return [
        (field.name, str(field.type), str(field.default), meanings.get(field.name, ""))
        for field in dataclasses.fields(method)
    ]


def everything() -> dict[str, type[Any]]:
    """All methods by name."""
    found: dict[str, type[Any]] = {}
    for module in _modules():
        found |= _methods_of(module)
    return dict(sorted(found.items()))


def _modules() -> list[str]:
    """Names of the modules here that may define a method."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if not name.endswith("_kernels")]


def _methods_of(module: str) -> dict[str, type[Any]]:
    """Methods that a module defines, by name."""
    loaded = importlib.import_module(f"{__name__}.{module}")
    found: dict[str, type[Any]] = {}
    for thing in vars(loaded).values():
        own = isinstance(thing, type) and thing.__module__ == loaded.__name__
        if own and hasattr(thing, "exactness") and hasattr(thing, "passes"):
            found[thing.name] = thing
    return found
