"""What is shown and kept of a server's work: the page, its state, the history, the tracked run."""

import base64
import hashlib
import re
import threading
import time

import pytest

from conf.schema import Config, Dataset, Size, Tracking
from infer.serve.history import INTERVALS, SECONDS, History
from infer.serve.session import Session
from infer.serve.ticket import Ticket
from infer.switcher.find import find_switcher
from tests.serving import LetterEngine, letter_deployment, serve_config, served
from tests.support import colors_without_a_value
from tests.switchers import log_runs, made_switcher
from tracking.store import Store


def test_the_page_asks_nobody_else_and_runs_its_own_script_alone():
    with served(lambda config: letter_deployment()) as server:
        status, headers, body = server.ask("GET", "/")
    html = body.decode()
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    policy = headers["content-security-policy"]
    [script] = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "default-src 'none'" in policy
    assert "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"/\*.*?\*/", "", html, flags=re.S)))
    assert addresses == {"http://www.w3.org"}  # the name of SVG's elements, which nobody is asked for
    assert "innerHTML" not in html and not re.findall(r"\son\w+=", html)
    assert not colors_without_a_value(html)


def test_the_state_has_what_the_page_shows_and_no_text():
    with served(lambda config: letter_deployment()) as server:
        server.predict("secret", "secret?", "b")
        server.ask("POST", "/v1/predict", {"inputs": [{"text": "c"}, {"no": "d"}]})
        state = server.ask("GET", "/v1/status")[2]
        metrics = server.ask("GET", "/metrics")[2].decode()
    assert state["switcher"] == "switcher-letters-small-base:v3" and state["chain"] == "small-s0 -> base-s0"
    assert state["fields"] == ["text"] and state["certified"] is True and state["waiting"] == 0
    counts = state["counts"]
    assert (counts["inputs"], counts["deferred"], counts["bad"], counts["degraded"]) == (4, 1, 1, 0)
    assert counts["answered"] == {"small-s0": 3, "base-s0": 1}
    assert counts["saved"] == pytest.approx(1 - (3 * 1 + 2) / 4)  # each model costs 1 in this policy
    assert sum(state["history"]["inputs"]) == 4 and sum(state["history"]["deferred"]) == 1
    assert "secret" not in str(state) and "secret" not in metrics.lower()


def test_a_page_of_a_server_with_a_token_has_no_data(tmp_path):
    file = tmp_path / "token"
    file.write_text("a-token-of-thirty-two-characters")
    with served(lambda config: letter_deployment(), serve_config(token_file=str(file))) as server:
        assert server.ask("GET", "/")[0] == 200 and server.ask("GET", "/v2/health/ready")[0] == 200
        for path in ("/v1/status", "/metrics", "/openapi.json", "/v2"):
            assert server.ask("GET", path)[0] == 401


@pytest.fixture
def ticket():
    """A function: what the stages were -> a request's answers."""
    deployment = letter_deployment(LetterEngine())

    def make(*stages, **more):
        made = Ticket(deployment, ["x"] * len(stages), 0.0, None, **more)
        made.stages = list(stages)
        return made

    return make


def test_history_is_kept_by_intervals_for_an_hour(ticket):
    now = [1000.0]
    history = History(lambda: now[0])
    for seconds, stages in ((0, (0, 1)), (SECONDS - 0.1, (0,)), (SECONDS, (1, 1)), (SECONDS * 4, (0,))):
        now[0] = 1000.0 + seconds
        history.add(ticket(*stages), 0)
    found = history.intervals()
    assert (found["interval"], found["inputs"], found["deferred"]) == ([0, 1, 4], [3, 2, 1], [1, 2, 0])
    now[0] += SECONDS * INTERVALS
    assert history.intervals()["inputs"] == [] and history.inputs == 6
    for _ in range(INTERVALS + 50):
        now[0] += SECONDS
        history.add(ticket(0), 0)
    assert len(history.intervals()["inputs"]) == INTERVALS


def test_costs_count_the_stages_that_ran(ticket):
    history = History()
    assert history.saved is None
    history.add(ticket(0, 0, 0, 1), 2)
    assert history.saved == pytest.approx(1 - (3 + 2) / 4) and history.bad == 2
    history = History()
    history.add(ticket(1, 1, first=1), 0)  # after an alarm: the largest model alone
    assert history.saved == 0 and history.deferred == 2
    failed = ticket(0, 0, small=True)
    failed.errors[1] = "the device failed"
    history.add(failed, 0)
    assert history.inputs == 3 and history.degraded == 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "runs")
    log_runs(store, folder, examples=300, seeds=1)
    return store


def test_a_session_is_a_run_that_used_the_switcher_and_holds_counts(store, ticket):
    config = Config(dataset=Dataset(name="synthetic"), size=Size(name="none"), tracking=Tracking(root=str(store.root)))
    config.switcher.goal, config.switcher.budget = "budget", 0.5
    artifact, policy = made_switcher(store, config)
    config.switcher.ref = artifact.ref
    config.serve.token_file = "/a/private/path"
    deployment = letter_deployment()
    deployment.artifact, deployment.policy = find_switcher(artifact.ref, config.tracking).artifact, policy
    session, history = Session(config), History()
    session.log(history.counts(), [])  # before anything is used: nothing to log to
    session.use(deployment)
    history.add(ticket(0, 1), 1)
    session.log(history.counts(), [])
    history.add(ticket(0), 0)
    session.finish(history.counts(), [])
    [run] = store.runs(job_type="serve")
    assert run.state == "finished" and run.summary["inputs"] == 3 and run.summary["deferred"] == 1
    assert run.summary["alarms"] == [] and run.config["serve"]["shadow"] == 0.02
    assert "/a/private/path" not in str(run) and "token_file" not in run.config["serve"]
    assert [used.ref for used in store.inputs(run.id)] == [artifact.ref]
    assert [point["inputs"] for point in store.history(run.id)] == [2.0, 3.0]


def test_a_store_that_can_t_be_written_leaves_the_server_alone(store, ticket, caplog, monkeypatch, tmp_path):
    deployment = letter_deployment()
    deployment.artifact = store.artifacts("switcher-*")[0]
    config = serve_config()
    config.tracking.root = str(tmp_path / "file" / "runs")
    (tmp_path / "file").write_text("no folder")
    session = Session(config)
    session.use(deployment)
    session.finish(History().counts(), [])
    assert "the run of this session can't be kept" in caplog.text


def test_a_store_that_keeps_the_session_waiting_keeps_no_request_waiting(monkeypatch):
    waiting, goes_on = threading.Event(), threading.Event()
    done = []

    def wait(self, *given):
        waiting.set()
        assert goes_on.wait(20)
        done.append(given)

    for name in ("use", "log", "finish"):
        monkeypatch.setattr(Session, name, wait)
    with served(lambda config: letter_deployment()) as server:
        assert waiting.wait(20)
        assert server.predict("a")[0] == 200 and not done
        goes_on.set()
    assert done[-1][0]["inputs"] == 1 and done[-1][1] == []


def test_a_server_counts_into_its_run(store):
    artifact = store.artifacts("switcher-*")[0]
    config = serve_config()
    config.tracking.root = str(store.root)
    before = len(store.runs(job_type="serve"))

    def load(config):
        deployment = letter_deployment()
        deployment.artifact = artifact
        return deployment

    with served(load, config) as server:
        server.predict("private text", "b?")
        time.sleep(0.05)
    run = store.runs(job_type="serve")[before]
    assert run.state == "finished" and run.summary["inputs"] == 2 and run.summary["deferred"] == 1
    assert "private" not in str(run) and "private" not in str(store.history(run.id))
