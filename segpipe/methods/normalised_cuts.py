"""Normalised cuts of the graph of another stage's segments, for images as a whole.

Shi, Malik, "Normalized cuts and image segmentation", IEEE TPAMI 22(8), 2000, 10.1109/34.868688,
cut a graph where the affinity across is small beside that inside both sides: Ncut(A, B) = cut /
assoc(A) + cut / assoc(B). The least Ncut is NP-hard to find; the eigenvector of the second smallest
eigenvalue of the normalised Laplacian orders the vertices, and the best cut of that order is taken;
then both sides are cut, again and again (the recursive two-way cut of the paper).

Vertices are superpixels here, not pixels, and affinities are integers; Ncut of every place in the
order is computed, from exact sums. Floating are the eigenvectors alone, which are rounded before
they order anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu

from segpipe.errors import InputError
from segpipe.methods import whole
from segpipe.methods.kinds import check_kinds
from segpipe.methods.ranges import is_rgb, ranges_passes
from segpipe.passes import ImageInfo, Pass
from segpipe.regions.finish import label_pass
from segpipe.regions.region_graph import FINE, RegionGraph, graph_pass, regroup_pass

MOST = 200_000
"""Segments of an image at most: one cut of so many takes seconds of a core and half a gigabyte."""
FULL = 1 << 20
"""Affinity of a pixel pair at the border of segments of equal colour."""
FEW = 96
"""Up to so many vertices all eigenvectors are computed at once."""
SHIFT = 1e-9
"""Added to the Laplacian so that it can be inverted; eigenvectors stay."""
STEPS = 1 << 20
"""Into which the largest entry of an eigenvector is divided; what is left is noise of rounding."""


@dataclass(frozen=True)
class NormalisedCuts:
    """Segments grouped by recursive normalised cuts of their graph (Shi, Malik).

    Works on the segments of another stage (superpixels, say).
    """

    contrast: float = 10.0
    """Difference of mean colours, in Lab units (images that are not RGB: percent of their range),
    at which the affinity of neighbours has fallen to 1/e, 0.5 to 200."""
    threshold: float = 0.03
    """Parts are cut as long as Ncut is at most this, 0 to 2."""
    regions: int = 0
    """At most so many regions, the clearest cuts first; 0: as many as `threshold` gives."""

    name: ClassVar[str] = "normalised-cuts"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    groups: ClassVar[bool] = True
    """`segments` are what is grouped: a file's are cut into their pieces first."""

    most_segments: ClassVar[int] = MOST
    remedy: ClassVar[str] = (
        "their graph is cut as a whole: begin with larger superpixels (step), or take"
        " region-merging or felzenszwalb, which take any number"
    )

    def __post_init__(self) -> None:
        check_kinds(self)
        for field, low, high, advice in (
            ("contrast", 0.5, 200, "5 to 20 suit photographs"),
            ("threshold", 0, 2, "0.01 to 0.2 are common; large values cut more"),
            ("regions", 0, MOST, "0 leaves the number to threshold"),
        ):
            if not low <= getattr(self, field) <= high:
                raise ValueError(
                    f"{field} must be {low} to {high}, got {getattr(self, field)}; {advice}"
                )

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        both = " and regions" if self.regions else ""
        return f"raise threshold (now {self.threshold:g}){both}"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: ranges if the image is not RGB, the graph, numbering, labels."""
        before = () if is_rgb(image) else ranges_passes(image, "segments")
        return *before, graph_pass("cut", image, self._decide), regroup_pass(), label_pass(image)

    def _decide(self, graph: RegionGraph) -> np.ndarray:
        n = len(graph.labels)
        if n > MOST:
            raise InputError(
                f"{self.name} takes at most {MOST:,} segments, got {n:,}; {self.remedy}"
            )
        likeness = np.exp(-((graph.differences / (FINE * self.contrast)) ** 2))
        weights = graph.edges.length * (1 + (likeness * (FULL - 1)).astype(np.int64))
        return cut_graph(n, graph.edges.ends, weights, self.threshold, self.regions)


def normalised_cuts(
    image: np.ndarray,
    segments: np.ndarray,
    *,
    contrast: float = 10.0,
    threshold: float = 0.03,
    regions: int = 0,
) -> np.ndarray:
    """Group the segments of an image by recursive normalised cuts of their graph.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, uint16, int16 or float; three channels of uint8 are sRGB and
        compared in CIELAB, of others each channel is scaled from its 0.5 % to its 99.5 % quantile
        over the segments.
    segments
        (H, W) integers, 0 = no segment; at most 200 000. Segments are what `slic` returns, for
        example. A label in several places is as many segments; pixels with NaN or infinity are in
        none.
    contrast, threshold, regions
        See `NormalisedCuts`.

    Returns
    -------
    labels
        (H, W) uint32: 0 where `segments` is 0, else 1..N in raster order of first pixels. Regions
        are connected: what a cut leaves in pieces is as many regions.

    Raises
    ------
    ValueError
        If a parameter, the image or the segments are out of their range.

    Notes
    -----
    *Tiling*: identical for every tiling, since the graph is gathered whole, in integers (some 300
    bytes for each segment), and cut in one process. That bounds the size of an image, not by pixels
    but by segments. Eigenvectors are floating: labels are the same wherever SciPy and its linear
    algebra give the same numbers up to 1e-6, which no standard promises where the graph is
    symmetric (a constant image, say).
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    Examples
    --------
    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> segments = np.arange(1, 25).reshape(4, 6)
    >>> normalised_cuts(image, segments)[0].tolist()
    [1, 1, 1, 1, 2, 2]
    """
    return whole.group(NormalisedCuts(contrast, threshold, regions).passes, image, segments)


class Part(NamedTuple):
    """A connected part of the graph that may be cut."""

    nodes: np.ndarray
    """int64[n], ascending."""
    affinity: csr_array
    """int64 (n, n), symmetric."""


def cut_graph(
    n: int, ends: np.ndarray, weights: np.ndarray, threshold: float, regions: int = 0
) -> np.ndarray:
    """Cut a graph again and again, the part of least Ncut first.

    Parameters
    ----------
    n
        Number of vertices.
    ends
        int64[m, 2], the edges; every pair once.
    weights
        int64[m], their affinities, 1 or more.
    threshold
        Greatest Ncut of a cut.
    regions
        Most parts; 0: any number.

    Returns
    -------
    int64[n], the smallest vertex of the part that each belongs to.

    Examples
    --------
    >>> chain = np.array([[0, 1], [1, 2], [2, 3]])
    >>> cut_graph(4, chain, np.array([9, 1, 9]), 0.5).tolist()
    [0, 0, 2, 2]
    """
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    affinity = csr_array(coo_array((np.tile(weights, 2), (rows, columns)), shape=(n, n)))
    group, count = np.arange(n), 0
    waiting: list[tuple[float, int, Part, np.ndarray]] = []
    parts = _pieces(Part(np.arange(n), affinity), np.zeros(n, bool))
    while True:
        count += len(parts)
        for part in parts:
            group[part.nodes] = part.nodes[0]
            value, side = best_cut(part.affinity)
            if value <= threshold:
                heappush(waiting, (value, int(part.nodes[0]), part, side))
        parts = []
        while waiting and not parts:
            _, _, part, side = heappop(waiting)
            found = _pieces(part, side)
            if regions == 0 or count - 1 + len(found) <= regions:
                parts, count = found, count - 1
        if not parts:
            return group


def _pieces(part: Part, side: np.ndarray) -> list[Part]:
    """Return the connected pieces of both sides of a part."""
    links = coo_array(part.affinity)
    kept = side[links.row] == side[links.col]
    within = coo_array(
        (links.data[kept], (links.row[kept], links.col[kept])), shape=part.affinity.shape
    )
    count, piece = connected_components(within, directed=False)
    order = np.argsort(piece, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(piece, minlength=count))[:-1])
    within = csr_array(within)
    return [Part(part.nodes[m], within[m][:, m]) for m in members if len(m)]


def best_cut(affinity: csr_array) -> tuple[float, np.ndarray]:
    """Return the least Ncut along the order of the second eigenvector, and one of its sides.

    Ncut is infinite where there is nothing to cut.
    """
    n = affinity.shape[0]
    if n < 2:
        return np.inf, np.zeros(n, bool)
    degree = np.asarray(affinity.sum(axis=1), np.int64)
    height = _rounded(second_eigenvector(affinity, degree) / np.sqrt(degree))
    order = np.argsort(height, kind="stable")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    links = coo_array(affinity)
    first, last = place[links.row], place[links.col]
    ahead = first < last
    steps = np.zeros(n, np.int64)
    np.add.at(steps, first[ahead], links.data[ahead])
    np.subtract.at(steps, last[ahead], links.data[ahead])
    between = np.flatnonzero(np.diff(height[order]))  # equal vertices stay together
    cut, below = np.cumsum(steps)[between], np.cumsum(degree[order])[between]
    value = cut / below + cut / (degree.sum() - below)
    best = int(np.argmin(value))
    return float(value[best]), place <= between[best]


def _rounded(vector: np.ndarray) -> np.ndarray:
    """Return a vector as integers of -STEPS to STEPS, its largest entry positive."""
    found = np.rint(vector * (STEPS / np.abs(vector).max())).astype(np.int64)
    return found * np.sign(found[np.argmax(np.abs(found))])


def second_eigenvector(affinity: csr_array, degree: np.ndarray) -> np.ndarray:
    """Return the eigenvector of the second smallest eigenvalue of the normalised Laplacian.

    Parameters
    ----------
    affinity
        (n, n), symmetric, of a connected graph; n is 2 or more.
    degree
        [n], its sums of rows.

    Notes
    -----
    The first eigenvector, the root of `degree`, is known: it is projected out, and Lanczos
    iterations on the inverse find the second. The start vector is fixed.
    """
    n, root = len(degree), np.sqrt(degree)
    scale = diags_array(1 / root)
    laplacian = diags_array(np.ones(n)) - scale @ affinity @ scale
    if n <= FEW:
        return np.asarray(eigh(laplacian.toarray(), subset_by_index=[1, 1])[1][:, 0])
    known = root / np.linalg.norm(root)
    solver = splu(
        (laplacian + SHIFT * diags_array(np.ones(n))).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )

    def inverse(vector: np.ndarray) -> np.ndarray:
        vector = vector.ravel()
        found = solver.solve(vector - known * (known @ vector))
        return found - known * (known @ found)

    start = inverse((np.arange(n) * 2654435761 % 2**32) / 2**32)
    operator = LinearOperator((n, n), matvec=inverse, dtype=np.float64)
    return np.asarray(eigsh(operator, k=1, which="LA", v0=start)[1][:, 0])
