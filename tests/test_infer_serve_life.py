"""Overload, deadlines, clients that leave, renewal and the end: over HTTP, by an engine without a model."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conf.errors import EdgewiseError
from tests.serving import LetterEngine, letter_deployment, serve_config, served
from tests.support import REPO


@pytest.fixture
def engine():
    engine = LetterEngine()
    yield engine
    engine.hold.clear()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def until(fact, seconds=10):
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.005)


def waiting(server):
    return len(server.life.service.deployment.queue)


def hold_one(engine, server, pool):
    """Lets a batch begin that doesn't end while `engine.hold` is set; returns its answer to come."""
    engine.hold.set()
    first = pool.submit(server.predict, "first")
    until(lambda: server.life.service.asking == 1 and waiting(server) == 0)
    return first


def test_a_full_queue_refuses_and_says_when_to_come_again(engine, pool):
    with served(lambda config: letter_deployment(engine), serve_config(most_waiting=4)) as server:
        first = hold_one(engine, server, pool)
        others = pool.submit(server.predict, "a", "b", "c")
        until(lambda: waiting(server) == 3)
        status, headers, answer = server.predict("d", "e")
        assert status == 429 and answer["type"] == "urn:edgewise:queue-full" and int(headers["retry-after"]) >= 1
        assert server.ask("GET", "/v2/health/ready")[0] == 200
        engine.hold.clear()
        assert first.result()[0] == others.result()[0] == 200 and server.predict("d", "e")[0] == 200


def test_what_would_take_too_long_is_refused_at_once_and_what_has_time_is_not(pool):
    engine = LetterEngine(seconds=0.02)
    with served(lambda config: letter_deployment(engine), serve_config(deadline_ms=60_000)) as server:
        first = hold_one(engine, server, pool)
        long = pool.submit(server.predict, *["x" * 40] * 100)  # two a batch
        until(lambda: waiting(server) == 100)
        status, _, answer = server.predict("y", deadline_ms=500)
        assert status == 429 and "500 ms" in answer["detail"]
        later = pool.submit(server.predict, "y")
        until(lambda: waiting(server) == 101)
        engine.hold.clear()
        assert [answer.result()[0] for answer in (first, long, later)] == [200] * 3


def test_the_wait_is_expected_by_what_full_batches_took():
    deployment = letter_deployment(LetterEngine(seconds=0.05))
    assert deployment.expected_wait() == 0
    alone = deployment.expected_wait([46] * 20, small=True)  # 10 batches of two
    assert 0.45 < alone < 2.0  # the machine may sleep longer
    assert deployment.expected_wait([46] * 20) > 1.5 * alone  # every input may reach the second stage
    assert deployment.expected_wait([10] * 20) < alone  # shorter ones go eight to a batch


def test_a_deadline_that_passes_ends_the_wait_and_frees_the_queue(engine, pool):
    with served(lambda config: letter_deployment(engine)) as server:
        first = hold_one(engine, server, pool)
        status, _, answer = server.predict("late", deadline_ms=80)
        assert status == 504 and answer["type"] == "urn:edgewise:deadline-passed" and "80 ms" in answer["detail"]
        assert waiting(server) == 0
        engine.hold.clear()
        assert first.result()[0] == 200 and server.predict("b")[0] == 200
        assert sum(rows for _, rows, _, _ in engine.batches[-2:]) == 2  # nobody answered the late one


def test_a_client_that_left_leaves_the_queue(engine, pool):
    with served(lambda config: letter_deployment(engine)) as server:
        first = hold_one(engine, server, pool)
        body = json.dumps({"inputs": [{"text": "a"}, {"text": "b"}]}).encode()
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(head % len(body) + body)
        until(lambda: waiting(server) == 2)
        connection.close()
        until(lambda: waiting(server) == 0 and server.life.service.asking == 1)
        engine.hold.clear()
        assert first.result()[0] == 200
        assert 'edgewise_requests_total{path="/v1/predict",status="499"} 1.0' in server.life.measures.text().decode()


