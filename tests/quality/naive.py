"""Slow, obvious scores, written from the papers with sets, loops and exact fractions."""

from fractions import Fraction
from itertools import combinations
from math import log2

import numpy as np


def regions(labels, valid=None):
    """Label -> set of its pixels."""
    found = {}
    for place, label in np.ndenumerate(labels):
        if valid is None or valid[place]:
            found.setdefault(int(label), set()).add(place)
    return found


def around(place, shape):
    y, x = place
    for q in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= q[0] < shape[0] and 0 <= q[1] < shape[1]:
            yield q


def borders(labels, valid=None, thin=False):
    out = set()
    for p, label in np.ndenumerate(labels):
        for q in around(p, labels.shape):
            counts = valid is None or (valid[p] and valid[q])
            if counts and labels[q] != label and (not thin or q < p):
                out.add(p)
    return out


def border_counts(labels, truth, radius, valid=None, thin=False):
    a, b = borders(labels, valid, thin), borders(truth, valid, thin)

    def found(some, others):
        return sum(
            any(abs(y - v) <= radius and abs(x - u) <= radius for v, u in others) for y, x in some
        )

    return [len(b), found(b, a), len(a), found(a, b)]


def undersegmentation(segments, objects):
    n = sum(map(len, objects.values()))
    return Fraction(
        sum(min(len(s & g), len(s - g)) for g in objects.values() for s in segments.values()), n
    )


def leakage(segments, objects):
    shares = [
        Fraction(sum(len(s) for s in segments.values() if s & g) - len(g), len(g))
        for g in objects.values()
    ]
    return sum(shares) / len(shares)


def asa(segments, objects):
    n = sum(map(len, objects.values()))
    return Fraction(sum(max(len(s & g) for g in objects.values()) for s in segments.values()), n)


def containment(segments, objects, share):
    inside = [
        any(Fraction(len(s & g), len(s)) >= Fraction(str(share)) for g in objects.values())
        for s in segments.values()
    ]
    return Fraction(sum(inside), len(inside))


def covering(segments, objects):
    n = sum(map(len, objects.values()))
    best = [
        len(g) * max(Fraction(len(g & s), len(g | s)) for s in segments.values())
        for g in objects.values()
    ]
    return sum(best) / n


def pairs(labels, truth, valid=None):
    """Pixel pairs: together in both, in labels only, in truth only, in neither."""
    places = [p for p in np.ndindex(labels.shape) if valid is None or valid[p]]
    counts = [0, 0, 0, 0]
    for p, q in combinations(places, 2):
        counts[2 * (labels[p] != labels[q]) + (truth[p] != truth[q])] += 1
    return counts


def rand(labels, truth, valid=None):
    both, first, second, neither = pairs(labels, truth, valid)
    total = both + first + second + neither
    return Fraction(both + neither, total) if total else Fraction(1)


def adjusted_rand(labels, truth, valid=None):
    """In the form of pair counts (Steinley 2004), not of the contingency table."""
    a, b, c, d = pairs(labels, truth, valid)
    below = (a + b) * (b + d) + (a + c) * (c + d)
    return Fraction(2 * (a * d - b * c), below) if below else Fraction(1)


def conditional_entropy(these, given):
    """H(these | given) in bits."""
    n = sum(map(len, these.values()))
    total = 0.0
    for s in these.values():
        for g in given.values():
            if s & g:
                total -= len(s & g) / n * log2(len(s & g) / len(g))
    return total


def best_matching(segments, objects, iou, above=False):
    """Largest number of one-to-one matches, by trying everything."""
    candidates = [
        (a, b)
        for a, s in segments.items()
        for b, g in objects.items()
        if (
            Fraction(len(s & g), len(s | g)) > Fraction(str(iou))
            if above
            else len(s & g) / len(s | g) >= iou
        )
    ]

    def most(i, used_a, used_b):
        if i == len(candidates):
            return 0
        a, b = candidates[i]
        best = most(i + 1, used_a, used_b)
        if a not in used_a and b not in used_b:
            best = max(best, 1 + most(i + 1, used_a | {a}, used_b | {b}))
        return best

    return most(0, frozenset(), frozenset())


def panoptic(labels, truth, valid=None):
    """PQ of one class after panopticapi: objects without void pixels, IoU above one half."""
    segments, objects = regions(labels, valid), regions(truth, valid)
    everything = regions(labels)
    segments.pop(0, None), objects.pop(0, None)
    values = [
        (Fraction(len(s & g), len(s | g)), a) for a, s in segments.items() for g in objects.values()
    ]
    hits = [(v, a) for v, a in values if v > Fraction(1, 2)]
    matched = {a for _, a in hits}
    wrong = sum(
        a not in matched and 2 * (len(everything[a]) - len(s)) <= len(everything[a])
        for a, s in segments.items()
    )
    below = len(hits) + Fraction(wrong + len(objects) - len(hits), 2)
    return sum(v for v, _ in hits) / below if below else Fraction(1)
