"""Dask, and nothing else here knows of it: from the configuration's `cluster` to an executor."""

from segpipe.cluster.opening import limits, open_executor, start_early

__all__ = ["limits", "open_executor", "start_early"]
