"""The load on a server, and what is written of it: against servers that answer nothing but bytes, without a model."""

import asyncio
import contextlib
import math
import os
import shutil
import subprocess
import sys
import time

import pytest

from bench.marked_page import write_between_marks
from bench.serve import faults, page
from bench.serve.faults import Finding
from bench.serve.load import Answered, closed_loop, http_request, open_loop
from bench.serve.measure import Measured, requests_of, same_answers
from bench.serve.processor import measured_processor_time, session_seconds
from bench.serve.proxy import Proxy
from bench.serve.sides import Side


class Answering:
    """A server that answers every request after `delay` seconds, with `status`; `closes` each connection then."""

    def __init__(self, delay=0.0, status=200, closes=False):
        self.delay, self.status, self.closes = delay, status, closes
        self.bodies, self.connections, self.writers = [], 0, []

    async def end(self):
        """Closes what clients have left open."""
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0.02)

    async def __call__(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length")]
                length = int(lengths[0].split(b":")[1]) if lengths else 0
                self.bodies.append(await reader.readexactly(length))
                await asyncio.sleep(self.delay)
                end = b"connection: close\r\n" if self.closes else b""
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n%s\r\nok" % (self.status, end))
                if self.closes:
                    break
        writer.close()


def loaded(answering, load):
    """What came of a load on such a server; `load` is called with its port."""

    async def run():
        async with await asyncio.start_server(answering, "127.0.0.1", 0) as server:
            found = await load(server.sockets[0].getsockname()[1])
            await answering.end()
        return found

    return asyncio.run(run())


REQUESTS = [http_request("/x", b"%d" % number) for number in range(5)]


def test_a_closed_loop_keeps_so_many_in_flight():
    server = Answering(delay=0.02)
    found = loaded(server, lambda port: closed_loop(port, REQUESTS, 3, 4, 0.4, warm=0.1))
    assert server.connections == 4 and set(server.bodies) == {b"0", b"1", b"2", b"3", b"4"}
    assert 8 < found.good <= 4 * 0.4 / 0.02 + 4 and set(found.statuses) == {200}
    assert found.rate == pytest.approx(found.good * 3 / 0.4) and found.quantile(0.5) >= 0.02


def test_connections_that_are_closed_are_opened_again():
    server = Answering(closes=True)
    found = loaded(server, lambda port: closed_loop(port, REQUESTS, 1, 2, 0.2))
    assert set(found.statuses) == {200} and server.connections >= found.good > 2


def test_an_open_loop_sends_at_the_moments_of_a_poisson_process_whoever_answers():
    quick, slow = Answering(), Answering(delay=0.3)
    sent = [loaded(server, lambda port: open_loop(port, REQUESTS, 2, 200, 0.5, seed=1)) for server in (quick, slow)]
    assert len(sent[0].statuses) == len(sent[1].statuses) and 20 < len(sent[0].statuses) < 90  # 50 are expected
    assert sent[1].quantile(0.5) >= 0.3 and sent[1].within(0.1) == 0 < sent[0].within(5.0)


def test_latencies_count_from_the_planned_moment_where_connections_are_few():
    found = loaded(Answering(delay=0.05), lambda port: open_loop(port, REQUESTS, 1, 100, 0.3, most=1))
    assert found.quantile(1.0) > 0.5  # 30 requests, one at a time
    found = loaded(Answering(delay=0.05), lambda port: open_loop(port, REQUESTS, 1, 100, 0.3, most=1, wait=False))
    assert 1 < len(found.statuses) < 12  # those that find it in use are not sent


def test_a_closed_loop_loses_no_bad_answer_unseen():
    found = loaded(Answering(delay=0.2, status=503), lambda port: closed_loop(port, REQUESTS, 1, 3, 0.1))
    assert found.statuses == [503] * 3


def test_other_statuses_and_nobody_there_are_no_good_answers():
    refused = loaded(Answering(status=429), lambda port: closed_loop(port, REQUESTS, 1, 2, 0.1))
    assert refused.good == 0 == refused.rate and set(refused.statuses) == {429} and math.isnan(refused.quantile(0.5))
    nobody = asyncio.run(open_loop(1, REQUESTS, 1, 50, 0.2))
    assert nobody.statuses and set(nobody.statuses) == {0}


def test_requests_hold_the_texts_in_order():
    many = Side("Edgewise", (), "/v1/predict", "", many=True)
    requests = requests_of(many, ["a", "b", "c", "d", "e"], 2)
    assert len(requests) == 2 and b'{"inputs": [{"text": "c"}, {"text": "d"}]}' in requests[1]
    one = Side("other", (), "/predict", "")
    assert [request.partition(b"\r\n\r\n")[2] for request in requests_of(one, ["a", "b"], 1)] == [
        b'{"text": "a"}',
        b'{"text": "b"}',
    ]


def test_answers_alike_are_those_with_the_same_prediction_and_deferral():
    answers = [{"prediction": "a", "deferred": False}, {"prediction": "b", "deferred": True}]
    others = [{"prediction": "a", "deferred": True}, {"prediction": "b", "deferred": True}]
    assert same_answers(answers, answers) == 1 and same_answers(answers, others) == 0.5


def written(tmp_path, marks, text):
    """The page after it was written."""
    path = tmp_path / "page.md"
    path.write_text("\n".join(["before", *marks, "after"]))
    write_between_marks(path, marks, text)
    return path.read_text()


def test_the_page_says_which_goals_were_reached(tmp_path):
    ours = Measured("Edgewise", None, [900.0, 1000.0, 1100.0], [1500.0], [0.01], [0.05], [700.0], [1e-3], [5e-5])
    lit = Measured("LitServe, larger alone", 32, [250.0], [], [0.1], [0.2], [250.0])
    switch = Measured("Ray Serve, switch", 8, [800.0], [], [0.1], [0.2], [650.0])
    facts = {"tokens": 14.0, "deferred": 0.2, "common_rate": 700.0, "rounds": 3.0, "alike": 1.0}
    text = written(tmp_path, page.MARKS, page.section(ours, [lit, switch], 1600.0, facts, 600.0))
    assert "| Edgewise, one input a request | – | 1000 | 10 | 50 | 700 | 1000 | 50 |" in text
    assert "| Edgewise, 32 inputs a request | – | 1500 | – | – | – | – | – |" in text
    assert "| LitServe, larger alone | 4.00 | 3 | reached |" in text
    assert "| Ray Serve, switch | 1.25 | 1.5 | missed |" in text
    assert "| `infer.apply`, at one input a request | 0.62 | 0.6 | reached |" in text
    assert text.startswith("before") and text.endswith("after")


def test_the_page_of_faults_says_what_was_missed(tmp_path):
    findings = [Finding("restarts", "0 lost", "0 lost", True), Finding("overload", "80 %", "90 %", False)]
    text = written(tmp_path, faults.MARKS, faults.section(findings, 60, "just bench-faults"))
    assert "| restarts | 0 lost | 0 lost | reached |" in text and "| overload | 80 % | 90 % | missed |" in text


def test_processor_time_is_that_of_a_session_and_of_all_that_descends_from_it(tmp_path):
    tick = os.sysconf("SC_CLK_TCK")
    # of each process its parent, its session, and ticks: user's, kernel's, and those of children that have ended
    for process, parent, session, ticks in (
        (10, 1, 10, (3, 1, 2, 0)),
        (11, 10, 10, (5, 0, 0, 0)),
        (12, 1, 10, (7, 0, 0, 0)),  # its parent has ended
        (13, 11, 13, (11, 0, 0, 0)),  # it leads a session of its own
        (14, 13, 13, (13, 0, 0, 0)),
        (15, 1, 15, (100, 0, 0, 0)),
    ):
        (tmp_path / str(process)).mkdir()
        fields = ["S", parent, process, session, *[0] * 7, *ticks, 20, 0]
        (tmp_path / str(process) / "stat").write_text(f"{process} (a (b) c) {' '.join(map(str, fields))}\n")
    assert session_seconds(10, tmp_path) == pytest.approx((6 + 5 + 7 + 11 + 13) / tick)
    assert session_seconds(99, tmp_path) == 0.0


def test_processor_time_is_measured_of_real_processes():
    program = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, start_new_session=True) as process:
        until = time.monotonic() + 30
        while session_seconds(process.pid) < 0.25:
            assert time.monotonic() < until
            time.sleep(0.05)
        taken = asyncio.run(measured_processor_time(process.pid, 0.0, 0.05))
        assert 0 <= taken.server < 1 and 0 <= taken.sender < 0.2
        process.communicate(b"\n")


def test_answers_count_by_their_latency():
    found = Answered(2.0, 4, [200, 200, 429, 0], [0.1, 3.0, 0.01, 5.0])
    assert found.good == 2 and found.rate == 4.0 and found.within(1.0) == 2.0 and found.quantile(1.0) == 3.0


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("nginx") is None and shutil.which("nginx", path="/usr/sbin") is None, reason="needs nginx"
)
def test_nginx_asks_the_next_server_where_one_is_draining(tmp_path):
    async def run():
        draining, whole = Answering(status=503), Answering()
        async with (
            await asyncio.start_server(draining, "127.0.0.1", 0) as first,
            await asyncio.start_server(whole, "127.0.0.1", 0) as second,
        ):
            ports = [server.sockets[0].getsockname()[1] for server in (first, second)]
            proxy = Proxy(ports, tmp_path)
            await asyncio.to_thread(proxy.__enter__)
            try:
                found = await closed_loop(proxy.port, REQUESTS, 1, 8, 0.5)
            finally:
                await asyncio.to_thread(proxy.__exit__)
                await draining.end()
                await whole.end()
        return draining, whole, found

    draining, whole, found = asyncio.run(run())
    assert set(found.statuses) == {200} and draining.bodies and whole.bodies
