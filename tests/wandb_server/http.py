"""The loopback server's HTTP side: GraphQL, the file stream, storage; and the ways to make it fail."""

import base64
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.wandb_server.graphql import GraphQLError, execute, parse
from tests.wandb_server.schema import Mutation, Query
from tests.wandb_server.state import ProjectState, Refused, State

API_KEY = "0123456789abcdef" * 2 + "fa4e0000"  # 40 characters, as W&B's; of no account
OPERATIONS = {
    "AddAliases",
    "ArtifactByID",
    "ArtifactCollectionAliases",
    "ArtifactCreatedBy",
    "ArtifactMembershipByName",
    "ArtifactMembershipFiles",
    "ArtifactType",
    "ArtifactTypeArtifactCollections",
    "ArtifactUsedBy",
    "CommitArtifact",
    "CreateArtifact",
    "CreateArtifactFiles",
    "CreateArtifactManifest",
    "CreateRunFiles",
    "DeleteAliases",
    "FetchArtifactManifest",
    "GetArtifactMembershipFileUrls",
    "GetDefaultEntity",
    "GetProjects",
    "DeleteArtifact",
    "DeleteRun",
    "HistoryPage",
    "OrganizationCoreWeaveOrganizationID",
    "ProjectArtifactCollection",
    "ProjectArtifactType",
    "ProjectArtifactTypes",
    "ProjectArtifacts",
    "ProjectInternalId",
    "ProjectViews",
    "Run",
    "RunFiles",
    "RunFullHistory",
    "RunHistoryKeys",
    "RunInputArtifacts",
    "RunOutputArtifacts",
    "RunParquetHistory",
    "RunResumeStatus",
    "Runs",
    "ServerFeaturesQuery",
    "SpecificReport",
    "UpdateArtifact",
    "UpdateArtifactManifest",
    "UpsertBucket",
    "UseArtifact",
    "Viewer",
    "upsertView",
}


@dataclass
class Fault:
    """Answers requests whose what (an operation's name, or method and path) contains `match`: late, or with `status`.

    `status=0` closes the connection without an answer. `times` counts down; `then` is called when it strikes. The
    answer is an error with `message`, or the page `html`; with `run` only requests that name this run match.
    """

    match: str
    status: int | None = None
    delay: float = 0.0
    times: int | None = None
    then: Callable[[], None] | None = None
    message: str = "told to fail"
    html: str | None = None
    run: str | None = None


