"""Clusters: which column they come from, what is refused, and that intervals draw them whole."""

from dataclasses import replace

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.analysis.dataset import analyse
from metrics.grid.clusters import ClusterError
from metrics.grid.collect import collect_grids
from metrics.tables.signature import signature
from tests.synthetic_scores import synthetic_grid

PER_CLUSTER = 10


def clustered(values, **settings):
    """A synthetic grid whose examples have these values of cluster."""
    return [
        replace(one, cluster=np.array(values, dtype=object))
        for one in synthetic_grid(seeds=2, examples=len(values), **settings)
    ]


def test_the_column_cluster_is_taken_where_there_is_one():
    values = ["a", "b", None, "a", None, "b", "c", "c"]
    (grid,) = collect_grids(clustered(values))
    assert grid.clusters.tolist()[0] == grid.clusters[3] and len(set(grid.clusters.tolist())) == 5
    assert (
        "Intervals draw the 5 clusters of cluster, not single examples, and so few tell little of others." in grid.notes
    )
    assert collect_grids(clustered(values), cluster="none")[0].clusters is None
    assert collect_grids(synthetic_grid(seeds=2, examples=8))[0].clusters is None


def test_a_slice_can_be_the_cluster():
    (grid,) = collect_grids(clustered(["a"] * 40), cluster="slice_kind")
    kinds = grid.slices["slice_kind"].decoded()
    assert len(set(grid.clusters.tolist())) == len(set(kinds)) == len(set(zip(kinds, grid.clusters)))


def test_what_gives_no_clusters():
    (grid,) = collect_grids(clustered(["a"] * 8))
    assert grid.clusters is None and "All examples have one value of cluster" in grid.notes[0]
    (grid,) = collect_grids(clustered([f"user {k}" for k in range(8)]))
    assert grid.clusters is None and not any("cluster" in note for note in grid.notes)
    with pytest.raises(ClusterError, match="all examples of synthetic have one value"):
        collect_grids(clustered(["a"] * 8), cluster="cluster")
    with pytest.raises(ClusterError, match="no such column; expected cluster, slice_kind, auto, none"):
        collect_grids(clustered(["a"] * 8), cluster="slice_topic")


def test_intervals_of_clusters_are_those_of_their_sums():
    """Forty clusters of ten copies of one example: intervals are those of forty examples, about."""
    few = synthetic_grid(seeds=3, examples=40, slices=False)
    rows = np.repeat(np.arange(40), PER_CLUSTER)
    copies = [replace(one.take(rows), example_id=np.array([str(k) for k in range(400)], dtype=object)) for one in few]
    named = [replace(one, cluster=np.array([f"c{row}" for row in rows], dtype=object)) for one in copies]
    config = Metrics(resamples=300)
    alone, together, apart = (analyse(collect_grids(scores)[0], config) for scores in (few, named, copies))
    for name in ("small", "base"):
        found, expected, narrow = (one.quality[name].high - one.quality[name].value for one in (together, alone, apart))
        assert found == pytest.approx(expected, rel=0.02) and narrow < 0.8 * expected
    pair, of_few = together.pairs[0], alone.pairs[0]
    assert pair.area["margin"].high - pair.area["margin"].low == pytest.approx(
        of_few.area["margin"].high - of_few.area["margin"].low, rel=0.05
    )
    width = [one.band["margin"][1] - one.band["margin"][0] for one in (pair, of_few, apart.pairs[0])]
    assert width[0][50] == pytest.approx(width[1][50], rel=0.25) and width[2][50] < 0.7 * width[1][50]


def test_the_signature_names_a_column_that_was_chosen():
    assert "cluster" not in signature(Metrics()) and signature(Metrics(cluster="none")).endswith("|cluster:none")
