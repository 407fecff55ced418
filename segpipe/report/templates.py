"""The templates of the pages, compiled once per process."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@cache
def template(name: str) -> Template:
    """Return a template of this folder."""
    # file names and parameters are other people's text: everything is escaped
    pages = Environment(
        loader=PackageLoader("segpipe", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return pages.get_template(name)
