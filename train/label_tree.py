"""Arranges label strings as trees, so that what several of them begin with takes a decoder's positions once.

A node of a tree is a proper prefix of a label (the empty one, too): the decoder reads the node's last token there and
predicts what may follow. So a decoder row has a position for each node, which sees its ancestors and itself.
"""

import bisect
from typing import NamedTuple

import numpy as np

START = 0  # T5's start token, which is its pad id


class LabelTree(NamedTuple):
    """Holds the trees of K labels of at most T tokens, cut into G decoder calls of at most N nodes and M labels each.

    A call with fewer is filled up with nodes that no other sees, and with labels without tokens.
    """

    tokens: np.ndarray  # [G, N] int32: each node's last token, the decoder's input; START at the root
    depths: np.ndarray  # [G, N] int32: how many tokens lead to each node, which is its position
    visible: np.ndarray  # [G, N, N] bool: whether a node sees another: its ancestors and itself
    following: np.ndarray  # [G, N, E] int32: the tokens that may follow each node, at most E; filled up with 0
    outputs: (
        np.ndarray
    )  # [U] int32, rising: the tokens that the softmax is over, whose places `following` then has; or [0]
    edges: np.ndarray  # [G, M, T] int32: where in its call's N · E each token of each label is; -1 after its end
    order: np.ndarray  # [K] int32: where in G · M each label is


Tokens = tuple[int, ...]


class Labels:
    """Holds K label strings, and makes their trees for decoder calls of any size."""

    def __init__(self, padded: np.ndarray, alone: bool = False) -> None:
        """Takes the labels' ids [K, T] int32, each ending in EOS and padded with 0.

        With `alone` the softmax of their tokens is over these tokens alone: `outputs`, rising. Else that is empty.
        """
        self.padded = padded
        self._labels: list[Tokens] = [tuple(int(token) for token in label[label != 0]) for label in padded]
        self.outputs: Tokens = tuple(sorted(set().union(*self._labels))) if alone else ()
        self._sorted = sorted(range(len(padded)), key=lambda i: self._labels[i])  # common prefixes lie side by side
        ordered = [self._labels[i] for i in self._sorted]
        # how many nodes each label, in that order, has in common with the one before it
        self._shared = [0, *(_common_prefixes(a, b) for a, b in zip(ordered, ordered[1:], strict=False))]
        self._nodes = sum(map(len, self._labels)) - sum(self._shared)
        # what was made before, by `max_positions`
        self._calls: dict[int, list[list[int]]] = {}
        self._positions: dict[int, int] = {}
        self._trees: dict[int, LabelTree] = {}

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def lengths(self) -> list[int]:
        """Returns how many tokens each label has, EOS included."""
        return [len(label) for label in self._labels]

    def positions(self, max_positions: int) -> int:
        """Returns how many positions the decoder calls of `tree(max_positions)` take."""
        limit = min(max_positions, self._nodes)
        if limit not in self._positions:
            self._positions[limit] = max(len(_labels_by_prefix(labels)) for labels in self._labels_by_call(limit))
        return self._positions[limit]

    def tree(self, max_positions: int) -> LabelTree:
        """Returns the trees of all labels, in as few decoder calls as they fit in, all of about as many positions.

        A call takes at most `max_positions`, or as many as the longest label has tokens where that is more.
        """
        limit = min(max_positions, self._nodes)
        if limit not in self._trees:
            trees = [_CallTree(labels) for labels in self._labels_by_call(limit)]
            self._trees[limit] = _as_arrays(trees, self._balanced_calls(limit), self.padded.shape, self.outputs)
        return self._trees[limit]

    def _labels_by_call(self, limit: int) -> list[list[Tokens]]:
        """Returns the labels of each call of at most `limit` positions."""
        return [[self._labels[i] for i in call] for call in self._balanced_calls(limit)]

    def _balanced_calls(self, limit: int) -> list[list[int]]:
        """Returns the labels' indices by call, cut at the smallest limit that needs no more of them."""
        if limit not in self._calls:
            fewest = len(self._cut(limit))
            smallest = 1 + bisect.bisect_left(range(1, limit), True, key=lambda n: len(self._cut(n)) <= fewest)
            self._calls[limit] = self._cut(smallest)
        return self._calls[limit]

    def _cut(self, limit: int) -> list[list[int]]:
        """Returns the indices of the sorted labels by call, filled up to `limit` nodes, with one label at least."""
        calls: list[list[int]] = []
        nodes = limit
        for label, shared in zip(self._sorted, self._shared, strict=True):
            length = len(self._labels[label])
            if calls and nodes + length - shared <= limit:
                calls[-1].append(label)
                nodes += length - shared
            else:
                calls.append([label])
                nodes = length
        return calls


