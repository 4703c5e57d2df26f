"""Why a push did not deliver: each cause is named as what it is, nothing undelivered is called delivered."""

import http.server
import io
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.support import REPO
from tests.wandb_server import ENTITY
from tracking.__main__ import main
from tracking.interface import ArtifactDraft
from tracking.store import Store
from tracking.wandb.causes import ask_plainly, cause_of, is_taken_id


@pytest.fixture
def server(wandb_server):
    yield wandb_server
    wandb_server.revive()
    wandb_server.problems[:] = [text for text in wandb_server.problems if "not authorized" not in text]


def make_store(folder, runs=("train-x",)):
    store = Store(folder / "runs")
    (folder / "file").write_text("content")
    for run_id in runs:
        with store.start_run(run_id, job_type="train", config={"a": 1}) as run:
            run.log({"loss": 0.5}, 0)
            run.log_artifact(ArtifactDraft(f"model-{run_id}", "model", files={"file": folder / "file"}))
    store.close()
    return folder / "runs"


def push_by_command(root, *flags, **environment):
    command = [sys.executable, "-m", "tracking", "push", "--root", str(root), *flags]
    variables = os.environ | {"EDGEWISE_WANDB_PATIENCE": "6"} | environment
    return subprocess.run(command, cwd=REPO, env=variables, capture_output=True, text=True, timeout=120)


