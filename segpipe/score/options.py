"""What to score, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from segpipe import quality
from segpipe.errors import InputError

UNLABELLED = 0
"""Label of pixels of no segment."""
Unlabelled = Literal["out", "region"]
"""What pixels of no segment are (label 0 of a run) to the scores of borders and regions."""


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
    unlabelled: Unlabelled | None = None
    """Pixels of no segment, label 0 of a run: left out of the scores of borders and regions, or a
    region like the others; None: left out where only a mask, nodata or transparency can be why
    they are in no segment. Scores of classes and objects keep them: they are background there."""
    classes: bool = False
    """Dice and Jaccard of classes: those that the table of a run gives its segments, else the
    labels are the classes."""
    instances: bool = False
    """Labels are objects, 0 is background: PQ and AP."""
    thresholds: tuple[float, ...] = quality.THRESHOLDS
    """Thresholds of IoU for AP."""

    @property
    def leaves_out(self) -> bool:
        """Whether pixels of no segment do not count in the scores of borders and regions."""
        return self.unlabelled == "out"

    def __post_init__(self) -> None:
        if self.radius is not None and self.radius < 0:
            raise InputError(f"the tolerance must be 0 pixels or more, got {self.radius}")
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of a segment must be 0 to 1, got {self.share}")
        if self.unlabelled not in (None, *get_args(Unlabelled)):
            raise InputError(
                f"pixels of no segment are {' or '.join(get_args(Unlabelled))}, got "
                f"{self.unlabelled}"
            )
        for iou in self.thresholds:
            if not 0 < iou <= 1:
                raise InputError(f"IoU thresholds are more than 0 and at most 1, got {iou}")
