"""Which inputs are batched together, and in which order: the queue alone."""

import asyncio

import numpy as np
import pytest

from infer.serve.queue import TokenQueue
from infer.serve.ticket import Ticket, Waiting

LENGTHS = [16, 24, 48]
SECONDS = {16: {8: 4.0, 1: 1.0}, 24: {4: 4.0, 1: 1.5}, 48: {2: 4.0, 1: 4.0}}  # by length and rows


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def put(loop):
    """A function: queue, arrival, lengths, stage -> the ticket whose inputs were added."""

    def add(queue, arrived, lengths, stage=0, shadow=None):
        ticket = Ticket(None, ["x"] * len(lengths), arrived, loop.create_future())
        items = [Waiting(ticket, i, stage, np.ones(n, np.int32), shadow) for i, n in enumerate(lengths)]
        ticket.items = items if shadow is None else []
        queue.add(items)
        return ticket

    return add


def taken(queue, now=0.0):
    """What the next batch holds: stage, the inputs' lengths, the shape."""
    batch = queue.take(now)
    return batch and (batch.stage, [len(item.ids) for item in batch.items], batch.length, batch.row_count)


def make_queue(patience=1.0, stages=2):
    return TokenQueue(LENGTHS, [SECONDS] * stages, patience, [[1.0, 2.0, 4.0]] * stages)


def test_nothing_waits_for_a_batch_to_fill(put):
    queue = make_queue()
    put(queue, 0.0, [10])
    assert len(queue) == 1 and taken(queue) == (0, [10], 16, 1)
    assert taken(queue) is None and queue.empty


def test_a_half_filled_batch_takes_the_large_shape_and_less_the_small_one(put):
    queue = make_queue()
    put(queue, 0.0, [10] * 4)
    assert taken(queue) == (0, [10] * 4, 16, 8)
    put(queue, 0.0, [10] * 3)
    assert [taken(queue) for _ in range(4)] == [(0, [10], 16, 1)] * 3 + [None]


def test_a_batch_has_the_rows_that_fill_it_best(put):
    seconds = {16: {32: 8.0, 8: 3.0, 2: 1.0}}
    for waiting, rows in ((1, 2), (2, 2), (5, 2), (6, 8), (8, 8), (20, 8), (22, 32), (40, 32)):
        queue = TokenQueue([16], [seconds], 1.0, [[1.0]])
        put(queue, 0.0, [10] * waiting)
        assert taken(queue) == (0, [10] * min(waiting, rows), 16, rows)


def test_a_few_inputs_of_the_larger_model_wait_for_more_while_the_smaller_one_is_busy(put):
    queue = make_queue()
    put(queue, 0.0, [10], stage=1)
    put(queue, 0.1, [10] * 7)
    assert taken(queue, 0.5) == (0, [10] * 7, 16, 8)  # filled by 7/8, that of the larger model by a half
    put(queue, 0.2, [10] * 7, stage=1)
    put(queue, 0.3, [10] * 7)
    assert taken(queue, 0.5) == (1, [10] * 8, 16, 8)  # both are well filled: the older one


def test_shorter_inputs_count_for_what_they_take_by_themselves(put):
    seconds = {16: {8: 1.0, 1: 0.5}, 512: {8: 80.0, 1: 12.0}}
    queue = TokenQueue([16, 512], [seconds], 1.0, [[1.0, 1.0]])
    put(queue, 0.0, [500])
    put(queue, 0.1, [10] * 7)
    assert taken(queue) == (0, [500], 512, 1)  # with the seven it would take 80 s
    assert taken(queue) == (0, [10] * 7, 16, 8)


def test_a_full_batch_goes_before_older_ones_that_are_not(put):
    queue = make_queue()
    put(queue, 0.0, [20])
    put(queue, 0.1, [10] * 9)
    put(queue, 0.2, [30] * 2)
    assert taken(queue, 0.5) == (0, [10] * 8, 16, 8)
    assert taken(queue, 0.5) == (0, [30] * 2, 48, 2)
    assert taken(queue, 0.5) == (0, [20], 24, 1)


def test_who_has_waited_longer_than_patience_goes_first(put):
    queue = make_queue(patience=0.3)
    put(queue, 0.0, [20])
    put(queue, 0.1, [10] * 9)
    assert taken(queue, 0.4) == (0, [20], 24, 1)


def test_room_is_filled_with_shorter_inputs_the_longest_first(put):
    queue = make_queue()
    put(queue, 0.0, [20, 20, 20])
    put(queue, 0.1, [10, 11])
    assert taken(queue) == (0, [20, 20, 20, 10], 24, 4)
    assert taken(queue) == (0, [11], 16, 1)


def test_an_input_that_was_passed_on_keeps_its_age(put):
    queue = make_queue()
    put(queue, 0.3, [10])
    put(queue, 0.1, [10], stage=1)
    assert queue.waiting() == [[1, 0, 0], [1, 0, 0]]
    assert taken(queue)[0] == 1 and taken(queue)[0] == 0


def test_the_inputs_of_who_left_are_dropped(put):
    queue = make_queue()
    left = put(queue, 0.0, [10, 20, 10])
    put(queue, 0.1, [10] * 5)
    queue.drop(left)
    assert left.gone and len(queue) == 5 and queue.waiting()[0] == [5, 0, 0]
    assert taken(queue) == (0, [10] * 5, 16, 8) and queue.empty


def test_the_shadow_comes_last_and_counts_for_nothing(put):
    queue = make_queue()
    put(queue, 0.0, [10] * 8, shadow="kept")
    put(queue, 0.5, [30])
    assert len(queue) == 1 and queue.waiting_shadows == 8 and not queue.empty
    assert taken(queue, 9.0) == (0, [30], 48, 2)
    assert taken(queue, 9.0) == (1, [10] * 8, 16, 8) and queue.empty


def test_every_input_is_taken_once_whatever_comes(put):
    rng = np.random.default_rng(0)
    queue = make_queue(patience=0.2)
    seen, added, now = 0, 0, 0.0
    for _ in range(500):
        now += 0.01
        lengths = rng.integers(1, 49, rng.integers(0, 6)).tolist()
        if lengths:
            ticket = put(queue, now, lengths, int(rng.integers(2)))
            added += len(lengths)
            if rng.random() < 0.1:
                queue.drop(ticket)
                added -= len(lengths)
        if rng.random() < 0.7 and (batch := queue.take(now)) is not None:
            assert (
                1 <= len(batch.items) <= batch.row_count and max(len(item.ids) for item in batch.items) <= batch.length
            )
            assert batch.row_count in SECONDS[batch.length] and not any(item.ticket.gone for item in batch.items)
            seen += len(batch.items)
        assert len(queue) == added - seen == sum(map(sum, queue.waiting()))
        expected = sum(count * cost for stage in queue.waiting() for count, cost in zip(stage, [1.0, 2.0, 4.0]))
        assert queue.seconds == pytest.approx(expected)
    while (batch := queue.take(now)) is not None:
        seen += len(batch.items)
    assert seen == added
