"""Label strings as trees: what several of them have in common stands once in a decoder row.

A node is a distinct prefix of labels, the empty one included and a whole label not; the decoder reads its last token
and foretells what may follow. So a row has a position for each node, and each sees its ancestors and itself.
"""

from typing import NamedTuple

import numpy as np


class LabelTree(NamedTuple):
    """The trees of K labels of at most T tokens, cut into G decoder calls of at most N nodes and M labels each.

    What a call has less of is filled up: nodes that nobody sees, labels without tokens.
    """

    tokens: np.ndarray  # [G, N] int32: a node's last token, the decoder's input; at the root T5's start token, 0
    depths: np.ndarray  # [G, N] int32: how many tokens lead to a node, its position
    seen: np.ndarray  # [G, N, N] bool: whether a node sees another: its ancestors and itself
    following: np.ndarray  # [G, N, E] int32: the tokens that follow a node, at most E; filled up with 0
    edges: np.ndarray  # [G, M, T] int32: of each token of each label its place in its call's N · E; -1 after its end
    order: np.ndarray  # [K] int32: each label's place in G · M


Tokens = tuple[int, ...]


class Labels:
    """K label strings, and their trees for any room that a decoder call may have."""

    def __init__(self, padded: np.ndarray) -> None:
        """`padded` is [K, T] int32: each label ends in EOS and is padded with 0."""
        self.padded = padded
        self._labels: list[Tokens] = [tuple(int(token) for token in label[label != 0]) for label in padded]
        self._sorted = sorted(range(len(padded)), key=lambda i: self._labels[i])  # common prefixes lie side by side
        ordered = [self._labels[i] for i in self._sorted]
        self._shared = [0, *(_common(a, b) for a, b in zip(ordered, ordered[1:], strict=False))]
        self._nodes = sum(map(len, self._labels)) - sum(self._shared)
        self._calls: dict[int, list[list[int]]] = {}  # by the room they have, as are the others
        self._positions: dict[int, int] = {}
        self._trees: dict[int, LabelTree] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def positions(self, room: int) -> int:
        """How many positions a decoder call takes: at most `room`, or as many as the longest label has tokens."""
        room = min(room, self._nodes)
        if room not in self._positions:
            calls = self._calls_of(room)
            self._positions[room] = max(len(_prefixes([self._labels[i] for i in call])) for call in calls)
        return self._positions[room]

    def tree(self, room: int) -> LabelTree:
        """The labels in as few calls of at most `room` positions as they fit in, all of about as many."""
        room = min(room, self._nodes)
        if room not in self._trees:
            self._trees[room] = self._build(self._calls_of(room))
        return self._trees[room]

    def _cut(self, room: int) -> list[list[int]]:
        """The labels in order, each call filled up to `room` nodes, with one label at least."""
        calls: list[list[int]] = []
        nodes = room
        for label, shared in zip(self._sorted, self._shared, strict=True):
            whole = len(self._labels[label])
            if calls and nodes + whole - shared <= room:
                calls[-1].append(label)
                nodes += whole - shared
            else:
                calls.append([label])
                nodes = whole
        return calls

    def _calls_of(self, room: int) -> list[list[int]]:
        """As `tree` says: cut at the smallest room that needs no more calls than this one."""
        if room not in self._calls:
            count, least, most = len(self._cut(room)), 1, room
            while least < most:
                middle = (least + most) // 2
                least, most = (least, middle) if len(self._cut(middle)) <= count else (middle + 1, most)
            self._calls[room] = self._cut(most)
        return self._calls[room]

    def _build(self, calls: list[list[int]]) -> LabelTree:
        trees = [_prefixes([self._labels[i] for i in call]) for call in calls]
        following = [[sorted({label[len(node)] for label in tree[node]}) for node in tree] for tree in trees]
        g, n, m = len(calls), max(map(len, trees)), max(map(len, calls))
        e, t = max(len(tokens) for call in following for tokens in call), self.padded.shape[1]
        tree = LabelTree(
            tokens=np.zeros((g, n), np.int32),
            depths=np.zeros((g, n), np.int32),
            seen=np.tile(np.eye(n, dtype=bool), (g, 1, 1)),
            following=np.zeros((g, n, e), np.int32),
            edges=np.full((g, m, t), -1, np.int32),
            order=np.zeros(len(self), np.int32),
        )
        for c, (call, nodes) in enumerate(zip(calls, trees, strict=True)):
            place = {node: i for i, node in enumerate(nodes)}
            for i, node in enumerate(nodes):
                tree.tokens[c, i] = node[-1] if node else 0
                tree.depths[c, i] = len(node)
                tree.seen[c, i, [place[node[:j]] for j in range(len(node) + 1)]] = True
                tree.following[c, i, : len(following[c][i])] = following[c][i]
            for row, label in enumerate(self._labels[i] for i in call):
                for j, token in enumerate(label):
                    i = place[label[:j]]
                    tree.edges[c, row, j] = i * e + following[c][i].index(token)
            tree.order[call] = c * m + np.arange(len(call))
        return tree


def _common(a: Tokens, b: Tokens) -> int:
    """How many of their proper prefixes two labels have in common, the empty one included."""
    same = next((j for j, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return min(same + 1, len(a), len(b))


def _prefixes(labels: list[Tokens]) -> dict[Tokens, list[Tokens]]:
    """The proper prefixes of `labels`, each with the labels that it begins."""
    found: dict[Tokens, list[Tokens]] = {}
    for label in labels:
        for j in range(len(label)):
            found.setdefault(label[:j], []).append(label)
    return found
