"""What is no request that can be answered, over HTTP in one process: problem+json each time, and never a 500."""

import contextlib
import gzip
import json
import socket
import time

import pytest

from tests.serving import letter_deployment, serve_config, served

TOKEN = "a-token-of-thirty-two-characters"
GOOD = json.dumps({"inputs": [{"id": "1", "text": "good"}]}).encode()
KIND = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN + "\n")
    config = serve_config(token_file=str(file), most_bytes=100_000, most_inputs=50, receive_ms=1500)
    with served(lambda config: letter_deployment(), config) as found:
        yield found


@pytest.fixture(autouse=True)
def still_answers(server):
    yield
    status, _, answer = ask(server)
    assert status == 200 and answer["outputs"][0]["prediction"] == "SAY: GOOD 0"
    counts = server.life.measures.text().decode()
    assert 'status="500"' not in counts


def ask(server, body=GOOD, headers=KIND, path="/v1/predict", method="POST", token=f"Bearer {TOKEN}"):
    return server.ask(method, path, body, {**headers, **({"authorization": token} if token else {})})


def inputs(*values, **members):
    return json.dumps({"inputs": list(values), **members}).encode()


BODIES = {  # kind -> body, status, the end of the problem's type
    "nothing": (b"", 400, "not-json"),
    "no JSON": (b"text=good", 400, "not-json"),
    "half of it": (GOOD[:-3], 400, "not-json"),
    "more after it": (GOOD + b"x", 400, "not-json"),
    "depth 10,000": (b"[" * 10_000 + b"]" * 10_000, 400, "not-json"),
    "depth 10,000 of objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "not-json"),
    "NaN": (b'{"inputs": [{"text": NaN}]}', 400, "not-json"),
    "infinity": (b'{"inputs": [{"text": -Infinity}]}', 400, "not-json"),
    "a number of 5,000 digits": (b'{"inputs": ' + b"9" * 5000 + b"}", 400, "not-json"),
    "a control character": (b'{"inputs": [{"text": "a\x00b"}]}', 400, "not-json"),
    "Latin-1": ('{"inputs": [{"text": "é"}]}'.encode("latin-1"), 400, "not-json"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, "not-json"),
    "a byte-order mark": (b"\xef\xbb\xbf" + GOOD, 400, "not-json"),
    "null": (b"null", 400, "not-json"),
    "a list": (b'[{"text": "good"}]', 400, "not-json"),
    "text": (b'"good"', 400, "not-json"),
    "no inputs": (b"{}", 422, "wrong-body"),
    "inputs that are null": (b'{"inputs": null}', 422, "wrong-body"),
    "inputs that are an object": (b'{"inputs": {"text": "good"}}', 422, "wrong-body"),
    "no input": (inputs(), 422, "wrong-body"),
    "an unknown member": (inputs({"text": "good"}, model="large"), 422, "wrong-body"),
    "a deadline that is none": (inputs({"text": "good"}, deadline_ms="soon"), 422, "wrong-body"),
    "a deadline in the past": (inputs({"text": "good"}, deadline_ms=-5), 422, "wrong-body"),
    "too many inputs": (inputs(*[{"text": "good"}] * 51), 413, "too-large"),
    "a body that is too long": (inputs({"text": "x" * 100_000}), 413, "too-large"),
    "an input without a text": (inputs({"id": "1"}), 422, "wrong-body"),
    "an input that is a text": (inputs("good"), 422, "wrong-body"),
    "a text that is a number": (inputs({"text": 5}), 422, "wrong-body"),
    "a text that is a list": (inputs({"text": ["good"]}), 422, "wrong-body"),
    "a text that is null": (inputs({"text": None}), 422, "wrong-body"),
    "half of a character": (b'{"inputs": [{"text": "\\ud800"}]}', 422, "wrong-body"),
    "an unknown field": (inputs({"text": "good", "label": "1"}), 422, "wrong-body"),
    "an unknown field that is half of a character": (b'{"inputs": [{"\\ud800": "x"}]}', 422, "wrong-body"),
    "an id that is a list": (inputs({"id": [1], "text": "good"}), 422, "wrong-body"),
    "an id that is true": (inputs({"id": True, "text": "good"}), 422, "wrong-body"),
    "an id that is too long": (inputs({"id": "x" * 300, "text": "good"}), 422, "wrong-body"),
    "an id that is half of a character": (b'{"inputs": [{"id": "\\udfff", "text": "x"}]}', 422, "wrong-body"),
    "an id that other readers round": (inputs({"id": 2**60, "text": "good"}), 422, "wrong-body"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_bad_body_is_a_problem(server, kind):
    body, expected, name = BODIES[kind]
    status, headers, answer = ask(server, body)
    assert (status, headers["content-type"]) == (expected, "application/problem+json")
    assert answer["type"] == f"urn:edgewise:{name}" and answer["status"] == expected
    assert answer["title"] and answer["detail"] and "good" not in answer["detail"].partition("expected")[0]


REQUESTS = {  # kind -> what differs from a good request, status, the end of the problem's type
    "no token": ({"token": None}, 401, "unauthorized"),
    "a wrong token": ({"token": f"Bearer {TOKEN[:-1]}x"}, 401, "unauthorized"),
    "a token's beginning": ({"token": f"Bearer {TOKEN[:-1]}"}, 401, "unauthorized"),
    "another scheme": ({"token": f"Basic {TOKEN}"}, 401, "unauthorized"),
    "no media type": ({"headers": {}}, 415, "unsupported-media-type"),
    "a form": ({"headers": {"content-type": "application/x-www-form-urlencoded"}}, 415, "unsupported-media-type"),
    "text": ({"headers": {"content-type": "text/plain"}}, 415, "unsupported-media-type"),
    "another charset behind another parameter": (
        {"headers": {"content-type": "application/json; version=1; charset=utf-16"}},
        415,
        "unsupported-media-type",
    ),
    "another charset": (
        {"headers": {"content-type": "application/json; charset=utf-16"}},
        415,
        "unsupported-media-type",
    ),
    "gzip": (
        {"body": gzip.compress(GOOD), "headers": {**KIND, "content-encoding": "gzip"}},
        415,
        "unsupported-media-type",
    ),
    "another path": ({"path": "/v1/predictions"}, 404, "no-such-path"),
    "a path with dots": ({"path": "/../../etc/passwd"}, 404, "no-such-path"),
    "another model": ({"path": "/v2/models/gpt/infer"}, 404, "no-such-model"),
    "another version": ({"path": "/v2/models/switcher-letters-small-base/versions/9/infer"}, 404, "no-such-version"),
    "another method": ({"method": "GET", "body": None}, 405, "wrong-method"),
    "a method of its own": ({"method": "PURGE", "body": None}, 405, "wrong-method"),
    "a deletion": ({"method": "DELETE", "path": "/metrics", "body": None}, 405, "wrong-method"),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_bad_request_is_a_problem(server, kind):
    changes, expected, name = REQUESTS[kind]
    status, headers, answer = ask(server, **changes)
    assert (status, headers["content-type"]) == (expected, "application/problem+json")
    assert answer["type"] == f"urn:edgewise:{name}" and answer["detail"]


NEIGHBOURS = {  # what stands between two good inputs, and what is said of it
    "null": (None, "null; expected an object"),
    "a missing text": ({"id": "m"}, "text: missing"),
    "a number": ({"text": 1.5}, "text: a number; expected text"),
    "half of a character": ({"text": "\ud800"}, "not valid Unicode"),
    "a field too many": ({"text": "b", "txet": "b"}, "unknown field 'txet'"),
    "an id that is there already": ({"id": "first", "text": "b"}, "another input of this request has it"),
    "an id that is no id": ({"id": {}, "text": "b"}, "id: an object"),
}


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_a_bad_input_has_an_error_and_its_neighbours_answers(server, kind):
    bad, said = NEIGHBOURS[kind]
    status, _, answer = ask(server, inputs({"id": "first", "text": "a"}, bad, {"id": "last", "text": "c"}))
    first, error, last = answer["outputs"]
    assert status == 200 and (first["id"], first["prediction"]) == ("first", "SAY: A 0")
    assert (last["id"], last["prediction"]) == ("last", "SAY: C 0")
    assert said in error["error"]["detail"] and "prediction" not in error


ODD = {  # what can be answered all the same
    "an empty text": ("", "SAY:  0"),
    "NUL": ("a\0b", "SAY: A\0B 0"),
    "longer than a batch": ("x" * 5000, "SAY: " + "X" * 42 + " 0"),
    "right to left, and beyond the first plane": ("\u202e🙂", "SAY: \u202e🙂 0"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_text_is_answered(server, kind):
    text, expected = ODD[kind]
    status, _, answer = ask(server, inputs({"text": text}))
    assert status == 200 and answer["outputs"][0]["prediction"] == expected


LINE = (
    b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + TOKEN.encode()
)
RAW = {  # bytes on the wire -> the statuses that may be answered
    "no HTTP": (b"hello\r\n\r\n", {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, {400}),
    "a length that is none": (LINE + b"\r\nContent-Length: ten\r\n\r\n" + GOOD, {400}),
    "a negative length": (LINE + b"\r\nContent-Length: -1\r\n\r\n" + GOOD, {400}),
    "two lengths": (LINE + b"\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + GOOD, {400}),
    "a length and chunks": (
        LINE + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        {400},
    ),
    "a chunk that is none": (LINE + b"\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", {400}),
    "a length beyond all limits": (LINE + b"\r\nContent-Length: 99999999999\r\n\r\n", {413}),
    "headers without end": (LINE + b"\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(20_000)), {431}),
    "a header of a megabyte": (LINE + b"\r\nx: " + b"y" * 1_000_000, {431}),
    "headers that don't end": (LINE + b"\r\n", {408}),
    "a body that doesn't end": (LINE + b"\r\nContent-Length: 100\r\n\r\n{", {408}),
    "nothing at all": (b"", {408}),
}


@pytest.mark.parametrize("kind", RAW)
def test_bytes_that_are_no_request_end_the_connection(server, kind):
    data, statuses = RAW[kind]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        with contextlib.suppress(OSError):  # the answer came before the end
            connection.sendall(data)
        answer = b""
        started = time.monotonic()
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        assert time.monotonic() - started < 5
    if answer:  # a connection that is reset may lose it
        head, _, body = answer.partition(b"\r\n\r\n")
        assert int(head.split()[1]) in statuses and b"application/problem+json" in head
        assert json.loads(body)["status"] in statuses


def test_a_gigabyte_in_chunks_is_refused_early_and_not_held(server):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    part = b"10000\r\n" + b" " * 65536 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(LINE + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 2**30:
                connection.sendall(part)
                sent += 65536
        except OSError:
            pass
        connection.settimeout(5)
        try:
            answer = connection.recv(65536)
        except OSError:
            answer = b""
    assert not answer or answer.split()[1] == b"413"
    assert sent > 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB
