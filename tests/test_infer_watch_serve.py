"""The server and the watch: what is counted, what an alarm does, what a restart keeps; by an engine without a model."""

import dataclasses
import json
import logging
import re
import signal
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from conf.schema import Serve
from infer.serve.deployment import Deployment, state_directory
from infer.serve.ticket import Ticket, Waiting
from infer.serve.watching import Watching
from infer.switcher.find import FoundSwitcher
from infer.watch.watch import Watch
from tests.serving import LetterEngine, letter_policy, serve_config, served
from tests.support import REPO

KEPT, PASSED = -1.0, -0.25  # the engine's scores of texts without a question mark and with one


def policy_of(stages=2, disagree=0):
    """A policy that was chosen on examples of which a fifth have a question mark."""
    policy = letter_policy(stages)
    return dataclasses.replace(
        policy,
        calibration=[[KEPT] * 400 + [PASSED] * 100] * (stages - 1),
        expected={
            "examples": 500,
            "deferred": {"value": 0.2},
            "disagreement": {
                "value": disagree / 400,
                "examples": 400,
                "differing": disagree,
                "certify": {"examples": 400, "differing": disagree},
            },
        },
    )


def watched_deployment(policy, config):
    """A deployment of the engine without a model, watched as the config says."""
    found = FoundSwitcher("switcher-letters-small-base:v3", "d" * 32, policy, [], None)
    return Deployment(found, LetterEngine(policy), 0.5, Watching(policy, config.serve, state_directory(config)))


@pytest.fixture
def load(tmp_path):
    """A function: keys of serve -> what loads a watched deployment, and its config; the state is in tmp_path."""

    def make(policy=None, **keys):
        config = serve_config(state=str(tmp_path / "state"), **{"shadow": 0.0, **keys})
        return lambda config: watched_deployment(policy or policy_of(), config), config

    return make


def texts(rng, n, share):
    """n texts of many lengths, of which a share has a question mark; longer ones more often, as in life."""
    lengths = rng.integers(1, 40, n)
    asked = rng.random(n) < share * lengths / lengths.mean()
    return ["x" * length + "?" * passes for length, passes in zip(lengths.tolist(), asked.tolist(), strict=True)]


def ask(server, rng, n, share):
    """Asks for n answers, 50 a request; returns the last answer."""
    answer = None
    for _ in range(n // 50):
        status, _, answer = server.predict(*texts(rng, 50, share))
        assert status == 200
    return answer


def watched(server):
    """What the metrics say of the watch, by name."""
    _, _, text = server.ask("GET", "/metrics")
    found = dict(re.findall(r'^edgewise_watch\{what="(\w+)"\} (\S+)', text.decode(), re.M))
    found |= re.findall(r"^edgewise_(certified) (\S+)", text.decode(), re.M)
    return {name: float(value) for name, value in found.items()}


def test_unchanged_texts_are_certified_and_changed_ones_raise_an_alarm(load, caplog):
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING, "edgewise.serve"), served(*load()) as server:
        assert ask(server, rng, 1500, 0.2)["certified"] is True
        seen = watched(server)
        assert (seen["inputs"], seen["alarm"], seen["certified"]) == (1500, 0, 1)
        assert seen["deferred_share"] == pytest.approx(0.2, abs=0.04) and not caplog.records
        changed = ask(server, rng, 1000, 0.5)
        assert changed["certified"] is False and {one["model"] for one in changed["outputs"]} == {"small-s0", "base-s0"}
        seen = watched(server)
        assert (seen["alarm_deferral"], seen["alarm"], seen["certified"]) == (1, 1, 0)
        assert any("alarm, deferral: after " in record.getMessage() for record in caplog.records)
        assert not any("xx" in record.getMessage() for record in caplog.records)
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}
        status, _, answer = server.ask("POST", "/v2/models/switcher-letters-small-base/infer", {"inputs": [tensor]})
        assert status == 200 and answer["parameters"]["certified"] is False


def test_a_restart_keeps_the_alarm_and_a_new_switcher_begins_anew(load):
    rng = np.random.default_rng(1)
    with served(*load()) as server:
        ask(server, rng, 800, 0.6)
        before = watched(server)
    with served(*load()) as server:
        after = watched(server)
        assert server.predict("x")[2]["certified"] is False
        np.testing.assert_equal({name: after[name] for name in before}, before)
    with served(*load(dataclasses.replace(policy_of(), inputs={"scores": "others"}))) as server:
        assert server.predict("x")[2]["certified"] is True


def test_a_state_that_can_t_be_kept_is_logged_once(load, tmp_path, caplog):
    (tmp_path / "state").write_text("no folder")
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING, "edgewise.serve"), served(*load()) as server:
        ask(server, rng, 100, 0.2)
        server.life.service.deployment.watching.watch.save()  # again, whatever the clock says
        ask(server, rng, 100, 0.2)
        assert watched(server)["state_saved"] == 0
    said = [record.getMessage() for record in caplog.records if "can't be kept" in record.getMessage()]
    assert len(said) == 1 and "(serve.state): " in said[0] and "a restart would begin anew" in said[0]


