"""The server's answers, over HTTP on a real port, by an engine without a model."""

import contextlib
import math

import pytest

from conf.errors import EdgewiseError
from infer.serve.life import bound_socket
from infer.serve.openapi import with_fields
from tests.serving import THRESHOLD, LetterEngine, letter_deployment, served


@pytest.fixture(scope="module")
def server():
    engine = LetterEngine()
    with served(lambda config: letter_deployment(engine)) as found:
        yield found


def test_inputs_are_answered_in_order(server):
    body = {"inputs": [{"id": "a", "text": "one"}, {"id": 7, "text": "two?"}, {"text": ""}]}
    status, headers, answer = server.ask("POST", "/v1/predict", body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert answer["switcher"] == "switcher-letters-small-base:v3" and answer["digest"] == "d" * 32
    assert answer["certified"] is True and answer["degraded"] is False
    first, second, third = answer["outputs"]
    assert first == {
        "id": "a",
        "prediction": "SAY: ONE 0",
        "model": "small-s0",
        "score": pytest.approx(math.exp(-1)),
        "threshold": pytest.approx(math.exp(THRESHOLD)),
        "deferred": False,
    }
    assert (second["id"], second["prediction"], second["model"]) == (7, "SAY: TWO? 1", "base-s0")
    assert second["deferred"] is True and second["score"] == pytest.approx(math.exp(-0.25))
    assert (third["id"], third["prediction"]) == (2, "SAY:  0")


def test_whole_numbers_may_have_a_point_and_no_deadline_may_be_null(server):
    body = {"inputs": [{"id": 3.0, "text": "a"}], "deadline_ms": 5000.0}
    assert server.ask("POST", "/v1/predict", body)[2]["outputs"][0]["id"] == 3
    assert server.ask("POST", "/v1/predict", {**body, "deadline_ms": None})[0] == 200
    assert server.ask("POST", "/v1/predict", {**body, "deadline_ms": 0.5})[0] == 422


def test_a_bad_input_leaves_its_neighbours_alone(server):
    status, _, answer = server.ask("POST", "/v1/predict", {"inputs": [{"text": "a"}, {"txt": "b"}, 3, {"text": "c"}]})
    assert status == 200
    assert [output.get("prediction") for output in answer["outputs"]] == ["SAY: A 0", None, None, "SAY: C 0"]
    assert "unknown field 'txt'" in answer["outputs"][1]["error"]["detail"]
    assert "a number; expected an object" in answer["outputs"][2]["error"]["detail"]


def test_outputs_of_a_request_have_different_ids(server):
    inputs = [{"text": "a"}, {"id": 0, "text": "b"}, {"id": 3, "text": "c"}, {"text": "d"}, {"id": "3", "text": "e"}]
    _, _, answer = server.ask("POST", "/v1/predict", {"inputs": inputs})
    answered = [output["id"] for output in answer["outputs"] if "prediction" in output]
    assert answered == [0, 3, "3"]
    assert "another input of this request has it" in answer["outputs"][1]["error"]["detail"]
    assert "another input of this request has its place, 3" in answer["outputs"][3]["error"]["detail"]


def test_health_and_metadata(server):
    assert server.ask("GET", "/v2/health/live")[0] == 200
    assert server.ask("GET", "/v2/health/ready")[2] == {"ready": True, "switcher": "switcher-letters-small-base:v3"}
    assert server.ask("GET", "/v2")[2]["extensions"] == ["binary_tensor_data"]
    name = "switcher-letters-small-base"
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{'d' * 12}"):
        model = server.ask("GET", path)[2]
        assert model["name"] == name and model["versions"] == ["d" * 12]
        assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert server.ask("GET", f"{path}/ready")[0] == 200
    assert server.ask("GET", "/v2/models/other")[0] == 404
    assert server.ask("GET", f"/v2/models/{name}/versions/9")[2]["type"] == "urn:edgewise:no-such-version"


def test_counts_are_there_for_prometheus(server):
    server.predict("a", "b?")
    status, headers, text = server.ask("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=")
    lines = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if line[0] != "#")
    assert float(lines['edgewise_inputs_total{model="base-s0"}']) == float(lines["edgewise_deferred_inputs_total"]) >= 1
    assert lines["edgewise_ready"] == "1.0" and lines["edgewise_certified"] == "1.0"
    assert f'edgewise_switcher_info{{digest="{"d" * 32}",switcher="switcher-letters-small-base:v3"}}' in lines
    assert not any("_created" in line for line in lines)