class WandbServer:
    """The server on a free port of the loopback interface, answering from threads until `stop`."""

    def __init__(self) -> None:
        self.state = State()
        self.problems: list[str] = []
        self.requests: list[str] = []  # an operation's name, or method and path
        self.received: list[bytes] = []  # everything that came in: request lines, headers, bodies
        self._faults: list[Fault] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._port = 0
        self._released = threading.Event()
        self._start()

    def _start(self) -> None:
        outer = self

        class Handler(_Handler):
            server_state = outer

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self._http = Server(("127.0.0.1", self._port), Handler)
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self._alive = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the SDK must be told to talk to this server and to no other."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_MODE": "online",
        }

    def project(self, name: str) -> ProjectState:
        return self.state.projects[name]

    def fail(self, match: str, **how: Any) -> None:
        """From now on, requests that match fail as the `Fault` says."""
        self._faults.append(Fault(match, **how))

    def heal(self) -> None:
        """No faults any more; requests that are being held back go on."""
        self._faults.clear()
        self._released.set()
        self._released = threading.Event()

    def die(self) -> None:
        """Stops at once: open connections break, new ones are refused. What was committed is kept."""
        if not self._alive:
            return
        self._alive = False
        threading.Thread(target=self._http.shutdown, daemon=True).start()
        self._http.socket.close()
        with self._lock:
            for connection in list(self._open):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def revive(self) -> None:
        """Comes back on the same port with what it held."""
        self.heal()
        if not self._alive:
            self._thread.join(10)
            self._start()

    def stop(self) -> None:
        self.die()
        self._released.set()

    def __enter__(self) -> "WandbServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    # ---- what the handler asks

    def strike(self, what: str, run: str | None = None) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.match in what and fault.times != 0 and fault.run in (None, run):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def graphql(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer of one GraphQL request."""
        try:
            if unknown := set(request) - {"query", "variables", "operationName"}:
                raise GraphQLError(f"unknown keys {sorted(unknown)}", 400)
            document = parse(request["query"])
            if document.name not in OPERATIONS:
                raise GraphQLError(f"unknown operation {document.kind} {document.name}", 400)
            with self.state.lock:
                root = (Mutation if document.kind == "mutation" else Query)(self.state, self.url)
                return 200, {"data": execute(document, request.get("variables") or {}, root)}
        except (GraphQLError, Refused) as error:
            self.problem(str(error))
            return getattr(error, "status", 200), {"errors": [{"message": str(error)}], "data": None}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # else each answer, head and body apart, waits 40 ms for the client's acknowledgement
    )
    server_state: WandbServer

    def setup(self) -> None:
        super().setup()
        with self.server_state._lock:
            self.server_state._open.add(self.connection)

    def finish(self) -> None:
        with self.server_state._lock:
            self.server_state._open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _handle(self) -> None:
        server = self.server_state
        body = self._body()
        server.received.append(f"{self.requestline}\n{self.headers}".encode() + body)
        path = urllib.parse.unquote(self.path.partition("?")[0])
        what, request = f"{self.command} {path}", None
        if path == "/graphql" and self.command == "POST":
            request = json.loads(body)
            what = request.get("operationName") or parse(request["query"]).name
        server.requests.append(what)
        asked = ((request or {}).get("variables") or {}).get("input") or (request or {}).get("variables") or {}
        fault = server.strike(what, asked.get("name"))
        if fault is not None:
            if fault.then is not None:
                fault.then()
            if fault.delay:
                server._released.wait(fault.delay)
            if fault.status == 0:
                self.close_connection = True
                return
            if fault.status is not None:
                if fault.html is not None:
                    return self._answer(fault.status, fault.html.encode(), "text/html")
                return self._json(fault.status, {"errors": [{"message": fault.message}]})
        if path == "/graphql" or path.startswith("/files/"):
            expected = base64.b64encode(f"api:{API_KEY}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {expected}":
                server.problem(f"{what}: not authorized")
                return self._json(401, {"errors": [{"message": "not authorized"}]})
        if request is not None:
            return self._json(*server.graphql(request))
        try:
            with server.state.lock:
                status, answer, kind = self._route(path.strip("/").split("/"), body)
        except (Refused, KeyError) as error:
            server.problem(f"{what}: {error}")
            status, answer, kind = 404, json.dumps({"error": str(error)}).encode(), "application/json"
        self._answer(status, answer, kind)

    do_GET = do_POST = do_PUT = _handle

    def _route(self, parts: list[str], body: bytes) -> tuple[int, bytes, str]:
        state, octets = self.server_state.state, "application/octet-stream"
        match self.command, parts:
            case "POST", ["files", entity, project, run, "file_stream"]:
                state.run(entity, project, run).stream(json.loads(body or b"{}"))
                return 200, b'{"exitcode": null, "limits": {}}', "application/json"
            case "PUT", ["storage", "md5", md5]:
                state.put_blob(md5, body)
                return 200, b"", octets
            case "GET", ["storage", "md5", md5]:
                return 200, state.blobs[md5], octets
            case "PUT", ["storage", "manifest", number, "wandb_manifest.json"]:
                self._pending(number).manifest = body
                return 200, b"", octets
            case "GET", ["storage", "manifest", number, "wandb_manifest.json"]:
                return 200, self._pending(number).manifest or b"", octets
            case "PUT", ["storage", "run", project, run, *name]:
                state.projects[project].runs[run].files["/".join(name)] = body
                return 200, b"", octets
            case "GET", ["storage", "run", project, run, *name]:
                return 200, state.projects[project].runs[run].files["/".join(name)], octets
        raise Refused("no such address")

    def _pending(self, number: str) -> Any:
        return next(a for a in self.server_state.state.artifacts.values() if a.number == int(number))


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for what another process is about to do; AssertionError when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
