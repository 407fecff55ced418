"""What tiles leave undecided when small regions merge: taken out of each, put together again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segpipe.passes import Record
from segpipe.regions.merge_rounds import Graph, Merged
from segpipe.regions.round_kernels import FREE, NEVER, NOBODY


def take_left(graph: Graph, merged: Merged) -> tuple[np.ndarray, Record]:
    """Take out what a tile left, with the neighbours as scripted nodes (see `merge_rounds`).

    Returns
    -------
    beside
        Nodes of the graph that touch a left one and are not left.
    record
        ``ids``, ``sums``, ``moves``, ``target``, ``edges`` of the nodes: left ones are `FREE`.
    """
    left = merged.left
    near = graph.edges[left[graph.edges[:, 0]] | left[graph.edges[:, 1]]]
    near = np.sort(near, axis=1)
    pair = near[:, 0] * np.int64(len(left)) + near[:, 1]
    near = near[np.unique(pair, return_index=True)[1]]
    stays, beside = np.flatnonzero(left), np.unique(near[~left[near]])
    nodes = np.concatenate([stays, _onward(beside, merged.target)])
    place = np.full(len(merged.ids) + 1, NOBODY)
    place[nodes] = np.arange(len(nodes))
    moves = np.where(np.arange(len(nodes)) < len(stays), FREE, merged.moves[nodes])
    target = np.where(moves > NEVER, place[merged.target[nodes]], NOBODY)
    return beside, {
        "ids": merged.ids[nodes],
        "sums": merged.sums[nodes],
        "moves": moves.astype(np.int32),
        "target": target.astype(np.int32),
        "edges": place[near].astype(np.int32),
    }


def _onward(begin: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the nodes and all that they become."""
    found = np.unique(begin)
    while True:
        more = np.union1d(found, target[found][target[found] >= 0])
        if len(more) == len(found):
            return found
        found = more


def gather(records: Sequence[Record]) -> tuple[Graph, int]:
    """Put together what all tiles left.

    Returns
    -------
    graph
        First the nodes that were left, each once, by ascending id; then the scripted ones.
    count
        Number of nodes that were left.
    """
    # where nothing was left, there may have been nothing to take colours of
    records = [record for record in records if len(record["ids"])] or records[:1]
    free = [record["moves"] == FREE for record in records]
    every = np.concatenate([r["ids"][f] for r, f in zip(records, free, strict=True)])
    ids, where = np.unique(every, return_index=True)
    sums = np.concatenate([r["sums"][f] for r, f in zip(records, free, strict=True)])[where]
    count = total = len(ids)
    columns = [(ids, sums, np.full(count, FREE), np.full(count, NOBODY))]
    edges = [np.zeros((0, 2), np.int64)]
    for record in records:
        place = np.searchsorted(ids, record["ids"], side="right") - 1
        # one that several tiles left is one node; what one sees stay, another may have left
        other = (ids[place] != record["ids"]) | (record["moves"] > NEVER)
        place[other] = total + np.arange(np.count_nonzero(other))
        total += int(np.count_nonzero(other))
        target = record["target"][other]
        onward = np.where(target >= 0, place[target], NOBODY)
        columns.append(
            (record["ids"][other], record["sums"][other], record["moves"][other], onward)
        )
        edges.append(place[record["edges"]])
    every_id, every_sum, moves, targets = map(np.concatenate, zip(*columns, strict=True))
    return Graph(
        every_id,
        every_sum,
        moves.astype(np.int32),
        targets.astype(np.int32),
        np.concatenate(edges).astype(np.int32),
        np.zeros(total, bool),
    ), count
