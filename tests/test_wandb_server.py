"""The loopback server is strict: what it does not know is an error, and is remembered."""

import base64
import json
import urllib.error
import urllib.request

import pytest

from tests.wandb_server import ENTITY, WandbServer
from tests.wandb_server.http import API_KEY


@pytest.fixture
def server():
    with WandbServer() as server:
        yield server


def post(server, path: str, body, key: str = API_KEY):
    token = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Authorization": f"Basic {token}"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_what_it_knows_is_answered(server):
    query = "query Viewer { viewer { id teams { edges { node { name } } } } }"
    status, answer = post(server, "/graphql", {"query": query})
    assert status == 200 and answer["data"]["viewer"]["teams"]["edges"] == [{"node": {"name": ENTITY}}]
    assert server.problems == [] and server.requests == ["Viewer"]


@pytest.mark.parametrize(
    ("query", "variables", "problem"),
    [
        ("query Unheard { viewer { id } }", {}, "unknown operation"),
        ("query Viewer { viewer { id shoeSize } }", {}, 'Cannot query field "shoeSize" on type "User"'),
        ("query Viewer { viewer }", {}, "must have a selection"),
        ("query Viewer { viewer { id { deeper } } }", {}, "is a scalar"),
        ("query Viewer { viewer { ...Lost } }", {}, "unknown fragment Lost"),
        ("query Viewer { viewer { id } }", {"extra": 1}, "variables extra are not declared"),
        ("query Viewer($x: ID!) { viewer { id } }", {}, "variable x is required"),
        ("query Viewer { viewer(shoe: 1) { id } }", {}, "unexpected keyword argument 'shoe'"),
        ("query Viewer { viewer @cached { id } }", {}, "unknown directive @cached"),
        ("mutation CommitArtifact { commitArtifact(input: {artifactID: 1, mood: 2}) { artifact { id } } }", {}, "mood"),
        ("mutation CommitArtifact { commitArtifact(input: {artifactID: 1}) { artifact { id } } }", {}, "no artifact 1"),
        ("query Viewer { viewer { id ", {}, "expected"),
        ("so what?", {}, "not GraphQL"),
    ],
)
def test_what_it_does_not_know_is_an_error(server, query, variables, problem):
    status, answer = post(server, "/graphql", {"query": query, "variables": variables, "operationName": "x"})
    assert answer["data"] is None and problem in answer["errors"][0]["message"]
    assert status in (200, 400) and len(server.problems) == 1


def test_addresses_streams_and_keys_it_does_not_know(server):
    assert post(server, "/nowhere", {})[0] == 404
    assert post(server, f"/files/{ENTITY}/p/lost/file_stream", {})[0] == 404
    assert post(server, "/graphql", {"query": "query Viewer { viewer { id } }"}, key="wrong")[0] == 401
    assert len(server.problems) == 3


def test_it_fails_when_told_to_and_keeps_its_state(server):
    query = {"query": "query Viewer { viewer { id } }"}
    server.fail("Viewer", status=503, times=1)
    assert post(server, "/graphql", query)[0] == 503
    assert post(server, "/graphql", query)[0] == 200
    server.state.project(ENTITY, "kept")
    server.die()
    with pytest.raises((ConnectionError, urllib.error.URLError)):  # accepted and then broken, or refused at once
        post(server, "/graphql", query)
    server.revive()
    assert post(server, "/graphql", query)[0] == 200 and "kept" in server.state.projects
    assert server.problems == []
