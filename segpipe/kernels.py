"""When kernels are compiled: once per installation, which a user should be told of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba.core import event


@contextmanager
def compile_clock() -> Iterator[Callable[[], float]]:
    """Give a function that says how many seconds of what is inside went into compiling.

    >>> with compile_clock() as compiling:
    ...     pass
    >>> compiling()
    0.0
    """
    with event.install_listener("numba:compile", event.TimingListener()) as clock:  # type: ignore[no-untyped-call]
        yield lambda: clock.duration if clock.done else 0.0


def are_compiled(method: type[Any]) -> bool:
    """Whether an earlier run left the kernels of `method` in Numba's cache.

    Those that stand in modules named after the method's (``slic_clusters`` belongs to ``slic``) are
    looked for; what methods share comes with any of them. A method whose kernels stand elsewhere
    says where, by `compiles`.
    """
    found, homes = False, (method.__module__, *getattr(method, "compiles", ()))
    for name, module in sys.modules.items():
        if not name.startswith(homes):
            continue
        for kernel in vars(module).values():
            if hasattr(kernel, "stats") and kernel.__module__ == name:
                found = True
                cache = Path(kernel.stats.cache_path)
                if any(cache.glob(f"{name.rpartition('.')[2]}.*.nbi")):
                    return True
    return not found
