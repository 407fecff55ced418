"""What scikit-image and OpenCV offer for the same tasks, called as their examples call it; no bench."""

import numpy as np
from scipy import ndimage
from skimage import filters, graph, measure, segmentation
from skimage.color import rgb2gray, rgb2lab
from skimage.morphology import h_minima


def slic(image, area):
    """As many seeds as squares of `area` pixels."""
    return segmentation.slic(image, n_segments=image[..., 0].size // area, compactness=10)


def mean_shift(image, radius, space=8):
    """OpenCV's filter; labels are the caller's business."""
    import cv2

    cv2.setNumThreads(1)
    return cv2.pyrMeanShiftFiltering(image, space, radius)


def felzenszwalb(image, scale, min_size=20):
    return segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=min_size)


def gradient(image):
    """Sobel's, of CIELAB smoothed as ours is: 8 for one Lab unit per pixel."""
    lab = ndimage.gaussian_filter(rgb2lab(image).astype(np.float32), (1, 1, 0))
    return np.sqrt(sum(ndimage.sobel(lab[..., c], a) ** 2 for c in range(3) for a in (0, 1)))


def minima_watershed(image, h):
    altitude = gradient(image).astype(np.uint16)
    return segmentation.watershed(altitude, measure.label(h_minima(altitude, h)))


def cells(altitude, step):
    """Mark the lowest pixel of every whole cell."""
    rows, columns = (n // step for n in altitude.shape)
    whole = altitude[: rows * step, : columns * step]
    blocks = whole.reshape(rows, step, columns, step).transpose(0, 2, 1, 3)
    y, x = np.divmod(blocks.reshape(rows, columns, -1).argmin(axis=2), step)
    markers = np.zeros(altitude.shape, np.int32)
    places = y + np.arange(rows)[:, None] * step, x + np.arange(columns) * step
    markers[places] = np.arange(1, rows * columns + 1).reshape(rows, columns)
    return markers


def grid_watershed(image, step):
    altitude = gradient(image)
    return segmentation.watershed(altitude, cells(altitude, step))


def compact_watershed(image, step, compactness):
    altitude = gradient(image)
    return segmentation.watershed(altitude, cells(altitude, step), compactness=compactness)


def merge_hierarchical(image, segments, threshold):
    """Region boundary graph on a Sobel image, merged as in the library's example."""
    rag = graph.rag_boundary(segments.astype(np.int64), filters.sobel(rgb2gray(image)))
    return graph.merge_hierarchical(
        segments, rag, thresh=threshold, rag_copy=False, in_place_merge=True,
        merge_func=_merge, weight_func=_weigh,
    )  # fmt: skip


def _merge(rag, source, target):
    """Nothing but the edges is kept up to date."""


def _weigh(rag, source, target, neighbour):
    none = {"weight": 0.0, "count": 0}
    one, two = rag[source].get(neighbour, none), rag[target].get(neighbour, none)
    count = one["count"] + two["count"]
    total = one["count"] * one["weight"] + two["count"] * two["weight"]
    return {"count": count, "weight": total / count}


def cut_normalized(image, segments, threshold):
    rag = graph.rag_mean_color(image, segments.astype(np.int64), mode="similarity")
    return graph.cut_normalized(segments, rag, thresh=threshold, rng=0)


def otsu(gray):
    return measure.label(gray > filters.threshold_otsu(gray), background=-1, connectivity=1)


def local_mean(gray):
    above = gray > filters.threshold_local(gray, 51, "mean")
    return measure.label(above, background=-1, connectivity=1)


def multi_otsu(image, classes):
    gray = np.rint(255 * rgb2gray(image)).astype(np.uint8)
    parts = np.digitize(gray, filters.threshold_multiotsu(gray, classes))
    return measure.label(parts, background=-1, connectivity=1)


def components(mask):
    return measure.label(mask, connectivity=1)


def flood_from_centre(gray):
    return segmentation.flood(gray, _centre(gray), tolerance=12, connectivity=1)


def ours_from_centre(gray):
    """What `flood_from_centre` does, by segpipe."""
    from segpipe.methods.region_growing import region_growing

    return region_growing(gray, [_centre(gray)], 12, rule="seed")


def _centre(gray):
    return gray.shape[0] // 2, gray.shape[1] // 2