def test_a_media_type_may_have_further_parameters(server):
    for kind in ("application/json; charset=utf-8; version=1", 'application/json;version=1;charset="UTF-8"'):
        body = b'{"inputs": [{"text": "a"}]}'
        assert server.ask("POST", "/v1/predict", body, {"content-type": kind})[0] == 200


@pytest.mark.parametrize("host", ["h" * 80, "a..b"])
def test_a_host_that_is_no_name_is_refused_in_a_line(host):
    with pytest.raises(EdgewiseError, match=r"serve\.host=.*: not a host's name"):
        bound_socket(host, 0)


def test_a_port_that_is_taken_is_refused_in_a_line_from_the_first_moment():
    with contextlib.closing(bound_socket("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(EdgewiseError, match=f"serve.port={port}: Address already in use; give another port"):
            bound_socket("127.0.0.1", port)


def counts(server):
    """The counts of inputs: by Prometheus's names, and by the page's."""
    text = server.ask("GET", "/metrics")[2].decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    return lines, server.ask("GET", "/v1/status")[2]["counts"]


def test_an_input_at_which_the_device_failed_is_not_counted_as_answered():
    with served(lambda config: letter_deployment(LetterEngine())) as server:
        server.predict("a", "fails!", "b?")
        server.predict("fails!")
        lines, page = counts(server)
    assert lines['edgewise_inputs_total{model="small-s0"}'] == lines['edgewise_inputs_total{model="base-s0"}'] == "1.0"
    assert page["answered"] == {"small-s0": 1, "base-s0": 1} and page["inputs"] == 2


def test_inputs_that_can_t_be_answered_are_counted_where_none_can_too():
    path = "/v2/models/switcher-letters-small-base/infer"
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": [1, 2]}
    with served(lambda config: letter_deployment(LetterEngine())) as server:
        assert server.ask("POST", "/v1/predict", {"inputs": [{"text": "a"}, 1]})[0] == 200
        assert server.ask("POST", "/v1/predict", {"inputs": [1, 2, 3]})[0] == 422
        assert server.ask("POST", path, {"inputs": [tensor]})[0] == 422
        assert server.ask("POST", "/v1/predict", {"inputs": []})[0] == 422
        lines, page = counts(server)
    assert lines["edgewise_bad_inputs_total"] == "6.0" and page["bad"] == 6


def test_the_description_has_every_path(server):
    described = server.ask("GET", "/openapi.json")[2]
    assert {"/v1/predict", "/v2/models/{name}/infer", "/v2/health/ready", "/metrics"} <= set(described["paths"])
    answers = described["paths"]["/v1/predict"]["post"]["responses"]
    assert {"200", "413", "415", "422", "429", "503", "504"} <= set(answers)
    assert "application/problem+json" in answers["429"]["content"]
    body = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    inputs = body["properties"]["inputs"]["items"]
    assert inputs["required"] == ["text"] and set(inputs["properties"]) == {"id", "text"}
    assert inputs["additionalProperties"] is False
    for path in ("/v2", "/metrics"):
        assert "401" in described["paths"][path]["get"]["responses"]


def test_the_description_has_the_fields_of_the_template(server):
    described = server.ask("GET", "/openapi.json")[2]

    def inputs(*fields):
        body = with_fields(described, fields)["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
        return body["application/json"]["schema"]["properties"]["inputs"]["items"]

    assert inputs("question", "context")["required"] == ["question", "context"]
    assert [way["required"] for way in inputs("review")["anyOf"]] == [["review"], ["text"]]