def test_the_small_model_may_answer_alone_and_says_so(engine, monkeypatch):
    with served(lambda config: letter_deployment(engine), serve_config(on_overload="small")) as server:
        deployment = server.life.service.deployment
        assert server.predict("a?")[2]["degraded"] is False
        monkeypatch.setattr(deployment, "expected_wait", lambda lengths=(), small=False: 0.0 if small else 99.0)
        status, _, answer = server.predict("a?", "b")
        assert status == 200 and answer["degraded"] is True and answer["certified"] is False
        assert [output["prediction"] for output in answer["outputs"]] == ["SAY: A? 0", "SAY: B 0"]
        assert not any(output["deferred"] for output in answer["outputs"])
        assert "edgewise_degraded_inputs_total 2.0" in server.life.measures.text().decode()
        monkeypatch.setattr(deployment, "expected_wait", lambda lengths=(), small=False: 99.0)
        assert server.predict("a?")[0] == 429


def test_an_input_that_breaks_the_batch_fails_alone(engine, pool, caplog):
    with served(lambda config: letter_deployment(engine)) as server:
        first = hold_one(engine, server, pool)
        answers = [pool.submit(server.predict, *texts) for texts in (["a", "secret!", "b"], ["c?"], ["secret!"])]
        until(lambda: waiting(server) == 5)
        engine.hold.clear()
        (status, _, mixed), good, (bad_status, _, bad) = [answer.result() for answer in answers]
        assert status == 200 and [output.get("prediction") for output in mixed["outputs"]] == [
            "SAY: A 0",
            None,
            "SAY: B 0",
        ]
        assert mixed["outputs"][1]["error"]["type"] == "urn:edgewise:device-failed"
        assert good[2]["outputs"][0]["prediction"] == "SAY: C? 1"
        assert bad_status == 503 and bad["type"] == "urn:edgewise:device-failed"
        assert "secret" not in json.dumps([mixed, bad]) and "secret" not in caplog.text
        assert first.result()[0] == 200 and server.ask("GET", "/v2/health/ready")[0] == 200


def test_an_error_after_the_device_has_answered_fails_its_inputs_alone(engine, monkeypatch):
    with served(lambda config: letter_deployment(engine)) as server:
        deployment = server.life.service.deployment
        with monkeypatch.context() as broken:
            broken.setattr(deployment, "next_ids", lambda *_: (_ for _ in ()).throw(MemoryError()))
            status, _, answer = server.predict("a", "b?", "c")  # one goes on to the larger model
        assert status == 200 and [output.get("prediction") for output in answer["outputs"]] == ["SAY: A 0", None, None]
        assert "MemoryError" in answer["outputs"][1]["error"]["detail"]
        assert server.predict("b?")[2]["outputs"][0]["prediction"] == "SAY: B? 1"
        assert server.ask("GET", "/v2/health/ready")[0] == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_whose_thread_has_ended_is_not_ready(engine, monkeypatch):
    with served(lambda config: letter_deployment(engine)) as server:
        queue = server.life.service.deployment.queue
        monkeypatch.setattr(queue, "take", lambda now: (_ for _ in ()).throw(MemoryError()))
        assert server.predict("a")[0] in (503, 504)
        status, _, answer = server.ask("GET", "/v2/health/ready")
        assert status == 503 and "the thread that answers ended by MemoryError" in answer["detail"]


def test_a_device_that_always_fails_is_not_ready(engine):
    with served(lambda config: letter_deployment(engine)) as server:
        for _ in range(30):
            server.predict("!")
        status, _, answer = server.ask("GET", "/v2/health/ready")
        assert status == 503 and "the device failed" in answer["detail"] and "RuntimeError" in answer["detail"]
        assert server.predict("a")[0] == 503


