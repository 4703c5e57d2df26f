"""The Open Inference Protocol: JSON and binary tensors, over HTTP, by an engine without a model."""

import json
import math
import struct

import pytest

from tests.serving import THRESHOLD, letter_deployment, served

PATH = "/v2/models/switcher-letters-small-base/infer"


@pytest.fixture(scope="module")
def server():
    with served(lambda config: letter_deployment()) as found:
        yield found


def tensor(**more):
    return {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["one", "two?"], **more}


def by_name(answer):
    return {output["name"]: output for output in answer["outputs"]}


def test_texts_in_json(server):
    status, headers, answer = server.ask("POST", PATH, {"id": "7", "inputs": [tensor()]})
    assert status == 200 and headers["content-type"] == "application/json"
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (PATH.split("/")[3], "d" * 12, "7")
    assert answer["parameters"] == {"certified": True, "degraded": False}
    outputs = by_name(answer)
    assert outputs["prediction"] == {
        "name": "prediction",
        "datatype": "BYTES",
        "shape": [2],
        "data": ["SAY: ONE 0", "SAY: TWO? 1"],
    }
    assert outputs["deferred"]["data"] == [False, True] and outputs["model"]["data"] == ["small-s0", "base-s0"]
    assert outputs["score"]["data"] == pytest.approx([math.exp(-1), math.exp(-0.25)])
    assert outputs["threshold"]["data"] == pytest.approx([math.exp(THRESHOLD)] * 2)
    assert outputs["error"]["data"] == ["", ""]


def test_json_needs_no_media_type_and_has_no_other(server):
    assert server.ask("POST", PATH, {"inputs": [tensor()]}, {})[0] == 200
    assert server.ask("POST", PATH, {"inputs": [tensor()]}, {"content-type": "text/plain"})[0] == 415


def test_only_the_outputs_that_are_wanted(server):
    body = {"inputs": [tensor(shape=[2, 1])], "outputs": [{"name": "deferred"}]}
    assert by_name(server.ask("POST", f"{PATH}", body)[2]).keys() == {"deferred"}


def packed(*texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def ask_in_binary(server, request, data):
    head = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, headers, body = server.ask("POST", PATH, head + data, headers)
    if status != 200:
        return status, body, {}
    length = int(headers["inference-header-content-length"])
    answer, rest = json.loads(body[:length]), body[length:]
    values = {}
    for output in answer["outputs"]:
        size = output["parameters"]["binary_data_size"]
        values[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return status, answer, values


def binary_tensor(data, n=2):
    return {"name": "text", "datatype": "BYTES", "shape": [n], "parameters": {"binary_data_size": len(data)}}


def test_texts_and_answers_in_binary(server):
    data = packed(b"one", "ü?".encode())
    request = {"inputs": [binary_tensor(data)], "parameters": {"binary_data_output": True}}
    status, answer, values = ask_in_binary(server, request, data)
    assert status == 200 and by_name(answer)["score"]["datatype"] == "FP64"
    assert values["prediction"] == packed(b"SAY: ONE 0", "SAY: Ü? 1".encode())
    assert values["deferred"] == b"\0\1"
    assert struct.unpack("<2d", values["score"]) == pytest.approx((math.exp(-1), math.exp(-0.25)))


def test_a_bad_element_leaves_its_neighbours_alone(server):
    data = packed(b"one", b"\xff\xfe", b"")
    request = {"inputs": [binary_tensor(data, 3)], "parameters": {"binary_data_output": True}}
    status, _, values = ask_in_binary(server, request, data)
    assert status == 200 and values["prediction"] == packed(b"SAY: ONE 0", b"", b"SAY:  0")
    assert values["error"] == packed(b"", b"text: not UTF-8", b"")
    outputs = by_name(server.ask("POST", PATH, {"inputs": [tensor(data=["one", 5])]})[2])
    assert outputs["error"]["data"] == ["", "text: a number; expected text"]


ONE = packed(b"one")
BAD = {
    "a length in the midst": (binary_tensor(ONE[:2], 1), ONE[:2]),
    "an element in the midst": (binary_tensor(ONE[:-1], 1), ONE[:-1]),
    "more than there is": (binary_tensor(ONE + ONE, 1), ONE),
    "fewer than the shape says": (binary_tensor(ONE, 2), ONE),
    "bytes that follow": (binary_tensor(ONE, 1), ONE + b"x"),
    "both data and binary": ({**binary_tensor(ONE, 1), "data": ["one"]}, ONE),
    "a size that is none": ({**binary_tensor(ONE, 1), "parameters": {"binary_data_size": "3"}}, ONE),
}


@pytest.mark.parametrize("kind", BAD)
def test_binary_data_that_is_not_what_it_says(server, kind):
    one, data = BAD[kind]
    status, answer, _ = ask_in_binary(server, {"inputs": [one]}, data)
    assert status == 422 and answer["type"] == "urn:edgewise:wrong-body" and answer["error"] == answer["detail"]


@pytest.mark.parametrize("length", ["-1", "x", "999999", "9" * 30])
def test_a_length_of_the_json_that_can_t_be(server, length):
    head = json.dumps({"inputs": [tensor()]}).encode()
    status, _, answer = server.ask("POST", PATH, head, {"Inference-Header-Content-Length": length})
    assert status == 400 and answer["type"] == "urn:edgewise:bad-header-length"


WRONG = {
    "no inputs": {},
    "inputs that are no list": {"inputs": 5},
    "a tensor that is none": {"inputs": [5]},
    "another name": {"inputs": [tensor(name="question")]},
    "twice the same": {"inputs": [tensor(), tensor()]},
    "another datatype": {"inputs": [tensor(datatype="FP32")]},
    "no shape": {"inputs": [tensor(shape=None)]},
    "a shape of nothing": {"inputs": [tensor(shape=[])]},
    "a shape of text": {"inputs": [tensor(shape=["2"])]},
    "a negative shape": {"inputs": [tensor(shape=[-1])]},
    "too many axes": {"inputs": [tensor(shape=[2, 2])]},
    "no data": {"inputs": [tensor(data=None)]},
    "an empty shape": {"inputs": [tensor(shape=[0], data=[])]},
    "another length": {"inputs": [tensor(data=["one"])]},
    "no text at all": {"inputs": [tensor(data=[1, None])]},
    "an output that is none": {"inputs": [tensor()], "outputs": [{"name": "logits"}]},
    "outputs that are no list": {"inputs": [tensor()], "outputs": "prediction"},
    "parameters that are none": {"inputs": [tensor()], "parameters": []},
    "a timeout that is none": {"inputs": [tensor()], "parameters": {"timeout": "soon"}},
    "an id that is no text": {"inputs": [tensor()], "id": 5},
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_request_that_the_protocol_does_not_allow(server, kind):
    status, headers, answer = server.ask("POST", PATH, WRONG[kind])
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert answer["type"] == "urn:edgewise:wrong-body" and answer["detail"]


def test_too_many_texts(server):
    status, _, answer = server.ask("POST", PATH, {"inputs": [tensor(shape=[1025], data=["x"] * 1025)]})
    assert status == 413 and "at most 1,024" in answer["detail"]
