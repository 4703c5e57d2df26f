import numpy as np
import pytest

from tests.texts import encoded
from train.label_tree import Labels
from train.labels import as_labels


def random_labels(k, seed):
    """Labels of 1 to 5 tokens before EOS from few, so that most share a prefix and some are another's prefix."""
    rng = np.random.default_rng(seed)
    texts = {tuple(rng.integers(2, 6, rng.integers(0, 6))) for _ in range(5 * k)}
    chosen = [sorted(texts)[i] for i in rng.permutation(len(texts))]
    return as_labels(encoded([np.array([*text, 1]) for text in chosen[:k]]))


def spelled(tree, call, node):
    """The tokens that lead to a node, read off the nodes that it sees."""
    path = np.flatnonzero(tree.visible[call, node])
    in_order = path[np.argsort(tree.depths[call, path])]
    assert (tree.depths[call, in_order] == np.arange(len(path))).all() and tree.tokens[call, in_order[0]] == 0
    return [int(token) for token in tree.tokens[call, in_order[1:]]]


@pytest.mark.parametrize("room", [1, 6, 7, 20, 64, 10_000])
@pytest.mark.parametrize(("k", "seed"), [(1, 0), (2, 1), (40, 2), (300, 3)])
def test_every_label_is_read_off_its_tree(k, seed, room):
    labels = random_labels(k, seed)
    tree = labels.tree(room)
    calls, nodes, width = tree.following.shape
    assert nodes == labels.positions(room) <= max(room, int((labels.padded != 0).sum(1).max()))
    assert len(set(tree.order)) == len(labels) == k
    for label, place in zip(labels.padded, tree.order, strict=True):
        call, row = divmod(int(place), tree.edges.shape[1])
        edges = tree.edges[call, row][tree.edges[call, row] >= 0]
        text = [int(token) for token in label[label != 0]]
        assert [int(tree.following[call].reshape(-1)[edge]) for edge in edges] == text
        for j, edge in enumerate(edges):
            assert spelled(tree, call, edge // width) == text[:j]


def test_a_prefix_stands_once_and_a_whole_label_not_at_all():
    labels = Labels(np.array([[5, 6, 7, 1], [5, 6, 1, 0], [5, 6, 8, 1], [9, 1, 0, 0], [1, 0, 0, 0]]))
    tree = labels.tree(100)
    assert tree.tokens.shape == (1, 6)  # "", 5, 56, 567, 568, 9
    assert tree.following.shape == (1, 6, 3) and sorted(tree.following[0, 0]) == [1, 5, 9]


def test_calls_are_few_and_alike():
    apart = Labels(np.repeat(np.arange(2, 102)[:, None], 4, axis=1))  # 100 labels, 3 positions each and a root
    assert [apart.positions(room) for room in (301, 300, 151, 100)] == [301, 151, 151, 76]
    assert [len(apart.tree(room).tokens) for room in (301, 300, 151, 100)] == [1, 2, 2, 4]