def test_after_an_alarm_the_largest_model_may_answer_alone(load):
    rng = np.random.default_rng(2)
    with served(*load(on_alarm="larger")) as server:
        assert {one["model"] for one in server.predict("x", "y?")[2]["outputs"]} == {"small-s0", "base-s0"}
        ask(server, rng, 800, 0.6)
        answer = server.predict("x", "y?")[2]
        assert [one["model"] for one in answer["outputs"]] == ["base-s0", "base-s0"]
        assert [one["prediction"] for one in answer["outputs"]] == ["SAY: X 1", "SAY: Y? 1"]
        assert [one["score"] for one in answer["outputs"]] == [None, None] and answer["certified"] is False
        seen = watched(server)["inputs"]
        server.predict("x")
        assert watched(server)["inputs"] == seen  # the first stage isn't asked, so there is nothing to watch


@pytest.mark.parametrize("stages", [2, 3])
def test_a_share_of_what_is_kept_is_compared(load, stages):
    """The engine's stages never agree: what was chosen on agreement raises an alarm, and answers stay as they are."""
    rng = np.random.default_rng(3)
    with served(*load(policy_of(stages), shadow=0.3)) as server:
        answer = ask(server, rng, 500, 0.2)
        assert {one["model"] for one in answer["outputs"]} <= {"small-s0", "base-s0", "large-s0"}
        while server.life.service.deployment.queue.waiting_shadows:
            time.sleep(0.01)
        seen = watched(server)
        assert 70 < seen["compared"] < 170 and seen["disagreement"] == 1
        assert seen["alarm_disagreement"] == 1 and seen["alarm_deferral"] == 0
    with served(*load(policy_of(stages, disagree=400), shadow=0.3)) as server:
        ask(server, rng, 500, 0.2)
        assert watched(server)["alarm"] == 0


def test_the_watch_is_told_in_the_order_in_which_inputs_came(load):
    """However batches of like lengths went: the state is that of a watch that was told of each request in turn."""
    rng = np.random.default_rng(4)
    direct = Watch(policy_of(), Serve(), None)
    with served(*load()) as server:
        for _ in range(10):
            some = texts(rng, 60, 0.2)
            assert server.predict(*some)[0] == 200
            passes = np.array(["?" in text for text in some])
            direct.answered(np.where(passes, PASSED, KEPT), passes)
        lengths = {batch[2] for batch in server.life.service.deployment.engine.batches}
        assert len(lengths) > 3
        served_state, own = server.life.service.deployment.watching.watch.state(), direct.state()
        for name in ("deferral", "scores"):
            products, others = (state["martingales"].pop(name) for state in (served_state, own))
            np.testing.assert_allclose(products["active"], others["active"], rtol=1e-9)  # multiplied in another order
        assert served_state == own


def test_what_is_not_answered_holds_up_nothing():
    watching = Watching(policy_of(), Serve(), None)
    ticket = Ticket(None, ["x"] * 200, 0.0, None)
    items = [Waiting(ticket, place, 0, np.zeros(1, np.int32)) for place in range(200)]
    watching.arrive(items)
    watching.answered(items[100:], np.full(100, KEPT), [False] * 100)
    assert watching.watch.gauges()["inputs"] == 0
    watching.left_out(items[:100])
    watching.answered([], np.empty(0), [])
    assert watching.watch.gauges()["inputs"] == 100
    shadow = Waiting(ticket, 0, 1, np.zeros(1, np.int32), "x")
    watching.left_out([shadow])  # it has no turn
    assert not watching.drawn(5, 2000).any()


def test_inputs_that_fail_on_the_device_are_left_out(load):
    with served(*load()) as server:
        answer = server.predict("x", "broken!", "y")[2]
        assert [("error" in one) for one in answer["outputs"]] == [False, True, False]
        server.predict(*["x"] * 60)
        assert watched(server)["inputs"] == 62


def test_the_state_is_kept_for_a_port(tmp_path):
    config = serve_config()
    config.tracking.root = str(tmp_path)
    assert state_directory(config) is None
    config.serve.port = 8000
    assert state_directory(config) == tmp_path / "watch" / "8000"
    config.serve.state = str(tmp_path / "mine")
    assert state_directory(config) == tmp_path / "mine"


SCRIPT = """
import sys
from infer.serve.life import serve
from tests.serving import serve_config
from tests.test_infer_watch_serve import policy_of, watched_deployment
serve(serve_config(state=sys.argv[1], shadow=0.0), lambda config: watched_deployment(policy_of(), config))
"""


def test_a_process_that_ends_and_is_started_again_keeps_the_alarm(tmp_path):
    certified = []
    for some in ([["a?"] * 50] * 4, [["a"]]):
        arguments = [sys.executable, "-c", SCRIPT, str(tmp_path / "state")]
        process = subprocess.Popen(arguments, cwd=REPO, stderr=subprocess.PIPE, text=True)
        try:
            port = int(next(line for line in process.stderr if "listening at" in line).rsplit(":", 1)[1])
            next(line for line in process.stderr if "ready: switcher-letters-small-base:v3" in line)
            for texts in some:
                body = json.dumps({"inputs": [{"text": text} for text in texts]}).encode()
                headers = {"content-type": "application/json"}
                request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/predict", body, headers)
                with urllib.request.urlopen(request, timeout=30) as answer:
                    certified.append(json.load(answer)["certified"])
            process.send_signal(signal.SIGTERM)
            logged = process.stderr.read()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
        if len(certified) == 4:
            assert "alarm, deferral: after " in logged and certified[-1] is False
    assert certified[-1] is False and len(certified) == 5
