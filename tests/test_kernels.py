"""Compiling is told apart from computing, and announced before it happens."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from types import ModuleType

import pytest

from segpipe.kernels import are_compiled
from segpipe.tasks import Work

SOURCE = """
from numba import njit


class Method:
    pass


@njit(cache=True)
def add(a, b):
    return a + b
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "fresh_method.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, "fresh_method", raising=False)
    return importlib.import_module("fresh_method")


def test_are_compiled__only_after_the_first_call(module: ModuleType) -> None:
    assert not are_compiled(module.Method)
    module.add(1, 2)
    assert are_compiled(module.Method)


def test_timed__compiling_is_not_computing(module: ModuleType) -> None:
    work = Work()
    began = time.perf_counter()
    with work.timed("compute"):
        module.add(1.0, 2.0)
    whole = time.perf_counter() - began
    assert 0 < work.seconds["compile"] < whole
    assert 0 <= work.seconds["compute"] < whole
    with work.timed("compute"):
        module.add(1.0, 2.0)
    assert sum(work.seconds.values()) < time.perf_counter() - began
