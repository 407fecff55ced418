"""Numbers, times and addresses as people read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

PASSWORD = re.compile(r"(?<=://)[^/\s@]+@")
SIGNATURE = re.compile(
    r"(?i)([?&][^=&\s]*(?:sig|token|key|credential|secret|password)[^=&\s]*=)[^&\s'\"]+"
)
"""What must not travel with a page that people send to each other."""


def grouped(n: float | None) -> str:
    """Write a whole number with its thousands apart.

    >>> grouped(1234567).replace(chr(0x202F), "'")
    "1'234'567"
    """
    return "–" if n is None else f"{int(n):,}".replace(",", "\u202f")


def figure(value: float) -> str:
    """Write a number with about three digits that count.

    >>> figure(0.01234), figure(3.14159), figure(45.67), figure(456.7)
    ('0.0123', '3.14', '45.7', '457')
    """
    return grouped(round(value)) if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share; the sign stays on the line of its number.

    >>> [percent(n).replace(chr(0xA0), " ") for n in (0.7345, 0.0000123, 0, 1)]
    ['73.5 %', '0.00123 %', '0 %', '100 %']
    """
    return f"{figure(100 * share)}\u00a0%"


def duration(seconds: float) -> str:
    """Write a time.

    >>> duration(0.0421), duration(9.25), duration(125), duration(7384)
    ('0.042 s', '9.2 s', '2 min 05 s', '2 h 03 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def moment(stamp: str | None) -> str:
    """Write an ISO time as people do."""
    if stamp is None:
        return "–"
    return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M:%S %Z")


def without_secrets(text: str) -> str:
    """Leave passwords and signatures out of addresses.

    >>> without_secrets("https://me:pw@host/a.tif?X-Amz-Signature=5f&v=1")
    'https://…@host/a.tif?X-Amz-Signature=…&v=1'
    """
    return SIGNATURE.sub(r"\1…", PASSWORD.sub("…@", text))


def plain(value: Any) -> str:
    """Write a value as the YAML would.

    >>> plain([True, 127, 0.30000000000000004])
    'true, 127, 0.3'
    >>> plain([])
    'none'
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "–"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
