import threading
import time

import pytest

from train.data.prefetch import ahead, in_flight


def test_everything_comes_in_order():
    assert list(ahead(lambda step: step**2, range(3, 9))) == [9, 16, 25, 36, 49, 64]
    assert list(ahead(lambda step: step, [])) == []
    assert list(ahead(lambda step: step, range(5), depth=9)) == [0, 1, 2, 3, 4]


def test_it_is_made_by_another_thread_and_at_most_so_far_ahead():
    made, threads = [], set()

    def make(step):
        made.append(step)
        threads.add(threading.current_thread())
        return step

    some = ahead(make, range(100), depth=3)
    assert next(some) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # it would have gone on by now
    assert made == [0, 1, 2, 3]
    assert threading.current_thread() not in threads and len(threads) == 1
    some.close()


def test_what_fails_is_raised_in_its_place():
    def make(step):
        if step == 2:
            raise ValueError("step 2")
        return step

    some = ahead(make, range(5))
    assert [next(some), next(some)] == [0, 1]
    with pytest.raises(ValueError, match="step 2"):
        next(some)


def test_ending_early_makes_no_more_and_leaves_no_thread():
    made = []
    some = ahead(lambda step: made.append(step), range(10**6))
    next(some)
    some.close()
    assert len(made) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_so_many_are_started_before_the_first_is_handed_on():
    started = []

    def start(n):
        for i in range(n):
            started.append(i)
            yield i

    assert [(i, len(started)) for i in in_flight(start(4), 2)] == [(0, 2), (1, 3), (2, 4), (3, 4)]
    started.clear()
    assert [(i, len(started)) for i in in_flight(start(3), 1)] == [(0, 1), (1, 2), (2, 3)]
    assert list(in_flight(start(1), 2)) == [0]
    assert list(in_flight(start(0), 2)) == []