def test_a_new_version_answers_after_the_batch_that_runs_and_a_bad_one_never(engine, pool, caplog):
    made = [letter_deployment(engine)]

    def load(config):
        found = made[-1]
        if isinstance(found, Exception):
            raise found
        return found

    caplog.set_level(logging.INFO, "edgewise.serve")
    with served(load) as server:
        renew = server.on_loop(server.life.renew)
        first = hold_one(engine, server, pool)
        second = pool.submit(server.predict, "waits")
        until(lambda: waiting(server) == 1)
        new = LetterEngine()
        made.append(letter_deployment(new, "e" * 32))
        renew()
        until(lambda: server.life.service.deployment is made[-1])
        engine.hold.clear()
        assert first.result()[2]["digest"] == second.result()[2]["digest"] == "d" * 32
        assert server.predict("later")[2]["digest"] == "e" * 32 and new.batches

        made.append(EdgewiseError("the model is gone"))
        renew()
        until(lambda: "the model is gone" in caplog.text)
        assert server.predict("still")[2]["digest"] == "e" * 32
        counts = server.life.measures.text().decode()
        assert "edgewise_switcher_load_failures_total 1.0" in counts and "edgewise_switcher_loads_total 2.0" in counts
        assert 'digest="' + "d" * 32 not in counts

        made.append(letter_deployment(LetterEngine(), "e" * 32))
        renew()
        until(lambda: "is what answers already" in caplog.text)


def test_a_switcher_that_can_t_be_used_is_not_ready_and_says_why(pool, caplog):
    made = [EdgewiseError("this machine doesn't compute what the one did that made the scores")]

    def load(config):
        if isinstance(made[-1], Exception):
            raise made[-1]
        return made[-1]

    with served(load, wait=False) as server:
        until(lambda: "doesn't compute" in server.ask("GET", "/v2/health/ready")[2]["detail"])
        status, headers, answer = server.predict("a")
        assert status == 503 and answer["type"] == "urn:edgewise:not-ready" and headers["retry-after"]
        assert "not ready: this machine doesn't compute" in caplog.text
        assert server.ask("GET", "/v2/health/live")[0] == 200
        made.append(letter_deployment())
        server.on_loop(server.life.renew)()
        until(lambda: server.ask("GET", "/v2/health/ready")[0] == 200)


def test_the_end_answers_what_waits_and_takes_nothing_more(engine, pool):
    with served(lambda config: letter_deployment(engine)) as server:
        first = hold_one(engine, server, pool)
        second = pool.submit(server.predict, "waits?")
        until(lambda: waiting(server) == 1)
        server.on_loop(server.life.end)("the test")
        until(lambda: server.ask("GET", "/v2/health/ready")[0] == 503)
        status, headers, answer = server.predict("new")
        assert status == 503 and answer["type"] == "urn:edgewise:draining" and headers["retry-after"]
        assert headers["connection"] == "close"  # so that no next request meets an end without an answer
        assert server.ask("GET", "/v2/health/live")[0] == 200
        engine.hold.clear()
        assert first.result()[0] == 200 and second.result()[2]["outputs"][0]["model"] == "base-s0"


def test_too_many_connections_are_refused():
    with served(lambda config: letter_deployment(), serve_config(most_connections=3)) as server:
        until(lambda: not server.connections)
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        until(lambda: len(server.connections) == 3)
        with socket.create_connection(("127.0.0.1", server.port)) as refused:  # told before it has asked
            head, _, body = refused.makefile("rb").read().partition(b"\r\n\r\n")
        assert b" 503 " in head.splitlines()[0] and b"retry-after:" in head.lower()
        assert json.loads(body)["type"] == "urn:edgewise:too-many-connections"
        for connection in held:
            connection.close()
        until(lambda: not server.connections)
        assert server.predict("a")[0] == 200


SCRIPT = """
import time
from infer.serve.life import serve
from tests.serving import LetterEngine, letter_deployment, serve_config

class SlowWhereAsked(LetterEngine):
    # the batches that a deployment is warmed with hold no question mark
    def run_batch(self, k, inputs, batch):
        time.sleep(0.3 if ord("?") in inputs.flat else 0.0)
        return super().run_batch(k, inputs, batch)

serve(serve_config(), lambda config: letter_deployment(SlowWhereAsked()))
"""


def test_signals_renew_and_end_a_process():
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=REPO, stderr=subprocess.PIPE, text=True, env=environment
    )
    lines = iter(process.stderr.readline, "")
    try:
        listening = next(line for line in lines if "listening at" in line)
        port = int(listening.rsplit(":", 1)[1])
        next(line for line in lines if "ready: switcher-letters-small-base:v3" in line)
        process.send_signal(signal.SIGHUP)
        next(line for line in lines if "is what answers already" in line)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            body = b'{"inputs": [{"text": "a?"}]}'
            head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200") and b"SAY: A? 1" in answer
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
