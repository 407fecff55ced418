"""Exact image segmentation at any size: labels whose tiles do not show."""

__version__ = "0.1.0"
