"""Inputs that are answered in another order than they came in reach the watch as they came."""

import numpy as np

from infer.watch import order
from infer.watch.order import ArrivalOrder, Observed


def test_inputs_are_given_in_the_order_of_their_numbers_each_once():
    rng = np.random.default_rng(0)
    found, arrival = [], ArrivalOrder()
    for number in rng.permutation(500).tolist():
        arrival.add(number, None if number % 7 == 0 else Observed(-float(number), number % 2 == 0))
        scores, deferred = arrival.take()
        assert scores.dtype == np.float64 and deferred.dtype == bool
        found += list(zip((-scores).astype(int).tolist(), deferred.tolist()))
    assert found == [(number, number % 2 == 0) for number in range(500) if number % 7]


def test_one_that_never_comes_back_holds_up_only_so_many(monkeypatch):
    monkeypatch.setattr(order, "MOST_HELD", 10)
    arrival = ArrivalOrder()
    for number in range(1, 11):
        arrival.add(number, Observed(0.0, False))
        assert len(arrival.take()[0]) == 0
    arrival.add(11, Observed(0.0, False))
    assert len(arrival.take()[0]) == 11
    arrival.add(0, Observed(0.0, False))  # too late: what came after it was told
    assert len(arrival.take()[0]) == 0
    arrival.add(12, Observed(0.0, False))
    assert len(arrival.take()[0]) == 1
