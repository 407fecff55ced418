"""What to score, and how."""

from __future__ import annotations

from dataclasses import dataclass

from segpipe import quality
from segpipe.errors import InputError


@dataclass(frozen=True)
class Options:
    """What to score, and how."""

    radius: int | None = None
    """Tolerance of borders in pixels; None: 0.0025 of the diagonal."""
    share: float = quality.SHARE
    """Share of a segment that makes it lie inside an object."""
    ignore: tuple[int, ...] = ()
    """Values of the truth whose pixels do not count."""
    ignore_labels: tuple[int, ...] = ()
    """Values of the labels whose pixels do not count."""
    classes: bool = False
    """Dice and Jaccard of classes: those that the table of a run gives its segments, else the
    labels are the classes."""
    instances: bool = False
    """Labels are objects, 0 is background: PQ and AP."""
    thresholds: tuple[float, ...] = quality.THRESHOLDS
    """Thresholds of IoU for AP."""

    def __post_init__(self) -> None:
        if self.radius is not None and self.radius < 0:
            raise InputError(f"the tolerance must be 0 pixels or more, got {self.radius}")
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of a segment must be 0 to 1, got {self.share}")
        for iou in self.thresholds:
            if not 0 < iou <= 1:
                raise InputError(f"IoU thresholds are more than 0 and at most 1, got {iou}")