class _CallTree:
    """Holds the tree of one decoder call's labels: its nodes, and the tokens that may follow each."""

    def __init__(self, labels: list[Tokens]) -> None:
        begun = _labels_by_prefix(labels)
        self.labels = labels
        self.nodes = list(begun)
        self.following = [sorted({label[len(node)] for label in begun[node]}) for node in self.nodes]
        self._place = {node: i for i, node in enumerate(self.nodes)}

    def path(self, node: Tokens) -> list[int]:
        """Returns the places of a node's ancestors and its own, from the root on."""
        return [self._place[node[:j]] for j in range(len(node) + 1)]

    def edges(self, label: Tokens, max_following: int) -> list[int]:
        """Returns where each token of a label is among N · `max_following`, the tokens that follow each node."""
        nodes = self.path(label[:-1])
        return [i * max_following + self.following[i].index(token) for i, token in zip(nodes, label, strict=True)]


def _as_arrays(trees: list[_CallTree], calls: list[list[int]], shape: tuple[int, ...], outputs: Tokens) -> LabelTree:
    """Returns the calls' trees as one; `calls` holds the indices of their labels, `shape` is (K, T) of all labels."""
    place = {token: i for i, token in enumerate(outputs)}
    g, n, m = len(trees), max(len(tree.nodes) for tree in trees), max(map(len, calls))
    e = max(len(tokens) for tree in trees for tokens in tree.following)
    k, t = shape
    arrays = LabelTree(
        tokens=np.full((g, n), START, np.int32),
        depths=np.zeros((g, n), np.int32),
        visible=np.tile(np.eye(n, dtype=bool), (g, 1, 1)),
        following=np.zeros((g, n, e), np.int32),
        outputs=np.array(outputs, np.int32),
        edges=np.full((g, m, t), -1, np.int32),
        order=np.zeros(k, np.int32),
    )
    for c, (tree, call) in enumerate(zip(trees, calls, strict=True)):
        for i, (node, following) in enumerate(zip(tree.nodes, tree.following, strict=True)):
            arrays.tokens[c, i] = node[-1] if node else START
            arrays.depths[c, i] = len(node)
            arrays.visible[c, i, tree.path(node)] = True
            arrays.following[c, i, : len(following)] = [place.get(token, token) for token in following]
        for i, label in enumerate(tree.labels):
            arrays.edges[c, i, : len(label)] = tree.edges(label, e)
        arrays.order[call] = c * m + np.arange(len(call))
    return arrays


def _common_prefixes(a: Tokens, b: Tokens) -> int:
    """Returns how many of their proper prefixes two labels have in common, the empty one included."""
    same = next((j for j, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return min(same + 1, len(a), len(b))


def _labels_by_prefix(labels: list[Tokens]) -> dict[Tokens, list[Tokens]]:
    """Returns the labels that begin with each of the labels' proper prefixes, by prefix."""
    by_prefix: dict[Tokens, list[Tokens]] = {}
    for label in labels:
        for j in range(len(label)):
            by_prefix.setdefault(label[:j], []).append(label)
    return by_prefix