def push(root, *flags):
    """Runs the command in this process: to start it and load the SDK would take most of the time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["push", "--root", str(root), *flags])
    return subprocess.CompletedProcess([], code, out.getvalue(), err.getvalue())


CASES = {
    "500": ({"status": 500}, {}, "an error of its own (500): try again later"),
    "429": ({"status": 429}, {}, "takes no more requests for now (429)"),
    "403": ({"status": 403}, {}, "refuses (403): the API key may not do this"),
    "html": ({"status": 200, "html": "<html>Log in</html>"}, {}, "a web page (HTML), not as W&B's API"),
    "closed": ({"status": 0}, {}, "the connection to http://127.0.0.1"),
    "key": ({}, {"WANDB_API_KEY": "b" * 40}, "does not accept the API key: set WANDB_API_KEY"),
    "offline": ({}, {"WANDB_MODE": "offline"}, "WANDB_MODE=offline keeps the W&B SDK from sending"),
    "disabled": ({}, {"WANDB_MODE": "disabled"}, "WANDB_MODE=disabled keeps the W&B SDK from sending"),
    "address": ({}, {"WANDB_BASE_URL": "nonsense"}, "nonsense is no address of a W&B server"),
    "dns": ({}, {"WANDB_BASE_URL": "http://no-such-host.invalid"}, "DNS knows no host no-such-host.invalid"),
    "refused": ({}, {"WANDB_BASE_URL": "http://127.0.0.1:9"}, "refuses connections"),
}
QUICK = ("html", "address")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES])
def test_a_push_that_reaches_no_wandb_says_why_and_sends_nothing(server, case, tmp_path):
    fault, environment, cause = CASES[case]
    if fault:
        server.fail("", **fault)
    done = push_by_command(make_store(tmp_path), "--project", "unreached", **environment)
    assert done.returncode == 1 and f"{cause}" in done.stderr and "nothing was sent: " in done.stderr
    assert "not delivered to " in done.stdout and cause in done.stdout and "delivered\n" not in done.stderr
    assert "unreached" not in server.state.projects


def test_each_connection_fault_has_a_cause_of_its_own(server):
    """The request without the SDK alone, for what takes long with it."""
    found = {}
    for case, (fault, environment, cause) in CASES.items():
        if "WANDB_MODE" not in environment:
            server.heal()
            if fault:
                server.fail("Viewer", **fault)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                found[case] = ask_plainly(os.environ["WANDB_BASE_URL"], 2.0)
            assert cause in found[case], case
    assert len(set(found.values())) == len(found)
    server.heal()
    assert ask_plainly(server.url, 2.0) is None
    server.fail("Viewer", delay=60.0)
    assert "gave no answer in 1 s" in ask_plainly(server.url, 1.0)


def test_tls_that_is_none_and_a_certificate_that_is_not_trusted_are_told_apart(server, tmp_path):
    assert "TLS: no secure connection" in ask_plainly(server.url.replace("http:", "https:"), 2.0)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = subprocess.run([*command, "-keyout", key, "-out", certificate], capture_output=True)
    if made.returncode:
        pytest.skip("needs openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threading.Thread(target=secure.serve_forever, daemon=True).start()
        try:
            cause = ask_plainly(f"https://127.0.0.1:{secure.server_port}", 2.0)
        finally:
            secure.shutdown()
    assert "TLS: the certificate of 127.0.0.1 is not trusted (self-signed certificate)" in cause


def test_without_a_key_that_is_said_without_asking(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY")
    server.requests.clear()
    assert "there is no API key" in ask_plainly(server.url, 1.0) and server.requests == []
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password " + "b" * 40)
    assert "does not accept the API key" in ask_plainly(server.url, 1.0)


def test_credentials_in_an_address_are_not_printed():
    cause = ask_plainly("http://me:hunter2secret@127.0.0.1:9", 1.0)
    assert "hunter2secret" not in cause and "http://[secret]@127.0.0.1:9" in cause


def test_one_run_that_is_refused_says_why_and_the_others_are_delivered(server, tmp_path):
    server.fail("UpsertBucket", status=403, run="train-y")
    root = make_store(tmp_path, ("train-x", "train-y", "train-z"))
    done = push(root, "--project", "refused")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("train-")]
    assert [line.partition(": ")[::2] for line in lines if "refuses" not in line] == [
        ("train-x", "delivered"), ("train-z", "delivered")
    ]  # fmt: skip
    assert re.search(
        r"train-y: not delivered: run train-y: .* refuses \(403\): the API key may not do this", done.stderr
    )
    assert "(403)" in done.stdout  # the second try's error, that the SDK still holds the run, does not hide the first's
    server.heal()
    assert push(root, "--project", "refused").returncode == 0


def test_a_run_whose_id_is_taken_for_good_is_sent_under_the_next(server, tmp_path):
    message = "run train-x was previously created and deleted; try a new run name"
    server.fail("UpsertBucket", status=409, message=message, run="train-x")
    root = make_store(tmp_path)
    done = push(root, "--project", "taken")
    assert "the run's id is taken at W&B" in done.stderr
    assert push(root, "--project", "taken").returncode == 0
    assert set(server.project("taken").runs) == {"train-x-again1"}
    server.requests.clear()
    assert push(root, "--project", "taken").returncode == 0 and "UpsertBucket" not in server.requests


def test_runs_are_not_called_delivered_when_the_sending_process_dies(server, tmp_path):
    def kill():
        for folder in os.listdir("/proc"):
            try:
                command = Path(f"/proc/{folder}/cmdline").read_text().split("\0")
            except (OSError, ValueError):
                continue
            if "tracking.wandb.courier" in command and str(root) in command:
                os.kill(int(folder), signal.SIGKILL)

    root = make_store(tmp_path, ("train-x", "train-y"))
    server.fail("UpsertBucket", then=kill, delay=0.5, run="train-y", times=1)
    done = push(root, "--project", "dies")
    assert done.returncode == 1 and "train-y: delivered" not in done.stderr
    assert "train-y: not delivered: the process that sends to W&B was killed by signal 9" in done.stderr
    server.heal()
    assert push(root, "--project", "dies").returncode == 0


def test_delivery_is_recorded_by_the_entity_that_the_key_has_now(server, tmp_path):
    root = make_store(tmp_path)
    assert push(root, "--project", "account").returncode == 0
    assert push(root, "--project", "account", "--entity", ENTITY).stderr == ""  # the same entity, by its name
    assert "no runs sent just now" in push(root, "--project", "account").stdout
    held = server.state.projects.pop("account")
    server.state.entity = "another-entity"
    try:
        done = push(root, "--project", "account")
        assert "1 run sent just now" in done.stdout, done
        assert server.project("account").entity == "another-entity" and "train-x" in server.project("account").runs
    finally:
        server.state.entity = ENTITY
        server.state.projects["account"] = held
    assert "no runs sent just now" in push(root, "--project", "account").stdout


def test_an_sdk_error_is_explained_by_the_status_in_it_or_in_its_log(tmp_path):
    text = "ArtifactSaver.createArtifact: returned error 403: {}"
    assert cause_of(ValueError(text), "https://x") == (
        "https://x refuses (403): the API key may not do this; ask the entity's owner, or name another entity "
        f"({text})"
    )  # fmt: skip
    log = tmp_path / "wandb/run-1/logs/debug-internal.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        '{"msg":"api: HTTP error","status":429}\nno JSON "status": HTTP error\n{"msg":"done","status":200}\n'
    )
    assert "(429)" in cause_of(ValueError("giving up"), "https://x", tmp_path)
    assert cause_of(ValueError("giving up"), "https://x") == "giving up"
    assert is_taken_id(ValueError("Error 409: run a was previously created and deleted; try a new run name"))
    assert not is_taken_id(ValueError("run ID a is in use"))  # what the SDK says of a run of its own process
